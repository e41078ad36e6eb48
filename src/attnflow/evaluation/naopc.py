"""The AOPC of the best and of the worst order of removal, which make AOPC comparable across models.

Over all orders of the units these are the largest and the smallest mean drop of the probability
along the whole removal. For short texts they are exact, by dynamic programming over all sets of
removed units. For longer ones beam search gives an order that is nearly as good or as bad.
Source: Edin et al. (2025), NAOPC.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnflow.evaluation.operators import OPERATORS
from attnflow.methods import Instance, Scores

MAX_EXACT_UNITS = 10  # every set of so many units is tried, 1024 passes
BEAM = 5

Units = NDArray[np.bool_]


def aopc_limits(
    instance: Instance, units: Units, operator: str, *, beam: int = BEAM
) -> tuple[float, float]:
    """Find the smallest and the largest AOPC over all steps.

    Args:
        instance: A content and the class to explain.
        unit_masks: `(units, t)` bool, the tokens of each unit.
        operator: A name of `OPERATORS`.
        beam: Sets kept at each step where the text has more than `MAX_EXACT_UNITS` units.
    """
    whole = float(_probabilities(instance, units, operator, [()])[0])
    if len(units) <= MAX_EXACT_UNITS:
        lowest, highest = _exact(instance, units, operator)
    else:
        lowest = _searched(instance, units, operator, beam, 1.0)
        highest = _searched(instance, units, operator, beam, -1.0)
    # The smallest sum of probabilities is the largest drop.
    return whole - highest / len(units), whole - lowest / len(units)


def normalised(aopc: float, limits: tuple[float, float]) -> float:
    """Rescale a method's AOPC between the limits, to 0 to 1; 0.5 where no order matters."""
    low, high = limits
    return 0.5 if high - low < 1e-12 else (aopc - low) / (high - low)


def _exact(instance: Instance, units: Units, operator: str) -> tuple[float, float]:
    """Smallest and largest sum of the probabilities along any order."""
    n = len(units)
    sets = [tuple(i for i in range(n) if code >> i & 1) for code in range(2**n)]
    p = _probabilities(instance, units, operator, sets)
    smallest, largest = np.zeros(2**n), np.zeros(2**n)
    for code in range(1, 2**n):
        # The sets from which one more removal leads here; their sums are known already.
        before = [code ^ (1 << i) for i in sets[code]]
        smallest[code] = p[code] + smallest[before].min()
        largest[code] = p[code] + largest[before].max()
    return float(smallest[-1]), float(largest[-1])


def _searched(instance: Instance, units: Units, operator: str, beam: int, sign: float) -> float:
    """Sum of probabilities along the order that a beam finds; `sign` 1: smallest, -1: largest."""
    kept: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(len(units)):
        best: dict[tuple[int, ...], float] = {}
        for removed, total in kept.items():
            for i in set(range(len(units))) - set(removed):
                following = tuple(sorted((*removed, i)))
                if following not in best or sign * total < sign * best[following]:
                    best[following] = total
        sets = list(best)
        probabilities = _probabilities(instance, units, operator, sets)
        totals = {s: best[s] + float(p) for s, p in zip(sets, probabilities, strict=True)}
        order = sorted(totals, key=lambda s: sign * totals[s])
        kept = {s: totals[s] for s in order[:beam]}
    return next(iter(kept.values()))


def _probabilities(
    instance: Instance, units: Units, operator: str, sets: Sequence[tuple[int, ...]]
) -> Scores:
    remove = OPERATORS[operator]
    variants = [remove(instance, np.asarray(units[list(s)].any(0))) for s in sets]
    return np.exp(instance.log_probability(variants))
