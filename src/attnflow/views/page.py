"""The page: one HTML file that shows attributions in any browser and fetches nothing.

Python writes all the words and numbers (`article`); the script in `assets` adds the switches and
draws the flow from a block of JSON. A content security policy lets exactly this script run and
nothing be loaded, so that even a hole in the escaping would find a closed door.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from attnflow.attribution import Attribution
from attnflow.errors import InputError
from attnflow.files import check_writable, write_whole
from attnflow.views.article import article
from attnflow.views.characters import as_name, for_page
from attnflow.views.heatmap import escape, fragment
from attnflow.views.links import has_flow, links
from attnflow.views.pieces import pieces
from attnflow.views.titles import certainty

__all__ = ["fragment", "render", "write"]

_JSON_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(attributions: Sequence[Attribution]) -> str:
    """The whole page; several texts get a list to choose from.

    Raises:
        InputError: `attributions` is empty.
    """
    if not attributions:
        raise InputError("A page needs at least one attribution, got none.")
    scripts = [_asset(name) for name in ("flow.js", "picture.js", "page.js")]
    return Template(_asset("page.html")).substitute(
        title=escape(_title(attributions)),
        hashes=" ".join(map(_hash, scripts)),
        style=_asset("page.css"),
        chooser=_chooser(attributions),
        articles="".join(article(a, i) for i, a in enumerate(attributions)),
        data=_json([_data(a) for a in attributions]),
        scripts="".join(f"<script>{script}</script>\n" for script in scripts),
    )


def write(attributions: Sequence[Attribution], path: Path, *, overwrite: bool = False) -> Path:
    """Write the page to `path` and return it; a reader never sees half a file.

    Raises:
        InputError: `attributions` is empty.
        StorageError: the file exists and `overwrite` is False, or the folder cannot be written.
    """
    check_writable(path, overwrite=overwrite)
    return write_whole(path, render(attributions), overwrite=overwrite)


def _asset(name: str) -> str:
    return (files("attnflow") / "assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _json(data: Any) -> str:
    """JSON that cannot end the element that it stands in; ASCII, so lone surrogates survive."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_JSON_ESCAPES)


def _data(attribution: Attribution) -> dict[str, Any]:
    """What the script needs of one text."""
    edges = attribution.edges if has_flow(attribution) else None
    return {
        "names": [for_page(as_name(piece.name)) for piece in pieces(attribution, "token")],
        "special": attribution.special.astype(int).tolist(),
        "flow": None if edges is None else links(edges),
    }


def _title(attributions: Sequence[Attribution]) -> str:
    first = f"{as_name(attributions[0].label)}: {_beginning(attributions[0].text, 60)}"
    return first if len(attributions) == 1 else f"{len(attributions)} texts explained"


def _chooser(attributions: Sequence[Attribution]) -> str:
    """A list of the texts, each a link to its article; nothing for a single text."""
    if len(attributions) == 1:
        return ""
    entries = "".join(
        f'<li><a href="#text-{i}"><span class="what"><bdi>{escape(as_name(a.label))}</bdi> '
        f"{certainty(a)}</span> "
        f"<bdi>{escape(_beginning(a.text, 90))}</bdi></a></li>"
        for i, a in enumerate(attributions)
    )
    return f'<nav class="chooser" aria-label="Texts"><ol>{entries}</ol></nav>'


def _beginning(text: str, length: int) -> str:
    flat = " ".join(text[: 4 * length].split())
    return flat if len(flat) <= length else f"{flat[: length - 1].rstrip()}…"
