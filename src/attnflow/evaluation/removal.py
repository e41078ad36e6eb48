"""Ways to remove tokens from a text. None is neutral: a model never saw such texts in training.

Hase et al. (2021) find masking and hidden attention the least unusual of five; deletion is what
the lineage of the paper uses. A method that removes tokens in the same way as it is judged by has
an advantage: report at least two.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from attnflow.methods.question import Question, Variant

Removal = Callable[[Question, NDArray[np.bool_]], Variant]


def masked(question: Question, removed: NDArray[np.bool_]) -> Variant:
    """[MASK] in the place of each removed token."""
    ids = np.where(removed, question.classifier.mask, question.ids)
    return Variant(ids, np.ones(len(ids), bool))


def deleted(question: Question, removed: NDArray[np.bool_]) -> Variant:
    """The text without the removed tokens, closed up."""
    ids = question.ids[~removed]
    return Variant(ids, np.ones(len(ids), bool))


def hidden(question: Question, removed: NDArray[np.bool_]) -> Variant:
    """[PAD] in the place of each removed token, which no other token attends to."""
    return Variant(np.where(removed, question.classifier.padding, question.ids), ~removed)


def padded(question: Question, removed: NDArray[np.bool_]) -> Variant:
    """[PAD] in the place of each removed token, attended like any word: the code of AttCAT."""
    ids = np.where(removed, question.classifier.padding, question.ids)
    return Variant(ids, np.ones(len(ids), bool))


OPERATORS: dict[str, Removal] = {
    "mask": masked,
    "delete": deleted,
    "pad": hidden,
    "pad-attended": padded,
}
