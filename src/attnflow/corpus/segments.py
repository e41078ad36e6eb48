"""Segments: the turns of a chat, or the parts of a text that its source names, with their sums."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from attnflow.attribution import Attribution
from attnflow.checks import is_integer
from attnflow.corpus.columns import encodable
from attnflow.errors import InputError, shown
from attnflow.files import parse_json

REST = "(rest)"  # of a text, besides the parts that are named


@dataclass(frozen=True)
class Part:
    """A named part of a text: its characters `start:end`."""

    name: str
    start: int
    end: int


def segments_of(a: Attribution, parts: Any) -> list[dict[str, Any]] | None:
    """Return the segments of a result, with the share and the contribution of each.

    Shares are of the flow into ordinary tokens and add up to 1, those of the text between the parts
    and of what the model wrote included.

    Args:
        a: The result.
        parts: The value of the column of segments; None takes the turns of a chat, and nothing of
            other texts.

    Raises:
        InputError: A part is not in the text, or two overlap.
    """
    if parts is not None:
        spans = _named_parts(parts, a.text)
        owner = [_part_at(spans, start, end) for start, end in a.offsets]
    elif a.roles:
        names = _turns(a.roles)
        spans = [_span_of(a, number, name) for number, name in enumerate(names)]
        owner = list(a.message_ids)
    else:
        return None
    shares = a.shares
    rest = Part(REST, 0, 0)
    found = []
    for number, part in [*enumerate(spans), (None, rest)]:
        tokens = [
            i for i, one in enumerate(owner) if one == number and not (one is None and a.special[i])
        ]
        if part is rest and not tokens:
            continue
        signed = None if a.contributions is None else float(a.contributions[tokens].sum())
        found.append(
            {
                "name": part.name,
                "start": part.start,
                "end": part.end,
                "share": float(shares[tokens].sum()),
                "contribution": signed,
            }
        )
    return found


def _turns(roles: tuple[str, ...]) -> list[str]:
    """Names of turns: the role and its number from 1, where a role has several."""
    counts: dict[str, int] = {}
    names = []
    for role in roles:
        counts[role] = counts.get(role, 0) + 1
        names.append(f"{role} {counts[role]}" if roles.count(role) > 1 else role)
    return names


def _span_of(a: Attribution, message: int, name: str) -> Part:
    offsets = [a.offsets[i] for i, one in enumerate(a.message_ids) if one == message]
    placed = [(start, end) for start, end in offsets if end > start]
    if not placed:
        return Part(name, 0, 0)
    return Part(name, min(start for start, _ in placed), max(end for _, end in placed))


def _named_parts(parts: Any, text: str) -> list[Part]:
    if isinstance(parts, str):  # of a CSV file, which has no lists
        with suppress(InputError):
            parts = parse_json(parts)
    if not isinstance(parts, list | tuple):
        raise InputError(
            "segments must be a list of strings, or of objects with name and text, or name, start "
            f"and end, or JSON of one; got {shown(parts)}."
        )
    found: list[Part] = []
    at = 0
    for number, part in enumerate(parts):
        one = _placed(part, f"segment {number + 1}", text, at)
        if one.start < at:
            raise InputError(f"segment {shown(one.name)} overlaps the one before it.")
        found.append(one)
        at = one.end
    return found


def _placed(part: Any, number: str, text: str, at: int) -> Part:
    if isinstance(part, str):
        part = {"name": number, "text": part}
    if not isinstance(part, Mapping):
        raise InputError(f"{number} must be a string or an object, got {shown(part)}.")
    name = encodable(str(part.get("name") or number))
    start, end = part.get("start"), part.get("end")
    if isinstance(part.get("text"), str):
        start = text.find(part["text"], at)
        end = start + len(part["text"])
        if start < 0 or not part["text"]:
            raise InputError(
                f"segment {shown(name)} is not in the text after the one before it: "
                f"{shown(part['text'])}."
            )
    if (
        start is None
        or end is None
        or not (is_integer(start) and is_integer(end) and 0 <= start <= end <= len(text))
    ):
        raise InputError(
            f"segment {shown(name)} must have a text, or start and end inside 0 to {len(text)}; "
            f"got {shown(dict(part))}."
        )
    return Part(name, int(start), int(end))


def _part_at(spans: list[Part], start: int, end: int) -> int | None:
    """The part that holds the middle of a token's characters; None where none does."""
    if end <= start:
        return None
    middle = (start + end - 1) // 2
    return next((i for i, part in enumerate(spans) if part.start <= middle < part.end), None)
