"""The region of an image that each of its tokens stands for.

A vision-language model turns an image into one grid of tokens, or into several: tiles of the image
and the whole of it once more. All grids are laid out in one picture, one below the other, so that
the regions of different tokens never lie on each other:

    image_grid_thw            Qwen-VL: rows and columns of patches, some of which are merged
    rows and cols             Idefics3, SmolVLM: tiles, and the whole image where there are several
    one of pixel_values each  LLaVA, Gemma 3: a grid of the shape of the pixels

A region is where a token's patches lie. The vision tower has mixed patches before, so that a token
knows of others besides. Read next: multimodal_inputs.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnflow.errors import ModelError
from attnflow.inputs.example import Region
from attnflow.inputs.image_file import SourceImage, with_channels
from attnflow.inputs.processor_view import ProcessorView, displayed

# By model_type, the families that tests hold to the model's own logits: whose processor states the
# grid, with one grid for each image, in tiles. In others as many tokens may be no grid (queries
# that look anywhere, BLIP-2's).
_STATED_GRID = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
_ONE_GRID = ("gemma3", "llava", "shieldgemma2", "vipllava")
_TILED = ("idefics3", "smolvlm")
GAP = 8  # pixels between two pictures
GROUND = 128  # grey of what is beside a picture, and where a processor pads


@dataclass(frozen=True)
class Panel:
    """A picture with a grid of tokens.

    Attributes:
        pixels: `(h, w, 3)` uint8, the picture.
        rows: Rows of the grid.
        columns: Columns of the grid.
        view: Left, top, right and bottom edge of the grid in the picture, in its pixels.
        order: Row and column of each token, in the order of the tokens.
        label: "", or "whole" for an image that is also read in tiles.
    """

    pixels: NDArray[np.uint8]
    rows: int
    columns: int
    view: Region
    order: tuple[tuple[int, int], ...]
    label: str = ""


@dataclass(frozen=True)
class Regions:
    """Regions of all image tokens of an example, in the order of the tokens.

    Attributes:
        names: "image r0 c1"; of several images "image 0 r0 c1"; "image whole r0 c1" of a whole
            image that is also read in tiles. Rows from the top and columns from the left.
        boxes: Parts of `picture`.
        picture: `(h, w, 3)` uint8, all panels, one below the other.
    """

    names: tuple[str, ...]
    boxes: tuple[Region, ...]
    picture: NDArray[np.uint8]


def regions_of(
    processor: Any,
    config: Any,
    images: Sequence[SourceImage],
    visual: Mapping[str, Tensor],
    counts: Sequence[int],
) -> Regions:
    """Return the regions of the tokens of some images.

    Args:
        processor: The processor of model and images.
        config: The model's config.
        images: The images, in the order of the text.
        visual: What the processor gave the model for them.
        counts: Tokens of each image.

    Raises:
        ModelError: The grid of the tokens is not known.
    """
    panels = _panels(processor, config, images, visual, counts)
    names: list[str] = []
    boxes: list[Region] = []
    parts: list[NDArray[np.uint8]] = []
    top = 0
    for number, of_image in enumerate(panels):
        for panel in of_image:
            label = ["image", *([str(number)] if len(panels) > 1 else []), panel.label]
            begin = " ".join(part for part in label if part)
            pixels, (left, above) = _framed(panel)
            names += [f"{begin} r{row} c{column}" for row, column in panel.order]
            boxes += [_box(panel, cell, left, top + above) for cell in panel.order]
            parts.append(pixels)
            top += len(pixels) + GAP
    return Regions(tuple(names), tuple(boxes), _stacked(parts))


def _panels(
    processor: Any,
    config: Any,
    images: Sequence[SourceImage],
    visual: Mapping[str, Tensor],
    counts: Sequence[int],
) -> list[list[Panel]]:
    """The panels of each image."""
    pixels = visual.get("pixel_values")
    if "image_grid_thw" in visual and config.model_type in _STATED_GRID:
        grids = visual["image_grid_thw"].tolist()
        merge = int(config.vision_config.spatial_merge_size)
        sizes = [(rows // merge, columns // merge) for _, rows, columns in grids]
        panels = [[_whole(i.colours, *size)] for i, size in zip(images, sizes, strict=True)]
    elif pixels is not None and pixels.ndim == 5 and config.model_type in _TILED:
        panels = _tiled(processor, images, counts)
    elif _has_one_grid_each(config, pixels, len(images)):
        panels = [
            [_measured(processor, *each)]
            for each in zip(images, visual["pixel_values"], counts, strict=True)
        ]
    else:
        panels = [[] for _ in images]
    placed = [sum(len(panel.order) for panel in of_image) for of_image in panels]
    if placed != list(counts):
        raise ModelError(
            f"{type(processor).__name__} writes {', '.join(map(str, counts))} tokens for "
            f"{len(images)} images, and in which regions of them they lie is not known: expected "
            "one grid for each image (Qwen-VL, LLaVA, Gemma 3 without crops), or tiles with rows "
            "and columns (Idefics3, SmolVLM)."
        )
    return panels


def _has_one_grid_each(config: Any, pixels: Tensor | None, images: int) -> bool:
    """Return whether each image is a grid of the shape of its pixels."""
    is_known = config.model_type in _ONE_GRID
    return is_known and pixels is not None and pixels.ndim == 4 and len(pixels) == images


def _whole(pixels: NDArray[np.uint8], rows: int, columns: int, label: str = "") -> Panel:
    """The panel of a grid that covers a whole picture, in rows."""
    height, width = pixels.shape[:2]
    order = tuple((row, column) for row in range(rows) for column in range(columns))
    return Panel(pixels, rows, columns, (0.0, 0.0, float(width), float(height)), order, label)


def _tiled(
    processor: Any, images: Sequence[SourceImage], counts: Sequence[int]
) -> list[list[Panel]]:
    """The panels of images that are read in tiles, and once more as a whole where they are."""
    pillow = [with_channels(image, 3) for image in images]
    told = processor.image_processor([pillow], return_row_col_info=True)
    panels = []
    for image, picture, rows, columns, count in zip(
        images, pillow, told["rows"][0], told["cols"][0], counts, strict=True
    ):
        side = isqrt(count // (rows * columns + 1))
        if rows * columns == 0:
            panels.append([_whole(image.colours, side, side)])
            continue
        # The whole image shows little more than where its tokens are: half as large.
        half = tuple(max(side // 2, 2) for side in picture.size)
        whole = _whole(np.asarray(picture.resize(half)), side, side, "whole")
        panels.append([_tiles(image.colours, rows, columns, side), whole])
    return panels


def _tiles(pixels: NDArray[np.uint8], rows: int, columns: int, side: int) -> Panel:
    """The panel of tiles, each a square of `side` tokens whose tokens follow each other."""
    whole = _whole(pixels, rows * side, columns * side)
    order = [
        (row * side + y, column * side + x)
        for row in range(rows)
        for column in range(columns)
        for y in range(side)
        for x in range(side)
    ]
    return Panel(pixels, whole.rows, whole.columns, whole.view, tuple(order))


def _measured(processor: Any, image: SourceImage, values: Tensor, count: int) -> Panel:
    """The panel of one grid on what the image processor leaves of an image."""
    height, width = values.shape[1:]
    rows = round((count * height / width) ** 0.5)
    columns = count // max(rows, 1)

    def process(picture: Any) -> Tensor:
        made: Tensor = processor.image_processor(images=[picture], return_tensors="pt")[
            "pixel_values"
        ]
        return made[0]

    view = ProcessorView(process, 3).box(*image.pixels.shape[:2])
    if view is None:
        # Where the crop cannot be measured, what the model reads is shown.
        return _whole(displayed(processor.image_processor, values), rows, columns)
    panel = _whole(image.colours, rows, columns)
    return Panel(panel.pixels, rows, columns, view, panel.order)


def _framed(panel: Panel) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The picture with grey ground where its grid goes beyond it, and where the picture begins."""
    height, width = panel.pixels.shape[:2]
    left, top = (max(0, int(np.ceil(-edge))) for edge in panel.view[:2])
    right = max(0, int(np.ceil(panel.view[2] - width)))
    bottom = max(0, int(np.ceil(panel.view[3] - height)))
    sides = ((top, bottom), (left, right), (0, 0))
    return np.pad(panel.pixels, sides, constant_values=GROUND), (left, top)


def _box(panel: Panel, cell: tuple[int, int], left: int, top: int) -> Region:
    """The region of a cell, in a picture in which the panel's own begins at `left` and `top`."""
    x0, y0, x1, y1 = panel.view
    width, height = (x1 - x0) / panel.columns, (y1 - y0) / panel.rows
    row, column = cell
    edges = (
        left + x0 + column * width,
        top + y0 + row * height,
        left + x0 + (column + 1) * width,
        top + y0 + (row + 1) * height,
    )
    # As exact as `image_crop` tells the edges of what the model reads.
    return tuple(round(edge, 2) for edge in edges)  # type: ignore[return-value]


def _stacked(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    width = max(part.shape[1] for part in parts)
    rows: list[NDArray[np.uint8]] = []
    for part in parts:
        if rows:
            rows.append(np.full((GAP, width, 3), GROUND, np.uint8))
        sides = ((0, 0), (0, width - part.shape[1]), (0, 0))
        rows.append(np.pad(part, sides, constant_values=GROUND))
    return np.concatenate(rows)
