"""The heat map as HTML: the text itself, each token or word on a ground as warm as its score.

Everything that came from outside passes through `escape`. The page styles the map by classes; the
fragment for notebooks carries its few styles along and works on light and dark grounds alike,
because it inherits the notebook's own colour of text and lays a translucent tint behind it.
"""

from collections.abc import Mapping, Sequence
from html import escape as escape_html

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.captions import certainty, contrast
from attnflow.attribution.views.layout import (
    Piece,
    Ranked,
    Segment,
    gathered,
    intensities,
    lay_out,
    pieces,
    rank,
    role_starts,
)
from attnflow.attribution.views.sanitize import as_name, for_page
from attnflow.attribution.views.wording import note, number, percent, summary

TINT = (226, 92, 20)
STRONGEST_TINT = 0.6

BOX = "border:1px solid rgba(128,128,128,.45);border-radius:8px;padding:.8em 1em;max-width:60em"
_TEXT = (
    "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.75;font-size:1.15em;margin:.5em 0"
)
_CHIP = (
    "font-size:.75em;opacity:.75;border:1px dotted;border-radius:3px;padding:0 .25em;margin:0 .4em"
)


_ROLE = "opacity:.75;font-weight:600"


def escape(text: str) -> str:
    """Text from outside, safe as the content of an element and in a quoted attribute."""
    return escape_html(for_page(text), quote=True)


def about(piece: Piece, place: int | None, count: int) -> str:
    """A piece in words: its name, score, share and rank."""
    if piece.special:
        return f"{piece.name}: special token, score {number(piece.score)}, not ranked"
    score, share = number(piece.score), percent(piece.share)
    return f"{as_name(piece.name)}: score {score}, {share}, rank {place} of {count}"


def role_label(role: str | None) -> str:
    """Who speaks, in front of the first word of a message; nothing inside of one."""
    return "" if role is None else f'<b class="role">{escape(role)}</b> '


def heat_map(attribution: AttributionData, granularity: str) -> str:
    """The page's heat map: spans with classes, each with its tokens and a description."""
    found = gathered(attribution, pieces(attribution, granularity))
    ranked = rank(found)
    heat = {p.tokens: h for p, h in zip(found, intensities(found), strict=True)}
    places = {r.piece.tokens: r.rank for r in ranked}
    roles = role_starts(attribution)

    def span(segment: Segment) -> str:
        piece = segment.piece
        if piece is None:
            return escape(segment.text)
        classes = "t" + " special" * piece.special + " detached" * segment.detached
        shown = as_name(segment.text) if segment.detached else segment.text
        title = about(piece, places.get(piece.tokens), len(ranked))
        tokens = " ".join(map(str, piece.tokens))
        element = "bdi" if piece.special or segment.detached else "span"
        return role_label(roles.get(piece.tokens[0])) + (
            f'<{element} class="{classes}" data-t="{tokens}" style="--h:{heat[piece.tokens]:.2f}"'
            f' title="{escape(title)}">{escape(shown)}</{element}>'
        )

    return "".join(map(span, lay_out(attribution.text, found)))


def fragment(attribution: AttributionData) -> str:
    """A small static heat map for notebooks: no script, no class, nothing fetched."""
    found = gathered(attribution, pieces(attribution, "token"))
    heat = {p.tokens: h for p, h in zip(found, intensities(found), strict=True)}
    roles = role_starts(attribution)
    text = "".join(_tinted(segment, heat, roles) for segment in lay_out(attribution.text, found))
    return notebook_box(attribution, f'<div dir="auto" style="{_TEXT}">{text}</div>')


def notebook_box(attribution: AttributionData, shown: str) -> str:
    """What a notebook shows around the HTML of a text or image: decision, leaders, certificate."""
    ranked = rank(gathered(attribution, pieces(attribution, "token")))
    proof = "<br>".join(escape(line) for line in [*summary(attribution), note(attribution)])
    return (
        f'<div style="{BOX}"><div><b>{escape(as_name(attribution.label))}</b> '
        f"{certainty(attribution)}{escape(contrast(attribution))} "
        f"<small>{escape(attribution.model)}, {escape(attribution.tensor)} flow</small></div>"
        f"{shown}"
        f"<small>{leaders(ranked[:5])}</small>"
        f"<details><summary><small>Certificate</small></summary><small>{proof}</small></details>"
        "</div>"
    )


def _tinted(
    segment: Segment, heat: Mapping[tuple[int, ...], float], roles: Mapping[int, str]
) -> str:
    if segment.piece is None:
        return escape(segment.text)
    opacity = STRONGEST_TINT * heat[segment.piece.tokens]
    red, green, blue = TINT
    style = f"background:rgba({red},{green},{blue},{opacity:.2f});border-radius:3px"
    element, shown = "span", segment.text
    if segment.detached or segment.piece.special:
        element, style, shown = "bdi", f"{style};{_CHIP}", as_name(shown)
    title = f"{percent(segment.piece.share)}, score {number(segment.piece.score)}"
    role = roles.get(segment.piece.tokens[0])
    label = "" if role is None else f'<small style="{_ROLE}">{escape(role)}</small> '
    return f'{label}<{element} style="{style}" title="{escape(title)}">{escape(shown)}</{element}>'


def leaders(ranked: Sequence[Ranked]) -> str:
    """The first few pieces with their shares, in one line."""
    return " · ".join(
        f"<bdi>{escape(as_name(r.piece.name))}</bdi> {percent(r.piece.share)}" for r in ranked
    )
