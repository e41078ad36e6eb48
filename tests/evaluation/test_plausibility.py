"""Human rationales and human noise."""

import json
from dataclasses import replace

import numpy as np
import pytest

from attnflow import InputError
from attnflow.evaluation.datasets import Example
from attnflow.evaluation.noise import NOISE, misspelt, noisy
from attnflow.evaluation.plausibility import auprc, read_rationales, token_f1
from attnflow.evaluation.sampling import sample_instances

REVIEW = {
    "tokens": "the film the good film a bad film the dull film".split(),
    "rationale": [0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0],
    "sentences": [[0, 2], [2, 5], [5, 8], [8, 11]],
    "label": 1,
}


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.jsonl"
    path.write_text(json.dumps(REVIEW) + "\n", encoding="utf-8")
    return path


def test_passages_of_whole_sentences_keep_their_marks(reviews, classifier):
    found = read_rationales(reviews, classifier, max_tokens=8)
    assert [one.example.content for one in found] == ["the film the good film", "the dull film"]
    tokens = [
        [t for t, marked in zip(one.instance.content.tokens, one.rationale, strict=True) if marked]
        for one in found
    ]
    assert tokens == [["good", "film"], ["dull"]]
    (whole,) = read_rationales(reviews, classifier, max_tokens=60)
    assert whole.rationale.sum() == 3 and not whole.rationale[[0, -1]].any()
    with pytest.raises(InputError, match="rationales"):
        read_rationales(reviews.with_name("none.jsonl"), classifier)


def test_agreement_with_people_by_hand(reviews, classifier):
    (whole,) = read_rationales(reviews, classifier, max_tokens=60)
    truth = whole.rationale.astype(float)
    assert auprc(truth, whole) == token_f1(truth, whole) == 1
    assert token_f1(-truth, whole) == 0
    assert token_f1(np.ones_like(truth), whole) == pytest.approx(3 / 11)
    assert auprc(np.ones_like(truth), whole) == pytest.approx(3 / 11)
    scores = np.zeros_like(truth)
    scores[np.flatnonzero(whole.rationale)[:2]] = 2.0
    scores[1] = 1.0  # an unmarked one is third
    assert token_f1(scores, whole) == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", NOISE)
def test_noise_changes_words_and_nothing_else(kind):
    example = Example(3, "You really, REALLY love this film; nothing is great about it!" * 4, 1)
    changed = noisy(example, kind)
    assert changed.content != example.content and (changed.index, changed.label) == (3, 1)
    assert noisy(example, kind) == changed != noisy(example, kind, seed=1)
    assert noisy(example, kind, share=0.0) == example

    def others(text):
        return "".join(c for c in text if c in " ,;!")

    assert others(changed.content) == others(example.content)


def test_one_letter_is_misspelt():
    rng = np.random.default_rng(0)
    for _ in range(200):
        word = misspelt("flower", rng)
        assert word[0] == "f" and abs(len(word) - 6) <= 1
    assert misspelt("is", rng) == "is"


def test_noise_does_not_change_which_texts_are_drawn(classifier):
    """Even where it makes them longer than the texts that are drawn may be."""
    texts = [Example(i, "the good film a bad fine dull film"[: 12 + i], None) for i in range(10)]
    plain = sample_instances(texts, classifier, limit=5, min_tokens=4, max_tokens=9)
    longer = sample_instances(
        texts, classifier, limit=5, min_tokens=4, max_tokens=9,
        change=lambda example: replace(example, content=example.content + " good" * 20),
    )  # fmt: skip
    assert [e.index for e, _ in plain] == [e.index for e, _ in longer]
    assert all(q.nodes > 20 and q.target == 1 for _, q in longer)
