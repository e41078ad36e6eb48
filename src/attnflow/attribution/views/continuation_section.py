"""A continuation as a whole: the text whose written tokens can be chosen, the matrix, a fragment.

Every token's own article stands below on the page (article.py). Without scripts the text is plain,
and the matrix and the articles say everything.
"""

from collections.abc import Mapping

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views.captions import beginning, certainty
from attnflow.attribution.views.continuation_matrix import matrix
from attnflow.attribution.views.decision_section import size_of
from attnflow.attribution.views.layout import (
    VISIBLE,
    Ranked,
    Segment,
    gathered,
    lay_out,
    pieces,
    rank,
    role_starts,
)
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.text_heatmap import BOX, escape, leaders, role_label
from attnflow.attribution.views.wording import NOTE, bound


def section(found: ContinuationData, group: int, first: int) -> str:
    """What stands above a continuation's articles.

    Args:
        found: The continuation.
        group: Its number among all that the page explains.
        first: Number of its first token's article.
    """
    articles = {token: first + row for row, token in enumerate(found.explained)}
    return (
        f'<section class="written" data-group="{group}" aria-labelledby="written-{group}">'
        '<header><p class="eyebrow">What each token of the continuation rests on</p>'
        f'<h1 id="written-{group}"><bdi>{escape(beginning(as_name(found.written), 120))}</bdi></h1>'
        f'</header><p class="heat {size_of(found[0])}" dir="auto">{_text(found, articles)}</p>'
        '<div class="bar"><p class="quiet script">Choose an underlined token to see what it rests '
        'on.</p><p class="about script" data-about></p></div>'
        f"{matrix(found, first)}</section>"
    )


def _text(found: ContinuationData, articles: Mapping[int, int]) -> str:
    attribution = found[0]
    labels = role_starts(attribution)

    def span(segment: Segment) -> str:
        piece = segment.piece
        if piece is None:
            return escape(segment.text)
        token = piece.tokens[0]
        classes = "t" + " special" * piece.special + " detached" * segment.detached
        article = ""
        if token in articles:
            classes, article = f"{classes} explained", f' data-article="{articles[token]}"'
        shown = as_name(segment.text) if segment.detached else segment.text
        element = "bdi" if piece.special or segment.detached else "span"
        tokens = " ".join(map(str, piece.tokens))
        return role_label(labels.get(token)) + (
            f'<{element} class="{classes}" data-t="{tokens}"{article} style="--h:0" '
            f'title="{escape(as_name(piece.name))}">{escape(shown)}</{element}>'
        )

    found_pieces = gathered(attribution, pieces(attribution, "token"))
    return "".join(map(span, lay_out(attribution.text, found_pieces)))


def fragment(found: ContinuationData) -> str:
    """A small static table for notebooks: each token, and the first few that it rests on."""
    rows = "".join(
        f'<tr><td style="{_CELL}"><b><bdi>{escape(as_name(a.label))}</bdi></b></td>'
        f'<td style="{_CELL};text-align:right">{certainty(a)}</td>'
        f'<td style="{_CELL}">{leaders(_sources(a))}</td></tr>'
        for a in found
    )
    worst = max(a.certificate.gap for a in found)
    return (
        f'<div style="{BOX}"><div><b><bdi>{escape(beginning(found.written, 120))}</bdi></b> '
        f"<small>{escape(found[0].model)}, {escape(found[0].tensor)} flow</small></div>"
        f'<table style="border-collapse:collapse;margin:.5em 0">{rows}</table>'
        f"<small>{len(found)} flows, each at most {bound(worst)} below the maximum. "
        f"{escape(NOTE)}</small></div>"
    )


def _sources(attribution: AttributionData) -> list[Ranked]:
    ranked = rank(pieces(attribution, "token"))
    return [entry for entry in ranked[:5] if entry.piece.share >= VISIBLE]


_CELL = "text-align:left;padding:.15em 1.2em .15em 0;white-space:normal"
