"""Read texts of public data sets in batches of similar length, for the embedded model."""

import random
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attnflow import Explainer

SETS = ("sst2", "ag_news", "imdb", "amazon_polarity", "yelp_polarity")


@dataclass(frozen=True)
class Batch:
    """A batch of texts as the model reads them.

    Attributes:
        inputs: What the model takes, padded.
        ordinary: `(batch, t)` bool, true at tokens that are neither special nor padding.
    """

    inputs: dict[str, Tensor]
    ordinary: Tensor


def read(folder: Path, name: str) -> list[str]:
    """Return the texts of a set's test split, or its dev split if there is no other, in order."""
    path = folder / name / "test.tsv"
    if not path.is_file():
        path = path.with_name("dev.tsv")
    if not path.is_file():
        sys.exit(f"no {name}/test.tsv or dev.tsv in {folder}: --data names the folder of the sets.")
    header, *rows = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    column = header.split("\t").index("text")
    return [row.split("\t")[column] for row in rows]


def batches(
    explainer: Explainer,
    texts: list[str],
    *,
    number: int,
    size: int,
    seed: int = 0,
    shortest: int = 1,
    longest: int | None = None,
) -> list[Batch]:
    """Draw `number` of the texts at random, and batch them by length, the shortest first.

    Args:
        explainer: Whose tokenizer to use.
        texts: To draw from.
        number: How many to draw; fewer if there are no more.
        size: Most texts in a batch.
        seed: Of the draw.
        shortest: Fewest tokens, special ones included, of a text that may be drawn.
        longest: Most tokens of a text that may be drawn. If None, any text may, and those that are
            longer than the model takes are cut.
    """
    order = random.Random(seed).sample(texts, len(texts))
    drawn: list[tuple[int, str]] = []
    for text in order:
        t = len(explainer.tokenizer(text, verbose=False)["input_ids"])
        if t >= shortest and (longest is None or t <= longest):
            drawn.append((t, text))
        if len(drawn) == number:
            break
    drawn.sort(key=lambda pair: pair[0])
    sorted_texts = [text for _, text in drawn]
    return [
        _encoded(explainer, sorted_texts[i : i + size]) for i in range(0, len(sorted_texts), size)
    ]


def _encoded(explainer: Explainer, texts: list[str]) -> Batch:
    inputs = dict(
        explainer.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=explainer.limit,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
    )
    special: Tensor = inputs.pop("special_tokens_mask") != 0
    return Batch(inputs, torch.logical_and(inputs["attention_mask"] != 0, ~special))
