"""Measure how faithful every method is, on five data sets: the tables of docs/results.

    .venv/bin/python benchmarks/faithfulness.py screen --data DATA --models runs
    .venv/bin/python benchmarks/faithfulness.py test --data DATA --models runs
    .venv/bin/python benchmarks/faithfulness.py slow --data DATA --models runs
    .venv/bin/python benchmarks/faithfulness.py extras --data DATA --models runs --only sst2

`screen` crosses tensors with readouts on texts of the training files: what is chosen is chosen
there. `test` judges the published methods and what was chosen on texts that chose nothing; `slow`,
on some of these texts, methods of thousands of passes; `extras`, on short ones, by metrics that
cost more. DATA has a folder for each data set; `runs` has the classifiers of
training/classifiers.py (SST-2, and all reviews in `slow`, are judged on the one inside the
package). A killed run resumes.
Tables are written to docs/results when all rows of a data set are there; hours on two cores stand
in docs/results/README.md.
"""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from attnflow.evaluation import (
    EXTRAS,
    MetricScores,
    Protocol,
    RunSettings,
    differences,
    evaluate,
    metric_scores,
    read_examples,
    sample_instances,
    table,
)
from attnflow.files import write_whole
from attnflow.methods import DEFAULT, METHODS, Classifier
from attnflow.models import loading

EMBEDDED = "attnflow/minilm-l6-sst2"
CHOSEN = "bcf:flow"
READOUTS = ("flow", "throughput", "net", "walk", "first", "sums", "signed-first", "signed-sums")
SCREENED = {
    "af": ("flow", "throughput", "walk", "sums"),
    "agf": ("flow", "throughput", "walk", "sums", "chefer"),
    "agf-sum": ("flow", "walk", "sums", "signed-sums"),
    "agf-res": ("flow", "walk", "sums", "signed-sums"),
    "relevance": ("flow", "sums"),
    "norm": ("flow", "sums"),
    "alti": ("flow", "walk"),
    "cf-alti": ("flow", "walk", "sums"),
    "cf": READOUTS,
    "cf-balanced": ("flow", "net"),
    "cf4": ("flow", "signed-first"),
    "cf4-balanced": ("flow", "net"),
    "cf8-balanced": ("flow",),
    "cf-staged": READOUTS,
    "bcf-logit": ("flow",),
    "bcf2": ("flow",),
    "bcf3": ("flow",),
    "bcf4-later": ("flow",),
    "bcf6": ("flow",),
    "bcf": READOUTS,
}
REFERENCES = ("random", "attcat", "integrated-gradients", "decompx")
ABLATIONS = {
    "af": ("flow",),
    "gf": ("flow",),
    "agf": ("flow", "plain", "walk", "sums"),
    "agf-sum": ("sums",),
    "cf": ("flow", "throughput", "walk", "sums", "signed-first"),
    "cf4-balanced": ("flow",),
    "cf-staged": ("flow", "signed-first"),
    "bcf-logit": ("flow",),
    "bcf": ("flow", "net", "plain", "path", "walk", "rollout", "chefer", "sums", "first"),
}
STAGED = ("staged-attcat", "staged-integrated-gradients", "staged-decompx")
STAGED_TEXTS = 120
FEWER = {
    "af": ("flow",),
    "gf": ("flow",),
    "agf": ("flow", "walk", "sums"),
    "cf": ("flow",),
    "cf-staged": ("signed-first",),
    "bcf-logit": ("flow",),
    "bcf": ("flow", "net", "walk", "chefer", "sums", "first"),
}
PAPERS = {"af": ("flow",), "gf": ("flow",), "agf": ("flow",)}
SOME_PASSES = {"occlusion", "smoothgrad"}
MANY_PASSES = {"lime", "kernel-shap", "partition-shap", "attention-flow"}


@dataclass(frozen=True)
class Data:
    """Texts to judge: files in the data's folder, and the number of texts of each."""

    train: str
    test: str
    texts: int = 500
    screened: int = 40
    some: int | None = None  # of methods that take tens to hundreds of passes; all when None
    few: int = 8  # of methods that take thousands of passes
    fewer_tokens: int = 96  # at most, of these texts
    long: bool = False  # texts of fifty tokens and more: fewer ablations, a cheaper protocol


DATA = {
    "sst2": Data("sst2/train.tsv", "sst2/dev.tsv", screened=60, few=60),
    "ag_news": Data("ag_news/train.tsv", "ag_news/test.tsv", few=30, long=True),
    "yelp_polarity": Data("yelp_polarity/train.tsv", "yelp_polarity/test.tsv", some=40, long=True),
    "amazon_polarity": Data(
        "amazon_polarity/train.tsv", "amazon_polarity/test.tsv", some=40, long=True
    ),
    "imdb": Data("imdb/train.tsv", "imdb/test.tsv", some=40, few=5, long=True),
}
PHASES = ("screen", "test", "slow", "extras")
SHORT, SHORT_TEXTS = 12, 40  # tokens of a text, whose AOPC has exact limits; and texts


