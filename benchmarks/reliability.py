"""Solve twelve thousand networks, easy, hard and real, and check that each has its certificate.

    .venv/bin/python benchmarks/reliability.py [--data FOLDER] [--out runs/reliability.jsonl]

Random networks of every kind in networks.py, and the four tensors of texts that the embedded model
has read, each batch with a gap of its own. Residuals of conservation, the interior and the
promised gap are measured again here, from the flow. A killed run resumes. Networks that fail are
saved next to the records, and the exit status is then 1.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from journal import Journal
from networks import KINDS, only, random_network
from numpy.typing import NDArray
from texts import SETS, Batch, batches, read
from torch import Tensor
from tqdm import tqdm

from attnflow import Explainer, Flow, maximum_flow
from attnflow.capture import TENSORS, capture
from attnflow.solver.network import LayeredNetwork, layered_network, live_edges, row_bound

BATCHES, NETWORKS_IN_BATCH = 100, 5
TEXTS, TEXTS_IN_BATCH = 50, 8
SEEDS_OF_A_KIND = 100_000
MANY_FACTORISATIONS = 30
LIMITS = {"conservation": 1e-8, "stationarity": 1e-6, "centrality": 1e-6, "shortfall": 1 + 1e-9}
HEADER = (
    "| networks | number | solved | empty | factorisations: median | 99 % | most | "
    f"over {MANY_FACTORISATIONS} | conservation | stationarity | centrality | interiority | "
    "shortfall | inside |"
)


@dataclass(frozen=True)
class Task:
    """A batch to be solved: its name, the kind it counts for, and how to make it."""

    name: str
    kind: str
    seed: int
    network: Callable[[], LayeredNetwork]

    @property
    def gap(self) -> float:
        """Between 1e-6 and one half, the same whenever the task is made."""
        return float(10 ** -np.random.default_rng(self.seed).uniform(0.3, 6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help=f"folder of the sets {', '.join(SETS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/reliability.jsonl"))
    parser.add_argument("--batches", type=int, default=BATCHES, help="of each random kind")
    parser.add_argument("--texts", type=int, default=TEXTS, help="of each set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = {"batches": args.batches, "texts": args.texts if args.data else 0}
    journal = Journal(args.out, options)
    tasks = list(random_tasks(args.batches))
    if args.data:
        tasks += real_tasks(args.data, args.texts)
    else:
        print("no --data: the tensors of real texts are left out", file=sys.stderr)
    run(tasks, journal, args.out.with_suffix(".failures"))
    print(table(list(journal.records.values())))
    failed = sum(int((~fine(record)).sum()) for record in journal.records.values())
    if failed:
        sys.exit(f"{failed} networks failed; they lie in {args.out.with_suffix('.failures')}")


def random_tasks(number: int) -> Iterator[Task]:
    """`number` batches of every kind of random network."""
    for place, kind in enumerate(KINDS):
        for index in range(number):
            seed = place * SEEDS_OF_A_KIND + index
            yield Task(f"{kind}/{index}", kind, seed, _random(kind, seed))


def _random(kind: str, seed: int) -> Callable[[], LayeredNetwork]:
    return lambda: random_network(kind, NETWORKS_IN_BATCH, seed)


def real_tasks(folder: Path, number: int) -> Iterator[Task]:
    """`number` texts of each set, at their natural length or cut to what the model takes."""
    explainer = Explainer.from_pretrained()
    for place, name in enumerate(SETS):
        parts = batches(explainer, read(folder, name), number=number, size=TEXTS_IN_BATCH)
        for index, batch in enumerate(parts):
            for offset, tensor in enumerate(TENSORS):
                seed = (len(KINDS) + place) * SEEDS_OF_A_KIND + len(TENSORS) * index + offset
                real = _real(explainer, batch, tensor)
                yield Task(f"{name} {tensor}/{index}", f"{name} {tensor}", seed, real)


def _real(explainer: Explainer, batch: Batch, tensor: str) -> Callable[[], LayeredNetwork]:
    def network() -> LayeredNetwork:
        captured = capture(explainer.model, batch.inputs, tensor=tensor)
        return layered_network(captured.capacities, captured.mask, captured.mask)

    return network


def run(tasks: list[Task], journal: Journal, failures: Path) -> None:
    """Solve the tasks that the journal does not hold yet."""
    left = [task for task in tasks if task.name not in journal.records]
    bar = tqdm(left, initial=len(tasks) - len(left), total=len(tasks), mininterval=1)
    for task in bar:
        bar.set_postfix_str(task.name, refresh=False)
        network = task.network()
        flow = maximum_flow(network, gap=task.gap)
        record = {"name": task.name, "kind": task.kind, "seed": task.seed, "gap": task.gap}
        record |= measured(network, flow, task.gap)
        for index in np.flatnonzero(~fine(record)):
            _save(failures, task, only(network, int(index)), int(index))
        journal.add(record)


def measured(network: LayeredNetwork, flow: Flow[Tensor], gap: float) -> dict[str, list[Any]]:
    """The quantities that a batch of flows is judged by, a number for each network.

    `conservation` is the solver's, or what its edges add up to if that is worse. `shortfall` is the
    distance to the upper bound in units of what the gap allows. `inside` says that all edges on a
    path, and no others, carry flow strictly between 0 and their capacity.
    """
    allowed = gap * row_bound(network)
    shortfall = (flow.upper_bound - flow.value) / allowed.where(allowed > 0, 1.0)
    return {
        "status": [status.name for status in flow.status],
        "iterations": flow.iterations.tolist(),
        "conservation": torch.maximum(flow.conservation, imbalance(flow)).tolist(),
        "stationarity": flow.stationarity.tolist(),
        "centrality": flow.centrality.tolist(),
        "interiority": flow.interiority.tolist(),
        "shortfall": shortfall.tolist(),
        "inside": inside(network, flow).tolist(),
    }


def imbalance(flow: Flow[Tensor]) -> Tensor:
    """`(batch,)` largest difference of what enters and leaves a node, over the flow's value."""
    entering = torch.cat([flow.edges.sum(2), flow.source[:, None]], 1)
    leaving = torch.cat([flow.sink[:, None], flow.edges.sum(3)], 1)
    nodes = (entering - leaving).abs().amax((1, 2))
    ends = torch.stack([flow.source.sum(1), flow.sink.sum(1)]) - flow.value
    return torch.maximum(nodes, ends.abs().amax(0)) / flow.value.where(flow.value > 0, 1.0)


