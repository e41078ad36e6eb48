"""An image's part of page and notebook: its patches over it as SVG, each with its score's heat.

The photo itself is grey, so that the one hue of the page carries the scores; the page can show it
in its colours, or the scores alone. The SVG has the image's own pixels as its units. Patches lie
where they are, whatever the size, also on an image of which the model read a part.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.captions import input_name
from attnflow.attribution.views.flow_links import node_flow
from attnflow.attribution.views.image_overlay import (
    STRONGEST,
    TINT,
    Box,
    image_and_box,
    png,
    resized,
    shown_image,
    softened,
)
from attnflow.attribution.views.layout import Piece, intensities, pieces_of, rank
from attnflow.attribution.views.text_heatmap import describe
from attnflow.attribution.views.wording import format_percent

LONGEST = 1024  # pixels of the longer side of what a page holds; larger images are made smaller
LONGEST_IN_NOTEBOOK = 512
THUMBNAIL = 64
COARSE = 200  # images up to this are shown with their pixels as they are
FINE = 32  # rows or columns of patches from which no lines are drawn between them
_TINY = 1e-300  # keeps the division by an empty flow defined; its parts are 0 all the same


@dataclass(frozen=True)
class Photo:
    """The image as the data of a tag, its size in its own pixels."""

    address: str
    width: int
    height: int
    pixelated: bool


@dataclass(frozen=True)
class Cell:
    """A patch or region: its token, heat and description, and its place and size in pixels."""

    token: int
    heat: str
    title: str
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Chip:
    """A token that is no patch, such as the class token."""

    token: int
    name: str
    title: str


@dataclass(frozen=True)
class ImageMap:
    """An image under its patches, as templates write it.

    Attributes:
        name: Name or size of the image.
        view: The SVG's `viewBox`: image and grid.
        spoken: The picture in words.
        rows: Rows of patches; of a text's images 1.
        columns: Columns of patches; of a text's images the number of regions.
        fine: True where there is no space for lines between patches.
        photo: The image itself.
        cells: A patch each, in rows from the top left; or a region each, in the order of tokens.
        chips: Tokens that are no patches.
        besides: "; besides them [CLS]" where there are such tokens; else "".
    """

    name: str
    view: str
    spoken: str
    rows: int
    columns: int
    fine: bool
    photo: Photo
    cells: list[Cell]
    chips: list[Chip]
    besides: str


@dataclass(frozen=True)
class LayerMap:
    """Flow through the patches below or above one layer: a small image, and its sum, 0 to 1."""

    where: str
    address: str
    share: float


def image_map(attribution: AttributionData) -> ImageMap:
    """Return the page's picture of an image: the patches, and the tokens that are none."""
    pieces = pieces_of(attribution, "token")
    ranked = rank(pieces)
    places = {entry.piece.tokens: entry.rank for entry in ranked}
    heat = [f"{value:.2f}" for value in intensities(attribution, pieces)]
    titles = [describe(piece, places.get(piece.tokens), len(ranked)) for piece in pieces]
    image = shown_image(attribution)
    photo = _photo(resized_to(image, LONGEST), image)
    return _image_map(attribution, pieces, photo, heat, titles)


def notebook_image_map(
    attribution: AttributionData, longest: int = LONGEST_IN_NOTEBOOK
) -> ImageMap:
    """Return the notebook's picture: the image in grey, and the opacity of the tint as heat.

    Args:
        attribution: An image, or a text with images.
        longest: Pixels of the longer side at most.
    """
    pieces = pieces_of(attribution, "token")
    opacity = [f"{STRONGEST * value:.2f}" for value in intensities(attribution, pieces)]
    image = shown_image(attribution)
    small = resized_to(image, longest)
    # Grey in its pixels: a notebook has no switch back to the colours, as the page does.
    grey = np.repeat(np.rint(softened(small))[:, :, None], 3, axis=2).astype(np.uint8)
    titles = [_name_and_share(piece) for piece in pieces]
    return _image_map(attribution, pieces, _photo(grey, image), opacity, titles)


def _image_map(
    attribution: AttributionData,
    pieces: Sequence[Piece],
    photo: Photo,
    heat: Sequence[str],
    titles: Sequence[str],
) -> ImageMap:
    """Put photo and patches together; pieces, heat and titles are those of every token."""
    cells = _patches(attribution) if attribution.grid is not None else _regions(attribution)
    rows, columns = attribution.grid or (1, len(cells))
    # Of an image alone; those of a text stand in the text.
    special = [] if attribution.regions else attribution.special.nonzero()[0].tolist()
    besides = ", ".join(attribution.tokens[i] for i in special)
    return ImageMap(
        name=input_name(attribution),
        view=_view(attribution),
        spoken=_spoken(attribution, pieces),
        rows=rows,
        columns=columns,
        fine=max(rows, columns) >= (FINE if attribution.grid is not None else FINE**2),
        photo=photo,
        cells=[
            Cell(
                token,
                heat[token],
                titles[token],
                *(f"{number:.6g}" for number in (x0, y0, x1 - x0, y1 - y0)),
            )
            for token, (x0, y0, x1, y1) in cells
        ],
        chips=[Chip(i, pieces[i].name, titles[i]) for i in special],
        besides=f"; besides them {besides}" if besides else "",
    )


