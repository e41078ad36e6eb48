"""Compare explanations with and without a beginning-of-text token on known answers.

    .venv/bin/python benchmarks/known_answers.py --out prompts.jsonl --seed 1
    .venv/bin/python benchmarks/beginning.py prompts.jsonl --model runs/smollm2

Prints, for texts as the tokenizer has them and with `bos=True`: how many prompts the model answers
as expected, the share of these in which the token of largest score, or of largest signed score,
lies in the evidence, and the first word's share of the scores.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np

from attnflow import Explainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--every", type=int, default=1, help="take every so many prompts")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    explainer = Explainer.from_pretrained(args.model)
    lines = args.prompts.read_text(encoding="utf-8").splitlines()[:: args.every]
    print("| bos | answered | hit@1, scores | hit@1, signed scores | first word |")
    print("|---|---|---|---|---|")
    for bos in (False, True):
        found = []
        for prompt in map(json.loads, lines):
            a = explainer(prompt["text"], bos=bos)
            if a.label != prompt["target"]:
                continue
            start, stop = prompt["span"]
            evidence = np.array([first < stop and last > start for first, last in a.offsets])
            ranked = np.where(a.special, -np.inf, np.stack([a.scores, a.signed_scores]))
            hits = evidence[ranked.argmax(1)]
            found.append([*hits, a.shares[int(np.argmax(~a.special))]])
        means = " | ".join(f"{mean:.2f}" for mean in np.mean(found, axis=0))
        print(f"| {bos} | {len(found)} | {means} |", flush=True)


if __name__ == "__main__":
    main()
