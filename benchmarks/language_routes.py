"""Knock out edges of a language model by each kind of route, and keep them alone.

    .venv/bin/python benchmarks/language_routes.py DATA/ag_news/test.tsv --model runs/smollm2

The file has texts, whose next token after a random one is explained, or prompts with known answers
(benchmarks/known_answers.py). A token's edges to itself and to the first token always stay
(`sink_edges`). Prints the tables of routes.py, of log-probabilities. A killed run resumes.
"""

import argparse
from pathlib import Path

import numpy as np
from journal import Journal
from routes import measured, tables

from attnflow.evaluation import read_examples, sample_instances
from attnflow.evaluation.edge_knockout import sink_edges
from attnflow.methods import load_adapter

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
ROUTES = (
    *("random", "attention", "patching", "af flow", "agf flow", "cf capacity", "cf flow"),
    *("net1 capacity", "net1 flow", "net1 walk", "net1 capacity paths", "net1 flow paths"),
)


def log_probability(p: np.ndarray) -> np.ndarray:
    """Return logarithms; a probability that rounds to 0 is the least that float32 tells from it."""
    return np.log(np.maximum(p, np.finfo(np.float32).tiny))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", required=True, help="folder of a language model")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/routes"), help="folder of what is measured"
    )
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--max-tokens", type=int, default=64)
    args = parser.parse_args()
    examples = read_examples(str(args.data))
    known = examples[0].answer is not None
    instances = sample_instances(
        examples,
        load_adapter(args.model),
        limit=args.texts,
        min_tokens=3 if known else 24,
        max_tokens=args.max_tokens,
        position="end" if known else "random",
    )
    name = f"{args.data.parent.name}-{args.data.stem}"
    options = {"texts": args.texts, "most": args.max_tokens, "data": name,
               "shares": list(SHARES), "routes": list(ROUTES)}  # fmt: skip
    journal = Journal(args.out / f"{name}.jsonl", options)
    title = f"Routes of {Path(args.model).name}, {name}"
    records = measured(instances, journal, ROUTES, SHARES, sink_edges)
    print(tables(title, records, SHARES, of=log_probability, name="log-probability"))


if __name__ == "__main__":
    main()
