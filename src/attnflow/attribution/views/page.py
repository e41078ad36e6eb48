"""The page: one HTML file that shows attributions in any browser and fetches nothing.

Templates write all the words and numbers (`decision_section`, `continuation_section`). The scripts
in `page_assets` add the switches, and draw the flow from a block of JSON. A content security policy
allows exactly these scripts and forbids loading anything, so that even markup that slipped through
the escaping could neither run nor fetch.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views import templates
from attnflow.attribution.views.captions import beginning, certainty, input_name
from attnflow.attribution.views.comparison_section import comparison
from attnflow.attribution.views.continuation_section import section
from attnflow.attribution.views.decision_section import article
from attnflow.attribution.views.flow_links import BUDGET, has_flow, links
from attnflow.attribution.views.image_heatmap import Photo, thumbnail
from attnflow.attribution.views.layout import pieces_of
from attnflow.attribution.views.page_groups import Explained, Group, grouped
from attnflow.attribution.views.sanitize import as_name, for_page
from attnflow.files import check_writable, write_whole

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["render", "write"]

# In this order: each script uses names of those before it.
SCRIPTS = (
    "flow.js",
    "picture.js",
    "paths.js",
    "tooltip.js",
    "heat.js",
    "continuation.js",
    "export.js",
    "page.js",
)


@dataclass(frozen=True)
class _Entry:
    """A line of the list of texts: a link to an article, with the decision, and text or image."""

    article: int
    name: str
    certainty: str | None
    text: str
    thumbnail: Photo | None


def render(
    attributions: Sequence[Explained], *, compare: bool = False, framed: bool = False
) -> str:
    """Return the whole page; several texts, or continuations, get a list to choose from.

    Attributions of one text one after the other, which differ in their targets alone, are one entry
    of the list, whose classes switch between them.

    Args:
        attributions: What the page shows.
        compare: Show 2 to 4 attributions side by side instead.
        framed: Leave out name and colours: the page in whose frame it stands has its own.

    Raises:
        InputError: `attributions` is empty, or cannot be compared.
    """
    groups = grouped(attributions, compare=compare)
    scripts = [templates.asset(name) for name in SCRIPTS]
    page = templates.render(
        "page.html",
        title=_title(groups),
        framed=framed,
        hashes=" ".join(map(_hash, scripts)),
        style=templates.verbatim("page.css"),
        kinds=_kinds(groups),
        entries=list(map(_entry, groups)),
        sections=[part for group in groups for part in _sections(group)],
        data=[data for group in groups for data in _script_data(group)],
        scripts=list(map(templates.verbatim, SCRIPTS)),
    )
    return str(page)


def write(
    attributions: Sequence[Explained], path: Path, *, compare: bool = False, overwrite: bool = False
) -> Path:
    """Write the page to `path` and return it; a reader never sees half a file.

    Raises:
        InputError: `attributions` is empty, or cannot be compared.
        StorageError: The file exists and `overwrite` is false, or the folder cannot be written.
    """
    # Before rendering, which takes seconds for a long text.
    check_writable(path, overwrite=overwrite)
    return write_whole(path, render(attributions, compare=compare), overwrite=overwrite)


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _sections(group: Group) -> "list[Markup]":
    """Return the article of each decision, after what stands above all of them."""
    above = []
    if group.continuation is not None:
        above = [section(group.continuation, group.number, group.first)]
    elif group.compared:
        above = [comparison(group.decisions, group.number, group.first)]
    articles = [
        article(
            attribution,
            group.first + i,
            group=group.number,
            part=group.continuation is not None,
            choices=group.choices,
        )
        for i, attribution in enumerate(group.decisions)
    ]
    return [*above, *articles]


def _script_data(group: Group) -> list[dict[str, Any]]:
    """Return the data that the scripts need, for each article of a group."""
    # A page of sixty decisions may be no larger than one of a single one.
    budget = BUDGET // len(group.decisions)
    data = []
    for attribution in group.decisions:
        if group.continuation is None:
            more = {"words": _words(attribution), "record": attribution.to_dict()}
        else:
            # Hundredths of a percent: the page shows tenths.
            more = {"shares": np.rint(1e4 * attribution.shares).tolist()}
        data.append(_decision_data(attribution, budget) | more | {"group": group.number})
    return data


def _words(attribution: AttributionData) -> list[tuple[list[int], str, str]] | None:
    """Return the tokens, name and place of each word; None of an image."""
    if attribution.grid is not None:
        return None
    pieces = pieces_of(attribution, "word")
    return [(list(p.tokens), for_page(as_name(p.name)), p.place) for p in pieces]


def _decision_data(attribution: AttributionData, budget: int) -> dict[str, Any]:
    """Return names, special tokens and the links of the flow of one decision."""
    edges = attribution.edges if has_flow(attribution) else None
    pieces = pieces_of(attribution, "token")
    return {
        "names": [for_page(as_name(piece.name)) for piece in pieces],
        "places": [piece.place for piece in pieces],
        "special": attribution.special.astype(int).tolist(),
        "flow": None if edges is None else links(edges, budget),
    }


def _title(groups: Sequence[Group]) -> str:
    if len(groups) > 1:
        return f"{len(groups)} {_kinds(groups)} explained"
    return groups[0].title


def _kinds(groups: Sequence[Group]) -> str:
    """Return the plural noun for what the page explains."""
    images = [group.decisions[0].grid is not None for group in groups]
    return "images" if all(images) else "examples" if any(images) else "texts"


def _entry(group: Group) -> _Entry:
    first = group.decisions[0]
    text = beginning(input_name(first), 90)
    if group.continuation is not None:
        name = beginning(group.continuation.written, 30)
        return _Entry(group.first, name, None, text, thumbnail(first))
    return _Entry(group.first, as_name(first.label), certainty(first), text, thumbnail(first))
