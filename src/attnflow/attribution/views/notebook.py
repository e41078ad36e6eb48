"""Static forms for notebooks: no script, no class, nothing fetched.

They work on light and dark grounds alike, because they inherit the notebook's own colour of text
and lay a translucent tint under it.
"""

from dataclasses import dataclass

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views.captions import beginning, certainty, contrast
from attnflow.attribution.views.image_heatmap import notebook_image_map
from attnflow.attribution.views.image_overlay import TINT as TINT_OF_IMAGES
from attnflow.attribution.views.layout import (
    VISIBLE,
    Ranked,
    join_template_tokens,
    pieces_of,
    rank,
)
from attnflow.attribution.views.templates import render as render_template
from attnflow.attribution.views.text_heatmap import TINT, TINT_AGAINST, tinted_stretches
from attnflow.attribution.views.verdict import sentence
from attnflow.attribution.views.wording import format_bound, note, summary

GREY = (128, 128, 128)  # the tint of a faint flow
LEADERS = 5  # pieces that are named under the picture


@dataclass(frozen=True)
class _Row:
    """A token of a continuation, its probability, and the first few tokens that it rests on."""

    label: str
    certainty: str
    sources: list[Ranked]


def render(attribution: AttributionData) -> str:
    """Return the heat map of a text or image, its leaders and its certificate as HTML."""
    is_text = attribution.grid is None
    ranked = rank(join_template_tokens(attribution, pieces_of(attribution, "token")))
    html = render_template(
        "notebook.html",
        label=attribution.label,
        certainty=certainty(attribution),
        contrast=contrast(attribution),
        model=attribution.model_and_precision,
        tensor=attribution.tensor,
        stretches=tinted_stretches(attribution) if is_text else None,
        image=None if attribution.image is None else notebook_image_map(attribution),
        tint=GREY if attribution.is_faint else TINT if is_text else TINT_OF_IMAGES,
        tint_against=TINT_AGAINST,
        sentence=sentence(attribution),
        ranked=ranked[:LEADERS],
        lines=[*summary(attribution), note(attribution)],
    )
    return str(html)


def render_continuation(continuation: ContinuationData) -> str:
    """Return a table as HTML: each token of a continuation, and the first few it rests on."""
    first = continuation[0]
    html = render_template(
        "notebook_continuation.html",
        title=beginning(continuation.written, 120),
        model=first.model_and_precision,
        tensor=first.tensor,
        rows=[_Row(a.label, certainty(a), _sources(a)) for a in continuation],
        # One bound for the whole table: the worst one holds for every row.
        worst_gap=format_bound(max(a.certificate.gap for a in continuation)),
        note=note(first),
    )
    return str(html)


def _sources(attribution: AttributionData) -> list[Ranked]:
    ranked = rank(pieces_of(attribution, "token"))
    return [entry for entry in ranked[:LEADERS] if entry.piece.share >= VISIBLE]
