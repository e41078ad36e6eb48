"""The heat map for a terminal: the text on coloured grounds, the ranking, and the certificate.

An image's patches are a grid of blocks instead (`terminal_image`). Without colour the best pieces
carry their rank as a raised number, and those that speak against the decision a raised minus.
Nothing in the text can drive the terminal: control characters are shown, not sent.
"""

import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views.ansi import BOLD, FAINT, ORANGE, Style, style_of
from attnflow.attribution.views.captions import (
    beginning,
    certainty,
    contrast,
    decision,
    granularity_of,
    units,
)
from attnflow.attribution.views.layout import (
    VISIBLE,
    Piece,
    Ranked,
    Run,
    hottest,
    intensities,
    is_picture,
    join_regions,
    join_template_tokens,
    lay_out,
    pieces_of,
    rank,
    role_starts,
)
from attnflow.attribution.views.sanitize import as_name, columns, for_terminal
from attnflow.attribution.views.terminal_image import blocks, picture_blocks
from attnflow.attribution.views.text_heatmap import tints
from attnflow.attribution.views.verdict import sentence
from attnflow.attribution.views.wording import (
    SUPERSCRIPTS,
    format_bound,
    format_number,
    format_percent,
    summary,
)
from attnflow.errors import InputError

RANKED = 10
MARKED = 3  # numbers that stand in the text itself where there is no colour
WIDEST = 100
AGAINST = "⁻"  # after a piece that speaks against, where there is no colour
MARKED_AGAINST = 0.25  # least heat that has this mark: marks cannot be faint, as colours can

_BLOCKS = " ▏▎▍▌▋▊▉█"
# Columns of a source's line besides the name: two blanks, a blank, the probability, a blank.
_PROBABILITY = 8
_NEXT_TO_NAME = 2 + 1 + _PROBABILITY + 1


@dataclass(frozen=True)
class _Chunk:
    """Part of the heat map with one style: what to print, and the columns it takes."""

    text: str
    printed: str


_BLANK = _Chunk(" ", " ")
_NOTHING = _Chunk("", "")


def render(
    attribution: AttributionData,
    *,
    granularity: str | None = None,
    color: bool | None = None,
    width: int | None = None,
) -> str:
    """Return heat map, ranking and certificate as text for a terminal.

    Args:
        attribution: What to show.
        granularity: "token" or "word"; None takes the words of a text and the patches of an image.
        color: True to colour; None colours when standard output is a terminal and the
            environment variable NO_COLOR is not set.
        width: Columns to use, at least 20; None takes the terminal's, up to 100.
    """
    width = _columns(width)
    granularity = granularity_of(attribution, granularity)
    # Without colour, which would promise more than a faint flow holds.
    style = style_of(False if attribution.is_faint else color)
    pieces = join_template_tokens(attribution, pieces_of(attribution, granularity))
    ranked = rank(pieces)
    heat = dict(zip((p.tokens for p in pieces), intensities(attribution, pieces), strict=True))
    tinted = tints(attribution, pieces, heat)
    unit = units(attribution)[granularity]
    parts = [_title(attribution, style), *_wrap(_plain(sentence(attribution)), width)]
    parts += [""] if parts[-1] else []
    if attribution.grid is None:
        parts += _wrap(_chunks(attribution, pieces, ranked, tinted, style), width)
        parts += _key_of_against(tinted.values(), style)
    if attribution.grid is not None:
        parts += blocks(attribution, style, width)
    elif attribution.regions:
        parts += ["", *picture_blocks(attribution, hottest(attribution, pieces), style, width)]
    parts += ["", *_ranking(ranked[:RANKED], len(ranked), unit, width, style), ""]
    parts += [style.mark(for_terminal(line), FAINT) for line in summary(attribution)]
    return "\n".join(parts)


def render_continuation(
    continuation: ContinuationData, *, color: bool | None = None, width: int | None = None
) -> str:
    """Return a continuation as text: the whole of it, and for each token its main sources.

    Args are those of `render`.
    """
    width = _columns(width)
    style = style_of(color)
    first = continuation[0]
    plain = [
        # Without heat: every token has its own heat map, and the lines below stand for them.
        replace(piece, score=0.0)
        for piece in join_template_tokens(first, pieces_of(first, "token"))
    ]
    how = f"{first.tensor} flow, {first.readout} read-out, {first.model_and_precision}"
    title = style.mark(for_terminal(beginning(continuation.written, 60)), BOLD)
    worst = max(a.certificate.gap for a in continuation)
    proof = f"{len(continuation)} flows, each at most {format_bound(worst)} below the maximum"
    return "\n".join(
        [
            f"{title}  {style.mark(for_terminal(how), FAINT)}",
            "",
            *_wrap(_chunks(first, plain, [], {}, style), width),
            "",
            *_sources(continuation, width, style),
            "",
            style.mark(proof, FAINT),
        ]
    )


