"""Measure the first token's share in a trained decoder, and how much of it the decision rests on.

    .venv/bin/python benchmarks/attention_sink.py FOLDER

FOLDER has the checkpoint stories260K of llama2.c: stories260K.bin and tok512.bin. The model writes
stories, sampled with a seed, and at some positions of each its likeliest next token is
explained. What a token is worth is how far the log-odds of that token fall when it alone becomes
the neutral one. Printed are, as means over all cases: the first token's part of the scores, of what
paths alone would give it, and of the worth (negative ones as 0); and the rank correlation
(Spearman) of scores and worth over all tokens, and over all but the first, for each policy.
"""

import argparse
from pathlib import Path

import numpy as np
import support_path  # noqa: F401
import torch
from scipy.stats import spearmanr
from support import stories

from attnflow import Explainer
from attnflow.capture.objectives import contrast
from attnflow.inputs.batching import neutral_token

POSITIONS = (16, 48, 96)


def texts(model: torch.nn.Module, count: int, seed: int) -> list[list[int]]:
    """Sample stories, as ids with <s> first."""
    torch.manual_seed(seed)
    start = torch.ones(count, 1, dtype=torch.int64)
    options = {"do_sample": True, "max_new_tokens": max(POSITIONS), "pad_token_id": 0}
    return model.generate(start, min_new_tokens=max(POSITIONS), **options).tolist()


def worth(model: torch.nn.Module, ids: list[int], target: int, neutral: int) -> np.ndarray:
    """`(t,)` fall of the log-odds without each token."""
    rows = torch.tensor([ids] * (len(ids) + 1))
    rows[1:].fill_diagonal_(neutral)
    with torch.no_grad():
        logits = model(input_ids=rows, logits_to_keep=1).logits[:, -1].double()
    odds = contrast(logits, torch.full((len(rows),), target))
    return (odds[0] - odds[1:]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = stories.model(args.folder), stories.tokenizer(args.folder)
    explainer, neutral = Explainer(model, tokenizer), neutral_token(tokenizer, model.config)
    sampled = texts(model, args.texts, args.seed)
    print(f"stories260K, {args.texts} stories, seed {args.seed}, positions {POSITIONS}")
    print("                | the first token's part of | correlation with worth")
    print("                |                           | all tokens | all but the first")
    print("first    tensor |  scores    paths    worth |       keep |   keep  exclude")
    for first, begins in (("<s>", 0), ("a word", 1)):
        for tensor in ("af", "agf", "cf", "bcf"):
            rows = []
            for ids in (story[begins : end + 1] for story in sampled for end in POSITIONS):
                a = explainer(input_ids=ids, tensor=tensor, attention_sink="exclude")
                target = int(explainer.model(torch.tensor([ids])).logits[0, -1].argmax())
                fall = worth(model, ids, target, neutral)
                rows.append(
                    (
                        a.raw_scores[0] / a.raw_scores.sum(),
                        a.null_shares[0],
                        max(fall[0], 0) / np.maximum(fall, 0).sum(),
                        spearmanr(a.raw_scores, fall).statistic,
                        spearmanr(a.raw_scores[1:], fall[1:]).statistic,
                        spearmanr(a.scores[1:], fall[1:]).statistic,
                    )
                )
            mean = np.mean(rows, axis=0)
            print(
                f"{first:8} {tensor:6} | {mean[0]:7.1%} {mean[1]:8.1%} {mean[2]:8.1%} |"
                f" {mean[3]:10.3f} | {mean[4]:6.3f} {mean[5]:8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
