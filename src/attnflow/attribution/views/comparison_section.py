"""Explanations side by side: their heat maps, and how much each word's share differs.

They may be of two targets, tensors, models or texts. Words are matched in the order of the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.captions import certainty, contrast, decision, units
from attnflow.attribution.views.decision_section import text_size
from attnflow.attribution.views.image_heatmap import ImageMap, image_map
from attnflow.attribution.views.layout import Piece, pieces_of
from attnflow.attribution.views.templates import render
from attnflow.attribution.views.text_heatmap import Stretch, stretches
from attnflow.attribution.views.verdict import Verdict, verdict

if TYPE_CHECKING:
    from markupsafe import Markup

ROWS_IN_SIGHT = 12


@dataclass(frozen=True)
class _Column:
    """One explanation: what it is of, its sentence, and its heat map or image."""

    article: int
    label: str
    certainty: str
    decision: str
    facts: list[str]
    verdict: Verdict | None
    size: str
    heat_maps: dict[str, Iterator[Stretch]]
    image: ImageMap | None


@dataclass(frozen=True)
class _Row:
    """A word with its share in each explanation, None where it does not occur in that text.

    `range` is the difference between the largest share and the smallest, a missing one being 0.
    """

    label: str
    shares: list[float | None]
    range: float

    @property
    def change(self) -> str:
        """The last share less the first, signed, in percent."""
        points = 100 * ((self.shares[-1] or 0.0) - (self.shares[0] or 0.0))
        return "0.0" if abs(points) < 0.05 else f"{points:+.1f}".replace("-", "−")


def comparison(attributions: Sequence[AttributionData], group: int, first: int) -> "Markup":
    """Return the part of the page above the articles of the attributions that are compared.

    Args:
        attributions: At least two.
        group: Number of their group on the page.
        first: Number of the first one's article.
    """
    rows = sorted(_rows(attributions), key=lambda row: -row.range)
    differing = _differing(attributions)
    return render(
        "comparison.html",
        group=group,
        columns=[_column(a, first + i, differing) for i, a in enumerate(attributions)],
        rows=rows[:ROWS_IN_SIGHT],
        rest=rows[ROWS_IN_SIGHT:],
        unit="word" if attributions[0].grid is None else "patch",
    )


def _differing(attributions: Sequence[AttributionData]) -> list[str]:
    """Return the names of the settings in which the attributions differ."""
    settings = ("model_and_precision", "tensor", "readout")
    return [name for name in settings if len({getattr(a, name) for a in attributions}) > 1]


def _column(attribution: AttributionData, article: int, differing: Sequence[str]) -> _Column:
    is_text = attribution.grid is None
    heat_maps = {unit: stretches(attribution, unit) for unit in units(attribution)}
    return _Column(
        article,
        attribution.label,
        certainty(attribution),
        decision(attribution) + contrast(attribution),
        [getattr(attribution, name) for name in differing],
        verdict(attribution),
        text_size(attribution) or "middling",
        heat_maps if is_text else {},
        None if attribution.image is None else image_map(attribution),
    )


def _rows(attributions: Sequence[AttributionData]) -> list[_Row]:
    """Return a row for each word of the first text, and for each of the others that it lacks."""
    unit = "word" if attributions[0].grid is None else "token"
    pieces = [[p for p in pieces_of(a, unit) if not p.special] for a in attributions]
    labels = [piece.label for piece in pieces[0]]
    table: list[list[float | None]] = [[piece.share] for piece in pieces[0]]
    for count, others in enumerate(pieces[1:], start=1):
        matched = _matched(labels, others)
        for row in table:
            row.append(None)
        for piece, place in zip(others, matched, strict=True):
            if place is None:
                labels.append(piece.label)
                table.append([*[None] * count, piece.share])
            else:
                table[place][count] = piece.share
    return [
        _Row(label, row, max(s or 0.0 for s in row) - min(s or 0.0 for s in row))
        for label, row in zip(labels, table, strict=True)
    ]


def _matched(labels: Sequence[str], pieces: Sequence[Piece]) -> list[int | None]:
    """Return, for each piece, the place among the labels of the word that it is; else None."""
    names = [label.rstrip("₀₁₂₃₄₅₆₇₈₉").casefold() for label in labels]
    matcher = SequenceMatcher(None, names, [p.name.casefold() for p in pieces], autojunk=False)
    matched: list[int | None] = [None] * len(pieces)
    for block in matcher.get_matching_blocks():
        for i in range(block.size):
            matched[block.b + i] = block.a + i
    return matched
