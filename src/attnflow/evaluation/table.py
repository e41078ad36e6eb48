"""Tables of metric scores as text, CSV, LaTeX or HTML, by pandas."""

import math
from typing import Any

from attnflow.checks import check_name
from attnflow.errors import InputError, needs, shown
from attnflow.evaluation.aggregation import ROBUST, MetricScores, differences, means
from attnflow.evaluation.metrics import LOWER_IS_BETTER, METRICS
from attnflow.evaluation.statistics import BootstrapEstimate
from attnflow.models.markdown import table_head, table_row

HEADLINE = ("aopc", "log_odds", "sufficiency")
COMPARED = ("aopc", "log_odds")
FORMATS = ("text", "csv", "latex", "html")


def table(
    scores: MetricScores,
    *,
    reference: str | None = None,
    metrics: tuple[str, ...] | None = None,
    form: str = "text",
) -> str:
    """Format a row for each method, best first, with 95 % intervals.

    Args:
        scores: Methods and metrics to show.
        reference: A method to compare the others with, in separate columns. They show by how much
            it is better, Holm's p-value, and the share of texts on which it is (ties count half).
        metrics: Names of `METRICS`, of `aggregation.ROBUST`, or of extras that were measured; AOPC,
            log-odds, sufficiency and all extras when None. Those named are all compared with the
            reference; when None, AOPC and log-odds.
        form: "text" (Markdown), "csv", "latex" or "html".

    Raises:
        InputError: A name is unknown.
        MissingExtraError: pandas is not installed.
    """
    with needs("tables need pandas"):
        import pandas
    check_name("form", form, FORMATS)
    compared = COMPARED if metrics is None else metrics
    known = [*dict.fromkeys(metric for metric, _ in scores.values), *ROBUST]
    if metrics is None:
        metrics = tuple(m for m in known if m in HEADLINE or m not in (*METRICS, *ROBUST))
    unknown = [name for name in metrics if name not in known]
    if unknown:
        raise InputError(f"metrics must be of {', '.join(known)}, got {shown(unknown[0])}.")
    if reference is not None and reference not in scores.methods:
        raise InputError(f"the reference {shown(reference)} is not among the methods shown.")
    data = pandas.DataFrame(_columns(scores, reference, metrics, compared))
    first = data.columns[1]
    ascending = metrics[0] in LOWER_IS_BETTER
    # The cells are text by now, each with its mean first.
    key = (lambda column: column.str.split().str[0].astype(float)) if len(data) else None
    return _formatted(data.sort_values(first, ascending=ascending, key=key), scores, form)


def _columns(
    scores: MetricScores,
    reference: str | None,
    metrics: tuple[str, ...],
    compared: tuple[str, ...],
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"method": list(scores.methods)}
    shown = [
        (name, operator)
        for name in metrics
        for metric, operator in scores.values
        if metric == ROBUST.get(name, (name,))[0]
    ]
    for metric, operator in shown:
        columns[f"{metric} {operator}".strip()] = [
            f"{e.mean:.3f} {_interval(e)}" for e in means(scores, metric, operator)
        ]
    for metric, operator in shown:
        if reference is None or metric not in compared:
            continue
        better = differences(scores, reference, metric, operator)
        columns[f"{reference} better by, {metric} {operator}".strip()] = [
            "" if name == reference else _difference(*better[name]) for name in scores.methods
        ]
    columns["ties"] = [f"{ties:.2f}" for ties in scores.ties]
    columns["seconds"] = ["" if math.isnan(s) else f"{s:.3g}" for s in scores.seconds]
    return columns


def _difference(estimate: BootstrapEstimate, p: float) -> str:
    interval = _interval(estimate, sign="+")
    return f"{estimate.mean:+.3f} {interval} p {p:.1g}, won {estimate.wins:.0%}"


def _interval(estimate: BootstrapEstimate, sign: str = "") -> str:
    """Return the ends of an interval; a dash for one example, which has none."""
    if math.isnan(estimate.low):
        return "–"
    return f"[{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def _formatted(data: Any, scores: MetricScores, form: str) -> str:
    if form == "csv":
        return str(data.to_csv(index=False))
    if form == "latex":
        return str(data.to_latex(index=False, escape=True))
    if form == "html":
        return str(data.to_html(index=False, escape=True, border=0))
    lines = [table_head(list(data.columns)), *map(table_row, data.values.tolist())]
    return "\n".join([f"{len(scores.examples)} examples", "", *lines]) + "\n"
