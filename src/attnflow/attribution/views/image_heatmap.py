"""An image's part of page and notebook: its patches, as warm as their scores, over it as SVG.

The picture itself is grey, so that the one hue of the page carries the scores; the page can show it
in its colours, or the scores alone. The SVG has the image's own pixels as its units: patches lie
where they are, whatever the size, also on an image of which the model read a part.
"""

import base64

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.captions import named
from attnflow.attribution.views.flow_links import passing
from attnflow.attribution.views.image_overlay import STRONGEST, TINT, png, resized, shown, softened
from attnflow.attribution.views.layout import Piece, intensities, pieces, rank
from attnflow.attribution.views.text_heatmap import about, escape, notebook_box
from attnflow.attribution.views.wording import percent

LONGEST = 1024  # pixels of the longer side of what a page holds; larger images are made smaller
LONGEST_IN_NOTEBOOK = 512
COARSE = 200  # images up to this are shown with their pixels as they are
FINE = 32  # rows or columns of patches from which no lines are drawn between them


def picture(attribution: AttributionData) -> str:
    """The page's picture of an image: the patches, and beside it the tokens that are none."""
    found = pieces(attribution, "token")
    ranked = rank(found)
    places = {r.piece.tokens: r.rank for r in ranked}
    heat = intensities(found)
    titles = [escape(about(piece, places.get(piece.tokens), len(ranked))) for piece in found]
    first = int(attribution.special.sum())
    cells = "".join(
        f'<rect class="t" data-t="{i}" style="--h:{heat[i]:.2f}" {place}><title>{titles[i]}</title>'
        "</rect>"
        for i, place in enumerate(_cells(attribution), start=first)
    )
    chips = "".join(
        f'<bdi class="t special" data-t="{i}" title="{titles[i]}">{escape(found[i].name)}</bdi>'
        for i in range(first)
    )
    image, _ = shown(attribution)
    rows, columns = _grid(attribution)
    fine = " fine" * (max(rows, columns) >= FINE)
    beside = f'<p class="before"><span class="quiet">Beside the patches</span>{chips}</p>'
    return (
        f'<div class="heat image{fine}" data-columns="{columns}"><svg '
        f'viewBox="{_view(attribution)}" role="img" aria-label="{escape(_spoken(attribution))}">'
        f"{_photo(resized_to(image, LONGEST), image)}<g>{cells}</g></svg>"
        f"{beside * bool(chips)}</div>"
    )


def strip(attribution: AttributionData) -> str:
    """What passes the patches below and above every layer, a small picture each.

    The tint is a patch's part of the flow over the largest part of any; empty without edges.
    """
    if attribution.edges is None:
        return ""
    through = passing(attribution.edges)
    through = through / max(float(through[0].sum()), 1e-300)
    patches = ~attribution.special
    highest = max(float(through[:, patches].max()), 1e-300)
    layers = len(through) - 1
    figures = []
    for row in reversed(range(layers + 1)):
        parts = through[row][patches].reshape(_grid(attribution))
        where = "at the patches" if row == 0 else f"above layer {row}"
        words = f"{where}: {percent(float(parts.sum()))} of the flow is in patches"
        figures.append(
            f'<figure><img src="{_uri(_tinted(parts / highest))}" alt="{escape(words)}" '
            f'title="{escape(words)}"><figcaption>{where}<br>{percent(float(parts.sum()))}'
            "</figcaption></figure>"
        )
    return f'<div class="strip">{"".join(figures)}</div>'


def fragment(attribution: AttributionData) -> str:
    """A small static picture for notebooks: no script, no class, nothing fetched."""
    found = pieces(attribution, "token")
    heat = intensities(found)
    image, _ = shown(attribution)
    small = resized_to(image, LONGEST_IN_NOTEBOOK)
    grey = np.repeat(np.rint(softened(small))[:, :, None], 3, axis=2).astype(np.uint8)
    color = f"rgb{TINT}"
    cells = "".join(
        f'<rect {place} fill="{color}" fill-opacity="{STRONGEST * heat[i]:.2f}"><title>'
        f"{escape(_short(found[i]))}</title></rect>"
        for i, place in enumerate(_cells(attribution), start=int(attribution.special.sum()))
    )
    style = "display:block;width:100%;max-width:22em;height:auto;max-height:26em;margin:.5em 0"
    return notebook_box(
        attribution,
        f'<svg viewBox="{_view(attribution)}" style="{style}" role="img" '
        f'aria-label="{escape(_spoken(attribution))}">{_photo(grey, image)}{cells}</svg>',
    )


def _short(piece: Piece) -> str:
    return f"{piece.name}: {percent(piece.share)}"


def resized_to(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """The image with a longer side of `longest` pixels at most."""
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    return resized(image, max(1, round(height * scale)), max(1, round(width * scale)))


def _cells(attribution: AttributionData) -> list[str]:
    """Place of each patch as attributes of SVG, in pixels of the image."""
    _, (left, top, right, bottom) = shown(attribution)
    rows, columns = _grid(attribution)
    width, height = (right - left) / columns, (bottom - top) / rows
    return [
        f'x="{left + column * width:.6g}" y="{top + row * height:.6g}" width="{width:.6g}" '
        f'height="{height:.6g}"'
        for row in range(rows)
        for column in range(columns)
    ]


def _grid(attribution: AttributionData) -> tuple[int, int]:
    rows, columns = attribution.heatmap().shape
    return rows, columns


def _view(attribution: AttributionData) -> str:
    """Image and grid, which may go beyond it where the image was padded."""
    image, (left, top, right, bottom) = shown(attribution)
    height, width = image.shape[:2]
    x, y = min(left, 0), min(top, 0)
    return f"{x:.6g} {y:.6g} {max(right, width) - x:.6g} {max(bottom, height) - y:.6g}"


def _photo(pixels: NDArray[np.uint8], image: NDArray[np.uint8]) -> str:
    height, width = image.shape[:2]
    rendering = ";image-rendering:pixelated" * (max(height, width) <= COARSE)
    return (
        f'<image href="{_uri(pixels)}" width="{width}" height="{height}" '
        f'preserveAspectRatio="none" style="pointer-events:none{rendering}"/>'
    )


def _spoken(attribution: AttributionData) -> str:
    """The picture in words."""
    rows, columns = _grid(attribution)
    best = rank(pieces(attribution, "token"))[:3]
    strongest = ", ".join(_short(entry.piece) for entry in best)
    return (
        f"{named(attribution)} in {rows} x {columns} patches, rows from the top and columns from "
        f"the left, counted from 0. Strongest: {strongest}."
    )


def _tinted(heat: NDArray[np.float64]) -> NDArray[np.uint8]:
    """`(rows, columns, 4)`, the tint with an opacity for each cell."""
    pixels = np.empty((*heat.shape, 4), np.uint8)
    pixels[:, :, :3] = TINT
    pixels[:, :, 3] = np.rint(255 * heat)
    return pixels


def _uri(pixels: NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode('ascii')}"
