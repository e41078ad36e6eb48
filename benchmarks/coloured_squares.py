"""Train a small vision-language model on coloured squares, and see where its explanations lie.

    .venv/bin/python benchmarks/coloured_squares.py

The model names the colour of one of two squares, left or right (tests/support/coloured_squares.py).
Printed is, for each tensor, how often the region of highest score is the square asked for, and its
part of the scores of all regions; and the same of the log-odds lost when a region is painted over.
Takes two minutes.
"""

import sys
import warnings

import numpy as np
import support_path  # noqa: F401
import torch
from support.coloured_squares import CELL, CELLS, GROUND, NOTHING, processor, scene, trained

from attnflow import Explainer

SCENES = 100


def main():
    """Train, explain and print."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model, accuracy = trained()
    rng = np.random.default_rng(99)
    scenes = [s for s in (scene(rng) for _ in range(2 * SCENES)) if s.answer != NOTHING][:SCENES]
    print(f"accuracy {accuracy:.3f}; {SCENES} scenes\n")
    print("| tensor | square asked for first | other square first | part of the regions' scores |")
    print("|---|---|---|---|")
    explainer = Explainer(model, processor())
    given = dict(texts=[s.text for s in scenes], images=[s.image for s in scenes])
    given |= dict(target=[s.answer for s in scenes])
    forms = {"net": {}, "net, one stage": dict(stages=())}
    forms |= {tensor: dict(tensor=tensor) for tensor in ("cf", "agf", "gf", "af")}
    for name, options in forms.items():
        maps = [a.heatmaps()["image"] for a in explainer(**given, **options)]
        print(row(name, maps, scenes))
    print(row("painted over", [painted_over(explainer, s) for s in scenes], scenes))
    return 0


def row(name, maps, scenes):
    """A row of the table, of `(rows, columns)` numbers for each scene."""
    best = [tuple(map(int, np.unravel_index(m.argmax(), m.shape))) for m in maps]
    asked = np.mean([b == s.asked for b, s in zip(best, scenes, strict=True)])
    other = np.mean([b == s.other for b, s in zip(best, scenes, strict=True)])
    parts = [
        m[s.asked].clip(0) / max(m.clip(0).sum(), 1e-30) for m, s in zip(maps, scenes, strict=True)
    ]
    return f"| {name} | {asked:.0%} | {other:.0%} | {np.mean(parts):.0%} |"


def painted_over(explainer, one):
    """`(rows, columns)` log-odds of the answer lost without each region."""
    images = [one.image]
    for cell in range(CELLS**2):
        row, column = divmod(cell, CELLS)
        changed = one.image.copy()
        changed[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = GROUND
        images.append(changed)
    results = explainer([one.text] * len(images), images=images, target=one.answer, stages=())
    whole, *others = (a.explained for a in results)
    return np.array([whole - each for each in others]).reshape(CELLS, CELLS)


if __name__ == "__main__":
    sys.exit(main())
