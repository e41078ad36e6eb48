"""Draw the paper's sentence under every method: docs/images/methods.svg.

python docs/methods.py        (needs the extra `evaluation`)
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from attnflow.evaluation.protocol import run_method
from attnflow.methods import DEFAULT, METHODS, Classifier, Instance
from attnflow.models import embedded

SENTENCE = "although this dog is not cute, it is very smart."
FLOWS = ("af:flow", "gf:flow", "agf:flow")


def main() -> None:
    classifier = Classifier(*embedded.load())
    text = classifier.encode(SENTENCE)
    instance = Instance(classifier, text, classifier.labels.index("positive"))
    names = [name for name in (*DEFAULT, *FLOWS) if name != "random"]
    ordinary = instance.ordinary
    rows = [run_method(METHODS[name], instance).scores[ordinary] for name in names]
    shown = np.array([row / np.abs(row).max() for row in rows])
    words = [token for token, own in zip(text.tokens, ordinary, strict=True) if own]
    matplotlib.rcParams["svg.hashsalt"] = "attnflow"
    figure = Figure(figsize=(9, 0.32 * len(names) + 0.8), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(words)), words)
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(shown):
        colour = "white" if abs(value) > 0.6 else "black"
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour,
                  fontsize=8)  # fmt: skip
    path = Path(__file__).parent / "images" / "methods.svg"
    figure.savefig(path, metadata={"Date": None})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
