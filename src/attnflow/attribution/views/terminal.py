"""The heat map for a terminal: the text on coloured grounds, the ranking, and the certificate.

An image's patches are a grid of blocks instead (`terminal_image`). Without colour the best pieces
carry their rank as a raised number. Nothing in the text can drive the terminal: control characters
are shown, not sent.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views.ansi import BOLD, FAINT, ORANGE, Style, style_of
from attnflow.attribution.views.captions import beginning, certainty, contrast, decision, units
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


def render(
    attribution: AttributionData,
    *,
    granularity: str = "token",
    color: bool | None = None,
    width: int | None = None,
) -> str:
    """Return heat map, ranking and certificate as text for a terminal.

    Args:
        attribution: What to show.
        granularity: "token" or "word".
        color: True to colour; None colours when standard output is a terminal and the
            environment variable NO_COLOR is not set.
        width: Columns to use, at least 20; None takes the terminal's, up to 100.
    """
    width = _columns(width)
    # Without colour, which would promise more than a faint flow holds.
    style = style_of(False if attribution.is_faint else color)
    pieces = join_template_tokens(attribution, pieces_of(attribution, granularity))
    ranked = rank(pieces)
    heat = dict(zip((p.tokens for p in pieces), intensities(attribution, pieces), strict=True))
    unit = units(attribution)[granularity]
    parts = [_title(attribution, style), *_wrap(_plain(sentence(attribution)), width)]
    parts += [""] if parts[-1] else []
    if attribution.grid is None:
        parts += _wrap(_chunks(attribution, pieces, ranked, heat, style), width)
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
    heat: Mapping[tuple[int, ...], float],
    style: Style,
) -> Iterator[_Chunk]:
    """Yield the heat map in chunks that are each words, blanks, or a line break.

    Pieces without `heat` have none.
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
            yield _ordinary(run, heat.get(piece.tokens, 0.0), places.get(piece.tokens), style)
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


def _ordinary(run: Run, heat: float, place: int | None, style: Style) -> _Chunk:
    name = for_terminal(as_name(run.text))
    if run.detached:
        # In brackets: these are not characters of the text at this place.
        name = f"‹{name}›"
    if style.depth == "none" and place is not None:
        name += str(place).translate(SUPERSCRIPTS)
    return _Chunk(name, style.heat(name, heat))


def _wrap(chunks: Iterator[_Chunk], width: int) -> list[str]:
    """Return lines of at most `width` columns, broken at blanks and never within a word."""
    # Not `textwrap`, which counts characters, those of escape sequences too.
    lines = [""]
    used = 0
    word: list[_Chunk] = []
    # The line break at the end flushes the last word; it prints nothing and begins no line.
    for chunk in [*chunks, _Chunk("\n", "")]:
        if chunk.text not in ("\n", " "):
            word.append(chunk)
            continue
        size = sum(columns(part.text) for part in word)
        if word and used and used + size > width:
            lines.append("")
            used = 0
        lines[-1] += "".join(part.printed for part in word) + chunk.printed.strip("\n")
        used += size + (chunk.text == " ")
        word = []
        if chunk.printed == "\n":
            lines.append("")
            used = 0
    return [line.rstrip(" ") for line in lines]


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
