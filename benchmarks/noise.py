"""Compare methods on texts as they are, misspelt, and in the short forms of chats.

    .venv/bin/python benchmarks/noise.py --data DATA --models runs

Texts of the same draw as in benchmarks/faithfulness.py. A killed run resumes. The tables go to
docs/results/noise.md: AOPC of each method, and by how much `bcf:flow` is better.
"""

import argparse
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from faithfulness import CHOSEN, DATA, instances_of, model_of
from tqdm import tqdm

from attnflow.evaluation import Protocol, RunSettings, differences, evaluate, means, metric_scores
from attnflow.evaluation.noise import NOISE, noisy
from attnflow.files import write_whole
from attnflow.methods import METHODS

SHOWN = ("bcf:flow", "cf:flow", "agf:flow", "gf:flow", "af:flow", "integrated-gradients", "decompx",
         "attcat", "random")  # fmt: skip
KINDS = (None, *NOISE)


def measure(name: str, kind: str | None, args: argparse.Namespace) -> list[dict]:
    """Measure rows of a data set, with part of the words misspelt or abbreviated."""
    model = model_of(name, args.models)
    file = str(args.data / DATA[name].test)
    change = None if kind is None else partial(noisy, kind=kind)
    instances = instances_of(model, file, limit=args.texts, change=change)
    settings = RunSettings(model, file, Protocol(precision="bfloat16"), args.texts, noise=kind)
    folder = args.models / "noise" / f"{name}-{kind or 'as-they-are'}"
    methods = [METHODS[method] for method in SHOWN]
    with tqdm(total=len(instances) * len(methods), unit="row", desc=folder.name) as bar:
        return evaluate(settings, instances, methods, folder, progress=bar.update)


def table(name: str, rows: dict[str | None, list[dict]]) -> str:
    """Format AOPC by kind of noise, and in brackets by how much `bcf:flow` is better."""
    scores = {kind: metric_scores(own, SHOWN) for kind, own in rows.items()}
    titles = [kind or "as they are" for kind in KINDS]
    lines = [
        f"## {name}",
        "",
        f"{', '.join(str(len(s.examples)) for s in scores.values())} texts; the classifier is "
        f"right on {', '.join(f'{_right(own):.1%}' for own in rows.values())}.",
    ]
    for operator in ("mask", "delete"):
        lines += ["", f"| AOPC, {operator} | " + " | ".join(titles) + " |", "|---|---|---|---|"]
        shown = {kind: means(f, "aopc", operator) for kind, f in scores.items()}
        better = {kind: differences(f, CHOSEN, "aopc", operator) for kind, f in scores.items()}
        for at, method in enumerate(SHOWN):
            cells = [_cell(shown[kind][at], better[kind].get(method)) for kind in KINDS]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(mean, better) -> str:
    if better is None:
        return f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    difference, _ = better
    return (
        f"{mean.mean:.3f} ({difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}])"
    )


def _right(rows: list[dict]) -> float:
    return float(np.mean([r["target"] == r["label"] for r in rows if r["method"] == CHOSEN]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    parts = [
        "# Texts as people type them\n",
        "Three words in ten misspelt, or in chat's short forms. In brackets: by how much "
        f"{CHOSEN} is better, with 95 % intervals.\n",
    ]
    for name in args.only:
        parts.append(table(name, {kind: measure(name, kind, args) for kind in KINDS}))
    args.out.mkdir(parents=True, exist_ok=True)
    write_whole(args.out / "noise.md", "\n".join(parts), overwrite=True)
    print("\n".join(parts))


if __name__ == "__main__":
    main()
