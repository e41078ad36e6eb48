"""Print the seconds of the solver's three forms: plain torch, compiled passes, compiled loop.

    .venv/bin/python benchmarks/solver_forms.py [--layers 6 12 30] [--lengths 128 256 512]

One random network like attention at a time. The forms take turns, so that a machine whose speed
drifts is the same for all; a cell is the median of the solves after a first one. Nothing here fails
on time.
"""

import argparse
import itertools
import statistics
import time
from unittest import mock

import torch
from torch import Tensor

from attnflow import maximum_flow
from attnflow.cli.bench.synthetic import attention_capacities
from attnflow.solver import compiled, edge_passes, primal_dual

FORMS = {
    "plain torch": (edge_passes, None),
    "compiled passes": (compiled, None),
    "compiled loop": (compiled, compiled.iterate),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[6])
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--solves", type=int, default=5)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    args = parser.parse_args()
    print(f"| L | t | threads | {' | '.join(f'{form}, s' for form in args.forms)} |")
    print("|---|---|---|" + "---|" * len(args.forms))
    for layers, t in itertools.product(args.layers, args.lengths):
        capacities = attention_capacities((1, layers, t, t))
        for threads in args.threads:
            medians = median_seconds(capacities, args.forms, threads, args.solves)
            cells = " | ".join(f"{seconds:.3g}" for seconds in medians)
            print(f"| {layers} | {t} | {threads} | {cells} |", flush=True)


def median_seconds(capacities: Tensor, forms: list[str], threads: int, solves: int) -> list[float]:
    """Median seconds of a solve by each form."""
    torch.set_num_threads(threads)
    compiled.use_threads(threads)
    rounds = [[seconds(capacities, form) for form in forms] for _ in range(solves + 1)]
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


def seconds(capacities: Tensor, form: str) -> float:
    """Seconds of a solve by one form."""
    with mock.patch.object(primal_dual, "kernels_for", lambda *_: FORMS[form]):
        started = time.perf_counter()
        maximum_flow(capacities)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
