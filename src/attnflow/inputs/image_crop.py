"""The part of an image that a model sees, after its image processor resized and cropped it.

An overlay must lie where the patches really are, and image processors differ in how they resize,
in what they crop, and in which order. So none of their options is read: the crop is measured. A
test image of the same size goes through the processor. It has two slopes, one rising across and one
down. Their levels tell the column and row that each of the model's pixels came from. It also has a
white plane, which tells where the processor pads. A line fitted to the slopes gives the edges.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
Process = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def visible_box(process: Process, height: int, width: int) -> Box | None:
    """Left, top, right and bottom edge of what the model reads, in pixels of the image.

    Edges lie outside the image where the processor pads. None where the processor does something
    else than resize and crop, or leaves too little of the image to tell.

    Args:
        process: The processor for three planes, each for itself: from `(height, width, 3)` uint8 to
            `(3, rows, columns)` levels of 0..255.
        height: Height of the image, at least 2.
        width: Width of the image, at least 2.
    """
    # Three planes in one image: processors treat channels alike.
    planes = np.full((height, width, 3), 255, np.uint8)
    planes[:, :, 0], planes[:, :, 1] = _slope(width), _slope(height)[:, None]
    across, down, white = process(planes)
    is_image = white > 128  # and not padding, which is black after all processors in use
    sides = _fit_edges(across, is_image, width)
    ends = _fit_edges(down.T, is_image.T, height)
    if sides is None or ends is None:
        return None
    return sides[0], ends[0], sides[1], ends[1]


def _slope(length: int) -> NDArray[np.uint8]:
    """Levels that rise along an image, by a whole number each pixel where that fits."""
    # Whole steps where they fit: a rounded slope would have uneven ones.
    places, step = np.arange(length), 255 // (length - 1)
    return np.rint(places * (step or 255 / (length - 1))).astype(np.uint8)


def _fit_edges(
    levels: NDArray[Any], is_image: NDArray[np.bool_], length: int
) -> tuple[float, float] | None:
    """Begin and end of a row of the model's pixels, on a side of the image of this length."""
    columns = np.nonzero(is_image.any(0))[0]
    if len(columns) < 2:
        return None
    # Near its borders a resized image is bent, so the middle half alone tells, or two columns.
    quarter = min(len(columns) // 4, (len(columns) - 2) // 2)
    columns = columns[quarter : len(columns) - quarter]
    level = (levels * is_image)[:, columns].sum(0) / is_image[:, columns].sum(0)
    if np.ptp(level) < 2:  # too little of the image to tell its place, or it lies on its side
        return None
    pixels = (length - 1) / int(_slope(length)[-1])  # of the image, for one level
    centres = level * pixels + 0.5
    step, start = np.polyfit(columns + 0.5, centres, 1)
    if step <= 0 or np.abs(start + step * (columns + 0.5) - centres).max() > max(step, 1) + pixels:
        return None
    return _edge(start, length, step), _edge(start + step * levels.shape[1], length, step)


def _edge(place: float, length: int, step: float) -> float:
    """An edge to a hundredth of a pixel; the image's own where it is as near as can be told."""
    for end in (0.0, float(length)):
        if abs(place - end) < max(0.1 * step, length / 255):
            return end
    return round(float(place), 2)
