"""Print the seconds of the solver's three forms: plain torch, compiled passes, compiled loop.

    .venv/bin/python benchmarks/solver_forms.py [--lengths 128 256 512]

One random network like attention at a time, six layers, the median of five solves. Nothing here
fails on time.
"""

import argparse
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
LAYERS, SOLVES = 6, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    print(f"| t | threads | {' | '.join(f'{form}, s' for form in FORMS)} |")
    print("|---|---|---|---|---|")
    for t in args.lengths:
        capacities = attention_capacities((1, LAYERS, t, t))
        for threads in args.threads:
            cells = [f"{seconds(capacities, form, threads):.3g}" for form in FORMS]
            print(f"| {t} | {threads} | {' | '.join(cells)} |", flush=True)


def seconds(capacities: Tensor, form: str, threads: int) -> float:
    """Median seconds of a solve by one form."""
    torch.set_num_threads(threads)
    compiled.use_threads(threads)
    spent = []
    with mock.patch.object(primal_dual, "kernels_for", lambda *_: FORMS[form]):
        maximum_flow(capacities)  # loads or compiles what is compiled
        for _ in range(SOLVES):
            started = time.perf_counter()
            maximum_flow(capacities)
            spent.append(time.perf_counter() - started)
    return statistics.median(spent)


if __name__ == "__main__":
    main()
