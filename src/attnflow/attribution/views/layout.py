"""The parts of a text that views show: its tokens or words, ranked, and where each stands.

A `Piece` is a token or a word with its score. `lay_out` threads the pieces back into the original
text, so that a heat map shows the text exactly as it was written, spaces and line breaks included.
`inputs.offsets` has already repaired the offsets where it could. Tokens without a place of their
own are left: one that could not be placed, a byte of a character that another byte already shows.
They are shown detached, under their name, and no piece is ever lost.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from attnflow.attribution.data import AttributionData, Word
from attnflow.errors import InputError, shown

GRANULARITIES = ("token", "word")
VISIBLE = 0.005  # least share of a source that a continuation shows: half a percent

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
# Marks of tokenizers for spaces and line breaks, and how a detached piece shows them.
_SPELLED = {"Ġ": " ", "▁": " ", "Ċ": "⏎", "<0x0A>": "⏎"}


@dataclass(frozen=True)
class Piece:
    """A token or a word: its name, its characters `start:end`, and its part of the flow.

    `share` is the score over that of all ordinary tokens, and 0 for a special token. `place` tells
    pieces of one name apart: "₂" for the second of them, "" where there is only one.
    """

    name: str
    start: int
    end: int
    score: float
    share: float
    special: bool
    tokens: tuple[int, ...]
    place: str = ""

    @property
    def label(self) -> str:
        """The name with its place: "is₂"."""
        return self.name + self.place


@dataclass(frozen=True)
class Ranked:
    """An ordinary piece with its rank from 1, and the share of all pieces down to that rank."""

    piece: Piece
    rank: int
    cumulative: float


@dataclass(frozen=True)
class Run:
    """A run of characters of the heat map: plain text, a piece in its place, or a detached one."""

    text: str
    piece: Piece | None = None
    detached: bool = False


def pieces_of(attribution: AttributionData, granularity: str) -> list[Piece]:
    """Return the tokens or words of a text in order; special tokens stay on their own.

    Raises:
        InputError: `granularity` is neither "token" nor "word".
    """
    if granularity not in GRANULARITIES:
        raise InputError(f"granularity must be 'token' or 'word', got {shown(granularity)}.")
    shares = [float(share) for share in attribution.shares]
    if granularity == "token":
        return _placed([_token(attribution, i, shares) for i in range(len(attribution))])
    words = attribution.words()
    in_words = {i for word in words for i in word.tokens}
    pieces = [_word(attribution, word, shares) for word in words]
    pieces += [_token(attribution, i, shares) for i in range(len(attribution)) if i not in in_words]
    return _placed(sorted(pieces, key=lambda piece: piece.tokens))


def _placed(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces in order; those of equal names with their places."""
    count = Counter(piece.name for piece in pieces)
    seen: Counter[str] = Counter()
    placed = []
    for piece in pieces:
        seen[piece.name] += 1
        # Special tokens come in twos and threes, and nobody asks which.
        is_told = count[piece.name] > 1 and not piece.special
        place = str(seen[piece.name]).translate(_SUBSCRIPTS) if is_told else ""
        placed.append(replace(piece, place=place))
    return placed


def _token(attribution: AttributionData, index: int, shares: Sequence[float]) -> Piece:
    start, end = attribution.offsets[index]
    special = bool(attribution.special[index])
    name = attribution.surface(index)
    if not special and end <= start:
        name = _without_mark(name)
    score = float(attribution.scores[index])
    return Piece(name, start, end, score, shares[index], special, (index,))


def _word(attribution: AttributionData, word: Word, shares: Sequence[float]) -> Piece:
    share = sum(shares[i] for i in word.tokens)
    special = all(attribution.special[i] for i in word.tokens)
    name = word.text
    if word.end <= word.start:
        name = "".join(_without_mark(attribution.tokens[i]) for i in word.tokens)
    return Piece(name, word.start, word.end, word.score, share, special, word.tokens)


def _without_mark(token: str) -> str:
    """Return a token without its tokenizer's mark for a space or a continued word."""
    return token.removeprefix("##").lstrip("Ġ▁").removesuffix("</w>") or token


def spelled(name: str) -> str:
    """Return a token's name with spaces and line breaks instead of a tokenizer's marks for them."""
    for mark, meaning in _SPELLED.items():
        name = name.replace(mark, meaning)
    return name


def is_template(attribution: AttributionData, piece: Piece) -> bool:
    """Return whether a piece is of a chat's template, and not of a message."""
    return bool(attribution.roles) and attribution.message_ids[piece.tokens[0]] is None


