"""An image's patches in a terminal: a block for each, in the colour of its score.

A block is two columns wide, so that it is about square, or one where two do not fit. Grids that are
wider than the terminal have neighbouring patches summed to one block, and say so. Without colour
the shade of the block is its heat.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.ansi import FAINT, FAINTEST, Style
from attnflow.attribution.views.sanitize import for_terminal

_SHADES = "·░▒▓█"


def blocks(attribution: AttributionData, style: Style, width: int) -> Iterator[str]:
    """Yield lines of at most `width` columns, one for each row of blocks, and their caption."""
    scores = attribution.heatmap()
    size = -(-scores.shape[1] // width)
    cells = _summed(scores, size)
    yield from _lines(cells, float(cells.max()), style, width)
    others = [attribution.tokens[i] for i in attribution.special.nonzero()[0]]
    rows, columns = scores.shape
    words = f"{rows} x {columns} patches, rows from the top (r0) and columns from the left (c0)"
    words += f"; a block sums {size} x {size} of them" if size > 1 else ""
    words += f"; not shown: {', '.join(others)}" if others else ""
    yield style.mark(words, FAINT)


def picture_blocks(
    attribution: AttributionData, best: float, style: Style, width: int
) -> Iterator[str]:
    """Yield blocks of the regions of each picture of a text's images, with its name.

    Args:
        attribution: A text with images.
        best: The score whose heat is 1, in text and images.
        style: The style of the terminal.
        width: Columns to use.
    """
    for name, scores in attribution.heatmaps().items():
        rows, columns = scores.shape
        size = -(-columns // width)
        cells = _summed(scores, size)
        # Sums of neighbours may be above the best token.
        yield from _lines(cells, max(best, float(cells.max()) if size > 1 else 0.0), style, width)
        words = f"{for_terminal(name)}: {rows} x {columns} regions"
        words += f"; a block sums {size} x {size} of them" if size > 1 else ""
        yield style.mark(words, FAINT)


def _lines(cells: NDArray[np.float64], best: float, style: Style, width: int) -> Iterator[str]:
    # 1e-300 keeps the division by an empty flow defined.
    heat = cells / max(best, 1e-300)
    wide = 2 if 2 * cells.shape[1] <= width else 1
    for row in heat:
        yield "".join(_block(float(value), wide, style) for value in row)


def _block(heat: float, wide: int, style: Style) -> str:
    if heat < FAINTEST:
        # A dot, not a blank, so that the edges of the grid show.
        return style.mark(_SHADES[0].ljust(wide), FAINT)
    if style.depth == "none":
        return _SHADES[1 + min(int(heat * 4), 3)] * wide
    return style.heat(" " * wide, heat)


def _summed(scores: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return sums of `size` by `size` neighbours, of fewer at the right and lower edge."""
    # Not a reshape: the blocks at the edge may be smaller.
    rows = np.add.reduceat(scores, np.arange(0, scores.shape[0], size), axis=0)
    return np.add.reduceat(rows, np.arange(0, scores.shape[1], size), axis=1)
