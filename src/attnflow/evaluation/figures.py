"""Draw a run: the probability against the share removed, and faithfulness against runtime."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from attnflow.errors import needs
from attnflow.evaluation.aggregation import MetricScores
from attnflow.evaluation.rows import Row
from attnflow.evaluation.statistics import bootstrap_estimate
from attnflow.files import all_or_none, check_writable, make_folder, write_whole

MAX_CURVES = 8  # in one figure


def draw(
    rows: Sequence[Row],
    scores: MetricScores,
    folder: Path,
    *,
    shares: Sequence[float],
    overwrite: bool = False,
) -> list[Path]:
    """Write `curves.svg` and `runtime.svg` into a folder, made if there is none.

    Args:
        rows: Rows of the run.
        scores: Methods and examples to show; the `MAX_CURVES` best and random have a curve.
        folder: Folder of the figures.
        shares: The run's shares of removed units.
        overwrite: Replace existing files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: A file cannot be written.
    """
    with needs("figures need matplotlib"):
        import matplotlib
    matplotlib.use("Agg")
    # With the date left out below, the same run gives the same file.
    matplotlib.rcParams["svg.hashsalt"] = "attnflow"
    make_folder(folder)
    paths = figure_files(folder)
    # Both before the first is drawn, so that there are two new files or none.
    for path in paths:
        check_writable(path, overwrite=overwrite)
    drawn = [_as_svg(figure) for figure in (_curves(rows, scores, shares), _runtime(scores))]
    with all_or_none(paths):
        for path, content in zip(paths, drawn, strict=True):
            write_whole(path, content, overwrite=overwrite)
    return paths


def figure_files(folder: Path) -> list[Path]:
    """Return the files that `draw` writes into a folder."""
    return [folder / "curves.svg", folder / "runtime.svg"]


def _as_svg(figure: Any) -> bytes:
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def _curves(rows: Sequence[Row], scores: MetricScores, shares: Sequence[float]) -> Any:
    from matplotlib.figure import Figure

    operators = [operator for metric, operator in scores.values if metric == "aopc"]
    figure = Figure(figsize=(5 * len(operators) + 2, 4), layout="constrained")
    examples = set(scores.examples)
    for axes, operator in zip(
        figure.subplots(1, len(operators), squeeze=False)[0], operators, strict=True
    ):
        for name in _best(scores, operator):
            of_method = [r for r in rows if r["method"] == name and r["example"] in examples]
            whole = np.exp([r["log_p"] for r in of_method])
            removed = np.exp([r["removed"][operator] for r in of_method])
            points = [bootstrap_estimate(p) for p in np.column_stack([whole, removed]).T]
            x = [0.0, *shares]
            axes.plot(x, [p.mean for p in points], label=name)
            axes.fill_between(x, [p.low for p in points], [p.high for p in points], alpha=0.15)
        axes.set(title=operator, xlabel="share removed", ylabel="probability", ylim=(0, 1))
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize="small")
    return figure


def _best(scores: MetricScores, operator: str) -> list[str]:
    order = np.argsort(-scores.values["aopc", operator].mean(1))
    best = [scores.methods[k] for k in order[:MAX_CURVES]]
    # Random is what the others are read against, however poor it is.
    return [*best, "random"] if "random" in scores.methods and "random" not in best else best


def _runtime(scores: MetricScores) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    operators = [operator for metric, operator in scores.values if metric == "aopc"]
    faithful = np.mean([scores.values["aopc", o].mean(1) for o in operators], 0)
    timed = np.isfinite(scores.seconds)
    # A logarithmic axis has no 0, to which the fastest methods are rounded.
    axes.scatter(np.maximum(scores.seconds[timed], 1e-4), faithful[timed], s=14)
    for name, x, y in zip(scores.methods, scores.seconds, faithful, strict=True):
        if np.isfinite(x):
            axes.annotate(
                name, (max(x, 1e-4), y), fontsize=7, xytext=(3, 3), textcoords="offset points"
            )
    axes.set(xscale="log", xlabel="seconds a text (median)", ylabel="AOPC, mean of operators")
    return figure
