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

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views import templates
from attnflow.attribution.views.captions import beginning, certainty, input_name
from attnflow.attribution.views.continuation_section import section
from attnflow.attribution.views.decision_section import article
from attnflow.attribution.views.flow_links import BUDGET, has_flow, links
from attnflow.attribution.views.layout import pieces_of
from attnflow.attribution.views.sanitize import as_name, for_page
from attnflow.errors import InputError
from attnflow.files import check_writable, write_whole

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["render", "write"]

# In this order: each script uses names of those before it.
SCRIPTS = ("flow.js", "picture.js", "continuation.js", "page.js")

Explained = AttributionData | ContinuationData


@dataclass(frozen=True)
class _Group:
    """A text, image or continuation, its number, and that of its first article."""

    content: Explained
    number: int
    first: int


@dataclass(frozen=True)
class _Entry:
    """A line of the list of texts: a link to an article, with the decision and the text."""

    article: int
    name: str
    certainty: str | None
    text: str


def render(attributions: Sequence[Explained]) -> str:
    """Return the whole page; several texts, or continuations, get a list to choose from.

    Raises:
        InputError: `attributions` is empty.
    """
    if not attributions:
        raise InputError("A page needs at least one attribution, got none.")
    scripts = [templates.asset(name) for name in SCRIPTS]
    groups = _groups(attributions)
    page = templates.render(
        "page.html",
        title=_title(groups),
        hashes=" ".join(map(_hash, scripts)),
        style=templates.verbatim("page.css"),
        kinds=_kinds(groups),
        entries=list(map(_entry, groups)),
        sections=[part for group in groups for part in _sections(group)],
        data=[data for group in groups for data in _script_data(group)],
        scripts=list(map(templates.verbatim, SCRIPTS)),
    )
    return str(page)


def write(attributions: Sequence[Explained], path: Path, *, overwrite: bool = False) -> Path:
    """Write the page to `path` and return it; a reader never sees half a file.

    Raises:
        InputError: `attributions` is empty.
        StorageError: The file exists and `overwrite` is false, or the folder cannot be written.
    """
    # Before rendering, which takes seconds for a long text.
    check_writable(path, overwrite=overwrite)
    return write_whole(path, render(attributions), overwrite=overwrite)


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _groups(attributions: Sequence[Explained]) -> list[_Group]:
    groups, first = [], 0
    for number, content in enumerate(attributions):
        groups.append(_Group(content, number, first))
        first += len(content) if isinstance(content, ContinuationData) else 1
    return groups


def _sections(group: _Group) -> "list[Markup]":
    """Return the article of a text; of a continuation its section and an article each."""
    content = group.content
    if not isinstance(content, ContinuationData):
        return [article(content, group.first, group=group.number)]
    articles = [
        article(attribution, group.first + i, group=group.number, part=True)
        for i, attribution in enumerate(content)
    ]
    return [section(content, group.number, group.first), *articles]


def _script_data(group: _Group) -> list[dict[str, Any]]:
    """Return the data that the scripts need, for each article of a group."""
    content = group.content
    if not isinstance(content, ContinuationData):
        return [_decision_data(content, BUDGET) | {"group": group.number}]
    # A page of sixty decisions may be no larger than one of a single one.
    budget = BUDGET // len(content)
    return [
        _decision_data(a, budget)
        # Hundredths of a percent: the page shows tenths.
        | {"group": group.number, "shares": np.rint(1e4 * a.shares).tolist()}
        for a in content
    ]


def _decision_data(attribution: AttributionData, budget: int) -> dict[str, Any]:
    """Return names, special tokens and the links of the flow of one decision."""
    edges = attribution.edges if has_flow(attribution) else None
    return {
        "names": [for_page(as_name(piece.name)) for piece in pieces_of(attribution, "token")],
        "special": attribution.special.astype(int).tolist(),
        "flow": None if edges is None else links(edges, budget),
    }


def _title(groups: Sequence[_Group]) -> str:
    if len(groups) > 1:
        return f"{len(groups)} {_kinds(groups)} explained"
    content = groups[0].content
    if isinstance(content, ContinuationData):
        return f"{beginning(content.written, 30)}: {beginning(content[0].text, 60)}"
    return f"{as_name(content.label)}: {beginning(input_name(content), 60)}"


def _kinds(groups: Sequence[_Group]) -> str:
    """Return the plural noun for what the page explains."""
    images = [isinstance(g.content, AttributionData) and g.content.grid is not None for g in groups]
    return "images" if all(images) else "examples" if any(images) else "texts"


def _entry(group: _Group) -> _Entry:
    content = group.content
    if isinstance(content, ContinuationData):
        written, text = beginning(content.written, 30), beginning(content[0].text, 90)
        return _Entry(group.first, written, None, text)
    text = beginning(input_name(content), 90)
    return _Entry(group.first, as_name(content.label), certainty(content), text)
