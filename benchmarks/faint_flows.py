"""Compare how much a flow carries with whether it finds a known answer.

    .venv/bin/python benchmarks/known_answers.py --out prompts.jsonl
    .venv/bin/python benchmarks/faint_flows.py prompts.jsonl --model runs/smollm2

Prints, for `bcf` and `net`, the prompts whose flow carries so much of what its layers could, and
the share of them in which the token of largest score lies in the evidence. Prompts that the model
does not answer as expected are left out. The threshold of the warning, `attribution.data.FAINT`,
comes from it.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np

from attnflow import Explainer

BOUNDS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, float("inf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--every", type=int, default=3, help="take every so many prompts")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    explainer = Explainer.from_pretrained(args.model)
    found: dict[str, list[tuple[float, bool]]] = {"bcf": [], "net": []}
    for line in args.prompts.read_text(encoding="utf-8").splitlines()[:: args.every]:
        prompt = json.loads(line)
        start, stop = prompt["span"]
        for tensor, rows in found.items():
            a = explainer(prompt["text"], tensor=tensor)
            if a.label != prompt["target"]:
                break
            first, last = a.offsets[int(np.argmax(a.scores))]
            rows.append((a.certificate.value, first < stop and last > start))
    print("| tensor | carried | prompts | found |\n|---|---|---|---|")
    for tensor, rows in found.items():
        for low, high in zip(BOUNDS, BOUNDS[1:], strict=False):
            hits = [hit for value, hit in rows if low <= value < high]
            if hits:
                print(f"| {tensor} | {low:.2f} to {high:.2f} | {len(hits)} | {np.mean(hits):.2f} |")


if __name__ == "__main__":
    main()
