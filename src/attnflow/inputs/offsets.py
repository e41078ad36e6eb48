"""Character offsets of tokens, checked and repaired for any tokenizer.

Fast tokenizers give character offsets, which some get wrong (zero width, out of order, or with the
space in front); slow ones give none. Offsets are checked, and where they cannot be right the tokens
are found again in the text, from left to right.
"""

import re
import unicodedata
from collections.abc import Sequence

from attnflow.inputs.words import kind_of_character

MARKERS = re.compile("^(?:##|Ġ|▁|Ċ)+|</w>$")


def spans_in(
    given: Sequence[tuple[int, int]] | None,
    text: str,
    tokens: Sequence[str],
    special: Sequence[bool],
) -> list[tuple[int, int]]:
    """Where every token stands in the text, without white space; (0, 0) where it has no place.

    Args:
        given: What the tokenizer says of it, or None.
        text: The text.
        tokens: Their names.
        special: Which tokens are not in the text.
    """
    return _grown(text, _offsets(given, text, tokens, special))


def _offsets(
    given: Sequence[tuple[int, int]] | None,
    text: str,
    tokens: Sequence[str],
    special: Sequence[bool],
) -> list[tuple[int, int]]:
    if given is not None:
        spans = [
            (0, 0) if is_special else _own(text, *span, token)
            for span, token, is_special in zip(given, tokens, special, strict=True)
        ]
        if _plausible(spans, given, text, tokens, special):
            return spans
    return _found_again(text, tokens, special)


def _own(text: str, start: int, end: int, token: str) -> tuple[int, int]:
    """The span without white space; empty if it is the next token's, as that of a lone "▁" is."""
    if not MARKERS.sub("", token).strip() and text[start:end].strip() not in token:
        end = start
    return _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends."""
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    return start, max(start, start + len(inner.strip()))


def _plausible(
    spans: Sequence[tuple[int, int]],
    given: Sequence[tuple[int, int]],
    text: str,
    tokens: Sequence[str],
    special: Sequence[bool],
) -> bool:
    """In order, inside the text, and not empty where the token is visible."""
    previous = 0
    for (start, end), raw, token, is_special in zip(spans, given, tokens, special, strict=True):
        if is_special:
            continue
        if not (0 <= raw[0] <= raw[1] <= len(text)) or start < previous:
            return False
        if start == end and _visible(token):
            return False
        previous = start
    return True


def _visible(token: str) -> str:
    """The token without the marks of its tokenizer, folded for comparison."""
    return _folded(MARKERS.sub("", token)).strip()


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()


def _found_again(
    text: str, tokens: Sequence[str], special: Sequence[bool]
) -> list[tuple[int, int]]:
    """Search each token in what is left of the text; (0, 0) where it cannot be found."""
    folded, source = _folded_with_source(text)
    spans, position = [], 0
    for token, is_special in zip(tokens, special, strict=True):
        wanted = "" if is_special else _visible(token)
        at = folded.find(wanted, position) if wanted else -1
        if at < 0:
            spans.append((0, 0))
            continue
        position = at + len(wanted)
        spans.append((source[at], source[position - 1] + 1))
    unseen = [s or not _visible(token) for token, s in zip(tokens, special, strict=True)]
    return _gaps_filled(text, spans, unseen)


def _gaps_filled(
    text: str, spans: list[tuple[int, int]], unseen: Sequence[bool]
) -> list[tuple[int, int]]:
    """Give tokens that were not found ([UNK], say) what stands between their neighbours."""
    filled, end = list(spans), 0
    for i, (start, stop) in enumerate(spans):
        if unseen[i] or stop > start:
            end = max(end, stop)
            continue
        following = (s for s, e in spans[i + 1 :] if e > s)
        filled[i] = _trimmed(text, end, max(end, next(following, len(text))))
    return filled


def _grown(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans with the accents that follow them and that the tokenizer dropped; else (0, 0)."""
    taken = {i for start, end in spans for i in range(start, end)}
    grown = []
    for start, end in spans:
        while start < end < len(text) and end not in taken and kind_of_character(text[end]) == "m":
            end += 1
        grown.append((start, end) if end > start else (0, 0))
    return grown


def _folded_with_source(text: str) -> tuple[str, list[int]]:
    """The folded text, and for each of its characters the index it came from."""
    pieces = [(folded, i) for i, c in enumerate(text) for folded in _folded(c)]
    return "".join(piece for piece, _ in pieces), [i for _, i in pieces]
