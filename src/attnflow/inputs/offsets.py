"""Character offsets of tokens, checked and repaired for any tokenizer.

Fast tokenizers give offsets, which some get wrong (zero width, out of order, or with the space in
front); slow ones give none. Offsets are checked, and where they cannot be right the tokens are
found again in the text, from left to right.
"""

import re
import unicodedata
from collections.abc import Sequence

from attnflow.inputs.words import character_kind

Span = tuple[int, int]

MARKERS = re.compile("^(?:##|Ġ|▁|Ċ)+|</w>$")  # of tokenizers, which no text has


def token_offsets(
    given: Sequence[Span] | None, text: str, tokens: Sequence[str], special: Sequence[bool]
) -> list[Span]:
    """Half-open character span of each token, without white space; (0, 0) where it has none.

    Args:
        given: The tokenizer's offsets, or None.
        text: The text.
        tokens: Names of the tokens.
        special: True at tokens that are not in the text.
    """
    return _with_marks(text, _offsets(given, text, tokens, special))


def _offsets(
    given: Sequence[Span] | None, text: str, tokens: Sequence[str], special: Sequence[bool]
) -> list[Span]:
    if given is not None:
        spans = [
            (0, 0) if is_special else _own_characters(text, *span, token)
            for span, token, is_special in zip(given, tokens, special, strict=True)
        ]
        if _is_plausible(spans, given, text, tokens, special):
            return spans
    return _search(text, tokens, special)


def _own_characters(text: str, start: int, end: int, token: str) -> Span:
    """The span without white space; empty if it is the next token's, as that of a lone "▁" is."""
    if not MARKERS.sub("", token).strip() and text[start:end].strip() not in token:
        end = start
    return _strip(text, start, end)


def _strip(text: str, start: int, end: int) -> Span:
    """The span without white space at its ends."""
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    return start, max(start, start + len(inner.strip()))


def _is_plausible(
    spans: Sequence[Span],
    given: Sequence[Span],
    text: str,
    tokens: Sequence[str],
    special: Sequence[bool],
) -> bool:
    """Return whether spans are in order, inside the text, and not empty at visible tokens."""
    previous = 0
    for (start, end), raw, token, is_special in zip(spans, given, tokens, special, strict=True):
        if is_special:
            continue
        # Starts may be equal: the bytes of one character are tokens with the same span.
        if not (0 <= raw[0] <= raw[1] <= len(text)) or start < previous:
            return False
        if start == end and _visible(token):
            return False
        previous = start
    return True


def _visible(token: str) -> str:
    """The token without the markers of its tokenizer, folded for comparison."""
    return _fold(MARKERS.sub("", token)).strip()


def _fold(text: str) -> str:
    """The text without accents and case: tokenizers may drop both."""
    # NFKD also takes ligatures and full-width letters apart, as some normalizers do.
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()


def _search(text: str, tokens: Sequence[str], special: Sequence[bool]) -> list[Span]:
    """Find each token in what is left of the text; (0, 0) where it cannot be found."""
    folded, source = _fold_with_source(text)
    spans, position = [], 0
    for token, is_special in zip(tokens, special, strict=True):
        visible = "" if is_special else _visible(token)
        # Only to the right of the last token found: tokens are in the order of the text.
        at = folded.find(visible, position) if visible else -1
        if at < 0:
            spans.append((0, 0))
            continue
        position = at + len(visible)
        spans.append((source[at], source[position - 1] + 1))
    unseen = [s or not _visible(token) for token, s in zip(tokens, special, strict=True)]
    return _fill_gaps(text, spans, unseen)


def _fill_gaps(text: str, spans: list[Span], unseen: Sequence[bool]) -> list[Span]:
    """Give tokens that were not found ([UNK], say) the characters between their neighbours."""
    filled, end = list(spans), 0
    for i, (start, stop) in enumerate(spans):
        if unseen[i] or stop > start:
            end = max(end, stop)
            continue
        following = (s for s, e in spans[i + 1 :] if e > s)
        filled[i] = _strip(text, end, max(end, next(following, len(text))))
    return filled


def _with_marks(text: str, spans: Sequence[Span]) -> list[Span]:
    """The spans with the accents that follow them and that the tokenizer dropped; else (0, 0)."""
    taken = {i for start, end in spans for i in range(start, end)}
    extended = []
    for start, end in spans:
        while start < end < len(text) and end not in taken and character_kind(text[end]) == "m":
            end += 1
        extended.append((start, end) if end > start else (0, 0))
    return extended


def _fold_with_source(text: str) -> tuple[str, list[int]]:
    """The folded text, and for each of its characters the index it came from."""
    pieces = [(folded, i) for i, c in enumerate(text) for folded in _fold(c)]
    return "".join(piece for piece, _ in pieces), [i for _, i in pieces]
