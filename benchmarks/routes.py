"""Knock out the edges of every kind of route, and keep them alone: which carry the decision?

    .venv/bin/python benchmarks/routes.py --data DATA --models runs

Texts of the same draw as in benchmarks/faithfulness.py. A killed run resumes. Tables go to
docs/results/routes-DATASET.md: probabilities of the explained class, with 95 % intervals, and what
flows, walks and whole paths keep beyond the capacities of the same tensor.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faithfulness import DATA, instances_of, model_of
from journal import Journal
from torch import Tensor
from tqdm import tqdm

from attnflow.evaluation import bootstrap_estimate
from attnflow.evaluation.edge_knockout import ROUTES, SHARES, knockout_curve
from attnflow.files import write_whole

TEXTS = {"ag_news": 60}
SHOWN = "{:.3f} [{:.3f}, {:.3f}]"


def measure(name: str, args: argparse.Namespace) -> list[dict]:
    """Measure every route's probabilities on each text; return one record for each."""
    file, texts = str(args.data / DATA[name].test), args.texts or TEXTS.get(name, 100)
    instances = instances_of(
        model_of(name, args.models), file, limit=texts, max_tokens=args.max_tokens
    )
    options = {"texts": texts, "most": args.max_tokens, "data": name, "shares": list(SHARES),
               "routes": list(ROUTES)}  # fmt: skip
    journal = Journal(args.models / "routes" / f"{name}.jsonl", options)
    return measured(instances, journal, tuple(ROUTES), SHARES)


def measured(
    instances: Sequence[Any],
    journal: Journal,
    routes: Sequence[str],
    shares: Sequence[float],
    always: Callable[[int], Tensor | None] = lambda nodes: None,
) -> list[dict]:
    """Measure the routes on each instance that the journal has not; return its records.

    `always` names the edges that stay, for a number of nodes.
    """
    for example, instance in tqdm(instances, desc=f"routes {journal.path.stem}"):
        if str(example.index) not in journal.records:
            fresh = instance.with_empty_cache()  # else all instances' passes stay in memory
            curves = {
                route: knockout_curve(
                    fresh,
                    ROUTES[route](fresh),
                    shares,
                    seed=example.index,
                    always=always(fresh.nodes),
                )
                for route in routes
            }
            journal.add({
                "name": str(example.index),
                "whole": curves["random"].whole,
                "out": {route: f.knocked_out.tolist() for route, f in curves.items()},
                "kept": {route: f.kept.tolist() for route, f in curves.items()},
            })  # fmt: skip
    return list(journal.records.values())


def tables(
    title: str,
    records: list[dict],
    shares: Sequence[float],
    of: Callable[[np.ndarray], np.ndarray] = np.asarray,
    name: str = "probability",
) -> str:
    """Format what is left of the probability, or a function `of` it, by share of the edges."""
    routes = list(records[0]["out"])
    whole = of(np.array([record["whole"] for record in records]))
    out = {r: of(np.array([record["out"][r] for record in records])) for r in routes}
    kept = {r: of(np.array([record["kept"][r] for record in records])) for r in routes}
    lines = [
        f"# {title}",
        "",
        f"{len(records)} texts, mean {name} {whole.mean():.3f} with all edges.",
        "",
        *_table("kept alone", kept, shares),
        "",
        *_table("knocked out", out, shares),
        "",
        "Kept alone, more than by the capacities of the same tensor:",
        "",
        *_table("difference", _beyond_capacities(kept), shares),
    ]
    return "\n".join(lines) + "\n"


def _beyond_capacities(kept: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    pairs = {route: f"{route.split()[0]} capacity" for route in kept if " " in route}
    return {
        route: kept[route] - kept[capacity]
        for route, capacity in pairs.items()
        if capacity in kept and route != capacity
    }


def _table(title: str, values: dict[str, np.ndarray], shares: Sequence[float]) -> list[str]:
    head = f"| {title} | " + " | ".join(f"{100 * share:g} %" for share in shares) + " |"
    rows = [
        f"| {route} | "
        + " | ".join(
            SHOWN.format(e.mean, e.low, e.high) for e in map(bootstrap_estimate, of_share.T)
        )
        + " |"
        for route, of_share in values.items()
    ]
    return [head, "|" + "---|" * (len(shares) + 1), *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="+", choices=DATA, default=["sst2", "ag_news"])
    parser.add_argument("--texts", type=int, help="instead of a hundred, of AG News sixty")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        text = tables(f"Routes on {name}", measure(name, args), SHARES)
        write_whole(args.out / f"routes-{name}.md", text, overwrite=True)
        print(text, flush=True)


if __name__ == "__main__":
    main()
