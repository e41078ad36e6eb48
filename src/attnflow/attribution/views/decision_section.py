"""One text's part of the page as HTML: what can be read without any script.

The heat map, the ranking, the classes, the facts and the certificate are written here in full. The
script of the page only adds what needs a hand on it: the switches, and the picture of the flow.
"""

from collections.abc import Sequence

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.captions import certainty, choices, contrast, named, subject, units
from attnflow.attribution.views.flow_links import has_flow
from attnflow.attribution.views.image_heatmap import picture, strip
from attnflow.attribution.views.layout import Ranked, pieces, rank
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.text_heatmap import escape, heat_map
from attnflow.attribution.views.wording import (
    READOUTS,
    TENSORS,
    diagnostics,
    merged,
    note,
    number,
    percent,
)

RANKS_IN_SIGHT = 12
CLASSES_IN_SIGHT = 8


def article(attribution: AttributionData, index: int, *, group: int, part: bool = False) -> str:
    """Everything about one decision.

    Args:
        attribution: The decision.
        index: Its number on the page, from 0.
        group: Number of what it belongs to: a text, or a continuation.
        part: Whether it is one of a continuation, whose text and matrix stand above.
    """
    return "".join(
        (
            f'<article id="text-{index}" aria-labelledby="class-{index}" data-group="{group}">',
            _heading(attribution, index, "h2" if part else "h1"),
            "" if part else _heat(attribution) if attribution.grid is None else _image(attribution),
            _flow(attribution, index),
            '<div class="columns">',
            _leaders(attribution, index) if part else _ranking(attribution, index),
            _computed(attribution),
            "</div>",
            _certificate(attribution),
            "</article>",
        )
    )


def _heading(attribution: AttributionData, index: int, level: str) -> str:
    return (
        f'<header><p class="eyebrow">What the {escape(subject(attribution))} rests on'
        f"{escape(contrast(attribution))}</p>"
        f'<{level} class="title" id="class-{index}">'
        f"<bdi>{escape(as_name(attribution.label))}</bdi> "
        f'<span class="certainty">{certainty(attribution)}</span></{level}></header>'
    )


def size_of(attribution: AttributionData) -> str:
    """How large the text can be written."""
    return "long" if len(attribution.text) > 900 else "middling" if len(attribution) > 40 else ""


def _heat(attribution: AttributionData) -> str:
    size = size_of(attribution)
    maps = "".join(
        f'<p class="heat {size}" dir="auto" data-granularity="{granularity}"'
        f"{' hidden' * (granularity == 'word')}>{heat_map(attribution, granularity)}</p>"
        for granularity in units(attribution)
    )
    cut = (
        f'<p class="quiet">The model takes no more than this: the last {attribution.truncated} '
        "tokens of the text were cut off before it, and have no score.</p>"
        if attribution.truncated
        else ""
    )
    legends = "".join(_legend(attribution, granularity) for granularity in units(attribution))
    return (
        f'<section class="reading" aria-label="Text with the share of each token">{maps}{cut}'
        '<div class="bar"><div class="switch script" role="group" aria-label="Show scores of">'
        '<button type="button" data-show="token" aria-pressed="true">Tokens</button>'
        '<button type="button" data-show="word" aria-pressed="false">Words</button></div>'
        f'{legends}<p class="about script" data-about></p></div></section>'
    )


def _image(attribution: AttributionData) -> str:
    looks = (("both", "Over the image"), ("scores", "Scores alone"), ("image", "Image alone"))
    buttons = "".join(
        f'<button type="button" data-look="{look}" aria-pressed="false">{name}</button>'
        for look, name in looks
    )
    return (
        f'<section class="reading" aria-label="Image with the share of each patch">'
        f'{picture(attribution)}<div class="bar"><div class="switch script" role="group" '
        f'aria-label="Show">{buttons}</div>{_legend(attribution, "token")}'
        '<p class="about script" data-about></p></div></section>'
    )


