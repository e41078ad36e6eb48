"""Noise as people make it: misspelt words, and which texts are drawn all the same."""

from dataclasses import replace

import numpy as np
import pytest

from attnflow.evaluation.datasets import Example
from attnflow.evaluation.noise import NOISE, misspelt, noisy
from attnflow.evaluation.sampling import sample_instances


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
