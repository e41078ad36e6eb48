"""Text split into runs coloured by score, for the page and the notebook.

The heat maps show the text exactly as it was written. Templates turn each stretch into a tag.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.layout import (
    Piece,
    Run,
    intensities,
    is_picture,
    is_template,
    join_regions,
    join_template_tokens,
    lay_out,
    pieces_of,
    rank,
    role_starts,
)
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.verdict import against_heat
from attnflow.attribution.views.wording import CLEARLY, format_number, format_percent

# Translucent over the notebook's own background, and faint enough to keep the text readable.
TINT = (226, 92, 20)
TINT_AGAINST = (36, 112, 196)  # told from the other by colour-blind people, and underlined
STRONGEST_TINT = 0.6
TEMPLATE = "template"  # what is shown of a chat's markup between messages


@dataclass(frozen=True)
class Stretch:
    """A run of a heat map as templates write it: plain text, or a piece with its heat.

    Attributes:
        text: Characters to show.
        tokens: Indices of the piece's tokens, "2 3"; None for plain text between pieces.
        classes: Names of style classes.
        heat: 0 to 1, or an opacity, with two decimals.
        against: True where the heat is of what speaks against the decision.
        strong: True where it is at least half of the strongest heat, for the decision.
        title: Description of the piece.
        role: Role of the message that begins here, or None.
        isolated: True where the piece shows its name instead of characters of the text: isolate it,
            so that its direction does not affect its neighbours.
        article: Number of the article that explains this token, or None.
    """

    text: str
    tokens: str | None = None
    classes: str = ""
    heat: str = "0"
    against: bool = False
    strong: bool = False
    title: str = ""
    role: str | None = None
    isolated: bool = False
    article: int | None = None


def describe(piece: Piece, place: int | None, count: int) -> str:
    """Return a piece's name, score, share and rank in words."""
    if piece.special:
        return f"{piece.name}: special token, score {format_number(piece.score)}, not ranked"
    score, share = format_number(piece.score), format_percent(piece.share)
    if place is None:
        return f"{as_name(piece.name)}: score {score}, {share}, all its regions together"
    return f"{as_name(piece.label)}: score {score}, {share}, rank {place} of {count}"


def stretches(attribution: AttributionData, granularity: str) -> Iterator[Stretch]:
    """Yield the page's heat map: every piece with its classes, heat and description."""
    pieces, heat = _pieces_and_heat(attribution, granularity)
    ranked = rank(pieces_of(attribution, granularity))
    places = {entry.piece.tokens: entry.rank for entry in ranked}
    tinted = tints(attribution, pieces, heat)
    for stretch, run, piece in _laid_out(attribution, pieces):
        if piece is not None:
            shown, speaks_against = tinted[piece.tokens]
            about = describe(piece, places.get(piece.tokens), len(ranked))
            stretch = replace(
                stretch,
                classes=classes(attribution, run, piece) + (" against" if speaks_against else ""),
                heat=f"{shown:.2f}",
                title=f"{about}; speaks against" if speaks_against else about,
            )
        yield stretch


def explained_stretches(
    attribution: AttributionData, articles: Mapping[int, int]
) -> Iterator[Stretch]:
    """Yield a continuation's text without heat: scripts colour it for the token that is chosen.

    Args:
        attribution: Any attribution of the continuation.
        articles: Number of the article about each token that is explained.
    """
    pieces, _ = _pieces_and_heat(attribution, "token")
    for stretch, run, piece in _laid_out(attribution, pieces):
        if piece is not None:
            article = articles.get(piece.tokens[0])
            stretch = replace(
                stretch,
                classes=classes(attribution, run, piece)
                + ("" if article is None else " explained"),
                title=as_name(piece.name),
                article=article,
            )
        yield stretch


def tinted_stretches(attribution: AttributionData, granularity: str) -> Iterator[Stretch]:
    """Yield the notebook's heat map: heat is the opacity of a tint, and there are no classes."""
    pieces, heat = _pieces_and_heat(attribution, granularity)
    tinted = tints(attribution, pieces, heat)
    for stretch, run, piece in _laid_out(attribution, pieces):
        if piece is not None:
            shown, speaks_against = tinted[piece.tokens]
            stretch = replace(
                stretch,
                against=speaks_against,
                strong=shown >= 0.5 and not speaks_against,
                text=as_name(run.text) if stretch.isolated else run.text,
                heat=f"{STRONGEST_TINT * shown:.2f}",
                title=f"{format_percent(piece.share)}, score {format_number(piece.score)}"
                + ("; speaks against" if speaks_against else ""),
            )
        yield stretch


def _pieces_and_heat(
    attribution: AttributionData, granularity: str
) -> tuple[list[Piece], dict[tuple[int, ...], float]]:
    """Return the pieces of a text, and the heat of each by its tokens."""
    single = join_template_tokens(attribution, pieces_of(attribution, granularity))
    pieces = join_regions(attribution, single)
    # Keyed by tokens, since names and offsets need not be unique.
    heat = dict(zip((p.tokens for p in single), intensities(attribution, single), strict=True))
    # An image has its heat in its regions.
    return pieces, {piece.tokens: heat.get(piece.tokens, 0.0) for piece in pieces}


def tints(
    attribution: AttributionData, pieces: Sequence[Piece], heat: Mapping[tuple[int, ...], float]
) -> dict[tuple[int, ...], tuple[float, bool]]:
    """Return, by a piece's tokens, the heat that is shown, and whether it is of what opposes."""
    against = against_heat(attribution, pieces)
    return {
        # A piece that much of the flow reaches is not coloured by a small effect against.
        tokens: (opposed, True) if opposed >= max(CLEARLY, heat[tokens]) else (heat[tokens], False)
        for tokens, opposed in against.items()
    }


def _laid_out(
    attribution: AttributionData, pieces: Sequence[Piece]
) -> Iterator[tuple[Stretch, Run, Piece | None]]:
    """Yield the text in order: each stretch, its run, and the piece there if there is one."""
    roles = role_starts(attribution)
    for run in lay_out(attribution.text, pieces):
        piece = run.piece
        if piece is None:
            yield Stretch(run.text), run, None
            continue
        # Markup of many tokens would hide the messages; its description has all of it.
        is_markup = is_template(attribution, piece) and len(piece.tokens) > 1
        stretch = Stretch(
            text=TEMPLATE if is_markup else as_name(run.text) if run.detached else run.text,
            tokens=token_list(piece),
            role=roles.get(piece.tokens[0]),
            isolated=piece.special or run.detached,
        )
        yield stretch, run, piece


def token_list(piece: Piece) -> str:
    """Return the indices of a piece's tokens as the page's scripts read them: "2 3"."""
    return " ".join(map(str, piece.tokens))


def classes(attribution: AttributionData, run: Run, piece: Piece) -> str:
    """Return the style classes of a piece."""
    names = ["t"]
    names += ["of-image"] if is_picture(attribution, piece) else []
    names += ["special"] if piece.special else []
    names += ["detached"] if run.detached else []
    return " ".join(names)
