"""The page: one HTML file that shows attributions in any browser and fetches nothing.

Python writes all the words and numbers (`article`); the scripts in `page_assets` add the switches
and draws the flow from a block of JSON. A content security policy lets exactly this script run and
nothing be loaded, so that even a hole in the escaping would find a closed door.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views import image_heatmap, text_heatmap
from attnflow.attribution.views.captions import beginning, certainty, named
from attnflow.attribution.views.continuation_section import section
from attnflow.attribution.views.decision_section import article
from attnflow.attribution.views.flow_links import BUDGET, has_flow, links
from attnflow.attribution.views.layout import pieces
from attnflow.attribution.views.sanitize import as_name, for_page
from attnflow.attribution.views.text_heatmap import escape
from attnflow.errors import InputError
from attnflow.files import check_writable, write_whole

__all__ = ["fragment", "render", "write"]

_JSON_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(attributions: Sequence[AttributionData | ContinuationData]) -> str:
    """The whole page; several texts, or continuations of texts, get a list to choose from.

    Raises:
        InputError: `attributions` is empty.
    """
    if not attributions:
        raise InputError("A page needs at least one attribution, got none.")
    scripts = [_asset(name) for name in ("flow.js", "picture.js", "written.js", "page.js")]
    groups = _groups(attributions)
    return Template(_asset("page.html")).substitute(
        title=escape(_title(groups)),
        hashes=" ".join(map(_hash, scripts)),
        style=_asset("page.css"),
        chooser=_chooser(groups),
        articles="".join(map(_group, groups)),
        data=_json([data for group in groups for data in _data_of(group)]),
        scripts="".join(f"<script>{script}</script>\n" for script in scripts),
    )


def fragment(attribution: AttributionData) -> str:
    """A small static form for notebooks: no script, no class, nothing fetched."""
    if attribution.grid is None:
        return text_heatmap.fragment(attribution)
    return image_heatmap.fragment(attribution)


def write(
    attributions: Sequence[AttributionData | ContinuationData],
    path: Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the page to `path` and return it; a reader never sees half a file.

    Raises:
        InputError: `attributions` is empty.
        StorageError: the file exists and `overwrite` is False, or the folder cannot be written.
    """
    check_writable(path, overwrite=overwrite)
    return write_whole(path, render(attributions), overwrite=overwrite)


def _asset(name: str) -> str:
    return (files("attnflow.attribution.views") / "page_assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _json(data: Any) -> str:
    """JSON that cannot end the element that it stands in; ASCII, so lone surrogates survive."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_JSON_ESCAPES)


@dataclass(frozen=True)
class _Group:
    """A text or a continuation, its number, and that of its first article."""

    what: AttributionData | ContinuationData
    number: int
    first: int


def _groups(attributions: Sequence[AttributionData | ContinuationData]) -> list[_Group]:
    found, first = [], 0
    for number, what in enumerate(attributions):
        found.append(_Group(what, number, first))
        first += 1 if isinstance(what, AttributionData) else len(what)
    return found


def _group(group: _Group) -> str:
    if isinstance(group.what, AttributionData):
        return article(group.what, group.first, group=group.number)
    articles = "".join(
        article(a, group.first + i, group=group.number, part=True) for i, a in enumerate(group.what)
    )
    return section(group.what, group.number, group.first) + articles


def _data_of(group: _Group) -> list[dict[str, Any]]:
    """What the script needs of each article of a group."""
    if isinstance(group.what, AttributionData):
        return [_data(group.what, BUDGET) | {"group": group.number}]
    each = BUDGET // len(group.what)
    return [
        _data(a, each) | {"group": group.number, "shares": np.rint(1e4 * a.shares).tolist()}
        for a in group.what
    ]


def _data(attribution: AttributionData, budget: int) -> dict[str, Any]:
    """What the script needs of one decision."""
    edges = attribution.edges if has_flow(attribution) else None
    return {
        "names": [for_page(as_name(piece.name)) for piece in pieces(attribution, "token")],
        "special": attribution.special.astype(int).tolist(),
        "flow": None if edges is None else links(edges, budget),
    }


def _title(groups: Sequence[_Group]) -> str:
    if len(groups) > 1:
        return f"{len(groups)} {_kinds(groups)} explained"
    what = groups[0].what
    if isinstance(what, AttributionData):
        return f"{as_name(what.label)}: {beginning(named(what), 60)}"
    return f"{beginning(what.written, 30)}: {beginning(what[0].text, 60)}"


def _chooser(groups: Sequence[_Group]) -> str:
    """A list of the texts or images, each a link to its first article; nothing for a single one."""
    if len(groups) == 1:
        return ""
    entries = "".join(map(_entry, groups))
    kinds = _kinds(groups).capitalize()
    return f'<nav class="chooser" aria-label="{kinds}"><ol>{entries}</ol></nav>'


def _kinds(groups: Sequence[_Group]) -> str:
    """What there are several of."""
    images = [isinstance(g.what, AttributionData) and g.what.grid is not None for g in groups]
    return "images" if all(images) else "examples" if any(images) else "texts"


def _entry(group: _Group) -> str:
    what = group.what
    if isinstance(what, AttributionData):
        name, text = f"<bdi>{escape(as_name(what.label))}</bdi> {certainty(what)}", named(what)
    else:
        name, text = f"<bdi>{escape(beginning(what.written, 30))}</bdi>", what[0].text
    return (
        f'<li><a href="#text-{group.first}"><span class="what">{name}</span> '
        f"<bdi>{escape(beginning(text, 90))}</bdi></a></li>"
    )
