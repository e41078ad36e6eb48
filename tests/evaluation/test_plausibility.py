"""Agreement of scores with human rationales."""

import json

import numpy as np
import pytest

from attnflow import InputError
from attnflow.evaluation.plausibility import auprc, read_rationales, token_f1

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
