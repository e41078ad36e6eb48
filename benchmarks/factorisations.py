"""Print what the solver needs on real tensors: factorisations, residuals, seconds.

    .venv/bin/python benchmarks/factorisations.py [--lengths 16 64 128]

One text of the embedded model, cut to each length; one thread. Nothing here fails on time.
"""

import argparse
import platform
import time

import torch

from attnflow import Explainer, maximum_flow
from attnflow.capture import TENSORS, capture
from attnflow.cli.bench.capacities import TEXT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 64, 128, 256, 512])
    parser.add_argument("--gaps", type=float, nargs="+", default=[1e-2, 1e-4])
    args = parser.parse_args()
    torch.set_num_threads(1)
    explainer = Explainer.from_pretrained()
    maximum_flow(torch.ones(1, 2, 2, 2))  # loads or compiles what is compiled
    print(f"{platform.machine()}, torch {torch.__version__}, one thread\n")
    print("| t | tensor | gap | factorisations | stationarity | centrality | seconds |")
    print("|---|---|---|---|---|---|---|")
    for t in args.lengths:
        inputs = explainer.tokenizer(6 * TEXT, truncation=True, max_length=t, return_tensors="pt")
        for tensor in TENSORS:
            capacities = capture(explainer.model, inputs, tensor=tensor).capacities
            for gap in args.gaps:
                print(_row(capacities, t, tensor, gap), flush=True)


def _row(capacities: torch.Tensor, t: int, tensor: str, gap: float) -> str:
    started = time.perf_counter()
    flow = maximum_flow(capacities, gap=gap)
    seconds = time.perf_counter() - started
    return (
        f"| {t} | {tensor} | {gap:.0e} | {flow.iterations.item()} | {flow.stationarity.item():.0e} "
        f"| {flow.centrality.item():.0e} | {seconds:.2f} |"
    )


if __name__ == "__main__":
    main()
