"""Results of the app on disk: their page, exports, and a summary for the list of earlier ones."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attnflow.app.asked import Asked
from attnflow.app.worker import RESULT
from attnflow.attribution.attribution import Attribution, Attributions, load
from attnflow.attribution.data import POSITIONED
from attnflow.attribution.table import csv_of, table_of_results
from attnflow.attribution.views import page
from attnflow.attribution.views.captions import beginning, certainty, input_name
from attnflow.attribution.views.sanitize import as_name, for_page
from attnflow.attribution.views.wording import format_percent

CHOICES = 6  # that the page offers


@dataclass(frozen=True)
class Result:
    """A result of one request, in a folder of its own.

    Attributes:
        folder: Its folder, with the file of results and the image, if any.
        asked: The request.
        is_continuation: The attributions are those of a continuation.
        image: Name of the image's file, or "".
        size: Bytes of its files, as they were when it was made.
        warnings: What the explainer warned of.
    """

    folder: Path
    asked: Asked
    is_continuation: bool
    image: str
    size: int
    warnings: tuple[str, ...] = ()

    def attributions(self) -> list[Attribution]:
        """Read the attributions: a decision and its alternatives, or those of a continuation."""
        return load(self.folder / RESULT)

    def shown(self) -> list[Any]:
        """Return the attributions as the page takes them."""
        attributions = self.attributions()
        return [Attributions(attributions)] if self.is_continuation else [*attributions]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The decision in words and numbers; kept, since a file with flows may have 100 MB."""
        attributions = self.attributions()
        first = attributions[0]
        label = as_name(for_page(first.label))
        if self.is_continuation:
            label = Attributions(attributions).written
        return {
            "label": beginning(label, 60),
            "target": first.label,
            "certainty": "" if self.is_continuation else certainty(first),
            "text": beginning(input_name(first), 120),
            "tokens": len(first),
            "model": first.model,
            "choices": [] if self.is_continuation else _choices(first),
        }


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


def _choices(first: Attribution) -> list[tuple[str, str, str]]:
    """Return the likeliest choices: the label itself, its name, and its probability in words."""
    if len(first.labels) < 2 or first.span is not None:
        return []
    order = (-first.logits).argsort()[:CHOICES]
    # The last one of a vocabulary is all others together, which cannot be asked for.
    names = [(first.labels[i], first.probabilities[i]) for i in order if not _is_rest(first, i)]
    return [(label, as_name(for_page(label)), format_percent(float(p))) for label, p in names]


def _is_rest(first: Attribution, index: int) -> bool:
    has_rest = first.task in POSITIONED and first.task != "token-classification"
    return has_rest and index == len(first.labels) - 1


def framed_page(results: Sequence[Result]) -> str:
    """Return the page of one result, or of two side by side, for the frame of the app.

    A continuation cannot stand next to another result: they follow each other.
    """
    if len(results) > 1 and not any(result.is_continuation for result in results):
        decisions = [result.attributions()[0] for result in results]
        return page.render(decisions, compare=True, framed=True)
    return page.render([item for result in results for item in result.shown()], framed=True)


def exported(result: Result, form: str) -> tuple[str, bytes, str]:
    """Return the name of a file, its content, and its media type.

    Args:
        result: What is exported.
        form: "json", "csv", "html" or "safetensors".

    Raises:
        KeyError: There is no such form.
    """
    if form == "safetensors":
        data = (result.folder / RESULT).read_bytes()
        return "attnflow.safetensors", data, "application/octet-stream"
    make, kind = {
        "json": (_json, "application/json"),
        "csv": (_csv, "text/csv; charset=utf-8"),
        "html": (lambda one: page.render(one.shown()), "text/html; charset=utf-8"),
    }[form]
    return f"attnflow.{form}", make(result).encode(), kind


def _json(result: Result) -> str:
    return json.dumps([a.to_dict() for a in result.attributions()], indent=1) + "\n"


def _csv(result: Result) -> str:
    return csv_of(table_of_results(result.attributions()))