def crossed(tensors: dict[str, tuple[str, ...]]) -> list[str]:
    """Names of methods, each tensor with each of its readouts."""
    return [f"{tensor}:{readout}" for tensor, readouts in tensors.items() for readout in readouts]


def model_of(name: str, folder: Path, phase: str = "test") -> str:
    """The classifier of a data set: the embedded one, or one of training/classifiers.py."""
    embedded = name == "sst2" or (phase == "slow" and name != "ag_news")
    return EMBEDDED if embedded else str(folder / name)


def instances_of(model: str, file: str, **options) -> list:
    """Sample instances of a file's texts, with options of `sample_instances`."""
    return sample_instances(read_examples(file), Classifier(*loading.load(model)), **options)


def measure(name: str, phase: str, args: argparse.Namespace) -> Path:
    """Run all methods on a data set's texts; return the folder of the run."""
    folder, model = args.models / phase / name, model_of(name, args.models, phase)
    file, limit, max_tokens = sampling_of(name, phase)
    file, limit = str(args.data / file), args.texts or limit
    settings = RunSettings(model, file, protocol(name, phase), limit, max_tokens=max_tokens)
    instances = instances_of(model, file, limit=limit, max_tokens=max_tokens)
    for wanted, texts in tiers(name, phase):
        methods, judged = [METHODS[method] for method in wanted], instances[:texts]
        with tqdm(total=len(judged) * len(methods), unit="row", desc=f"{phase} {name}") as bar:
            evaluate(settings, judged, methods, folder, progress=bar.update)
    return folder


def sampling_of(name: str, phase: str) -> tuple[str, int, int]:
    """File, number of texts, and largest number of tokens of a text."""
    data = DATA[name]
    return {
        "screen": (data.train, data.screened, 256),
        "test": (data.test, data.texts, 256),
        "slow": (data.test, data.few, data.fewer_tokens),
        "extras": (data.test, SHORT_TEXTS, SHORT),
    }[phase]


def protocol(name: str, phase: str) -> Protocol:
    """Protocol of a data set in a phase."""
    if phase == "extras":
        return Protocol(extras=tuple(EXTRAS))
    data = DATA[name]
    cheaper = data.long and phase != "slow"
    return Protocol(precision="bfloat16", kept=data.some is None) if cheaper else Protocol()


def tiers(name: str, phase: str) -> list[tuple[list[str], int | None]]:
    """Methods with their number of texts, None for all; the largest number first."""
    data = DATA[name]
    fast = [method for method in DEFAULT if method not in MANY_PASSES]
    if phase == "screen":
        return [([*REFERENCES, *crossed(SCREENED)], None)]
    if phase == "slow":
        return [([CHOSEN, *REFERENCES, *sorted(MANY_PASSES)], None)]
    if phase == "extras":
        return [([*fast, *crossed(PAPERS)], None)]
    wanted = list(dict.fromkeys([*fast, *crossed(FEWER if data.long else ABLATIONS)]))
    slow = () if data.some is None else SOME_PASSES
    groups: list[tuple[list[str], int | None]] = [([m for m in wanted if m not in slow], None)]
    if data.some is not None:
        groups.append(([m for m in wanted if m in SOME_PASSES], data.some))
    return groups if data.long else [*groups, (list(STAGED), STAGED_TEXTS)]


def report(name: str, phase: str, folder: Path, args: argparse.Namespace) -> None:
    """Write the tables of a data set."""
    from attnflow.evaluation import read_rows

    rows = read_rows(folder)
    (plain, _), *slower = tiers(name, phase)
    scores = metric_scores(rows, plain)
    parts = [f"# {name}, {phase}\n", table(scores, reference=CHOSEN)]
    for methods, _ in slower:
        parts += ["\nMethods of more passes, next to others on the same texts:\n"]
        parts += [table(metric_scores(rows, [CHOSEN, *REFERENCES, *methods]), reference=CHOSEN)]
    args.out.mkdir(parents=True, exist_ok=True)
    write_whole(args.out / f"{phase}-{name}.md", "\n".join(parts), overwrite=True)
    print(summary(name, scores), flush=True)


def summary(name: str, scores: MetricScores) -> str:
    """List the methods than which the chosen one is not clearly better."""
    lines = []
    for metric, operator in (("aopc", "mask"), ("aopc", "delete"), ("log_odds", "mask"),
                             ("log_odds", "delete")):  # fmt: skip
        better = differences(scores, CHOSEN, metric, operator)
        open_ones = [other for other, (e, p) in better.items() if e.mean <= 0 or p >= 0.05]
        lines.append(f"  {metric} {operator}: not clearly better than {', '.join(open_ones)}")
    return "\n".join([f"{name}, {len(scores.examples)} texts, {CHOSEN}:", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument(
        "--texts", type=int, help="number of texts of each data set (default: that of the phase)"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in args.only:
        report(name, args.phase, measure(name, args.phase, args), args)


if __name__ == "__main__":
    main()
