"""Compare scores with what people marked in ERASER's movie reviews, for most methods.

    .venv/bin/python benchmarks/plausibility.py --data DATA --models runs

Passages of dev.jsonl, by the embedded classifier, which knows sentences of film reviews. A killed
run resumes. The table goes to docs/results/plausibility.md.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from faithfulness import CHOSEN, EMBEDDED, tiers
from journal import Journal
from tqdm import tqdm

from attnflow.evaluation import bootstrap_estimate
from attnflow.evaluation.plausibility import auprc, read_rationales, token_f1
from attnflow.evaluation.protocol import run_method
from attnflow.files import write_whole
from attnflow.methods import METHODS, Classifier
from attnflow.models import loading


def measure(args: argparse.Namespace) -> list[dict]:
    """Measure both metrics of every method on each passage; return one record for each."""
    classifier = Classifier(*loading.load(args.model))
    file = args.data / "eraser_movies" / "dev.jsonl"
    passages = read_rationales(file, classifier, max_tokens=args.max_tokens)
    drawn = np.random.default_rng(0).permutation(len(passages))[: args.texts].tolist()
    wanted = [name for names, _ in tiers("imdb", "test") for name in names]
    options = {"texts": args.texts, "methods": wanted, "model": args.model, "most": args.max_tokens}
    journal = Journal(args.models / "plausibility.jsonl", options)
    for at in tqdm(drawn, desc="plausibility"):
        if str(at) not in journal.records:
            instance = passages[at].instance.with_empty_cache()  # else all passes stay in memory
            scores = {
                name: run_method(METHODS[name], instance, timed=False).scores for name in wanted
            }
            journal.add({
                "name": str(at),
                "review": passages[at].review,
                "right": passages[at].instance.target == passages[at].example.label,
                "auprc": {name: auprc(values, passages[at]) for name, values in scores.items()},
                "f1": {name: token_f1(values, passages[at]) for name, values in scores.items()},
            })  # fmt: skip
    return list(journal.records.values())


def table(records: list[dict]) -> str:
    """Format means with intervals, best first."""
    right = np.mean([record["right"] for record in records])
    reviews = sorted({r["review"] for r in records})
    lines = [
        "# Plausibility on ERASER's movie reviews",
        "",
        f"{len(records)} passages of {len(reviews)} reviews; the classifier agrees with the label "
        f"of the review on {right:.1%} of them.",
        "",
        "| method | AUPRC | token F1 | chosen one better by, AUPRC |",
        "|---|---|---|---|",
    ]
    # Passages of a review are not independent: each review's mean counts once.
    values = {
        kind: {
            name: np.array([
                np.mean([r[kind][name] for r in records if r["review"] == review])
                for review in reviews
            ])
            for name in records[0][kind]
        }
        for kind in ("auprc", "f1")
    }  # fmt: skip
    for name in sorted(values["auprc"], key=lambda n: -values["auprc"][n].mean()):
        own, f1 = bootstrap_estimate(values["auprc"][name]), bootstrap_estimate(values["f1"][name])
        better = bootstrap_estimate(values["auprc"][CHOSEN] - values["auprc"][name])
        lines.append(f"| {name} | {shown(own)} | {shown(f1)} | {shown(better)} |")
    return "\n".join(lines) + "\n"


def shown(found) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("runs"))
    parser.add_argument("--model", default=EMBEDDED, help="classifier of film reviews")
    parser.add_argument("--texts", type=int, default=150)
    parser.add_argument("--max-tokens", type=int, default=128, help="tokens of a passage")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    args.out.mkdir(parents=True, exist_ok=True)
    text = table(measure(args))
    write_whole(args.out / "plausibility.md", text, overwrite=True)
    print(text)


if __name__ == "__main__":
    main()
