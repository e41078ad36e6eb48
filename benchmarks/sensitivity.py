"""Measure how much the barrier weight matters: each tensor's scores over relative gaps and mu.

    .venv/bin/python benchmarks/sensitivity.py --data FOLDER [--out runs/sensitivity.jsonl]

Texts of two sets are captured once for each tensor and solved at every setting. Scores of a text's
ordinary tokens are compared between settings by Spearman's rank correlation, by whether the highest
is the same token, and by the share of the scores that moves to other tokens. Intervals are
bootstrap intervals over texts. A killed run resumes. Tables go to the standard output, a plot next
to the records.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from journal import Journal
from numpy.typing import NDArray
from scipy.stats import rankdata
from texts import batches, read
from torch import Tensor
from tqdm import tqdm

from attnflow import Explainer, maximum_flow
from attnflow.capture import TENSORS, capture
from attnflow.solver.network import LayeredNetwork, layered_network

SETS = ("sst2", "ag_news")
TEXTS, TEXTS_IN_BATCH = 200, 20
SHORTEST, LONGEST = 5, 128  # tokens with the two special ones: at least three to rank
SETTINGS: list[dict[str, float]] = [
    *({"gap": 10.0**-k} for k in range(1, 7)),
    *({"mu": 10.0**-k} for k in range(2, 7)),
]
NAMES = [f"{key} {value:.0e}" for setting in SETTINGS for key, value in setting.items()]
REFERENCE, DEFAULT = NAMES.index("gap 1e-06"), NAMES.index("gap 1e-02")
RESAMPLES = 2000


@dataclass(frozen=True)
class Measured:
    """The measurements of a tensor, by text and setting.

    Attributes:
        correlations: `(texts, settings, settings)`, nan where a flow is unsolved or scores are all
            the same.
        top: `(texts, settings)` the token with the highest score, -1 where unsolved.
        moved: `(texts, settings)` share of the scores that lies on other tokens than at the
            reference, 0 to 1, nan where unsolved or all 0.
        solved: `(texts, settings)` bool.
        iterations: `(texts, settings)` factorisations.
        gap: `(texts, settings)` certified, over the upper bound.
        mu: `(texts, settings)` in units of the capacities.
        seconds: `(settings,)` for a text, in its batch.
    """

    correlations: NDArray[np.float64]
    top: NDArray[np.int64]
    moved: NDArray[np.float64]
    solved: NDArray[np.bool_]
    iterations: NDArray[np.int64]
    gap: NDArray[np.float64]
    mu: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def same_top(self) -> NDArray[np.float64]:
        """`(texts, settings)` 1 where the highest token is the reference's, nan if unsolved."""
        reference = self.top[:, REFERENCE, None]
        same = (self.top == reference).astype(float)
        return np.where((self.top >= 0) & (reference >= 0), same, np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {', '.join(SETS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/sensitivity.jsonl"))
    parser.add_argument("--texts", type=int, default=TEXTS, help="of each set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    journal = Journal(args.out, {"texts": args.texts, "settings": NAMES})
    run(args.data, args.texts, journal)
    records = list(journal.records.values())
    by_tensor = {t: collected([r for r in records if r["tensor"] == t]) for t in TENSORS}
    for tensor, measured in by_tensor.items():
        print(f"\n### {tensor}\n\n{table(measured)}\n\n{matrix(measured)}")
    print(f"\n### By set\n\n{by_set(records)}")
    plot(by_tensor, args.out.with_suffix(".svg"))


def run(folder: Path, number: int, journal: Journal) -> None:
    """Measure the batches that the journal does not hold yet."""
    explainer = Explainer.from_pretrained()
    explainer("The solver compiles itself before anything is timed.")
    tasks = [
        (name, index, batch, tensor)
        for name in SETS
        for index, batch in enumerate(
            batches(
                explainer,
                read(folder, name),
                number=number,
                size=TEXTS_IN_BATCH,
                shortest=SHORTEST,
                longest=LONGEST,
            )
        )
        for tensor in TENSORS
    ]
    for name, index, batch, tensor in tqdm(tasks, mininterval=1):
        key = f"{name} {tensor}/{index}"
        if key in journal.records:
            continue
        captured = capture(explainer.model, batch.inputs, tensor=tensor)
        network = layered_network(captured.capacities, captured.mask, captured.mask)
        journal.add({"name": key, "set": name, "tensor": tensor} | measure(network, batch.ordinary))


def measure(network: LayeredNetwork, ordinary: Tensor) -> dict[str, list[Any]]:
    """Solve a batch at every setting: the fields of `Measured`, `seconds` in all."""
    flows, seconds = [], []
    for setting in SETTINGS:
        started = time.perf_counter()
        flows.append(maximum_flow(network, **setting))
        seconds.append(time.perf_counter() - started)
    solved = np.array([[s.is_certified for s in flow.status] for flow in flows]).T
    scores = torch.stack([flow.sink for flow in flows], -1).numpy()
    texts = [
        np.where(good, text[keep], np.nan)
        for text, keep, good in zip(scores, ordinary.numpy(), solved, strict=True)
    ]
    return {
        "correlations": [correlations(text).round(6).tolist() for text in texts],
        "top": [highest(text).tolist() for text in texts],
        "moved": [moved(text).round(9).tolist() for text in texts],
        "solved": solved.tolist(),
        "iterations": torch.stack([flow.iterations for flow in flows], 1).tolist(),
        "gap": torch.stack([flow.gap for flow in flows], 1).tolist(),
        "mu": torch.stack([flow.mu for flow in flows], 1).tolist(),
        "seconds": seconds,
    }


def correlations(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(settings, settings)` Spearman's, of `(tokens, settings)` scores; nan where undefined."""
    settings = scores.shape[1]
    correlation = np.full((settings, settings), np.nan)
    usable = np.flatnonzero(np.isfinite(scores).all(0) & (np.ptp(scores, axis=0) > 0))
    if len(usable):
        ranks = rankdata(scores[:, usable], axis=0)
        correlation[np.ix_(usable, usable)] = np.corrcoef(ranks, rowvar=False)
    return correlation


def highest(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """`(settings,)` the token with the highest score, -1 where there are no scores."""
    known = np.isfinite(scores).all(0)
    return np.where(known, np.where(known, scores, 0).argmax(0), -1)


def moved(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(settings,)` half the sum of the differences between shares, here and at the reference."""
    total = scores.sum(0)
    shares = scores / np.where(total > 0, total, np.nan)
    return np.abs(shares - shares[:, [REFERENCE]]).sum(0) / 2


def collected(records: list[dict[str, Any]]) -> Measured:
    """The batches of a tensor as one."""
    texts = sum(len(record["top"]) for record in records)
    fields = ("correlations", "top", "moved", "solved", "iterations", "gap", "mu")
    return Measured(
        **{name: np.concatenate([np.array(r[name]) for r in records]) for name in fields},
        seconds=np.sum([record["seconds"] for record in records], axis=0) / texts,
    )


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean of the known values with its 95 % bootstrap interval."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[drawn].mean(1), [0.025, 0.975])
    return float(known.mean()), float(low), float(high)


def table(measured: Measured) -> str:
    """Markdown: a row for each setting."""
    header = (
        f"| setting | as a gap | correlation with {NAMES[REFERENCE]} | lowest | "
        "with the next smaller | same top token | moved | certified gap | "
        "factorisations: median | most | ms a text | solved |"
    )
    rows = [header, "|---" * (header.count("|") - 1) + "|"]
    for at, name in enumerate(NAMES):
        relative = (
            np.median(measured.mu[:, at] / measured.mu[:, DEFAULT]) * SETTINGS[DEFAULT]["gap"]
        )
        last = at + 1 == len(NAMES) or NAMES[at][:2] != NAMES[at + 1][:2]
        following = "–" if last else f"{mean(measured.correlations[:, at, at + 1]):.4f}"
        correlation = measured.correlations[:, at, REFERENCE]
        cells = [
            name,
            f"{relative:.0e}",
            _with_interval(correlation),
            f"{np.nanmin(correlation, initial=1):.3f}",
            following,
            _with_interval(measured.same_top[:, at]),
            f"{mean(measured.moved[:, at]):.0e}",
            f"{np.median(measured.gap[:, at]):.0e}",
            f"{np.median(measured.iterations[:, at]):.0f}",
            f"{measured.iterations[:, at].max()}",
            f"{1e3 * measured.seconds[at]:.0f}",
            f"{100 * measured.solved[:, at].mean():.1f} %",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def mean(values: NDArray[np.float64]) -> float:
    """Mean of the known values, nan if there are none."""
    return interval(values)[0]


def _with_interval(values: NDArray[np.float64]) -> str:
    middle, low, high = interval(values)
    return f"{middle:.4f} ({low:.4f} to {high:.4f})"


def matrix(measured: Measured) -> str:
    """Markdown: mean correlation between every two settings."""
    rows = [f"| | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 1) + "|"]
    for at, name in enumerate(NAMES):
        values = [f"{mean(measured.correlations[:, at, to]):.3f}" for to in range(len(NAMES))]
        rows.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(rows)


def by_set(records: list[dict[str, Any]]) -> str:
    """Markdown: correlation with the reference, each set on its own."""
    columns = {
        f"{tensor}, {name}": collected(
            [r for r in records if r["tensor"] == tensor and r["set"] == name]
        ).correlations[:, :, REFERENCE]
        for tensor in TENSORS
        for name in SETS
    }
    rows = [f"| setting | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for at, name in enumerate(NAMES):
        values = [f"{mean(column[:, at]):.4f}" for column in columns.values()]
        rows.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(rows)


def plot(by_tensor: dict[str, Measured], path: Path) -> None:
    """Correlation, moved share and factorisations by setting, a line for each tensor."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    style = {"font.size": 10, "svg.hashsalt": "attnflow", "svg.fonttype": "none"}
    matplotlib.rcParams.update(style)
    figure, axes = plt.subplots(3, 2, figsize=(9, 8), sharex="col", sharey="row")
    for column, (key, label) in zip(
        axes.T, [("gap", "relative gap"), ("mu", "mu, in units of the capacities")], strict=True
    ):
        at = [i for i, setting in enumerate(SETTINGS) if key in setting]
        values = [SETTINGS[i][key] for i in at]
        for tensor, measured in by_tensor.items():
            _line(column[0], values, measured.correlations[:, at, REFERENCE], tensor)
            _line(column[1], values, measured.moved[:, at], tensor)
            column[2].plot(values, np.median(measured.iterations[:, at], 0), "o-", label=tensor)
        column[2].set(xscale="log", xlabel=label)
        column[2].invert_xaxis()
    axes[0, 0].set_ylabel(f"rank correlation\nwith {NAMES[REFERENCE]}")
    axes[1, 0].set(ylabel=f"share moved\nfrom {NAMES[REFERENCE]}", yscale="log")
    axes[2, 0].set_ylabel("factorisations, median")
    axes[0, 0].legend(title="tensor", frameon=False, loc="lower left")
    for axis in axes.flat:
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _line(axis: Any, values: list[float], found: NDArray[np.float64], tensor: str) -> None:
    """Means with the band of their intervals; those of 0 are left out."""
    middle, low, high = np.array([interval(column) for column in found.T]).T
    shown = middle > 0
    x = np.array(values)[shown]
    axis.plot(x, middle[shown], "o-", label=tensor)
    axis.fill_between(x, low[shown], high[shown], alpha=0.2)


if __name__ == "__main__":
    main()
