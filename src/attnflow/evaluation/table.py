"""Tables of judgements as text, CSV, LaTeX or HTML, by pandas."""

from typing import Any

from attnflow.errors import InputError, MissingExtraError
from attnflow.evaluation.metrics import LOWER_IS_BETTER, METRICS
from attnflow.evaluation.report import Judgements, differences, means

HEADLINE = ("aopc", "log_odds", "sufficiency")
FORMATS = ("text", "csv", "latex", "html")


def table(
    found: Judgements,
    *,
    reference: str | None = None,
    metrics: tuple[str, ...] = HEADLINE,
    form: str = "text",
) -> str:
    """A row for each method, best first, with 95 % intervals.

    Args:
        found: What to show.
        reference: A method that the others are compared with, in columns of their own: by how much
            it is better, and Holm's p-value.
        metrics: Names of `METRICS`.
        form: "text" (Markdown), "csv", "latex" or "html".

    Raises:
        InputError: An unknown name.
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError(
            "tables need pandas: pip install 'attnflow[evaluation]'."
        ) from error
    if form not in FORMATS:
        raise InputError(f"form must be one of {', '.join(FORMATS)}, got {form!r}.")
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise InputError(f"metrics must be of {', '.join(METRICS)}, got {unknown[0]!r}.")
    if reference is not None and reference not in found.methods:
        raise InputError(f"the reference {reference!r} is not among the methods shown.")
    data = pandas.DataFrame(_columns(found, reference, metrics))
    first = data.columns[1]
    ascending = metrics[0] in LOWER_IS_BETTER
    key = (lambda column: column.str.split().str[0].astype(float)) if len(data) else None
    return _written(data.sort_values(first, ascending=ascending, key=key), found, form)


def _columns(
    found: Judgements, reference: str | None, metrics: tuple[str, ...]
) -> dict[str, list[Any]]:
    operators = list(dict.fromkeys(operator for _, operator in found.values))
    columns: dict[str, list[Any]] = {"method": list(found.methods)}
    for metric in metrics:
        for operator in operators:
            columns[f"{metric} {operator}"] = [
                f"{e.mean:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in means(found, metric, operator)
            ]
    if reference is not None:
        for metric in metrics[:2]:
            for operator in operators:
                better = differences(found, reference, metric, operator)
                columns[f"{reference} better by, {metric} {operator}"] = [
                    "" if name == reference else _difference(*better[name])
                    for name in found.methods
                ]
    columns["ties"] = [f"{ties:.2f}" for ties in found.ties]
    columns["seconds"] = ["" if s != s else f"{s:.3g}" for s in found.seconds]
    return columns


def _difference(estimate: Any, p: float) -> str:
    return f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}] p {p:.1g}"


def _written(data: Any, found: Judgements, form: str) -> str:
    if form == "csv":
        return str(data.to_csv(index=False))
    if form == "latex":
        return str(data.to_latex(index=False, escape=True))
    if form == "html":
        return str(data.to_html(index=False, escape=True, border=0))
    rows = [list(data.columns), *data.values.tolist()]
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    rule = "|" + "---|" * len(data.columns)
    return "\n".join([f"{len(found.examples)} texts", "", lines[0], rule, *lines[1:]]) + "\n"
