"""The difference between two results: what an edit did to the decision and its words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.sanitize import as_name, for_page
from attnflow.attribution.views.wording import format_percent

MOST = 8  # words
LEAST = 0.005  # a share that changed by less is not mentioned
LONGEST = 2000  # words of a text that are aligned

Kind = Literal["same", "added", "removed"]


@dataclass(frozen=True)
class Piece:
    """A word of one text or of both.

    Attributes:
        text: The word, with the white space before it.
        kind: "same" in both, "added" or "removed".
        before: Its share in the earlier result, 0 to 1; None where it is added.
        after: Its share in the later one; None where it is removed.
    """

    text: str
    kind: Kind
    before: float | None
    after: float | None

    @property
    def change(self) -> float:
        """The change of its share, -1 to 1."""
        return (self.after or 0.0) - (self.before or 0.0)


def changes(earlier: Sequence[AttributionData], after: AttributionData) -> dict[str, Any] | None:
    """Return how a decision differs from an earlier one of the same task; None where
    there is no difference, and for images.

    Args:
        earlier: The decisions of an earlier result, the asked one first. The one for the same class
            or token is compared, where there is one.
        after: The decision.
    """
    before = next((each for each in earlier if each.label == after.label), earlier[0])
    if before.grid is not None or after.grid is not None or before.task != after.task:
        return None
    pieces = list(_aligned(_words(before), _words(after)))
    moved = sorted(pieces, key=lambda piece: -abs(piece.change))
    moved = [piece for piece in moved if abs(piece.change) >= LEAST]
    is_edited = any(piece.kind != "same" for piece in pieces)
    if not (is_edited or moved):
        return None
    return {
        "about": [as_name(for_page(each.label)) for each in (before, after)],
        "choices": list(_choices(earlier[0], after)),
        "text": [{"text": for_page(p.text), "kind": p.kind} for p in pieces],
        "is_edited": is_edited,
        "moved": [
            {
                "text": as_name(for_page(piece.text)),
                "kind": piece.kind,
                "before": None if piece.before is None else format_percent(piece.before),
                "after": None if piece.after is None else format_percent(piece.after),
                "change": piece.change,
            }
            for piece in moved[:MOST]
        ],
    }


def _words(data: AttributionData) -> list[tuple[str, float]]:
    """Return the words of a text, each with the white space before it and its share."""
    words, total = data.words()[:LONGEST], data.scores[~data.special].sum()
    ends = [0, *(word.end for word in words)]
    return [
        (data.text[max(end, word.start - 1) : word.start] + word.text, word.score / (total or 1.0))
        for word, end in zip(words, ends, strict=False)
    ]


def _aligned(
    before: Sequence[tuple[str, float]], after: Sequence[tuple[str, float]]
) -> Iterator[Piece]:
    old, new = ([text.strip() for text, _ in words] for words in (before, after))
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            for (_, was), (text, share) in zip(before[a:b], after[c:d], strict=True):
                yield Piece(text, "same", was, share)
            continue
        for text, share in before[a:b]:
            yield Piece(text, "removed", share, None)
        for text, share in after[c:d]:
            yield Piece(text, "added", None, share)


def _choices(before: AttributionData, after: AttributionData) -> Iterator[dict[str, str | None]]:
    """Yield the probabilities of the explained classes in both results."""
    if len(before.labels) < 2 or len(after.labels) < 2:
        return
    for label in dict.fromkeys([before.label, after.label]):
        shares = [_probability(data, label) for data in (before, after)]
        yield {"label": as_name(for_page(label)), "before": shares[0], "after": shares[1]}


def _probability(data: AttributionData, label: str) -> str | None:
    """Return the probability of a choice; None where the result does not list it."""
    if label not in data.labels:
        return None
    return format_percent(float(data.probabilities[data.labels.index(label)]))