def role_starts(attribution: AttributionData) -> dict[int, str]:
    """Return, for a chat, the role that begins at each token where another message begins."""
    roles, last_message = {}, None
    for token, message in enumerate(attribution.message_ids):
        if message is not None and not attribution.special[token]:
            if message != last_message:
                roles[token] = attribution.roles[message]
            last_message = message
    return roles


def join_template_tokens(attribution: AttributionData, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces, with each run of tokens of a chat's template joined to a single one."""
    if not attribution.roles:
        return list(pieces)

    joined: list[Piece] = []
    for template, group in groupby(pieces, lambda piece: is_template(attribution, piece)):
        neighbours = list(group)
        joined += [_joined(attribution, neighbours)] if template else neighbours
    return joined


def _joined(attribution: AttributionData, pieces: Sequence[Piece]) -> Piece:
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    # WordPiece marks a continued word by ##, which a template may also write itself: only a ##
    # right before a letter is a mark.
    name = "".join(re.sub(r"^##(?=\w)", "", attribution.tokens[token]) for token in tokens)
    return Piece(spelled(name), 0, 0, sum(piece.score for piece in pieces), 0.0, True, tokens)


def join_regions(attribution: AttributionData, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces of a text, with each run of image tokens joined to one piece.

    A run holds the special tokens between regions, such as the marks of tiles. Its piece has the
    score of the regions together, which are shown one by one in the image.
    """
    if not attribution.regions:
        return list(pieces)
    joined: list[Piece] = []
    waiting: list[Piece] = []  # special ones, which are in the run if another region follows
    run: list[Piece] = []
    for piece in [*pieces, None]:
        is_region = piece is not None and attribution.is_region(piece.tokens[0])
        if piece is not None and is_region:
            run += [*waiting, piece]
            waiting = []
        elif piece is not None and piece.special and run:
            waiting.append(piece)
        else:
            joined += [_picture(attribution, run)] if run else []
            joined += waiting
            run, waiting = [], []
            joined += [] if piece is None else [piece]
    return joined


def _picture(attribution: AttributionData, run: Sequence[Piece]) -> Piece:
    tokens = [token for piece in run for token in piece.tokens]
    regions = [token for token in tokens if attribution.is_region(token)]
    names = dict.fromkeys(
        attribution.tokens[token].rpartition(" r")[0].removesuffix(" whole") for token in regions
    )
    score = sum(float(attribution.scores[token]) for token in regions)
    share = sum(float(attribution.shares[token]) for token in regions)
    return Piece(", ".join(names), 0, 0, score, share, False, tuple(regions))


def is_picture(attribution: AttributionData, piece: Piece) -> bool:
    """Return whether a piece of a text's heat map stands for an image in it."""
    return attribution.is_region(piece.tokens[0])


def rank(pieces: Sequence[Piece]) -> list[Ranked]:
    """Return the ordinary pieces, best first; equal scores in the order of the text."""
    ordinary = sorted((p for p in pieces if not p.special), key=lambda p: (-p.score, p.tokens))
    ranked: list[Ranked] = []
    cumulative = 0.0
    for place, piece in enumerate(ordinary, start=1):
        cumulative += piece.share
        # Rounding of the sum must not show more than all of it.
        ranked.append(Ranked(piece, place, min(cumulative, 1.0)))
    return ranked


def hottest(attribution: AttributionData, pieces: Sequence[Piece]) -> float:
    """Return the score whose heat is 1: that of the best ordinary piece.

    Of a text with images it is the best of tokens and words, whichever are shown, so that text and
    image have one scale.
    """
    if attribution.regions:
        pieces = [p for unit in GRANULARITIES for p in pieces_of(attribution, unit)]
    return max((p.score for p in pieces if not p.special), default=0.0)


def intensities(attribution: AttributionData, pieces: Sequence[Piece]) -> list[float]:
    """Return each piece's heat: its score over the hottest one's; 0 for special ones."""
    best = hottest(attribution, pieces)
    return [0.0 if p.special or best <= 0 else p.score / best for p in pieces]


def lay_out(text: str, pieces: Sequence[Piece]) -> Iterator[Run]:
    """Yield the text from its first to its last character, each piece in or next to its place."""
    cursor = 0
    for piece in pieces:
        # Offsets may overlap or run past the end; characters already shown are not shown again.
        start, end = max(piece.start, cursor), min(piece.end, len(text))
        if end <= start or text[start:end].isspace():
            yield Run(piece.name, piece, detached=True)
            continue
        # Spaces that a tokenizer counts to its tokens stay outside the coloured ground.
        body = text[start:end].strip()
        start = text.index(body, start)
        if start > cursor:
            yield Run(text[cursor:start])
        yield Run(body, piece)
        cursor = start + len(body)
    if cursor < len(text):
        yield Run(text[cursor:])
