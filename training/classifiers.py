"""Fine-tune one classifier for each data set of the faithfulness results, with `finetune.py`.

    python training/classifiers.py --data DATA --out runs --bfloat16

`DATA` has a folder for each data set with `train.tsv` and `test.tsv`. About five minutes each on
two cores with AMX, ten without (leave out --bfloat16 there). A data set whose folder in `runs` has
a test accuracy already is left as it is. SST-2 needs none: the classifier inside the package is
fine-tuned on it.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COMMON = "--epochs 1 --every 60 --ema 0.98".split()


@dataclass(frozen=True)
class Recipe:
    """What to learn from: files, names of the labels, rows, tokens of a text at most."""

    labels: tuple[str, ...]
    train: tuple[str, ...] = ("train.tsv",)
    limit: int = 6000
    max_length: int = 192


SENTIMENT = ("negative", "positive")
RECIPES = {
    "ag_news": Recipe(("World", "Sports", "Business", "Sci/Tech"), limit=14000, max_length=96),
    "yelp_polarity": Recipe(SENTIMENT),
    "amazon_polarity": Recipe(SENTIMENT, ("train.tsv", "train_blitzer.tsv")),
    "imdb": Recipe(SENTIMENT, max_length=256),
}


def command(name: str, recipe: Recipe, data: Path, out: Path, *, bfloat16: bool) -> list[str]:
    """How to run `finetune.py` on a data set."""
    folder = data / name
    options = {
        "--train": [folder / file for file in recipe.train],
        "--test": [folder / "test.tsv"],
        "--labels": recipe.labels,
        "--out": [out / name],
        "--limit": [recipe.limit],
        "--max-length": [recipe.max_length],
    }
    words = [word for name, values in options.items() for word in (name, *values)]
    script = Path(__file__).with_name("finetune.py")
    fast = ["--bfloat16"] * bfloat16
    return [str(word) for word in (sys.executable, script, *words, *COMMON, *fast)]


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds a classifier of this recipe that has been tested."""
    path = folder / "training.json"
    if not path.exists():
        return False
    record = json.loads(path.read_text())
    same = record["limit"] == recipe.limit and record["max_length"] == recipe.max_length
    return same and "test_accuracy" in record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bfloat16", action="store_true", help="of finetune.py")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    args = parser.parse_args()
    for name in args.only:
        if is_finished(args.out / name, RECIPES[name]):
            print(f"{name}: finished already")
            continue
        print(f"{name}:", flush=True)
        words = command(name, RECIPES[name], args.data, args.out, bfloat16=args.bfloat16)
        subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
