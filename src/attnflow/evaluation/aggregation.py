"""Tables and figures of runs: every method's means, and what each differs from a reference by.

Only examples that every method of the table has been judged on count, so that all means are of the
same texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnflow.errors import InputError
from attnflow.evaluation.harness import Row
from attnflow.evaluation.metrics import LOWER_IS_BETTER, METRICS, OF_KEPT, Values
from attnflow.evaluation.statistics import (
    BootstrapEstimate,
    Statistic,
    bootstrap_estimate,
    holm,
    trimmed_mean,
)

# Log-odds have no floor: one text whose probability falls to 1e-7 moves a mean of 500 by .03.
ROBUST: dict[str, tuple[str, Statistic]] = {
    "log_odds_median": ("log_odds", np.median),
    "log_odds_trimmed": ("log_odds", trimmed_mean),
}


@dataclass(frozen=True)
class MetricScores:
    """Values of methods on the same examples.

    Attributes:
        methods: Names.
        examples: Indices, in one order for all methods.
        values: `(methods, examples)` for each column (metric, operator); an operator "" means none.
        seconds: `(methods,)` median seconds of an answer, NaN where they are not known.
        ties: `(methods,)` mean share of tied units.
    """

    methods: tuple[str, ...]
    examples: tuple[int, ...]
    values: dict[tuple[str, str], Values]
    seconds: Values
    ties: Values


def metric_scores(rows: Sequence[Row], methods: Sequence[str] | None = None) -> MetricScores:
    """Values of every metric and operator.

    Raises:
        InputError: There are no rows, none of a method, or no example that all methods have.
    """
    found: dict[str, dict[int, Row]] = {}
    failed: dict[str, str] = {}
    for row in rows:
        if "failed" in row:
            failed.setdefault(row["method"], row["failed"])
        else:
            found.setdefault(row["method"], {})[row["example"]] = row
    names = tuple(methods if methods is not None else found)
    missing = [name for name in names if name not in found]
    if missing or not names:
        wanted = missing[0] if missing else "any method"
        why = f" {failed[wanted]}" if wanted in failed else ""
        raise InputError(f"the run has no rows of {wanted}.{why}")
    common = sorted(set.intersection(*(set(found[name]) for name in names)))
    if not common:
        raise InputError("no example has rows of all these methods.")
    table = [[found[name][index] for index in common] for name in names]
    return MetricScores(
        methods=names,
        examples=tuple(common),
        values={
            (metric, operator): np.stack([_values(own, metric, operator) for own in table])
            for operator in table[0][0]["removed"]
            for metric in METRICS
            if metric not in OF_KEPT or table[0][0]["kept"]
        }
        | _extras(table),
        seconds=np.array([_median([row["seconds"] for row in own]) for own in table]),
        ties=np.array([np.mean([row["ties"] for row in own]) for own in table]),
    )


def _extras(table: Sequence[Sequence[Row]]) -> dict[tuple[str, str], Values]:
    """What the rows have of metrics asked for by name, and all of them have."""
    shared = set.intersection(*(set(row.get("extras", {})) for own in table for row in own))
    return {
        (metric, operator): np.array([[row["extras"][name] for row in own] for own in table])
        for name in sorted(shared)
        for metric, _, operator in [name.partition(" ")]
    }


def _median(seconds: Sequence[float | None]) -> float:
    known = [s for s in seconds if s is not None]
    return float(np.median(known)) if known else float("nan")


def _values(rows: Sequence[Row], metric: str, operator: str) -> Values:
    whole = np.array([row["log_p"] for row in rows])
    removed = np.array([row["removed"][operator] for row in rows])
    kept = np.array([row["kept"].get(operator, []) for row in rows])
    return METRICS[metric](whole, removed, kept)


def means(found: MetricScores, metric: str, operator: str) -> list[BootstrapEstimate]:
    """Of each method; medians and trimmed means for the names of `ROBUST`."""
    own, statistic = ROBUST.get(metric, (metric, np.mean))
    return [bootstrap_estimate(row, statistic=statistic) for row in found.values[own, operator]]


def differences(
    found: MetricScores, reference: str, metric: str, operator: str
) -> dict[str, tuple[BootstrapEstimate, float]]:
    """How much better the reference is than each other method, and Holm's p-value of that.

    Positive where the reference is better, whichever way the metric runs; of a metric of `ROBUST`
    the median or trimmed mean of the differences.
    """
    name, statistic = ROBUST.get(metric, (metric, np.mean))
    values = found.values[name, operator]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    own = values[found.methods.index(reference)]
    others = [name for name in found.methods if name != reference]
    estimates = [
        bootstrap_estimate(sign * (own - values[found.methods.index(other)]), statistic=statistic)
        for other in others
    ]
    corrected = holm([one.p for one in estimates])
    return dict(zip(others, zip(estimates, corrected, strict=True), strict=True))