def _legend(attribution: AttributionData, granularity: str) -> str:
    """The scale of the heat: from nothing to the share of the strongest piece."""
    strongest = max((piece.share for piece in pieces(attribution, granularity)), default=0.0)
    return (
        f'<p class="legend" data-granularity="{granularity}"{" hidden" * (granularity == "word")}>'
        f'<span>0</span><i aria-hidden="true"></i>'
        f"<span>{percent(strongest)} (strongest {units(attribution)[granularity][0]})</span></p>"
    )


def _flow(attribution: AttributionData, index: int) -> str:
    if not has_flow(attribution):
        return ""
    choices = "".join(
        f'<button type="button" data-keep="{keep}" aria-pressed="false">{keep} %</button>'
        for keep in (25, 50, 80, 90, 95)
    )
    widths = (
        '<div class="switch" role="group" aria-label="Width of the picture" data-widths>'
        '<button type="button" data-width="fit" aria-pressed="true">Fit</button>'
        '<button type="button" data-width="spread" aria-pressed="false">Spread out</button></div>'
    )
    one, many = units(attribution)["token"]
    whole = "text" if attribution.grid is None else "image"
    return (
        f'<section class="flow" aria-labelledby="flow-{index}"><h2 id="flow-{index}">The flow</h2>'
        '<noscript><p class="quiet">The picture of the flow needs a browser with scripts on; '
        "all the numbers are on this page without it.</p></noscript>"
        f'<p class="quiet script">It starts at the top, where the model decides, and runs down '
        f"through the layers to the {many}. Wider links carry more. Choose a {one}, here or in the "
        f"{whole}, to follow its paths; Escape lets go.</p>"
        '<div class="bar script"><div class="switch" role="group" aria-label="Share of the flow '
        f'to draw"><span class="quiet">Draw</span>{choices}</div>'
        f"{widths}"
        '<p class="quiet" data-drawn></p><p class="about" data-link></p></div>'
        '<div class="picture script"><div class="rows" aria-hidden="true"></div>'
        '<div class="canvas" role="region" tabindex="-1" aria-label="Picture of the flow"><svg>'
        "</svg></div></div>"
        f'<div class="paths" aria-live="polite" data-paths></div>{_passing(attribution)}</section>'
    )


def _passing(attribution: AttributionData) -> str:
    """Of an image: where the flow is in every layer."""
    if attribution.grid is None:
        return ""
    return (
        '<p class="quiet">Where the flow is, layer by layer, from the decision down, and how much '
        f"of it is in patches; the rest is in the tokens beside them.</p>{strip(attribution)}"
    )


def _ranking(attribution: AttributionData, index: int) -> str:
    tables = []
    for granularity, (one, many) in units(attribution).items():
        ranked = rank(pieces(attribution, granularity))
        rest = ranked[RANKS_IN_SIGHT:]
        more = (
            f"<details><summary>The other {len(rest)} {many}</summary>"
            f"{_table(rest, ranked[0].piece.score, one)}</details>"
            if rest
            else ""
        )
        first = ranked[0].piece.score if ranked else 0.0
        tables.append(
            f'<div data-granularity="{granularity}"{" hidden" * (granularity == "word")}>'
            f"{_table(ranked[:RANKS_IN_SIGHT], first, one)}{more}</div>"
        )
    return (
        f'<section class="ranking" aria-labelledby="ranking-{index}">'
        f'<h2 id="ranking-{index}">Ranking</h2>{"".join(tables)}</section>'
    )


def _leaders(attribution: AttributionData, index: int) -> str:
    """The best of the tokens up to the one that is read; all of them are in the matrix."""
    read = len(attribution) if attribution.position is None else attribution.position
    ranked = rank([piece for piece in pieces(attribution, "token") if piece.tokens[-1] <= read])
    first = ranked[0].piece.score if ranked else 0.0
    return (
        f'<section class="ranking" aria-labelledby="ranking-{index}">'
        f'<h2 id="ranking-{index}">Ranking</h2>{_table(ranked[:RANKS_IN_SIGHT], first, "token")}'
        "</section>"
    )


