"""Static forms for notebooks: no script, no class, nothing fetched.

They work on light and dark grounds alike, because they inherit the notebook's own colour of text
and lay a translucent tint under it. What is folded away is opened by the browser itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views.alternatives import likeliest
from attnflow.attribution.views.captions import (
    beginning,
    certainty,
    contrast,
    granularity_of,
    input_name,
)
from attnflow.attribution.views.continuation_matrix import matrix_of, sources
from attnflow.attribution.views.flow_links import has_flow
from attnflow.attribution.views.image_heatmap import ImageMap, notebook_image_map
from attnflow.attribution.views.image_overlay import TINT as TINT_OF_IMAGES
from attnflow.attribution.views.layout import (
    VISIBLE,
    Ranked,
    join_template_tokens,
    pieces_of,
    rank,
)
from attnflow.attribution.views.notebook_flow import flow_svg
from attnflow.attribution.views.templates import render as render_template
from attnflow.attribution.views.text_heatmap import (
    STRONGEST_TINT,
    TINT,
    TINT_AGAINST,
    Stretch,
    tinted_stretches,
    token_list,
)
from attnflow.attribution.views.verdict import sentence
from attnflow.attribution.views.wording import format_bound, note, summary

if TYPE_CHECKING:
    from markupsafe import Markup

GREY = (128, 128, 128)  # the tint of a faint flow
LEADERS = 5  # pieces that are named under the picture
CLASSES = 5  # alternatives that are listed
LONGEST_FLOW = 600  # tokens; the picture of a longer text would take seconds
MOST_SOURCES, MOST_EXPLAINED = 40, 60  # columns and rows of the matrix of a continuation
MOST_LISTED, MOST_CARDS = 200, 25  # rows of a list, and those with all about them
SHORT = 240  # characters of a text that a list shows whole, with its heat
THUMBNAIL = 160  # pixels of the longer side


@dataclass(frozen=True)
class _Heading:
    """The title of a card."""

    label: str
    certainty: str
    contrast: str
    model: str
    tensor: str
    sentence: str


@dataclass(frozen=True)
class _Row:
    """A token of a continuation, its probability, and the first few tokens that it rests on."""

    label: str
    certainty: str
    sources: list[Ranked]


@dataclass(frozen=True)
class _Entry:
    """A row of a list: a short text with its heat, or the beginning of a long one."""

    number: str
    label: str
    certainty: str
    text: str
    words: list[Stretch] | None
    image: ImageMap | None
    tint: tuple[int, int, int]
    sentence: str
    card: "Markup | None"


def render(attribution: AttributionData) -> str:
    """Return the heat map of a text or image, its classes, flow and certificate as HTML."""
    return str(_card(attribution, with_flow=True))


def _card(attribution: AttributionData, *, with_flow: bool) -> "Markup":
    is_text = attribution.grid is None
    granularity = granularity_of(attribution, None)
    ranked = rank(join_template_tokens(attribution, pieces_of(attribution, granularity)))
    words = list(tinted_stretches(attribution, "word")) if is_text else None
    return render_template(
        "notebook.html",
        card=_Heading(
            attribution.label,
            certainty(attribution),
            contrast(attribution),
            attribution.model_and_precision,
            attribution.tensor,
            sentence(attribution),
        ),
        words=words,
        tokens=tinted_stretches(attribution, "token") if _has_pieces(attribution) else None,
        opposing=any(stretch.against for stretch in words or ()),
        image=None if attribution.image is None else notebook_image_map(attribution),
        tint=_tint(attribution),
        tint_against=TINT_AGAINST,
        ranked=ranked[:LEADERS],
        classes=likeliest(attribution, CLASSES),
        flow=flow_svg(attribution) if with_flow and _can_draw(attribution) else None,
        lines=[*summary(attribution), note(attribution), *_about_flow(attribution)],
    )


def _tint(attribution: AttributionData) -> tuple[int, int, int]:
    if attribution.is_faint:
        return GREY
    return TINT if attribution.grid is None else TINT_OF_IMAGES


def _has_pieces(attribution: AttributionData) -> bool:
    """Return whether tokens are other than words."""
    if attribution.grid is not None:
        return False
    return any(len(word.tokens) > 1 for word in attribution.words())


def _can_draw(attribution: AttributionData) -> bool:
    return has_flow(attribution) and len(attribution) <= LONGEST_FLOW


def _about_flow(attribution: AttributionData) -> Iterator[str]:
    """Yield how to see the flow where it is not drawn."""
    if attribution.edges is None:
        yield "explain with edges=True for the picture of the flow"
    elif len(attribution) > LONGEST_FLOW:
        yield "the flow of so long a text is drawn by plot_flow() and on the page of to_html(file)"


def render_continuation(continuation: ContinuationData) -> str:
    """Return a continuation as HTML: its text with what all of it rests on, and the matrix."""
    return str(_continuation_card(continuation))


def _continuation_card(continuation: ContinuationData) -> "Markup":
    first = continuation[0]
    whole = _together(continuation)
    explained = set(continuation.explained)
    # The strongest, in the order of the text.
    columns, mass = sources(continuation), continuation.matrix.max(axis=0)
    kept = sorted(sorted(columns, key=lambda i: -mass[i])[:MOST_SOURCES])
    rows = range(min(len(continuation), MOST_EXPLAINED))
    about = sentence(whole)
    return render_template(
        "notebook_continuation.html",
        title=beginning(continuation.written, 120),
        model=first.model_and_precision,
        tensor=first.tensor,
        sentence=f"All of it together: {about[0].lower()}{about[1:]}" if about else "",
        whole=tinted_stretches(whole, "word"),
        written={
            token_list(piece) for piece in pieces_of(first, "word") if explained & set(piece.tokens)
        },
        tint=TINT,
        strongest=STRONGEST_TINT,
        matrix=matrix_of(continuation, kept, rows),
        left_out=_left_out(len(columns) - len(kept), len(continuation) - len(rows)),
        rows=[_Row(a.label, certainty(a), _sources(a)) for a in continuation],
        # One bound for the whole table: the worst one holds for every row.
        worst_gap=format_bound(max(a.certificate.gap for a in continuation)),
        note=note(first),
    )


def _together(continuation: ContinuationData) -> AttributionData:
    """Return an attribution whose scores are the mean shares of all explained tokens."""
    scores = continuation.matrix.mean(axis=0)
    return replace(
        continuation[0],
        scores=scores,
        raw_scores=None,
        contributions=None,
        signed_scores=None,
        edges=None,
    )


def _left_out(columns: int, rows: int) -> str:
    """Return a sentence about what the matrix has no space for; "" where it has all."""
    parts = [f"{columns} weaker columns"] if columns else []
    parts += [f"the last {rows} rows"] if rows else []
    if not parts:
        return ""
    return f" {' and '.join(parts).capitalize()} are on the page of to_html(file)."


def _sources(attribution: AttributionData) -> list[Ranked]:
    ranked = rank(pieces_of(attribution, "token"))
    return [entry for entry in ranked[:LEADERS] if entry.piece.share >= VISIBLE]


def render_list(results: Sequence[Any]) -> str:
    """Return a list of results as HTML, a row for each, with all about the first ones on demand.

    Args:
        results: What a call returned for several examples: attributions, continuations, or a list
            of attributions in the place of each.
    """
    numbered = list(_numbered(results))
    entries = [
        _entry(number, item, with_card=i < MOST_CARDS)
        for i, (number, item) in enumerate(numbered[:MOST_LISTED])
    ]
    left_out = len(numbered) - len(entries)
    html = render_template(
        "notebook_list.html",
        entries=entries,
        tint_against=TINT_AGAINST,
        left_out=f"and {left_out} more: a slice of the list shows them" if left_out else "",
    )
    return str(html)


def _numbered(results: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield each result with its number; those of one example share it."""
    for number, item in enumerate(results):
        if isinstance(item, AttributionData | ContinuationData):
            yield str(number), item
        else:
            yield from ((f"{number}.{part}", each) for part, each in enumerate(item))


def _entry(number: str, item: AttributionData | ContinuationData, *, with_card: bool) -> _Entry:
    if isinstance(item, ContinuationData):
        whole, label, chance = _together(item), beginning(item.written, 60), ""
        card = _continuation_card(item) if with_card else None
    else:
        whole, label, chance = item, item.label, certainty(item)
        card = _card(item, with_flow=False) if with_card else None
    text = input_name(whole)
    is_short = whole.grid is None and len(text) <= SHORT
    return _Entry(
        number=number,
        label=label,
        certainty=chance,
        text=beginning(text, SHORT),
        words=list(tinted_stretches(whole, "word")) if is_short else None,
        image=None
        if whole.image is None or not with_card
        else notebook_image_map(whole, THUMBNAIL),
        tint=_tint(whole),
        sentence=sentence(whole),
        card=card,
    )
