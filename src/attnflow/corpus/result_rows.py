"""Rows of results: what an outcome tells, as the columns of `schema` have it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnflow.attribution import Attribution, Word
from attnflow.attribution.data import POSITIONED
from attnflow.corpus.columns import Columns, SourceRow, encodable
from attnflow.corpus.schema import SOURCE_PREFIX
from attnflow.corpus.segments import segments_of
from attnflow.explainer.each import Outcome

CLASSIFICATION = "text-classification"
# Tasks whose last choice is all others together: tokens of a vocabulary, and answers.
WITH_REST = (*(task for task in POSITIONED if task != "token-classification"), "question-answering")


def result_row(
    row: SourceRow,
    outcome: Outcome,
    *,
    file: str,
    columns: Columns,
    versions: str,
    seconds: float,
) -> dict[str, Any]:
    """Return the row of a result or failure, by the names of `result_schema`; others are null.

    Args:
        row: The row of the source.
        outcome: Its result, or its error.
        file: The file of the source.
        columns: Which column of the source is what.
        versions: Those of the libraries, in one string.
        seconds: What the text took.
    """
    found: dict[str, Any] = {
        "id": row.id,
        "file": encodable(file),
        "row": row.row,
        "warnings": list(map(encodable, outcome.warnings)),
        "versions": versions,
        "seconds": seconds,
        "error": None if outcome.error is None else encodable(outcome.error),
        "error_kind": outcome.kind,
    }
    if columns.label is not None:
        found["true_label"] = as_text(row.label)
    for name in columns.keep:
        found[f"{SOURCE_PREFIX}{name}"] = as_text(row.values.get(name))
    if outcome.attribution is None:
        value = row.values.get(columns.text)
        return {**found, "text": as_text(value)}
    parts = None if columns.segments is None else row.values.get(columns.segments)
    return {**found, **_told(outcome.attribution, parts)}


def _told(a: Attribution, parts: Any) -> dict[str, Any]:
    certificate, words, probabilities = a.certificate, a.words(), a.probabilities
    predicted = _predicted(a)
    return {
        "text": encodable(a.text),
        "tokens": list(map(encodable, a.tokens)),
        "starts": [start for start, _ in a.offsets],
        "ends": [end for _, end in a.offsets],
        "words": _word_of_each_token(a, words),
        "word_starts": [word.start for word in words],
        "word_ends": [word.end for word in words],
        "special": a.special.tolist(),
        "scores": a.scores.tolist(),
        "contributions": None if a.contributions is None else a.contributions.tolist(),
        "signed_scores": None if a.signed_scores is None else a.signed_scores.tolist(),
        "segments": segments_of(a, parts),
        "target": a.target if a.task == CLASSIFICATION else None,
        "label": encodable(a.label),
        "predicted": None if predicted is None else encodable(a.labels[predicted]),
        "probability": float(probabilities[a.target]),
        "confidence": None if predicted is None else float(probabilities[predicted]),
        "explained": a.explained,
        "flow": certificate.value,
        "concentration": _concentration(words),
        "certificate": {
            "status": certificate.status,
            "gap": certificate.gap,
            "upper_bound": certificate.upper_bound,
            "mu": certificate.mu,
            "conservation": certificate.conservation,
            "centrality": certificate.centrality,
            "iterations": certificate.iterations,
        },
        "position": a.position,
        "truncated": a.truncated,
        "tensor": a.tensor,
        "model": encodable(a.model_and_precision),
    }


def _predicted(a: Attribution) -> int | None:
    """Index of the likeliest choice among `labels`; None for a span, which is one choice."""
    if a.span is not None:
        return None
    logits = a.logits[:-1] if a.task in WITH_REST and len(a.logits) > 1 else a.logits
    return int(logits.argmax())


def _word_of_each_token(a: Attribution, words: Sequence[Word]) -> list[int | None]:
    index: list[int | None] = [None] * len(a)
    for number, word in enumerate(words):
        for token in word.tokens:
            index[token] = number
    return index


def _concentration(words: Sequence[Word]) -> float | None:
    scores = np.array([word.score for word in words])
    total = scores.sum()
    return float(((scores / total) ** 2).sum()) if total > 0 else None


def as_text(value: Any) -> str | None:
    """Return a value of the source as text; lists, objects, numbers as JSON, None as None."""
    if value is None:
        return None
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(value, Mapping | list | tuple | bool | int | float):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return encodable(str(value))
