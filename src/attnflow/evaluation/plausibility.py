"""Plausibility: agreement of scores with the words that people marked as evidence.

This is not faithfulness, since a model may be right for reasons that nobody would mark. Reviews are
longer than models read, so they are cut into passages of whole sentences. Passages with both marked
and unmarked tokens count, and ordinary tokens only. Source: DeYoung et al. (2020), ERASER; token F1
takes as many tokens as people marked.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.errors import InputError, needs
from attnflow.evaluation.datasets import Example
from attnflow.methods import Classifier, Instance, Scores


@dataclass(frozen=True)
class RationaleExample:
    """A passage of a review and the tokens that people marked in it.

    Attributes:
        example: The passage as a text, with the review's label.
        review: Index of the review.
        instance: The passage with the class to explain.
        rationale: `(t,)` bool, true at marked ordinary tokens.
    """

    example: Example
    review: int
    instance: Instance
    rationale: NDArray[np.bool_]


def read_rationales(
    path: Path, classifier: Classifier, *, max_tokens: int = 256
) -> list[RationaleExample]:
    """Read passages of at most `max_tokens` tokens from a file of ERASER reviews.

    Args:
        path: JSON lines of `tokens`, `rationale` (0 or 1 for each), `sentences` (half-open spans)
            and `label`.
        classifier: Explains the class that it predicts for the passage.
        max_tokens: Tokens of a passage, special ones included.

    Raises:
        InputError: The file cannot be read that way.
    """
    passages = []
    try:
        reviews = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, review in enumerate(reviews):
            for words, marks in _passages(review, classifier, max_tokens):
                passages.append((number, words, marks, int(review["label"])))
        examples = [
            _rationale_example(index, *passage, classifier)
            for index, passage in enumerate(passages)
        ]
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a file of reviews with rationales: {error!r}.") from error
    return [
        example
        for example in examples
        if 0 < example.rationale.sum() < example.instance.ordinary.sum()
    ]


def _passages(
    review: Any, classifier: Classifier, max_tokens: int
) -> Iterator[tuple[list[str], list[int]]]:
    """Yield runs of sentences that fit; a sentence that does not fit by itself is left out."""
    words: list[str] = []
    marks: list[int] = []
    for start, end in review["sentences"]:
        longer = words + review["tokens"][start:end]
        if len(classifier.encode(" ".join(longer), truncate=True).tokens) < max_tokens:
            words, marks = longer, marks + review["rationale"][start:end]
            continue
        if any(marks):
            yield words, marks
        words, marks = review["tokens"][start:end], review["rationale"][start:end]
        if len(classifier.encode(" ".join(words), truncate=True).tokens) >= max_tokens:
            words, marks = [], []
    if any(marks):
        yield words, marks


def _rationale_example(
    index: int,
    review: int,
    words: Sequence[str],
    marks: Sequence[int],
    label: int,
    classifier: Classifier,
) -> RationaleExample:
    text = classifier.encode(" ".join(words))
    characters = np.zeros(len(text.text), bool)
    start = 0
    for word, mark in zip(words, marks, strict=True):
        characters[start : start + len(word)] = bool(mark)
        start += len(word) + 1
    rationale = np.array([bool(characters[a:b].any()) for a, b in text.offsets])
    target = int(classifier.log_probabilities([classifier.whole_variant(text)])[0].argmax())
    instance = Instance(classifier, text, target, seed=index)
    example = Example(index, text.text, label)
    return RationaleExample(example, review, instance, rationale & instance.ordinary)


def auprc(scores: Scores, example: RationaleExample) -> float:
    """Area under the precision-recall curve of the scores, as average precision, 0 to 1.

    ERASER joins the curve's points by straight lines, which gives constant scores (1 + p) / 2 for a
    share p of marked tokens instead of p.
    """
    with needs("AUPRC needs scikit-learn"):
        from sklearn.metrics import average_precision_score
    ordinary = example.instance.ordinary
    return float(average_precision_score(example.rationale[ordinary], scores[ordinary]))


def token_f1(scores: Scores, example: RationaleExample) -> float:
    """F1 of as many top tokens as people marked, 0 to 1; it equals precision and recall.

    Tokens that tie at the threshold count by the share of them that is taken.
    """
    ordinary = example.instance.ordinary
    ranked, truth = scores[ordinary], example.rationale[ordinary]
    count = int(truth.sum())
    threshold = np.sort(ranked)[::-1][count - 1]
    above, level = ranked > threshold, ranked == threshold
    share = (count - above.sum()) / level.sum()
    return float((truth[above].sum() + share * truth[level].sum()) / count)