def inside(network: LayeredNetwork, flow: Flow[Tensor]) -> Tensor:
    """`(batch,)` bool: flow strictly between the bounds on live edges, and on no others."""
    live = live_edges(network)
    layers = ((flow.edges > 0) == live) & ((flow.edges < network.capacities) | ~live)
    fed, drained = live[:, -1].any(2), live[:, 0].any(1)
    limit = network.super_capacity[:, None]
    ends = ((flow.source > 0) == fed) & (flow.source < limit)
    ends &= ((flow.sink > 0) == drained) & (flow.sink < limit)
    return layers.flatten(1).all(1) & ends.all(1)


def fine(record: dict[str, Any]) -> NDArray[np.bool_]:
    """True for the networks of a batch that are certified and within every limit."""
    good = np.isin(record["status"], ["SOLVED", "EMPTY"]) & np.array(record["inside"])
    for name, limit in LIMITS.items():
        good &= np.array(record[name]) <= limit
    return good & (np.array(record["shortfall"]) >= -1e-9)


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: a row for each kind, one for all random and one for all real networks."""
    kinds = list(dict.fromkeys(record["kind"] for record in records))
    groups = {kind: [r for r in records if r["kind"] == kind] for kind in kinds}
    groups["**all random**"] = [r for r in records if r["kind"] in KINDS]
    groups["**all real**"] = [r for r in records if r["kind"] not in KINDS]
    rows = [_row(name, group) for name, group in groups.items() if group]
    return "\n".join([HEADER, "|---" * (HEADER.count("|") - 1) + "|", *rows])


def _row(name: str, records: list[dict[str, Any]]) -> str:
    def all_of(key: str) -> NDArray[Any]:
        return np.concatenate([record[key] for record in records])

    status = all_of("status")
    solved = status == "SOLVED"
    counts = [len(status), solved.sum(), (status == "EMPTY").sum()]
    iterations = all_of("iterations")[status != "EMPTY"]
    if len(iterations):
        counts += [f"{np.quantile(iterations, q):.0f}" for q in (0.5, 0.99, 1)]
        counts += [(iterations > MANY_FACTORISATIONS).sum()]
    else:
        counts += 4 * ["–"]
    names = ("conservation", "stationarity", "centrality", "interiority")
    worst = [f"{all_of(key).max():.0e}" for key in names] + [f"{all_of('shortfall').max():.2f}"]
    inside_all = "yes" if all_of("inside").all() else f"not {(~all_of('inside')).sum()}"
    return f"| {' | '.join(map(str, [name, *counts, *worst, inside_all]))} |"


def _save(folder: Path, task: Task, network: LayeredNetwork, index: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', task.name.lower())}-{index}.pt"
    torch.save(asdict(network) | {"gap": task.gap, "seed": task.seed, "task": task.name}, path)
    tqdm.write(f"failed: {task.name}, network {index}, gap {task.gap:.3g}: saved as {path}")


if __name__ == "__main__":
    main()
