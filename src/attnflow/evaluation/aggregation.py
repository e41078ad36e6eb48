"""Metrics of a run's rows: the mean of each method, and its difference from a reference.

Only examples that every method of the table has been judged on count, so that all means are of the
same texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnflow.errors import InputError
from attnflow.evaluation.metrics import LOWER_IS_BETTER, METRICS, OF_KEPT, Values
from attnflow.evaluation.rows import Row
from attnflow.evaluation.statistics import (
    BootstrapEstimate,
    Statistic,
    bootstrap_estimate,
    holm,
    trimmed_mean,
)

# Log-odds have no lower bound: one text whose probability falls to 1e-7 moves a mean of 500 by .03.
ROBUST: dict[str, tuple[str, Statistic]] = {
    "log_odds_median": ("log_odds", np.median),
    "log_odds_trimmed": ("log_odds", trimmed_mean),
}


@dataclass(frozen=True)
class MetricScores:
    """Metrics of several methods on the same examples.

    Attributes:
        methods: Names.
        examples: Indices, in one order for all methods.
        values: `(methods, examples)` for each column (metric, operator); an operator "" means none.
        seconds: `(methods,)` median seconds a method takes, NaN where they were not measured.
        ties: `(methods,)` mean share of tied units.
    """

    methods: tuple[str, ...]
    examples: tuple[int, ...]
    values: dict[tuple[str, str], Values]
    seconds: Values
    ties: Values


def metric_scores(rows: Sequence[Row], methods: Sequence[str] | None = None) -> MetricScores:
    """Compute every metric for every operator from the rows of a run.

    Raises:
        InputError: There are no rows, none of a method, or no example that all methods have.
    """
    by_method: dict[str, dict[int, Row]] = {}
    failures: dict[str, str] = {}
    for row in rows:
        if "failed" in row:
            failures.setdefault(row["method"], row["failed"])
        else:
            by_method.setdefault(row["method"], {})[row["example"]] = row
    names = tuple(methods if methods is not None else by_method)
    missing = [name for name in names if name not in by_method]
    if missing or not names:
        name = missing[0] if missing else "any method"
        reason = f" {failures[name]}" if name in failures else ""
        raise InputError(f"the run has no rows of {name}.{reason}")
    common = sorted(set.intersection(*(set(by_method[name]) for name in names)))
    if not common:
        raise InputError(
            "no example has rows of all these methods: name methods that were measured on the same "
            "examples (--methods)."
        )
    return _metric_scores(names, [[by_method[name][index] for index in common] for name in names])


def _metric_scores(methods: tuple[str, ...], table: Sequence[Sequence[Row]]) -> MetricScores:
    """Compute the metrics of a table of rows, a line for each method."""
    # Any row shows what was judged, since a run has one protocol.
    first = table[0][0]
    cut = {
        (metric, operator): np.stack([_values(rows, metric, operator) for rows in table])
        for operator in first["removed"]
        for metric in METRICS
        if metric not in OF_KEPT or first["kept"]
    }
    return MetricScores(
        methods=methods,
        examples=tuple(row["example"] for row in table[0]),
        values=cut | _extras(table),
        seconds=np.array([_median([row["seconds"] for row in rows]) for rows in table]),
        ties=np.array([np.mean([row["ties"] for row in rows]) for rows in table]),
    )


def _extras(table: Sequence[Sequence[Row]]) -> dict[tuple[str, str], Values]:
    """Extra metrics that all rows have."""
    # Scores from a file lack the metrics that would need the method itself.
    shared = set.intersection(*(set(row.get("extras", {})) for rows in table for row in rows))
    return {
        (metric, operator): np.array([[row["extras"][name] for row in rows] for rows in table])
        for name in sorted(shared)
        for metric, _, operator in [name.partition(" ")]
    }


def _median(seconds: Sequence[float | None]) -> float:
    # None where methods shared passes, see `harness.TIMED`.
    measured = [s for s in seconds if s is not None]
    return float(np.median(measured)) if measured else float("nan")


def _values(rows: Sequence[Row], metric: str, operator: str) -> Values:
    whole = np.array([row["log_p"] for row in rows])
    removed = np.array([row["removed"][operator] for row in rows])
    kept = np.array([row["kept"].get(operator, []) for row in rows])
    return METRICS[metric](whole, removed, kept)


def means(scores: MetricScores, metric: str, operator: str) -> list[BootstrapEstimate]:
    """Estimate each method's mean, or its median or trimmed mean for a name of `ROBUST`."""
    name, statistic = ROBUST.get(metric, (metric, np.mean))
    return [bootstrap_estimate(row, statistic=statistic) for row in scores.values[name, operator]]


def differences(
    scores: MetricScores, reference: str, metric: str, operator: str
) -> dict[str, tuple[BootstrapEstimate, float]]:
    """Estimate how much better the reference is than each other method, with Holm's p-value.

    Positive where the reference is better, whichever way the metric runs; for a name of `ROBUST`
    the median or trimmed mean of the differences.
    """
    name, statistic = ROBUST.get(metric, (metric, np.mean))
    values = scores.values[name, operator]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    of_reference = values[scores.methods.index(reference)]
    others = [method for method in scores.methods if method != reference]
    estimates = [
        bootstrap_estimate(
            sign * (of_reference - values[scores.methods.index(other)]), statistic=statistic
        )
        for other in others
    ]
    # A family of comparisons is one column: a metric by an operator.
    corrected = holm([estimate.p for estimate in estimates])
    return dict(zip(others, zip(estimates, corrected, strict=True), strict=True))
