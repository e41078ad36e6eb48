"""Measure how faithful methods are on next tokens and digits, beyond text classifiers.

    .venv/bin/python benchmarks/beyond.py screen --data DATA --models runs
    .venv/bin/python benchmarks/beyond.py test --data DATA --models runs
    .venv/bin/python benchmarks/beyond.py net --data DATA --models runs

The models are stories260K, a language model of 260,000 weights (tests/support/stories.py), and
a vision transformer of 16 patches that reads digits (tests/support/mnist.py), from the folder
`checkpoints` of DATA. The texts are stories sampled from the language model, different ones for
`screen` and for `test`; `net` judges the default and few others on the first ones of `test`.
Images are MNIST's test images, the first half for `test`, the second for `screen`: what is chosen
is chosen on `screen`. A killed run resumes. Tables are written to docs/results.
"""

import argparse
import csv
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import support_path  # noqa: F401
import torch
from faithfulness import crossed
from support import mnist, stories
from tqdm import tqdm

from attnflow.evaluation import (
    Protocol,
    RunSettings,
    evaluate,
    metric_scores,
    read_examples,
    read_rows,
    sample_instances,
    table,
)
from attnflow.files import write_whole
from attnflow.methods import METHODS, ImageClassifier, Instance, LanguageModel, ModelAdapter

CHOSEN = "bcf:flow"
PUBLISHED = (
    *("random", "raw-attention", "rollout", "gradient", "gradient-x-input", "smoothgrad"),
    *("integrated-gradients", "occlusion", "attention-gradients", "grad-sam", "cat", "attcat"),
    "chefer",
)
OURS = {
    "af": ("flow",),
    "gf": ("flow",),
    "agf": ("flow",),
    "cf": ("flow", "throughput", "sums", "signed-first"),
    "cf-staged": ("sums", "signed-first"),
    "bcf": ("flow", "throughput", "net", "walk", "sums", "first"),
}
READOUTS = ("flow", "throughput", "net", "walk", "sums", "first", "signed-first")
SCREENED = {
    **dict.fromkeys(("cf", "cf-staged", "bcf"), READOUTS),
    "cf-balanced": ("flow", "net"),
    "cf4-balanced": ("flow",),
    "bcf-logit": ("flow",),
    "bcf2": ("flow",),
    "bcf6": ("flow",),
}
NET = {
    "cf": ("flow", "sums"),
    "cf-staged": ("sums",),
    "bcf": ("flow",),
    "net": ("flow", "signed", "contributions"),
    "net1": ("flow", "contributions"),
    "net-shares": ("flow", "signed", "contributions"),
    "net-halves": ("flow", "signed", "contributions"),
}
REFERENCES = ("random", "gradient-x-input", "integrated-gradients", "occlusion", "attcat")
TEMPERATURE, LENGTH, BATCH_SIZE = 1.0, 256, 50  # of sampled stories; the length in tokens
SEEDS = {"test": 1, "screen": 2, "net": 1}
SAMPLED = {"test": 350, "screen": 90, "net": 350}  # stories, of which some are too short


@dataclass(frozen=True)
class Data:
    """Inputs to explain, and how many in each phase.

    Attributes:
        title: Of the tables.
        operators: How nodes are removed.
        min_tokens, max_tokens: Bounds of a text's tokens; the next token is explained.
        counts: By phase.
    """

    title: str
    operators: tuple[str, ...]
    counts: dict[str, int]
    min_tokens: int = 1
    max_tokens: int = 256


DATA = {
    "stories": Data(
        "Next tokens, stories260K",
        ("mask", "delete"),
        {"test": 300, "screen": 60, "net": 200},
        min_tokens=16,
        max_tokens=128,
    ),
    "digits": Data(
        "Digits, a vision transformer of 16 patches",
        ("mask", "darkest", "delete"),
        {"test": 500, "screen": 100, "net": 200},
    ),
}


def language_model(data: Path) -> LanguageModel:
    folder = data / "checkpoints" / "stories260K"
    return LanguageModel(stories.model(folder), stories.tokenizer(folder))


def reader_of_digits(data: Path) -> ImageClassifier:
    model = mnist.cls_prenorm(data / "checkpoints" / "vit_mnist")
    return ImageClassifier(model, mnist.processor())


SUBJECTS = {"stories": language_model, "digits": reader_of_digits}


def sample_stories(adapter: LanguageModel, count: int, seed: int) -> list[str]:
    """Sample stories from a model's probabilities, the same ones for the same seed."""
    sampled: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while len(sampled) < count:
            start = torch.full((BATCH_SIZE, 1), adapter.model.config.bos_token_id)
            ids = adapter.model.generate(
                start,
                attention_mask=torch.ones_like(start),
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                max_new_tokens=LENGTH,
                pad_token_id=adapter.model.config.eos_token_id,
            )
            texts = adapter.tokenizer.batch_decode(ids, skip_special_tokens=True)
            sampled += [" ".join(text.split()) for text in texts]
    return sampled[:count]