def _patches(attribution: AttributionData) -> list[tuple[int, Box]]:
    """Return each patch of an image with its edges."""
    rows, columns = attribution.heatmap().shape
    _, (left, top, right, bottom) = image_and_box(attribution)
    width, height = (right - left) / columns, (bottom - top) / rows
    first = int(attribution.special.sum())  # tokens that are no patches stand in front of them
    return [
        (
            first + row * columns + column,
            (
                left + column * width,
                top + row * height,
                left + (column + 1) * width,
                top + (row + 1) * height,
            ),
        )
        for row in range(rows)
        for column in range(columns)
    ]


def _regions(attribution: AttributionData) -> list[tuple[int, Box]]:
    """Return each token of a text's images with the edges of its region."""
    return [(i, region) for i, region in enumerate(attribution.regions or ()) if region is not None]


def layers(attribution: AttributionData) -> list[LayerMap]:
    """Return the flow through the patches below and above every layer, from the decision down.

    The tint is a patch's part of the flow over the largest part of any; empty without edges.
    """
    if attribution.edges is None:
        return []
    flow = node_flow(attribution.edges)
    parts = flow / max(float(flow[0].sum()), _TINY)
    patches = ~attribution.special
    # One scale for all layers, so that their pictures can be compared.
    highest = max(float(parts[:, patches].max()), _TINY)
    maps = []
    for row in reversed(range(len(parts))):
        cells = parts[row][patches].reshape(attribution.heatmap().shape)
        where = "at the patches" if row == 0 else f"above layer {row}"
        maps.append(LayerMap(where, _address(_tinted(cells / highest)), float(cells.sum())))
    return maps


def _name_and_share(piece: Piece) -> str:
    return f"{piece.name}: {format_percent(piece.share)}"


def resized_to(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Return the image with a longer side of `longest` pixels at most."""
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    return resized(image, max(1, round(height * scale)), max(1, round(width * scale)))


def thumbnail(attribution: AttributionData) -> Photo | None:
    """Return a small form of the image; None of a text without images."""
    if attribution.image is None:
        return None
    small = resized_to(shown_image(attribution), THUMBNAIL)
    return _photo(small, small)


def _view(attribution: AttributionData) -> str:
    """Return the `viewBox` of image and grid, which may go beyond it where it was padded."""
    image = shown_image(attribution)
    height, width = image.shape[:2]
    if attribution.box is None:
        return f"0 0 {width} {height}"
    left, top, right, bottom = attribution.box
    x, y = min(left, 0), min(top, 0)
    return f"{x:.6g} {y:.6g} {max(right, width) - x:.6g} {max(bottom, height) - y:.6g}"


def _photo(pixels: NDArray[np.uint8], image: NDArray[np.uint8]) -> Photo:
    """Return `pixels` as a photo in the size of `image`."""
    height, width = image.shape[:2]
    # Smoothed, a small image would be a blur in which its patches cannot be told apart.
    return Photo(_address(pixels), width, height, pixelated=max(height, width) <= COARSE)


def _spoken(attribution: AttributionData, pieces: Sequence[Piece]) -> str:
    """Return the picture in words."""
    if attribution.grid is None:
        places = [p for p in pieces if attribution.is_region(p.tokens[0])]
        strongest = ", ".join(_name_and_share(entry.piece) for entry in rank(places)[:3])
        return f"Images of the text in {len(places)} regions. Strongest: {strongest}."
    rows, columns = attribution.grid
    best = rank(pieces)[:3]
    strongest = ", ".join(_name_and_share(entry.piece) for entry in best)
    return (
        f"{input_name(attribution)} in {rows} x {columns} patches, rows from the top and columns "
        f"from the left, counted from 0. Strongest: {strongest}."
    )


def _tinted(heat: NDArray[np.float64]) -> NDArray[np.uint8]:
    """`(rows, columns, 4)`, the tint with an opacity for each cell."""
    pixels = np.empty((*heat.shape, 4), np.uint8)
    pixels[:, :, :3] = TINT
    pixels[:, :, 3] = np.rint(255 * heat)
    return pixels


def _address(pixels: NDArray[np.uint8]) -> str:
    """Return the pixels as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode('ascii')}"
