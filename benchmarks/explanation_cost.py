"""Measure what an explanation costs, in multiples of the model's own forward and backward pass.

    .venv/bin/python benchmarks/explanation_cost.py --model runs/smollm2 --lengths 16 64 128 256 512

One text, one thread. The model's own passes are one forward pass and one backward pass from a
number to the embeddings, with its own attention. A row is the median of --repeat runs after one
that warms up. Integrated gradients are captum's, with 50 steps; leave-one-out deletes one token at
a time, t forward passes, in batches.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from attnflow import Explainer
from attnflow.methods import METHODS, Instance, adapter_for
from attnflow.models.embedded import EMBEDDED_MODEL

TEXT = "the film was not as good as the book that my brother gave to me last year , but "
OURS: dict[str, dict[str, Any]] = {
    "net": {},
    "net, one stage": {"stages": ()},
    "bcf": {"tensor": "bcf"},
    "cf": {"tensor": "cf"},
    "agf": {"tensor": "agf"},
}
OTHERS = ("integrated-gradients", "leave-one-out")


def seconds(run: Callable[[], object], repeat: int) -> float:
    """Median seconds of a run, after one that does not count."""
    times = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def own_passes(model: Any, ids: torch.Tensor) -> None:
    """Run the model forward and backward to its embeddings."""
    model.requires_grad_(False)
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded).logits
    torch.autograd.grad(logits.reshape(-1, logits.shape[-1])[-1].max(), embedded)


def text_of(explainer: Explainer, length: int) -> str:
    """Return a text of about so many tokens, special ones included."""
    words = (TEXT * (length // 8 + 1)).split()
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(explainer.tokenizer(" ".join(words[:middle]))["input_ids"]) <= length
        low, high = (middle, high) if fits else (low, middle - 1)
    return " ".join(words[:low])


def row(explainer: Explainer, length: int, repeat: int, others: bool) -> list[str]:
    """Return the cells of one length."""
    text = text_of(explainer, length)
    ids = torch.tensor([explainer.tokenizer(text)["input_ids"]])
    own = seconds(lambda: own_passes(explainer.model, ids), repeat)
    cells = [str(ids.shape[1]), f"{own:.3f}"]
    for options in OURS.values():
        cells.append(f"{seconds(lambda o=options: explainer(text, **o), repeat) / own:.1f}")
    if others:
        adapter = adapter_for(explainer.model, explainer.tokenizer)
        encoded = adapter.encode(text)
        (target,) = adapter.predicted([adapter.whole_variant(encoded)])
        instance = Instance(adapter, encoded, target)
        for name in OTHERS:
            run = METHODS[name].scores
            took = seconds(lambda run=run: np.asarray(run(instance.with_empty_cache())), 1)
            cells.append(f"{took / own:.1f}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="a folder (default: embedded)")
    parser.add_argument("--lengths", nargs="+", type=int, default=[16, 64, 128, 256, 512])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ours", action="store_true", help="leave the other methods out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    explainer = Explainer.from_pretrained(args.model)
    names = ["tokens", "own passes, s", *OURS, *(() if args.ours else OTHERS)]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for length in args.lengths:
        print(f"| {' | '.join(row(explainer, length, args.repeat, not args.ours))} |", flush=True)


if __name__ == "__main__":
    main()
