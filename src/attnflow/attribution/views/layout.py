"""What a view shows of a text: its tokens or words, ranked, and where each stands in the text.

A `Piece` is a token or a word with its score. `lay_out` threads the pieces back into the original
text, so that a heat map shows the text exactly as it was written, spaces and line breaks included.
`tokens` has already repaired the offsets where it could; what is left are tokens without a place of
their own (an unknown one, a byte of a character). They are shown detached, under their name, and no
piece is ever lost.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from attnflow.attribution.data import AttributionData, Word
from attnflow.errors import InputError

GRANULARITIES = ("token", "word")
VISIBLE = 0.005  # least share of a source that a continuation shows: half a percent


@dataclass(frozen=True)
class Piece:
    """A token or a word: its name, its characters `start:end`, and its part of the flow.

    `share` is the score over that of all ordinary tokens, and 0 for a special token.
    """

    name: str
    start: int
    end: int
    score: float
    share: float
    special: bool
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Ranked:
    """An ordinary piece with its rank from 1, and the share of all pieces down to that rank."""

    piece: Piece
    rank: int
    cumulative: float


@dataclass(frozen=True)
class Segment:
    """A stretch of the heat map: plain text, a piece in its place, or a detached piece."""

    text: str
    piece: Piece | None = None
    detached: bool = False


def pieces(attribution: AttributionData, granularity: str) -> list[Piece]:
    """The tokens or the words of a text in order; special tokens stay on their own."""
    if granularity not in GRANULARITIES:
        raise InputError(f"granularity must be 'token' or 'word', got {granularity!r}.")
    shares = [float(share) for share in attribution.shares]
    if granularity == "token":
        return [_token(attribution, i, shares) for i in range(len(attribution))]
    words = attribution.words()
    grouped = {i for word in words for i in word.tokens}
    alone = [i for i in range(len(attribution)) if i not in grouped]
    found = [_word(attribution, word, shares) for word in words]
    found += [_token(attribution, i, shares) for i in alone]
    return sorted(found, key=lambda piece: piece.tokens)


def _token(attribution: AttributionData, index: int, shares: Sequence[float]) -> Piece:
    start, end = attribution.offsets[index]
    special = bool(attribution.special[index])
    name = attribution.surface(index)
    if not special and end <= start:
        name = _unmarked(name)
    score = float(attribution.scores[index])
    return Piece(name, start, end, score, shares[index], special, (index,))


def _word(attribution: AttributionData, word: Word, shares: Sequence[float]) -> Piece:
    share = sum(shares[i] for i in word.tokens)
    special = all(attribution.special[i] for i in word.tokens)
    name = word.text
    if word.end <= word.start:
        name = "".join(_unmarked(attribution.tokens[i]) for i in word.tokens)
    return Piece(name, word.start, word.end, word.score, share, special, word.tokens)


def _unmarked(token: str) -> str:
    """A token without its tokenizer's mark for a space or a continued word."""
    return token.removeprefix("##").lstrip("Ġ▁").removesuffix("</w>") or token


def role_starts(attribution: AttributionData) -> dict[int, str]:
    """Of a chat, the role that begins at each token where another message's words begin."""
    found, before = {}, None
    for token, message in enumerate(attribution.message_ids):
        if message is not None and not attribution.special[token]:
            if message != before:
                found[token] = attribution.roles[message]
            before = message
    return found


def gathered(attribution: AttributionData, found: Sequence[Piece]) -> list[Piece]:
    """The pieces, with each run of tokens that a chat's template wrote as a single one."""
    if not attribution.roles:
        return list(found)

    def is_template(piece: Piece) -> bool:
        return attribution.message_ids[piece.tokens[0]] is None

    pieces: list[Piece] = []
    for template, run in groupby(found, is_template):
        own = list(run)
        pieces += [_joined(attribution, own)] if template else own
    return pieces


def _joined(attribution: AttributionData, run: Sequence[Piece]) -> Piece:
    tokens = tuple(token for piece in run for token in piece.tokens)
    # WordPiece marks what goes on with a word by ##, which a template may also write itself.
    name = "".join(re.sub(r"^##(?=\w)", "", attribution.tokens[token]) for token in tokens)
    for mark, meaning in _SPELLED.items():
        name = name.replace(mark, meaning)
    return Piece(name, 0, 0, sum(piece.score for piece in run), 0.0, True, tokens)


_SPELLED = {"Ġ": " ", "▁": " ", "Ċ": "⏎", "<0x0A>": "⏎"}


def rank(found: Sequence[Piece]) -> list[Ranked]:
    """The ordinary pieces, best first; equal scores in the order of the text."""
    ordinary = sorted((p for p in found if not p.special), key=lambda p: (-p.score, p.tokens))
    ranked: list[Ranked] = []
    cumulative = 0.0
    for place, piece in enumerate(ordinary, start=1):
        cumulative += piece.share
        ranked.append(Ranked(piece, place, min(cumulative, 1.0)))
    return ranked


def intensities(found: Sequence[Piece]) -> list[float]:
    """Heat of each piece: its score over that of the best ordinary piece; 0 for special ones."""
    best = max((p.score for p in found if not p.special), default=0.0)
    return [0.0 if p.special or best <= 0 else p.score / best for p in found]


def lay_out(text: str, found: Sequence[Piece]) -> Iterator[Segment]:
    """The text from its first to its last character, with every piece in or beside its place."""
    cursor = 0
    for piece in found:
        start, end = max(piece.start, cursor), min(piece.end, len(text))
        if end <= start or text[start:end].isspace():
            yield Segment(piece.name, piece, detached=True)
            continue
        body = text[start:end].strip()
        start = text.index(body, start)
        if start > cursor:
            yield Segment(text[cursor:start])
        yield Segment(body, piece)
        cursor = start + len(body)
    if cursor < len(text):
        yield Segment(text[cursor:])
