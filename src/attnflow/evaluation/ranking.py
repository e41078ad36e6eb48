"""Turn scores into the order in which tokens, or words, are removed.

Special tokens are never removed and never ranked. Ties are broken at random, since the order of the
text would favour its beginning. Their share is reported, since the order of tied units says nothing
about the method.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnflow.checks import check_name
from attnflow.methods import Instance, Scores

GRANULARITIES = ("token", "word")


@dataclass(frozen=True)
class Ranking:
    """Units of a text, tokens or words, from the most important one down.

    Attributes:
        unit_masks: `(units, t)` bool, the tokens of each unit, in the order of the text.
        order: `(units,)` indices of units, the most important first.
        ties: Share of units whose score another unit has too, 0 to 1.
    """

    unit_masks: NDArray[np.bool_]
    order: NDArray[np.int64]
    ties: float

    def first(self, count: int) -> NDArray[np.bool_]:
        """`(t,)` bool, true at the tokens of the first `count` units."""
        return np.asarray(self.unit_masks[self.order[:count]].any(0))

    def rest(self, count: int) -> NDArray[np.bool_]:
        """`(t,)` bool, true at the tokens of all other units."""
        return np.asarray(self.unit_masks[self.order[count:]].any(0))


def unit_masks(instance: Instance, granularity: str) -> NDArray[np.bool_]:
    """`(units, t)` bool, true at the tokens of each unit.

    Args:
        instance: A content and the class to explain.
        granularity: "token", every ordinary token or patch, or "word", the tokens of each word.

    Raises:
        InputError: The granularity is unknown, or is "word" for an image.
    """
    check_name("granularity", granularity, instance.adapter.granularities)
    if granularity == "token":
        return np.eye(instance.nodes, dtype=bool)[instance.ordinary]
    words = np.array([-1 if w is None else w for w in instance.content.word_ids])
    words[~instance.ordinary] = -1
    return words == np.unique(words[words >= 0])[:, None]


def rank_units(scores: Scores, units: NDArray[np.bool_], rng: np.random.Generator) -> Ranking:
    """Rank units by the sum of their tokens' scores.

    Args:
        scores: `(t,)`, finite.
        units: `(units, t)` bool, of `unit_masks`.
        rng: Draws the order of ties.
    """
    of_units = units @ scores
    shuffled = rng.permutation(len(of_units))
    order = shuffled[np.argsort(-of_units[shuffled], kind="stable")]
    _, inverse, counts = np.unique(of_units, return_inverse=True, return_counts=True)
    return Ranking(units, order, float((counts[inverse] > 1).mean()))
