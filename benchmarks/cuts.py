"""Find the layer with the minimum cut for each tensor: its capacities limit the flow.

    .venv/bin/python benchmarks/cuts.py --data DATA --models runs

Texts of the same draw as in benchmarks/faithfulness.py; tables go to docs/results/cuts-DATASET.md.
"""

import argparse
from pathlib import Path

import numpy as np
from faithfulness import DATA, instances_of, model_of
from tqdm import tqdm

from attnflow.files import write_whole
from attnflow.methods.exact_flow import minimum_cut
from attnflow.methods.information_tensors import INFORMATION_TENSORS

SHOWN = ("af", "af-res", "gf", "agf", "agf-res", "relevance", "norm", "alti", "cf", "cf-balanced",
         "cf4", "bcf")  # fmt: skip


def measure(name: str, args: argparse.Namespace) -> tuple[dict, dict]:
    """`(texts, layers)` shares of the cut for each tensor, and layers as multiples of the cut."""
    file = str(args.data / DATA[name].test)
    instances = instances_of(model_of(name, args.models), file, limit=args.texts)
    cuts: dict[str, list] = {tensor: [] for tensor in SHOWN}
    widths: dict[str, list] = {tensor: [] for tensor in SHOWN}
    for _, instance in tqdm(instances, desc=f"cuts {name}"):
        fresh = instance.with_empty_cache()  # else all instances' passes stay in memory
        for tensor in SHOWN:
            capacities = INFORMATION_TENSORS[tensor](fresh).capacities.numpy()
            cut = minimum_cut(capacities)
            if cut.sum() == 0:
                raise SystemExit(f"{tensor} has no flow for the text {instance.content.text!r:.60}")
            cuts[tensor].append(cut / cut.sum())
            widths[tensor].append(capacities.sum((1, 2)) / cut.sum())
    return cuts, widths


def tables(name: str, cuts: dict, widths: dict) -> str:
    """Format mean shares of the cut by layer, and each layer as a multiple of the flow."""
    count, layers = np.shape(cuts["af"])
    head = [f"layer {k + 1}" for k in range(layers)]
    lines = [
        f"# Where the minimum cut lies: {name}",
        "",
        f"{count} texts. Mean share of the cut's capacity that lies in each layer, the first next "
        "to the input; and the share of the texts whose cut lies in one layer alone.",
        "",
        "| tensor | " + " | ".join(head) + " | one layer alone |",
        "|" + "---|" * (layers + 2),
    ]
    for tensor, shares in cuts.items():
        alone = np.mean(np.max(shares, 1) > 1 - 1e-9)
        lines.append(f"| {tensor} | {_cells(np.mean(shares, 0))} | {alone:.0%} |")
    lines += [
        "",
        "Median over the texts of a layer's whole capacity, as multiples of the flow:",
        "",
        "| tensor | " + " | ".join(head) + " |",
        "|" + "---|" * (layers + 1),
    ]
    for tensor, multiples in widths.items():
        lines.append(f"| {tensor} | {_cells(np.median(multiples, 0))} |")
    return "\n".join(lines) + "\n"


def _cells(values: np.ndarray) -> str:
    return " | ".join(f"{value:.2f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="+", choices=DATA, default=["sst2", "ag_news"])
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        text = tables(name, *measure(name, args))
        write_whole(args.out / f"cuts-{name}.md", text, overwrite=True)
        print(text, flush=True)


if __name__ == "__main__":
    main()
