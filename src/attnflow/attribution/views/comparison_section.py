"""Explanations side by side: their heat maps, and how much each word's share differs.

They may be of two targets, tensors, models or texts. Words are matched in the order of the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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

    `name` is how it is found again in the next text, `label` how it is shown.
    """

    name: str
    label: str
    shares: list[float | None]

    @property
    def range(self) -> float:
        """The largest share less the smallest, a missing one being 0."""
        known = [share or 0.0 for share in self.shares]
        return max(known) - min(known)

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
    """Return a row for each word of any of the texts, in their order."""
    unit = "word" if attributions[0].grid is None else "token"
    rows: list[_Row] = []
    for count, attribution in enumerate(attributions):
        pieces = [piece for piece in pieces_of(attribution, unit) if not piece.special]
        rows = list(_with_column(rows, pieces, count))
    return rows


def _with_column(rows: Sequence[_Row], pieces: Sequence[Piece], count: int) -> Iterator[_Row]:
    """Yield the rows with the shares of one more text, and those that only it has, in its order.

    Args:
        rows: The words of the texts before.
        pieces: Those of the new text.
        count: Number of the texts before.
    """
    old, new = [row.name for row in rows], [piece.name.casefold() for piece in pieces]
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            for row, piece in zip(rows[a:b], pieces[c:d], strict=True):
                yield replace(row, shares=[*row.shares, piece.share])
            continue
        for row in rows[a:b]:
            yield replace(row, shares=[*row.shares, None])
        for piece in pieces[c:d]:
            shares = [*[None] * count, piece.share]
            yield _Row(piece.name.casefold(), piece.label, shares)
