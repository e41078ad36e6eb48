"""Solve random networks alone and in padded batches, against the exact maximum flow.

    .venv/bin/python benchmarks/stress.py [--batches 500] [--out runs/stress.jsonl]

Nine kinds of networks, of 1 to 60 layers and 1 to 24 tokens, whose capacities spread over a number
of decades that is part of the kind. Each is solved by itself and with five others in a batch that
is padded. The exact maximum, by igraph, lies between the flow and its bound, and a network without
a certificate has the same status both ways, or the run fails. Networks without a certificate are
counted by their decades, and so are those that have one in the batch or alone only. A killed run
resumes.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import support_path  # noqa: F401
import torch
from journal import Journal
from numpy.random import Generator
from numpy.typing import NDArray
from support.reference_solvers import exact_maximum
from torch import Tensor
from tqdm import tqdm

from attnflow import Flow, Status, maximum_flow
from attnflow.solver.network import layered_network

Capacities = NDArray[np.float64]
Kind = Callable[[Generator, tuple[int, int, int], float], Capacities]

BATCHES, IN_BATCH = 500, 6
DECADES = (0, 1, 3, 8, 16, 30, 40, 60, 90)  # of 100 on, edges count as none
GAPS = (0.5, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
# Of an exact maximum found with floats, and of ours, in parts of the row bound.
ROUNDING = 1e-9


def uniform(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    return g.random(shape) * 10.0**-decades


def log_uniform(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    spread: Capacities = 10 ** (-decades * g.random(shape))
    return spread


def sparse(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    return log_uniform(g, shape, decades) * (g.random(shape) < 2.5 / shape[-1])


def permutations(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    """Chains that do not meet."""
    order = np.argsort(g.random(shape[:2]), -1)
    return log_uniform(g, shape, decades) * np.eye(shape[-1])[order]


def softmax_rows(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    scores = -np.log(10) * decades * g.random(shape)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    rows: Capacities = weights / weights.sum(-1, keepdims=True)
    return rows


def dominant_row(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    u = g.random(shape) * 10.0**-decades
    u[:, g.integers(shape[-1])] = g.random((shape[0], shape[-1]))
    return u


def balanced_rows(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    layers, t, _ = shape
    rows = log_uniform(g, (layers, t, 1), decades / 2)
    return g.random(shape) * rows * log_uniform(g, (layers, 1, t), decades / 2)


def ties(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    """Few different capacities, and edges without any."""
    sizes = np.array([0.0, 1.0, 1.0, 10.0**-decades])
    return sizes[g.integers(0, len(sizes), shape)]


def near_equal_chains(g: Generator, shape: tuple[int, int, int], decades: float) -> Capacities:
    """Chains of capacities that differ in a late digit, and faint edges between them."""
    chains = np.eye(shape[-1]) * (1 + 10.0**-decades * g.random(shape))
    return chains + g.integers(2) * 10.0**-decades * g.random(shape)


KINDS: dict[str, Kind] = {
    "uniform": uniform,
    "log-uniform": log_uniform,
    "sparse": sparse,
    "permutations": permutations,
    "softmax rows": softmax_rows,
    "one dominant row": dominant_row,
    "balanced rows": balanced_rows,
    "ties": ties,
    "near-equal chains": near_equal_chains,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=BATCHES, help="of six, for each decade")
    parser.add_argument("--out", type=Path, default=Path("runs/stress.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    journal = Journal(args.out, {"batches": args.batches})
    places = [(decades, seed) for decades in DECADES for seed in range(args.batches)]
    left = [place for place in places if _name(*place) not in journal.records]
    for decades, seed in tqdm(left, initial=len(places) - len(left), total=len(places)):
        journal.add({"name": _name(decades, seed), "networks": batch_of(decades, seed)})
    networks = [one for record in journal.records.values() for one in record["networks"]]
    print(table(networks))
    faults = [one for one in networks if one["faults"]]
    if faults:
        sys.exit(f"{len(faults)} networks failed, the first: {faults[0]}")


def _name(decades: int, seed: int) -> str:
    return f"{decades}/{seed}"


def batch_of(decades: int, seed: int) -> list[dict[str, Any]]:
    """Draw and solve six networks, and return what is known of each."""
    g = np.random.default_rng([decades, seed])
    layers = int(g.integers(1, 61))
    t = int(g.integers(1, 25))
    gap = float(g.choice(GAPS))
    kinds = [str(kind) for kind in g.choice(list(KINDS), IN_BATCH)]
    sizes = g.integers(max(1, t - 3), t + 1, IN_BATCH).tolist()
    drawn = [
        torch.from_numpy(KINDS[kind](g, (layers, size, size), decades))
        for kind, size in zip(kinds, sizes, strict=True)
    ]
    padded = torch.zeros(IN_BATCH, layers, t + 1, t + 1, dtype=torch.float64)
    for row, capacities in enumerate(drawn):
        size = sizes[row]
        padded[row, :, :size, :size] = capacities
    together = maximum_flow(padded, gap=gap)
    records = []
    for row, capacities in enumerate(drawn):
        alone = maximum_flow(capacities[None], gap=gap)
        record = {"kind": kinds[row], "decades": decades, "seed": seed, "row": row, "gap": gap}
        record |= {"layers": layers, "t": sizes[row], "status": alone.status[0].name}
        certified = {flow.status[at].is_certified for flow, at in ((alone, 0), (together, row))}
        record |= {"certified_in_one": len(certified) == 2}
        records.append(record | {"faults": faults_of(capacities, alone, together, row, gap)})
    return records


def faults_of(
    capacities: Tensor, alone: Flow[Tensor], together: Flow[Tensor], row: int, gap: float
) -> list[str]:
    """Name the faults of a network's flow, alone and as a row of a batch."""
    faults = []
    ends = (alone.status[0], together.status[row])
    # One certificate is as good as two; where both are missing, the reason is to be the same.
    if ends[0] != ends[1] and not any(end.is_certified for end in ends):
        faults.append(f"{alone.status[0].name} alone, {together.status[row].name} in a batch")
    exact = exact_maximum(layered_network(capacities[None]))
    bound = float(capacities.sum((1, 2)).min())
    for flow, at in ((alone, 0), (together, row)):
        value, above = float(flow.value[at]), float(flow.upper_bound[at])
        if above < exact * (1 - ROUNDING):
            faults.append(f"bound {above} below the exact {exact}")
        if flow.status[at] == Status.EMPTY and exact > 0:
            faults.append(f"empty, and exactly {exact}")
        if flow.status[at] == Status.SOLVED and value > exact * (1 + ROUNDING):
            faults.append(f"value {value} above the exact {exact}")
        if flow.status[at] == Status.SOLVED and exact - value > (gap + ROUNDING) * bound:
            faults.append(f"value {value} too far below the exact {exact}")
    return faults


def table(networks: list[dict[str, Any]]) -> str:
    """Markdown: certified networks of all, a row for each kind and a column for each decade."""
    decades = sorted({one["decades"] for one in networks})
    lines = [f"| decades | {' | '.join(map(str, decades))} |", "|---" * (len(decades) + 1) + "|"]
    for kind in (*KINDS, None):
        cells = []
        for spread in decades:
            some = [n for n in networks if n["decades"] == spread and kind in (None, n["kind"])]
            certified = sum(n["status"] in ("SOLVED", "EMPTY") for n in some)
            cells.append(f"{certified} of {len(some)}" if certified < len(some) else str(len(some)))
        lines.append(f"| {kind or '**all**'} | {' | '.join(cells)} |")
    in_one = [sum(n["certified_in_one"] for n in networks if n["decades"] == d) for d in decades]
    return "\n".join([*lines, f"| in one only | {' | '.join(map(str, in_one))} |"])


if __name__ == "__main__":
    main()
