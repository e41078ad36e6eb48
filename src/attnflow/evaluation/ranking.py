"""From scores to the order in which tokens, or words, are removed.

Special tokens are never removed and never ranked. Ties are broken at random, since the order of
the text would favour its beginning, and how many there are is reported: beyond the last distinct
score an order says nothing about the method.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnflow.errors import InputError
from attnflow.methods import Instance, Scores

GRANULARITIES = ("token", "word")


@dataclass(frozen=True)
class Ranking:
    """Units of a text, tokens or words, from the most important one down.

    Attributes:
        unit_masks: `(units, t)` bool, what goes with each unit, in the order of the text.
        order: `(units,)` indices of units, the first to be removed first.
        ties: Share of units whose score another unit has too.
    """

    unit_masks: NDArray[np.bool_]
    order: NDArray[np.int64]
    ties: float

    def first(self, count: int) -> NDArray[np.bool_]:
        """`(t,)` bool, the tokens of so many units from the top."""
        found: NDArray[np.bool_] = np.asarray(self.unit_masks[self.order[:count]].any(0))
        return found

    def rest(self, count: int) -> NDArray[np.bool_]:
        """`(t,)` bool, the tokens of all other units."""
        found: NDArray[np.bool_] = np.asarray(self.unit_masks[self.order[count:]].any(0))
        return found


def unit_masks(instance: Instance, granularity: str) -> NDArray[np.bool_]:
    """`(units, t)` bool, the tokens of each unit.

    Args:
        instance: Of one text.
        granularity: "token", every ordinary token or patch, or "word", the tokens of each word.

    Raises:
        InputError: An unknown granularity, or words of an image.
    """
    names = instance.adapter.granularities
    if granularity not in names:
        raise InputError(f"granularity must be one of {', '.join(names)}, got {granularity!r}.")
    if granularity == "token":
        return np.eye(instance.nodes, dtype=bool)[instance.ordinary]
    words = np.array([-1 if w is None else w for w in instance.content.word_ids])
    words[~instance.ordinary] = -1
    found: NDArray[np.bool_] = words == np.unique(words[words >= 0])[:, None]
    return found


def rank_units(scores: Scores, units: NDArray[np.bool_], rng: np.random.Generator) -> Ranking:
    """Units by the sum of their tokens' scores.

    Args:
        scores: `(t,)`, finite.
        units: `(units, t)` bool, of `unit_masks`.
        rng: Draws the order of ties.
    """
    own = units @ scores
    shuffled = rng.permutation(len(own))
    order = shuffled[np.argsort(-own[shuffled], kind="stable")]
    _, inverse, counts = np.unique(own, return_inverse=True, return_counts=True)
    return Ranking(units, order, float((counts[inverse] > 1).mean()))