def prepare_inputs(name: str, phase: str, adapter: ModelAdapter, args: argparse.Namespace) -> Path:
    """Return the file of a phase's texts, or the folder of its images; write it if missing."""
    if name == "stories":
        file = args.models / "beyond" / f"stories-{phase}.txt"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            texts = sample_stories(adapter, SAMPLED[phase], SEEDS[phase])
            write_whole(file, "\n".join(texts) + "\n")
        return file
    folder = args.models / "beyond" / f"digits-{phase}"
    if not (folder / "labels.tsv").exists():
        pixels, labels = mnist.images(args.data / "checkpoints" / "vit_mnist", 10_000)
        half = slice(5000, None) if phase == "screen" else slice(0, 5000)
        write_images(folder, pixels[half], labels[half])
    return folder


def write_images(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Write a folder of images as `attnflow evaluate` takes it."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index:04}.png" for index in range(len(pixels))]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(folder / name)
    with open(folder / "labels.tsv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerows([("file", "label"), *zip(names, labels.tolist(), strict=True)])


def methods(phase: str) -> list[str]:
    """Names of the methods of a phase."""
    if phase == "test":
        return [*PUBLISHED, *crossed(OURS)]
    if phase == "net":
        return [*REFERENCES, "chefer", *crossed(NET)]
    return [*REFERENCES, *crossed(SCREENED)]


def measure(name: str, phase: str, args: argparse.Namespace) -> tuple[Path, list]:
    """Run all methods; return the folder of the run, and the instances."""
    data, adapter = DATA[name], SUBJECTS[name](args.data)
    source = str(prepare_inputs(name, phase, adapter, args))
    position = "random" if name == "stories" else "end"
    limit = args.count or data.counts[phase]
    protocol = Protocol(operators=data.operators)
    settings = RunSettings(
        name, source, protocol, limit, data.min_tokens, data.max_tokens, position=position
    )
    instances = sample_instances(
        read_examples(source), adapter, limit=limit,
        min_tokens=data.min_tokens, max_tokens=data.max_tokens, position=position,
    )  # fmt: skip
    folder, wanted = args.models / "beyond" / f"{name}-{phase}-rows", methods(phase)
    with tqdm(total=len(instances) * len(wanted), unit="row", desc=f"{phase} {name}") as bar:
        evaluate(settings, instances, [METHODS[m] for m in wanted], folder, progress=bar.update)
    return folder, instances


def fixed_shares(instances: list[tuple[object, Instance]], names: tuple[str, ...]) -> str:
    """Format the shares of nodes that are never removed: the first, and the readout position."""
    lines = ["| method | first node | node read | all others |", "|---|---|---|---|"]
    for name in names:
        shares = []
        for _, instance in instances:
            scores = np.abs(METHODS[name].scores(instance))
            ordinary = scores[instance.ordinary].sum()
            shares.append(np.array([scores[0], scores[-1], ordinary]) / scores.sum())
        mean = np.mean(shares, 0)
        lines.append(f"| {name} | " + " | ".join(f"{share:.3f}" for share in mean) + " |")
    return "\n".join(lines) + "\n"


def report(name: str, phase: str, folder: Path, instances: list) -> str:
    """Format the tables of a data set."""
    scores = metric_scores(read_rows(folder), methods(phase))
    parts = [f"## {DATA[name].title}", table(scores, reference=CHOSEN)]
    if name == "digits":
        of_reference = [row for row in read_rows(folder) if row["method"] == CHOSEN]
        right = np.mean([row["target"] == row["label"] for row in of_reference])
        parts += [f"The model is right on {right:.1%} of these images."]
    if name == "stories":
        lengths = [instance.nodes for _, instance in instances]
        sure = np.exp([row["log_p"] for row in read_rows(folder) if row["method"] == CHOSEN])
        parts += [
            f"Texts of {min(lengths)} to {max(lengths)} tokens, {np.mean(lengths):.0f} on average; "
            f"the token explained has a probability of {sure.mean():.3f} on average.",
            "Shares of all scores (their sizes) that fall on tokens which are never removed, the "
            f"first, `<s>`, and the last, where the prediction is read; {SHARED} texts:",
            fixed_shares(instances[:SHARED], OF_SINK),
        ]
    return "\n\n".join(parts)


SHARED = 100
OF_SINK = ("raw-attention", "rollout", "chefer", "af:flow", "agf:flow", "cf:flow", "bcf:flow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=tuple(SEEDS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument(
        "--count", type=int, help="number of texts or images (default: that of the phase)"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        folder, instances = measure(name, args.phase, args)
        text = f"# {name}, {args.phase}\n\n" + report(name, args.phase, folder, instances)
        write_whole(args.out / f"beyond-{args.phase}-{name}.md", text, overwrite=True)


if __name__ == "__main__":
    main()
