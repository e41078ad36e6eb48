"""Explanations in half precision and by quantised weights, against the same weights in float32.

    .venv/bin/python benchmarks/half_precision.py MODEL
    .venv/bin/python benchmarks/half_precision.py MODEL --lengths 16 64 256

MODEL is a folder of a language model, such as `make smollm2` makes. Each prompt is explained by
every form of the weights, and so is the same token by the same weights in float32: of weights that
a backend has quantised, the model that it makes of them again. Printed are Spearman's rank
correlation of signed scores (the mean over prompts), the sum of their differences over their sum
(median and largest), and how often the first token is the same: in one stage, and in the default
ones, whose order of removal jumps where two tokens are about equal. Then the seconds of a call over
those in float32. Quantised forms need bitsandbytes.

With lengths, random texts of so many tokens are explained in bfloat16 and in float32 in turn: the
processor time of a call over that in float32 (the least of some turns), beside the same ratio of
the model's own forward and backward pass.
"""

import argparse
import copy
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from attnflow import Attribution, Explainer

PROMPTS = (
    "The capital of France is",
    "The opposite of hot is",
    "Paris is in France. Berlin is in",
    "Water freezes at zero degrees and boils at one hundred",
    "My sister plays the violin and my brother plays the",
    "The doctor told the nurse that the patient was",
    "In winter it is cold, and in summer it is",
    "He opened the door with the",
    "Two plus two equals",
    "The sun rises in the east and sets in the",
    "She put the milk back into the",
    "When Mary and John went to the store, John gave a drink to",
)
TURNS = 3
STAGES: tuple[tuple[str, dict[str, Any]], ...] = (("one", {"stages": ()}), ("default", {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of a language model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lengths", type=int, nargs="+", help="tokens of texts that are timed")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    full = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    if args.lengths:
        print_speed(full, tokenizer, args.lengths)
        return
    print(f"torch {torch.__version__}, {args.threads} thread(s), {len(PROMPTS)} prompts\n")
    print("| weights | stages | rank | difference, median | largest | same first | seconds |")
    print("|---|---|---|---|---|---|---|")
    base = timed(Explainer(full, tokenizer))
    for name, model, reference in forms(args.model, full):
        explain = Explainer(model, tokenizer)
        seconds = f"{timed(explain) / base:.1f}"
        found = {title: [explain(p, **options) for p in PROMPTS] for title, options in STAGES}
        # Only now: a backend makes floats of its weights in place.
        exact = Explainer(reference(), tokenizer)
        for title, options in STAGES:
            wanted = [
                exact(prompt, target=a.label, **options)
                for prompt, a in zip(PROMPTS, found[title], strict=True)
            ]
            print(
                f"| {name} | {title} | {compared(found[title], wanted)} | {seconds} |", flush=True
            )


def forms(folder: str, full: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield forms of the weights: a name, the model, and a function that gives it in float32."""
    for dtype in (torch.bfloat16, torch.float16):
        model = copy.deepcopy(full).to(dtype)
        yield str(dtype).removeprefix("torch."), model, lambda m=model: copy.deepcopy(m).float()
    for name, options in (
        ("bitsandbytes, 8 bits", {"load_in_8bit": True}),
        ("bitsandbytes, 4 bits (nf4)", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    ):
        config = BitsAndBytesConfig(**options, bnb_4bit_compute_dtype=torch.bfloat16)
        model = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=config, dtype=torch.bfloat16
        )
        yield name, model.eval(), lambda m=model: m.dequantize().float().eval()


def print_speed(full: Any, tokenizer: Any, lengths: list[int]) -> None:
    """Print the ratios of processor time in bfloat16 and in float32, at each length."""
    models = (full, copy.deepcopy(full).to(torch.bfloat16))
    has_amx = torch.cpu._is_amx_tile_supported()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), AMX: {has_amx}\n")
    print("| tokens | a call | the model's own passes |\n|---|---|---|")
    generator = torch.Generator().manual_seed(0)
    for length in lengths:
        ids = torch.randint(5, full.config.vocab_size, (1, length), generator=generator)
        ratios = []
        for run in (partial(explained, tokenizer, ids), partial(own_passes, ids)):
            spent = [[processor_time(run, model) for model in models] for _ in range(TURNS + 1)]
            single, half = (min(turns) for turns in zip(*spent, strict=True))
            ratios.append(f"{half / single:.2f}")
        print(f"| {length} | {' | '.join(ratios)} |", flush=True)


def explained(tokenizer: Any, ids: torch.Tensor, model: Any) -> None:
    Explainer(model, tokenizer)(input_ids=ids)


def own_passes(ids: torch.Tensor, model: Any) -> None:
    """Run the model forward, and backward from one logit to its embeddings."""
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, use_cache=False).logits
    torch.autograd.grad(logits[0, -1].max(), embeddings)


def processor_time(run: Callable[[Any], object], model: Any) -> float:
    begin = time.process_time()
    run(model)
    return time.process_time() - begin


def timed(explainer: Explainer) -> float:
    """Return seconds over all prompts, the median of some turns."""
    turns = []
    for _ in range(TURNS + 1):  # the first warms up
        begin = time.perf_counter()
        for prompt in PROMPTS:
            explainer(prompt)
        turns.append(time.perf_counter() - begin)
    return median(turns[1:])


def compared(found: list[Attribution], wanted: list[Attribution]) -> str:
    """Return the cells of a row."""
    scores = [(a.signed_scores, b.signed_scores) for a, b in zip(found, wanted, strict=True)]
    ranks = [spearmanr(a, b).statistic for a, b in scores]
    off = [np.abs(a - b).sum() / np.abs(b).sum() for a, b in scores]
    same = sum(int(a.argmax() == b.argmax()) for a, b in scores)
    worst = f"{100 * median(off):.1f} % | {100 * max(off):.0f} %"
    return f"{mean(ranks):.3f} | {worst} | {same} of {len(found)}"


if __name__ == "__main__":
    main()
