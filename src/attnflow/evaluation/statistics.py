"""Bootstrap intervals of paired differences, and Holm's correction for many comparisons.

All methods are judged on the same examples. Differences are therefore taken example by example,
and examples are resampled, never cells of an example. Sources: Efron (1987) for BCa; Holm (1979).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.errors import needs

RESAMPLES = 10_000
TRIMMED = 0.01  # of the values at each end that a trimmed mean leaves out
Values = NDArray[np.float64]
Statistic = Callable[..., Any]


@dataclass(frozen=True)
class BootstrapEstimate:
    """A mean, or another statistic, with its 95 % interval.

    Attributes:
        mean: The statistic of the examples' values.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p: Two-sided p-value of a mean of 0, by the bootstrap, not smaller than 2 / resamples.
        wins: Share of examples above 0, ties counting half.
        n: Number of examples.
    """

    mean: float
    low: float
    high: float
    p: float
    wins: float
    n: int


def trimmed_mean(values: Values, axis: int = -1) -> Any:
    """Mean without the `TRIMMED` smallest and largest share of the values."""
    with needs("trimmed means need SciPy"):
        from scipy.stats import trim_mean
    return trim_mean(values, TRIMMED, axis=axis)


def rank_correlation(first: Values, second: Values) -> float:
    """Spearman's correlation of two `(n,)` arrays; 0 where one of them is constant."""
    with needs("rank correlations need SciPy"):
        from scipy.stats import rankdata
    # Not `spearmanr`, which warns of a constant array and returns NaN for it.
    ranks = np.stack([rankdata(first), rankdata(second)])
    ranks -= ranks.mean(1, keepdims=True)
    length = np.sqrt((ranks**2).sum(1)).prod()
    return float(ranks[0] @ ranks[1] / length) if length > 0 else 0.0


def bootstrap_estimate(
    values: Values, *, statistic: Statistic = np.mean, seed: int = 0
) -> BootstrapEstimate:
    """Estimate the mean of `(n,)` values, or of differences between two methods.

    Args:
        values: One for each example.
        statistic: Called with an axis: `np.mean`, `np.median` or `trimmed_mean`.
        seed: Of the resampling.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    with needs("intervals need SciPy"):
        from scipy.stats import bootstrap
    n, mean = len(values), float(statistic(values, axis=-1))
    wins = float((values > 0).mean() + 0.5 * (values == 0).mean())
    if n < 2:
        return BootstrapEstimate(mean, float("nan"), float("nan"), 1.0, wins, n)
    if np.ptp(values) == 0:
        return BootstrapEstimate(mean, mean, mean, 2 / RESAMPLES if mean else 1.0, wins, n)
    # BCa leaves out one value at a time, which says nothing about a median or a trimmed mean.
    method = "BCa" if statistic is np.mean else "percentile"
    result = bootstrap(
        (values,), statistic, n_resamples=RESAMPLES, batch=500, method=method,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    below = float((result.bootstrap_distribution <= 0).mean())
    above = float((result.bootstrap_distribution >= 0).mean())
    p = min(1.0, 2 * max(min(below, above), 1 / RESAMPLES))
    low, high = result.confidence_interval
    return BootstrapEstimate(mean, float(low), float(high), p, wins, n)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for the number of comparisons, in the order given."""
    corrected, largest = np.empty(len(p)), 0.0
    for rank, index in enumerate(np.argsort(p)):
        # A larger p-value never gets a smaller correction.
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return [float(x) for x in corrected]
