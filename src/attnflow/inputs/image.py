"""Images as patches: their names, the grid of patches, and the place of the grid in the image.

A vision transformer's tokens are patches in rows from the top left, after a class token and
whatever else its family puts first. The counterpart of text.py, where tokens are pieces of a text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnflow.capture import Patches
from attnflow.errors import ModelError
from attnflow.inputs.example import Example
from attnflow.inputs.image_crop import Box


@dataclass(frozen=True, eq=False)
class EncodedImage(Example):
    """One image as its model reads it.

    Attributes:
        text: The name of its file, "" where it has none.
        inputs: `pixel_values`, `(channels, height, width)`, for the model.
        neutral: The same shape, the pixels that stand for removed patches.
        tokens: Names of the tokens: "[CLS]", and patches "r0c0" by row and column; length t.
        special: True at tokens that are no patches.
        image: `(h, w, 3)` uint8, the image to show.
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

    @property
    def pixels(self) -> Tensor:
        """`(channels, height, width)` pixel values."""
        return self.inputs["pixel_values"]

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        return ((0, 0),) * len(self.tokens)

    @property
    def word_ids(self) -> tuple[int | None, ...]:  # type: ignore[override]
        return (None,) * len(self.tokens)

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return tuple(self.pixels.shape)

    @property
    def nbytes(self) -> int:
        return self.image.nbytes + self.pixels.nbytes + self.neutral.nbytes


def token_names(leading: tuple[str, ...], grid: tuple[int, int]) -> tuple[str, ...]:
    """Names of the tokens before the patches, and of the patches."""
    rows, columns = grid
    return (*leading, *(f"r{row}c{column}" for row in range(rows) for column in range(columns)))


def grid_box(patches: Patches, view: Box, height: int, width: int) -> Box:
    """Edges of the grid in an image, of which the model reads `view` as `height` x `width` pixels.

    Where patches overlap, each cell is the middle of its patch, so that cells do not overlap.
    """
    rows, columns = patches.grid(height, width)
    left, right = _edges(view[0], view[2], width, columns, patches.size[1], patches.stride[1])
    top, bottom = _edges(view[1], view[3], height, rows, patches.size[0], patches.stride[0])
    return left, top, right, bottom


def _edges(
    start: float, end: float, pixels: int, count: int, size: int, stride: int
) -> tuple[float, float]:
    scale, first = (end - start) / pixels, (size - stride) / 2
    return (
        # As exact as `image_crop` tells the edges of what the model reads.
        round(start + scale * first, 2),
        round(start + scale * (first + count * stride), 2),
    )


def check_nodes(image: EncodedImage, nodes: int, name: str) -> None:
    """Check that the model turned the image into as many tokens as it has names.

    Raises:
        ModelError: It made another number of tokens.
    """
    if nodes != len(image.tokens):
        rows, columns = image.grid
        raise ModelError(
            f"{name} made {nodes} tokens of an image that it cuts into {rows} x {columns} patches: "
            "expected a token for each patch, and class tokens before them."
        )
