"""How well, and how badly, any order of removal could do: what normalises AOPC between models.

Over all orders of the units, the largest and the smallest mean drop of the probability along the
whole removal. Exact for short texts, by the best way into every set of removed units; by beam
search for longer ones, which bounds from inside. Source: Edin et al. (2025), NAOPC.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnflow.evaluation.operators import OPERATORS
from attnflow.methods import Instance, Scores

MOST_EXACT = 10  # units, of which every set is tried
BEAM = 5

Members = NDArray[np.bool_]


def aopc_limits(
    instance: Instance, members: Members, operator: str, *, beam: int = BEAM
) -> tuple[float, float]:
    """Smallest and largest AOPC over all steps.

    Args:
        instance: Of one text.
        unit_masks: `(units, t)` bool, the tokens of each unit.
        operator: A name of `OPERATORS`.
        beam: Sets kept at each step where the text has more than `MOST_EXACT` units.
    """
    whole = float(_probabilities(instance, members, operator, [()])[0])
    if len(members) <= MOST_EXACT:
        lowest, highest = _exact(instance, members, operator)
    else:
        lowest = _searched(instance, members, operator, beam, 1.0)
        highest = _searched(instance, members, operator, beam, -1.0)
    # The smallest sum of probabilities is the largest drop.
    return whole - highest / len(members), whole - lowest / len(members)


def normalised(aopc: float, limits: tuple[float, float]) -> float:
    """Where a method's AOPC lies between the limits, 0 to 1; 0.5 where no order matters."""
    low, high = limits
    return 0.5 if high - low < 1e-12 else (aopc - low) / (high - low)


def _exact(instance: Instance, members: Members, operator: str) -> tuple[float, float]:
    """Smallest and largest sum of the probabilities along an order."""
    n = len(members)
    sets = [tuple(i for i in range(n) if code >> i & 1) for code in range(2**n)]
    found = _probabilities(instance, members, operator, sets)
    smallest, largest = np.zeros(2**n), np.zeros(2**n)
    for code in range(1, 2**n):
        before = [code ^ (1 << i) for i in sets[code]]
        smallest[code] = found[code] + smallest[before].min()
        largest[code] = found[code] + largest[before].max()
    return float(smallest[-1]), float(largest[-1])


def _searched(instance: Instance, members: Members, operator: str, beam: int, sign: float) -> float:
    """Sum of the probabilities along the order that a beam finds: small for 1, large for -1."""
    kept: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(len(members)):
        best: dict[tuple[int, ...], float] = {}
        for removed, total in kept.items():
            for i in set(range(len(members))) - set(removed):
                following = tuple(sorted((*removed, i)))
                if following not in best or sign * total < sign * best[following]:
                    best[following] = total
        sets = list(best)
        found = _probabilities(instance, members, operator, sets)
        totals = {s: best[s] + float(p) for s, p in zip(sets, found, strict=True)}
        order = sorted(totals, key=lambda s: sign * totals[s])
        kept = {s: totals[s] for s in order[:beam]}
    return next(iter(kept.values()))


def _probabilities(
    instance: Instance, members: Members, operator: str, sets: Sequence[tuple[int, ...]]
) -> Scores:
    remove = OPERATORS[operator]
    variants = [remove(instance, np.asarray(members[list(s)].any(0))) for s in sets]
    found: Scores = np.exp(instance.log_probability(variants))
    return found
