"""Names in figures of matplotlib, safe and without warnings whatever they hold.

Nothing between two $ is mathematics, and nothing reaches TeX, which can read files, even where a
user has turned `text.usetex` on. A character that the user's font lacks is taken from another font
of the machine, or shown as □: matplotlib would warn about it at every drawing.
"""

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

from attnflow.attribution.views.captions import beginning
from attnflow.attribution.views.sanitize import as_name, for_terminal

MISSING = "□"


def safe(text: str, most: int) -> tuple[str, dict[str, Any]]:
    """Return a text to draw, on one line, and the properties of matplotlib's `Text` for it.

    Args:
        text: Any text.
        most: Characters at most.
    """
    texts, properties = safe_names([text], most)
    return texts[0], properties


def safe_names(names: Iterable[str], most: int) -> tuple[list[str], dict[str, Any]]:
    """Return names to draw, each on one line, and the properties that serve all of them."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont

    lines = [for_terminal(beginning(as_name(name), most)) for name in names]
    covered = _characters(findfont(FontProperties()))
    families: dict[str, None] = {}
    replaced: dict[int, str] = {}
    for character in sorted(set("".join(lines))):
        if ord(character) in covered:
            continue
        family = _family_with(ord(character))
        if family is not None:
            families[family] = None
        else:
            # Joiners and variants of signs have no shape of their own.
            is_mark = unicodedata.category(character) in ("Mn", "Me", "Cf")
            replaced[ord(character)] = "" if is_mark else MISSING
    properties: dict[str, Any] = {"parse_math": False, "usetex": False}
    if families:
        properties["fontfamily"] = [*rcParams["font.family"], *families]
    return [line.translate(replaced) for line in lines], properties


@cache
def _family_with(code: int) -> str | None:
    """Return a family of the machine's fonts whose upright face has a character, by name first."""
    from matplotlib.font_manager import fontManager

    upright = [
        font
        for font in fontManager.ttflist
        # "Last Resort" has a picture of a script in place of each of its characters.
        if font.style == "normal" and font.weight == 400 and not font.name.startswith("Last Resort")
    ]
    for font in sorted(upright, key=lambda each: each.name):
        if code in _characters(font.fname):
            return font.name
    return None


@cache
def _characters(file: str) -> frozenset[int]:
    """Return the codes of the characters that a font has."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):  # a font that was removed, or is damaged
        return frozenset()
