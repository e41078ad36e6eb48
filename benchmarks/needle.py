"""Measure whether the one sentence with the answer is found in long prompts, and what it costs.

    .venv/bin/python benchmarks/needle.py --model runs/smollm2 --lengths 512 1024 2048 --each 12

Prompts of about so many tokens, as `known_answers.py --tokens` writes them; those count that the
model answers. For each length and method: the share of prompts in which the token of largest score
is the word told (hit@1), in which the word is in the first tenth of the tokens (recovery), and in
which its sentence has the largest share of the scores of all sentences; and median seconds.
Leave-one-out takes a pass for each token: --removals of them are timed, and the whole is estimated.
A killed run resumes. Memory grows with the square of the length: --max-memory is the flow's.
"""

import argparse
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from journal import Journal
from known_answers import KnownAnswer, answered, needle, token_counter

from attnflow import Explainer
from attnflow.errors import AttnflowError
from attnflow.evaluation import Example, sample_instances
from attnflow.evaluation.extra_metrics import evidence_metrics, sentence_metrics
from attnflow.methods import METHODS, Instance, load_adapter

SHOWN = ("net", "net, signed scores", "net, one stage", "gradient", "leave-one-out")
COLUMNS = ("hit", "recovery", "sentence_hit")
DRAWS = 4  # for each prompt wanted, since the model does not answer all


def example_of(prompt: KnownAnswer, index: int) -> Example:
    """Return a prompt as `attnflow evaluate` reads it from a file."""
    return Example(
        index,
        prompt.text,
        None,
        prompt.target,
        prompt.span,
        prompt.family,
        tuple(prompt.sentences),
    )


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return run(), time.perf_counter() - started


def judged(instance: Instance, scores: np.ndarray, seconds: float | None) -> dict[str, Any]:
    """Return the metrics of scores, and the seconds that they took."""
    metrics = evidence_metrics(instance, scores) | sentence_metrics(instance, scores)
    return {name: round(value, 6) for name, value in metrics.items()} | {"seconds": seconds}


def removal_seconds(instance: Instance, removals: int) -> float:
    """Estimate the seconds of leave-one-out, from so many tokens removed, drawn at random."""
    nodes = np.flatnonzero(instance.ordinary)
    some = np.random.default_rng(instance.seed).choice(nodes, min(removals, len(nodes)), False)
    without = [
        instance.adapter.deleted_variant(instance.content, np.arange(instance.nodes) == node)
        for node in some
    ]
    _, seconds = timed(lambda: instance.log_probability(without))
    return seconds / len(some) * len(nodes)


def measure(
    instance: Instance, explainer: Explainer, removals: int, max_memory: str
) -> dict[str, dict[str, Any]]:
    """Return what each method finds of a prompt; the reason where it failed."""
    found: dict[str, dict[str, Any]] = {}
    for name, options in (("net", {}), ("net, one stage", {"stages": ()})):
        try:
            a, seconds = timed(
                lambda options=options: explainer(
                    instance.content.text, max_memory=max_memory, **options
                )
            )
        except AttnflowError as error:
            found[name] = {"failed": str(error)}
            continue
        found[name] = judged(instance, a.scores, seconds)
        if not options:
            found["net, signed scores"] = judged(instance, a.signed_scores, seconds)
    scores, seconds = timed(lambda: METHODS["gradient"].scores(instance.with_empty_cache()))
    found["gradient"] = judged(instance, scores, seconds)
    found["leave-one-out"] = {"estimated": removal_seconds(instance, removals)}
    return found


def drawn(length: int, seed: int, count: Callable[[str], int]) -> Iterator[KnownAnswer]:
    """Yield prompts of about so many tokens, without an end."""
    rng = random.Random(f"needle {length} {seed}")
    while True:
        yield needle(rng, length, count, whole=True)


def run(args: argparse.Namespace, journal: Journal) -> None:
    """Measure what the journal lacks."""
    adapter = load_adapter(args.model)
    explainer = Explainer(adapter.model, adapter.tokenizer)
    count = token_counter(adapter.tokenizer)
    explainer("The capital of France is")  # which compiles the solver where it has not been
    for length in args.lengths:
        right = 0
        for index, prompt in enumerate(drawn(length, args.seed, count)):
            if right == args.each or index == DRAWS * args.each:
                break
            name = f"{length} {index}"
            if name not in journal.records:
                record: dict[str, Any] = {"name": name, "length": length, "methods": {}}
                record["answered"] = answered([prompt], adapter)[0]
                if record["answered"]:
                    ((_, instance),) = sample_instances(
                        [example_of(prompt, index)], adapter, max_tokens=2 * length
                    )
                    record["tokens"] = instance.nodes
                    record["methods"] = measure(instance, explainer, args.removals, args.max_memory)
                journal.add(record)
            right += journal.records[name]["answered"]


def table(length: int, records: Sequence[dict[str, Any]]) -> str:
    """Format what was measured of prompts of one length."""
    right = [record for record in records if record["answered"]]
    head = f"{length} tokens: {len(records)} prompts, {len(right)} answered"
    if not right:
        return head
    lines = [
        f"{head}, of {np.mean([record['tokens'] for record in right]):.0f} tokens on average.",
        "",
        "| method | hit@1 | recovery in 10 % | sentence first | seconds |",
        "|---|---|---|---|---|",
    ]
    for name in SHOWN:
        rows = [record["methods"].get(name, {}) for record in right]
        estimates = [row["estimated"] for row in rows if "estimated" in row]
        judged_rows = [row for row in rows if "seconds" in row]
        if estimates:
            cells = ["-"] * len(COLUMNS) + [f"{np.median(estimates):.1f} (estimated)"]
        elif judged_rows:
            cells = [f"{np.mean([row[c] for row in judged_rows]):.2f}" for c in COLUMNS]
            cells.append(f"{np.median([row['seconds'] for row in judged_rows]):.1f}")
        else:
            cells = ["failed"] * (len(COLUMNS) + 1)
        failed = sum("failed" in row for row in rows)
        shown = f"{name} ({failed} failed)" if failed and judged_rows else name
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder with a language model")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--each", type=int, default=12, help="answered prompts of each length")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--removals", type=int, default=32, help="tokens removed to time a pass")
    parser.add_argument("--max-memory", default="12GB", help="besides the model (%(default)s)")
    parser.add_argument("--journal", type=Path, default=Path("runs/needle.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    options = {name: getattr(args, name) for name in ("model", "seed", "removals", "max_memory")}
    journal = Journal(args.journal, options)
    run(args, journal)
    for length in args.lengths:
        records = [r for r in journal.records.values() if r["length"] == length]
        print(table(length, records), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