def _sources(continuation: ContinuationData, width: int, style: Style) -> Iterator[str]:
    """Yield a line for each token: its probability, and the tokens that it rests on most."""
    names = [_fit(for_terminal(as_name(a.label)), max(width // 5, 8)) for a in continuation]
    wide = max(map(columns, names))
    for attribution, name in zip(continuation, names, strict=True):
        line = f"  {style.mark(name, BOLD)}{' ' * (wide - columns(name))} "
        line += f"{certainty(attribution):>{_PROBABILITY}} "
        used = wide + _NEXT_TO_NAME
        for entry in rank(pieces_of(attribution, "token")):
            source = _fit(for_terminal(as_name(entry.piece.name)), 20)
            part = f"  {source} {format_percent(entry.piece.share)}"
            # Measured without style, since escape sequences take no columns.
            if entry.piece.share < VISIBLE or used + columns(part) > width:
                break
            line += f"  {source} {style.mark(format_percent(entry.piece.share), FAINT)}"
            used += columns(part)
        yield line


def _columns(width: int | None) -> int:
    if width is not None and width < 20:
        raise InputError(f"width must be at least 20 columns, got {width}.")
    return width or min(shutil.get_terminal_size().columns, WIDEST)


def _title(attribution: AttributionData, style: Style) -> str:
    label = style.mark(for_terminal(as_name(attribution.label)), BOLD)
    how = f"{attribution.tensor} flow, {attribution.readout} read-out, "
    how += attribution.model_and_precision
    if attribution.position is not None:
        how = f"{decision(attribution)}; {how}"
    other = for_terminal(contrast(attribution))
    return f"{label} {certainty(attribution)}{other}  {style.mark(for_terminal(how), FAINT)}"


def _chunks(
    attribution: AttributionData,
    pieces: Sequence[Piece],
    ranked: Sequence[Ranked],
    tinted: Mapping[tuple[int, ...], tuple[float, bool]],
    style: Style,
) -> Iterator[_Chunk]:
    """Yield the heat map in chunks that are each words, blanks, or a line break.

    Args:
        attribution: The text.
        pieces: Its tokens or words.
        ranked: The same, best first; the first few are marked where there is no colour.
        tinted: By a piece's tokens, its heat, and whether it speaks against; others have no heat.
        style: The style of the terminal.
    """
    # Where nothing flowed no piece is first.
    places = {r.piece.tokens: r.rank for r in ranked[:MARKED] if r.piece.score > 0}
    roles = role_starts(attribution)
    first = True
    for run in lay_out(attribution.text, join_regions(attribution, pieces)):
        piece = run.piece
        if piece is not None and piece.tokens[0] in roles:
            role = f"{for_terminal(roles[piece.tokens[0]])}:"
            yield from (_Chunk(role, style.mark(role, FAINT)), _BLANK)
        if piece is None:
            yield from _plain(run.text)
        elif piece.special:
            name = for_terminal(as_name(piece.name))
            if not first:
                yield _BLANK
            yield from (_Chunk(name, style.mark(name, FAINT)), _BLANK)
        else:
            if is_picture(attribution, piece) and not first:
                yield _BLANK
            heat, against = tinted.get(piece.tokens, (0.0, False))
            yield _ordinary(run, heat, against, places.get(piece.tokens), style)
            if is_picture(attribution, piece):
                yield _BLANK
        first = False


def _plain(text: str) -> Iterator[_Chunk]:
    """Yield text between pieces, with line breaks and blanks on their own."""
    printed = ""
    # A tab takes as many columns as its place asks for, which `_wrap` could not count.
    for character in text.replace("\r\n", "\n").expandtabs(4):
        if character in "\n ":
            if printed:
                yield _Chunk(printed, printed)
            printed = ""
            yield _Chunk(character, character)
        else:
            printed += for_terminal(character)
    if printed:
        yield _Chunk(printed, printed)


def _key_of_against(tinted: Iterable[tuple[float, bool]], style: Style) -> Iterator[str]:
    """Yield the line that says how what speaks against is marked; none where nothing is."""
    heat = max((heat for heat, against in tinted if against), default=0.0)
    if style.depth == "none":
        if heat >= MARKED_AGAINST:
            yield f"{AGAINST} speaks against"
    elif heat > 0:
        yield style.heat("speaks against", heat, against=True)


def _ordinary(run: Run, heat: float, against: bool, place: int | None, style: Style) -> _Chunk:
    name = for_terminal(as_name(run.text))
    if run.detached:
        # In brackets: these are not characters of the text at this place.
        name = f"‹{name}›"
    if style.depth == "none" and place is not None:
        name += str(place).translate(SUPERSCRIPTS)
    if style.depth == "none" and against and heat >= MARKED_AGAINST:
        name += AGAINST
    return _Chunk(name, style.heat(name, heat, against=against))


def _wrap(chunks: Iterator[_Chunk], width: int) -> list[str]:
    """Return lines of at most `width` columns, broken at blanks and next to wide characters.

    A word is broken between its chunks where it is wider than a line, and a chunk never.
    """
    # Not `textwrap`, which counts characters, those of escape sequences too.
    lines = [""]
    used = 0
    # The line break at the end flushes the last word; it prints nothing and begins no line.
    for word, end in _words([*chunks, _Chunk("\n", "")], width):
        size = sum(columns(part.text) for part in word)
        if word and used and used + size > width:
            lines.append("")
            used = 0
        lines[-1] += "".join(part.printed for part in word) + end.printed.strip("\n")
        used += size + columns(end.text.strip("\n"))
        if end.printed == "\n":
            lines.append("")
            used = 0
    return [line.rstrip(" ") for line in lines]


def _words(chunks: Sequence[_Chunk], width: int) -> Iterator[tuple[list[_Chunk], _Chunk]]:
    """Yield runs of chunks that stay together, each with the blank or line break after it."""
    word: list[_Chunk] = []
    size = 0
    for chunk in chunks:
        if chunk.text in ("\n", " "):
            yield word, chunk
            word, size = [], 0
            continue
        if word and (size + columns(chunk.text) > width or _may_part(word[-1].text, chunk.text)):
            yield word, _NOTHING
            word, size = [], 0
        word.append(chunk)
        size += columns(chunk.text)


def _may_part(left: str, right: str) -> bool:
    """Return whether a line may end between two texts without a blank: Chinese has none."""
    # Closing marks stay with what they close.
    closes = unicodedata.category(right[0]) in ("Po", "Pe", "Pf")
    return not closes and (_needs_no_blank(left[-1]) or _needs_no_blank(right[0]))


def _needs_no_blank(character: str) -> bool:
    # Korean has blanks between its words.
    return columns(character) == 2 and not "\uac00" <= character <= "\ud7a3"


def _ranking(
    ranked: Sequence[Ranked], count: int, unit: tuple[str, str], width: int, style: Style
) -> Iterator[str]:
    """Yield a line for each of the best pieces: bar, score, share and cumulative share."""
    # A third of the width at most, so that the bars keep some.
    names = [_fit(for_terminal(as_name(r.piece.name)), max(width // 3, 8)) for r in ranked]
    wide = max(map(columns, names), default=0)
    best = ranked[0].piece.score if ranked else 0.0
    for entry, name in zip(ranked, names, strict=True):
        piece = entry.piece
        bar = _bar(piece.score / best if best > 0 else 0.0, min(max(width - wide - 38, 4), 24))
        yield (
            f"{entry.rank:>3}  {name}{' ' * (wide - columns(name))}  {style.mark(bar, ORANGE)} "
            f"{format_number(piece.score):>9} {format_percent(piece.share):>8} "
            f"{format_percent(entry.cumulative):>8}"
        )
    if count > len(ranked):
        more = count - len(ranked)
        yield style.mark(f"     and {more} more {unit[more > 1]}", FAINT)


def _bar(fraction: float, length: int) -> str:
    """Return a bar in eighths of a column, padded to `length`."""
    eighths = round(fraction * length * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest] if rest else "")).ljust(length)


def _fit(name: str, width: int) -> str:
    """Return the name, cut to at most `width` columns."""
    if columns(name) <= width:
        return name
    start = ""
    for character in name:
        if columns(start + character) > width - 1:
            break
        start += character
    return f"{start}…"
