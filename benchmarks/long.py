"""Measure memory and time of capture as texts grow, next to the model's own backward pass.

    .venv/bin/python benchmarks/long.py [--models bert-base llama-1b] [--lengths 512 1024]

Random models of the size of BERT-base (12 layers of width 768, 12 heads) and of a Llama of a
billion weights (16 layers of width 2,048, 32 heads, 8 of keys and values), with a small vocabulary;
one text, one thread. Every number is measured in a separate process: the peak of resident memory
less what was resident with the model loaded. A killed run resumes. What the estimate says will not
fit in --max-memory is skipped, and the table says so. The tables go to docs/long.md.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from journal import Journal

from attnflow.capture import Objective, capture, staged_capture
from attnflow.capture.objectives import contrast, logit, logits_at
from attnflow.cli.bench.memory import peak
from attnflow.explainer.memory.estimate import MemoryPlanner
from attnflow.explainer.memory.sizes import ExampleSize
from attnflow.explainer.memory.units import format_bytes, parse_bytes

VOCABULARY, LONGEST = 1000, 8192
WHAT = ("own", "cf", "bcf")


def bert_base() -> Any:
    config = transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=LONGEST)
    return transformers.BertForSequenceClassification(config)


def llama_1b() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=LONGEST,
    )
    return transformers.LlamaForCausalLM(config)


MODELS = {"bert-base": bert_base, "llama-1b": llama_1b}


def own_backward(model: Any, ids: torch.Tensor) -> None:
    """Run the model forward and backward to its embeddings alone, by SDPA."""
    model.requires_grad_(False)
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings).logits
    torch.autograd.grad((logits if logits.ndim == 2 else logits[:, -1]).amax(), embeddings)


def captured(model: Any, ids: torch.Tensor, tensor: str) -> None:
    last = torch.tensor([ids.shape[1] - 1])
    objective = Objective(scalar=contrast if tensor == "bcf" else logit)
    if model.config.model_type == "llama":
        objective = replace(objective, read=logits_at(last), position=last)
    if tensor == "bcf":
        staged_capture(model, {"input_ids": ids}, torch.zeros_like(ids), objective)
    else:
        capture(model, {"input_ids": ids}, objective, tensor=tensor)


def measure(name: str, t: int, what: str) -> tuple[int, float]:
    """Measure bytes at the peak, besides the loaded model, and seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    ids = torch.randint(5, VOCABULARY, (1, t))

    def run(some: torch.Tensor) -> None:
        own_backward(model, some) if what == "own" else captured(model, some, what)

    run(ids[:, :8])  # what is loaded once, whatever the text
    before, started = peak(reset=True), time.perf_counter()
    run(ids)
    return peak() - before, time.perf_counter() - started


def measured_apart(name: str, t: int, what: str) -> dict[str, Any]:
    """Measure in a separate process, so that nothing is left over from another measurement."""
    # Freed arrays go back to the system at once, so that none is used again unseen (glibc only).
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--measure", name, str(t), what]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode:
        return {"failed": f"ended with {done.returncode}"}
    size, seconds = done.stdout.split()[-2:]
    return {"bytes": int(size), "seconds": float(seconds)}


def row(name: str, t: int, found: dict[str, dict[str, Any]], estimated: int, square: int) -> str:
    """Format one line of the table, with the reason where a measurement is missing."""
    sizes = {what: record.get("bytes") for what, record in found.items()}
    cells = [format_bytes(sizes[w]) if sizes[w] else next(iter(found[w].values())) for w in WHAT]
    seconds = ", ".join(f"{r['seconds']:.0f}" for r in found.values() if "seconds" in r)
    own, cf = sizes["own"], sizes["cf"]
    beyond = f"{(cf - own) / 1e6:+.0f} MB" if own and cf else "-"
    ratio = f"{estimated / cf:.2f}" if cf else "-"
    return (
        f"| {name} | {t} | {' | '.join(cells)} | {beyond} | {format_bytes(square)} | "
        f"{format_bytes(estimated)} | {ratio} | {seconds} |"
    )


def estimates(name: str, lengths: list[int]) -> list[tuple[int, int]]:
    """Estimated bytes of a capture of `cf` for each length, and bytes of its (t, t) tensors."""
    planner = MemoryPlanner(MODELS[name]().eval(), "cf")
    sizes = []
    for t in lengths:
        estimate = planner.estimate([ExampleSize((t,), t)], limit=float("inf"))
        # Activations are freed before signed effects and capacities are held together.
        peak_bytes = max(estimate.activations + estimate.tensors, estimate.held)
        sizes.append((peak_bytes, estimate.held // 2))
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT[:2]))
    parser.add_argument("--max-memory", default="14GB", help="besides the model (%(default)s)")
    parser.add_argument("--journal", type=Path, default=Path("runs/long.jsonl"))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, t, what = args.measure
        print(*measure(name, int(t), what))
        return
    allowed = parse_bytes(args.max_memory)
    journal = Journal(args.journal, {"vocabulary": VOCABULARY})
    print(f"{platform.machine()}, torch {torch.__version__}, one thread\n")
    print("| model | t | own | cf | bcf | cf - own | L t² 4 | estimate | / cf | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.models:
        for t, (estimated, square) in zip(args.lengths, estimates(name, args.lengths), strict=True):
            found = {}
            for what in WHAT:
                key = f"{name} {t} {what}"
                if key not in journal.records and what not in args.what:
                    found[what] = {"skipped": "-"}
                    continue
                if key not in journal.records and estimated > allowed:
                    found[what] = {"skipped": f"needs {format_bytes(estimated)}"}
                    continue
                if key not in journal.records:
                    journal.add({"name": key} | measured_apart(name, t, what))
                found[what] = journal.records[key]
            print(row(name, t, found, estimated, square), flush=True)


if __name__ == "__main__":
    main()