def _table(ranked: Sequence[Ranked], best: float, unit: str) -> str:
    head = (
        f'<tr><th scope="col"><span class="spoken">Rank</span></th>'
        f'<th scope="col" class="name">{unit.capitalize()}</th>'
        '<th class="gauge"><span class="spoken">Bar</span></th><th scope="col">Score</th>'
        '<th scope="col">Share</th><th scope="col">Cumulative</th></tr>'
    )
    rows = "".join(_row(entry, best) for entry in ranked)
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _row(entry: Ranked, best: float) -> str:
    piece = entry.piece
    width = 100 * piece.score / best if best > 0 else 0.0
    return (
        f'<tr><td class="place">{entry.rank}</td>'
        f'<th scope="row" class="name"><bdi>{escape(as_name(piece.name))}</bdi></th>'
        f'<td class="gauge" aria-hidden="true"><i style="--w:{width:.1f}%"></i></td>'
        f"<td>{number(piece.score)}</td><td>{percent(piece.share)}</td>"
        f"<td>{percent(entry.cumulative)}</td></tr>"
    )


def _computed(attribution: AttributionData) -> str:
    tensor, readout = attribution.tensor, attribution.readout
    facts = {
        "Model": f"<code>{escape(attribution.model)}</code>",
        "Capacities": f"<code>{escape(tensor)}</code> {escape(TENSORS.get(tensor, ''))}",
        "Read-out": f"<code>{escape(readout)}</code> {escape(READOUTS.get(readout, ''))}",
    } | _counted(attribution)
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return (
        f'<section class="computed">{_classes(attribution)}'
        f"<h2>How it was computed</h2><dl>{listed}</dl>"
        f'<p class="note">{escape(note(attribution))}</p></section>'
    )


def _counted(attribution: AttributionData) -> dict[str, str]:
    special = int(attribution.special.sum())
    if attribution.segments is not None:
        return {"Tokens": f"{merged(attribution)}; {special} special ones alone"}
    if attribution.grid is None:
        return {"Tokens": f"{len(attribution)}, of them {special} special"}
    rows, columns = attribution.grid
    names = ", ".join(attribution.tokens[i] for i in attribution.special.nonzero()[0])
    beside = f"; beside them {escape(names)}" if special else ""
    return {
        "Image": f"<bdi>{escape(named(attribution))}</bdi>",
        "Patches": f"{rows} rows of {columns}{beside}",
    }


def _classes(attribution: AttributionData) -> str:
    """The probabilities of what there was to choose from; nothing where there was no choice."""
    if len(attribution.labels) == 1:
        return ""
    probabilities = [float(p) for p in attribution.probabilities]
    order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
    shown = order[:CLASSES_IN_SIGHT]
    if attribution.target not in shown:
        shown.append(attribution.target)
    rows = "".join(_class(attribution, i, probabilities[i]) for i in shown)
    hidden = len(order) - len(shown)
    more = f'<p class="quiet">and {hidden} less probable</p>' if hidden else ""
    return f'<h2>{choices(attribution).capitalize()}</h2><ul class="classes">{rows}</ul>{more}'


def _class(attribution: AttributionData, index: int, probability: float) -> str:
    explained = index == attribution.target
    remark = " <small>explained</small>" if explained else ""
    remark = " <small>contrasted</small>" if index == attribution.against else remark
    style = f"--w:{100 * probability:.1f}%"
    return (
        f'<li class="{"target" if explained else "other"}"><span class="name">'
        f"<bdi>{escape(as_name(attribution.labels[index]))}</bdi>{remark}</span>"
        f'<span class="gauge" aria-hidden="true"><i style="{style}"></i></span>'
        f"<span>{percent(probability)}</span></li>"
    )


def _certificate(attribution: AttributionData) -> str:
    entries = "".join(
        f"<div><dt>{escape(d.name)}</dt><dd>{escape(d.value)}</dd>"
        f'<dd class="meaning">{escape(d.meaning)}</dd></div>'
        for d in diagnostics(attribution)
    )
    return (
        '<section class="certificate"><h2>Why the numbers can be believed</h2>'
        f"<dl>{entries}</dl></section>"
    )
