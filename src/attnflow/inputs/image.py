"""Images as patches that know where they stand: names, grid, and the place of the grid.

A vision transformer's tokens are patches, from the top left in rows, behind a class token and what
else its family puts first. The counterpart of tokens.py, where tokens are pieces of a text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnflow.capture import Patches
from attnflow.errors import ModelError
from attnflow.inputs.image_crop import Box


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """One image as the model will see it.

    Attributes:
        text: The name of its file, "" where it has none.
        inputs: `pixel_values`, `(channels, height, width)`, for the model.
        neutral: The same with nothing in it, as patches are that are removed.
        tokens: Names of the tokens: "[CLS]", and patches "r0c0" by row and column; length t.
        special: Which tokens are no patches.
        image: `(h, w, 3)` uint8, what to show.
        grid: Rows and columns of patches.
        box: Left, top, right and bottom edge of the grid in `image`, in pixels.
    """

    text: str
    inputs: Mapping[str, Tensor]
    neutral: Tensor
    tokens: tuple[str, ...]
    special: tuple[bool, ...]
    image: NDArray[np.uint8]
    grid: tuple[int, int]
    box: Box


def named(leading: tuple[str, ...], grid: tuple[int, int]) -> tuple[str, ...]:
    """Names of the tokens before the patches, and of the patches."""
    rows, columns = grid
    return (*leading, *(f"r{row}c{column}" for row in range(rows) for column in range(columns)))


def grid_box(patches: Patches, view: Box, height: int, width: int) -> Box:
    """Where the grid lies, of a model that reads `height` by `width` pixels of `view`.

    Patches that overlap have the middle of their pixels each, so that their cells do not.
    """
    rows, columns = patches.grid(height, width)
    left, right = _span(view[0], view[2], width, columns, patches.size[1], patches.stride[1])
    top, bottom = _span(view[1], view[3], height, rows, patches.size[0], patches.stride[0])
    return left, top, right, bottom


def _span(
    start: float, end: float, pixels: int, count: int, size: int, stride: int
) -> tuple[float, float]:
    scale, first = (end - start) / pixels, (size - stride) / 2
    return (
        round(start + scale * first, 2),
        round(start + scale * (first + count * stride), 2),
    )


def check_nodes(image: EncodedImage, nodes: int, name: str) -> None:
    """The model made so many tokens of the image as it has names.

    Raises:
        ModelError: It did not.
    """
    if nodes != len(image.tokens):
        rows, columns = image.grid
        raise ModelError(
            f"{name} made {nodes} tokens of an image that it cuts into {rows} x {columns} patches: "
            "expected a token for each patch, and class tokens before them."
        )
