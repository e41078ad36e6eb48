"""Compare how much a flow carries with whether it finds a known answer.

    .venv/bin/python benchmarks/known_answers.py --out prompts.jsonl
    .venv/bin/python benchmarks/faint_flows.py prompts.jsonl --model runs/smollm2 --every 3

Prints, for `bcf` and `net`, the prompts whose flow carries so much of what its layers could, and
the share of them in which the token of largest score lies in the evidence. Prompts that the model
does not answer as expected are left out. The threshold of the warning, `attribution.data.FAINT`,
comes from it.
"""

import warnings

import numpy as np
from known_answers import evidence, prompts_for_explainers

from attnflow import Explainer

BOUNDS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, float("inf"))


def main() -> None:
    args = prompts_for_explainers(__doc__)
    warnings.simplefilter("ignore")
    explainer = Explainer.from_pretrained(args.model)
    found: dict[str, list[tuple[float, bool]]] = {"bcf": [], "net": []}
    for prompt in args.prompts:
        for tensor, rows in found.items():
            a = explainer(prompt.content, tensor=tensor)
            if a.label != prompt.target:
                break
            hits = evidence(prompt, a.offsets)
            rows.append((a.certificate.value, hits[int(np.argmax(a.scores))]))
    print("| tensor | carried | prompts | found |\n|---|---|---|---|")
    for tensor, rows in found.items():
        for low, high in zip(BOUNDS, BOUNDS[1:], strict=False):
            hits = [hit for value, hit in rows if low <= value < high]
            if hits:
                print(f"| {tensor} | {low:.2f} to {high:.2f} | {len(hits)} | {np.mean(hits):.2f} |")


if __name__ == "__main__":
    main()
