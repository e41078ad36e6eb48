"""Folders of corpus runs, written as a run writes them, from numbers that a test knows."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from attnflow.corpus.schema import SCHEMA_VERSION, result_schema
from attnflow.corpus.work import shard_bytes

LABELS = ("negative", "positive")
CERTIFICATE = {
    "status": "solved",
    "gap": 0.004,
    "upper_bound": 1.0,
    "mu": 1e-4,
    "conservation": 1e-16,
    "centrality": 1e-9,
    "iterations": 18,
}


@dataclass(frozen=True)
class Told:
    """A text with the effect of each of its words; a word of several tokens has a list.

    Attributes:
        text: Words, with a space between.
        effects: The contribution of each word, or those of its tokens.
        label: Index of the explained and predicted class.
        true: The label of the source.
        source: Columns that are kept of it.
        changes: Columns of the results that differ from what the others make.
    """

    text: str
    effects: tuple[Any, ...]
    label: int = 0
    true: str | None = None
    source: dict[str, str] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


def write_run(folder: Path, texts: list[Told], *, shard_rows: int = 7, model: str = "m") -> Path:
    """Write the folder of a run, with special tokens around each text."""
    (folder / "shards").mkdir(parents=True)
    kept = tuple(dict.fromkeys(name for told in texts for name in told.source))
    fingerprint = {"schema": SCHEMA_VERSION, "options": {"gap": 0.01}}
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": fingerprint}))
    rows = [row_of(told, number, model) for number, told in enumerate(texts)]
    for first in range(0, len(rows), shard_rows):
        table = pa.Table.from_pylist(rows[first : first + shard_rows], schema=result_schema(kept))
        name = f"texts-tsv-0123456789abcdef-{first:010d}-0123456789abcdef.parquet"
        (folder / "shards" / name).write_bytes(shard_bytes(table))
    return folder


def row_of(told: Told, number: int, model: str) -> dict[str, Any]:
    words = told.text.split(" ")
    starts = np.cumsum([0] + [len(word) + 1 for word in words[:-1]]).tolist()
    ends = [start + len(word) for start, word in zip(starts, words, strict=True)]
    tokens: list[tuple[int | None, float]] = [(None, 0.25)]
    for place, effect in enumerate(told.effects):
        parts = effect if isinstance(effect, list) else [effect]
        tokens += [(place, part) for part in parts]
    tokens.append((None, -0.5))
    scores = [0.0 if place is None else abs(effect) for place, effect in tokens]
    shares = np.bincount([p for p, _ in tokens if p is not None], scores[1:-1])
    shares = shares / shares.sum()
    row = {
        "id": f"t{number}",
        "file": "texts.tsv",
        "row": number,
        "text": told.text,
        "tokens": ["x"] * len(tokens),
        "starts": [0] * len(tokens),
        "ends": [0] * len(tokens),
        "words": [place for place, _ in tokens],
        "word_starts": starts,
        "word_ends": ends,
        "special": [place is None for place, _ in tokens],
        "scores": scores,
        "contributions": [effect for _, effect in tokens],
        "signed_scores": [effect for _, effect in tokens],
        "target": told.label,
        "label": LABELS[told.label],
        "predicted": LABELS[told.label],
        "probability": 0.9,
        "confidence": 0.9,
        "true_label": told.true,
        "explained": 1.0,
        "flow": float(sum(scores)),
        "concentration": float((shares**2).sum()),
        "certificate": CERTIFICATE,
        "truncated": 0,
        "warnings": [],
        "tensor": "net",
        "model": model,
        "versions": "attnflow 0",
        "seconds": 0.1,
    }
    return {**row, **{f"source_{k}": v for k, v in told.source.items()}, **told.changes}


def failed_row(error: str, kind: str) -> Told:
    """A row without a result."""
    columns = ("words", "word_starts", "word_ends", "special", "scores", "contributions", "label",
        "signed_scores", "target", "predicted", "probability", "confidence", "explained", "flow",
        "concentration", "certificate", "tokens", "starts", "ends", "truncated", "model",
        "tensor")  # fmt: skip
    return Told(
        "lost", (1.0,), changes={**dict.fromkeys(columns), "error": error, "error_kind": kind}
    )


def random_texts(count: int, *, seed: int = 0) -> list[Told]:
    """Texts of a few words with random effects, whose labels are wrong now and then."""
    rng = np.random.default_rng(seed)
    vocabulary = ["Good", "good", "bad", "film", "not", "other", "don't", "naïve", "😀", ",", "the"]
    texts = []
    for _ in range(count):
        words = rng.choice(vocabulary, size=rng.integers(2, 9)).tolist()
        effects = [
            rng.normal(size=2).tolist() if word == "film" else float(rng.normal(0.5))
            for word in words
        ]
        label = int(rng.integers(2))
        true = label if rng.random() < 0.7 else 1 - label
        source = {"language": str(rng.choice(["de", "en", "fr"]))}
        texts.append(Told(" ".join(words), tuple(effects), label, str(true), source))
    return texts
