"""Compare explanations with and without a beginning-of-text token on known answers.

    .venv/bin/python benchmarks/known_answers.py --out prompts.jsonl --seed 1
    .venv/bin/python benchmarks/beginning.py prompts.jsonl --model runs/smollm2

Prints, for texts as the tokenizer has them and with `bos=True`: how many prompts the model answers
as expected, the share of these in which the token of largest score, or of largest signed score,
lies in the evidence, and the first word's share of the scores.
"""

import warnings

import numpy as np
from known_answers import evidence, prompts_for_explainers

from attnflow import Explainer


def main() -> None:
    args = prompts_for_explainers(__doc__)
    warnings.simplefilter("ignore")
    explainer = Explainer.from_pretrained(args.model)
    print("| bos | answered | hit@1, scores | hit@1, signed scores | first word |")
    print("|---|---|---|---|---|")
    for bos in (False, True):
        found = []
        for prompt in args.prompts:
            a = explainer(prompt.content, bos=bos)
            if a.label != prompt.target:
                continue
            ranked = np.where(a.special, -np.inf, np.stack([a.scores, a.signed_scores]))
            hits = np.array(evidence(prompt, a.offsets))[ranked.argmax(1)]
            found.append([*hits, a.shares[int(np.argmax(~a.special))]])
        means = " | ".join(f"{mean:.2f}" for mean in np.mean(found, axis=0))
        print(f"| {bos} | {len(found)} | {means} |", flush=True)


if __name__ == "__main__":
    main()
