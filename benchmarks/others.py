"""Compare explanations with those of captum's own classes for language models on known answers.

    .venv/bin/python benchmarks/known_answers.py --out prompts.jsonl --seed 1
    .venv/bin/python benchmarks/others.py prompts.jsonl --model runs/smollm2 --every 32

Prints, for prompts that the model answers as expected: the share in which the token of largest
score lies in the evidence, and the median seconds of an explanation. captum explains the target's
log-probability, from tokens replaced by the tokenizer's unknown one, or from embeddings of 0.
inseq's methods join where it is installed: 0.7.1 runs with transformers 5.23.
"""

import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from captum.attr import (
    FeatureAblation,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    LLMAttribution,
    LLMGradientAttribution,
    TextTokenInput,
)
from known_answers import KnownAnswer, evidence, prompts_for_explainers
from numpy.typing import NDArray

from attnflow import Explainer

STEPS = 20  # of integrated gradients
OF_INSEQ = {"saliency": {}, "integrated_gradients": {"n_steps": STEPS}}
Scorer = Callable[[KnownAnswer], NDArray[np.float64]]  # gives each token of the prompt a number


def of_attnflow(explainer: Explainer) -> dict[str, Scorer]:
    """Methods of ours: the scores of `net`, and the signed ones."""
    return {
        "attnflow net": lambda prompt: explainer(prompt.text).scores,
        "attnflow net, signed": lambda prompt: explainer(prompt.text).signed_scores,
    }


def of_captum(model: Any, tokenizer: Any) -> dict[str, Scorer]:
    """Methods of captum, by its classes for language models."""
    layer, unknown = model.get_input_embeddings(), tokenizer.unk_token_id or 0

    def scorer(attribution: Any, **options: Any) -> Scorer:
        def scores(prompt: KnownAnswer) -> NDArray[np.float64]:
            given = TextTokenInput(prompt.text, tokenizer, baselines=unknown)
            target = tokenizer(prompt.target, add_special_tokens=False, return_tensors="pt")
            found = attribution.attribute(given, target=target["input_ids"][0, :1], **options)
            values: NDArray[np.float64] = found.seq_attr.double().cpu().numpy()
            return values

        return scores

    gradient = LLMGradientAttribution(LayerGradientXActivation(model, layer), tokenizer)
    path = LLMGradientAttribution(LayerIntegratedGradients(model, layer), tokenizer)
    return {
        "captum gradient x input": scorer(gradient),
        "captum integrated gradients": scorer(path, n_steps=STEPS, internal_batch_size=STEPS),
        "captum feature ablation": scorer(LLMAttribution(FeatureAblation(model), tokenizer)),
    }


def of_inseq(model: Any, tokenizer: Any) -> dict[str, Scorer]:
    """Methods of inseq, aggregated over embeddings as is its default; none where it is missing."""
    if find_spec("inseq") is None:
        return {}
    inseq: Any = import_module("inseq")

    def scorer(name: str, **options: Any) -> Scorer:
        wrapped = inseq.load_model(model, name, tokenizer=tokenizer)

        def scores(prompt: KnownAnswer) -> NDArray[np.float64]:
            whole = prompt.text + prompt.target
            found = wrapped.attribute(prompt.text, whole, show_progress=False, **options)
            by_target = found.aggregate()[0].target_attributions[:, 0]
            values: NDArray[np.float64] = by_target.double().numpy()
            return values[: len(tokenizer(prompt.text)["input_ids"])]

        return scores

    return {f"inseq {name}": scorer(name, **options) for name, options in OF_INSEQ.items()}


def main() -> None:
    args = prompts_for_explainers(__doc__)
    warnings.simplefilter("ignore")
    explainer = Explainer.from_pretrained(args.model)
    model, tokenizer = explainer.model, explainer.tokenizer
    texts = {prompt.text: explainer(prompt.text) for prompt in args.prompts}  # which warms up too
    answered = [p for p in args.prompts if texts[p.text].label == p.target]
    print(f"{len(answered)} of {len(args.prompts)} prompts are answered as expected.\n")
    print("| method | hit@1 | seconds |\n|---|---|---|")
    methods = of_attnflow(explainer) | of_captum(model, tokenizer) | of_inseq(model, tokenizer)
    for name, scores in methods.items():
        hits, seconds = [], []
        for prompt in answered:
            start = time.perf_counter()
            found = scores(prompt)
            seconds.append(time.perf_counter() - start)
            ordinary = ~texts[prompt.text].special
            top = int(np.where(ordinary, found, -np.inf).argmax())
            hits.append(evidence(prompt, texts[prompt.text].offsets)[top])
        print(f"| {name} | {np.mean(hits):.2f} | {np.median(seconds):.2f} |", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
