"""Where in an image a model looks: what its image processor resized and cropped, measured.

An overlay must lie where the patches really are, and image processors differ in how they resize,
in what they crop, and in which order. So no option of theirs is read. Instead a test image of the
same size goes through it, with two slopes, one rising across and one down, whose levels say from
which column and row each of the model's pixels came, and a white plane that says where it pads. A
line fitted to the slopes gives the edges.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
Process = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def viewed(process: Process, height: int, width: int) -> Box | None:
    """Left, top, right and bottom edge of what the model reads, in pixels of the image.

    Edges outside the image are where the processor pads. None where what it does to an image is
    not to resize and crop it, or leaves too little of it to tell.

    Args:
        process: From `(height, width, 3)` uint8, three planes, to what becomes of each of them,
            `(3, rows, columns)`, in levels of 0..255.
        height: Of the image, at least 2.
        width: Of the image, at least 2.
    """
    planes = np.full((height, width, 3), 255, np.uint8)
    planes[:, :, 0], planes[:, :, 1] = _slope(width), _slope(height)[:, None]
    across, down, white = process(planes)
    there = white > 128
    sides, heights = _fitted(across, there, width), _fitted(down.T, there.T, height)
    if sides is None or heights is None:
        return None
    return sides[0], heights[0], sides[1], heights[1]


def _slope(length: int) -> NDArray[np.uint8]:
    """Levels that rise along an image, by a whole number each pixel where there is room."""
    places, step = np.arange(length), 255 // (length - 1)
    rising: NDArray[np.uint8] = np.rint(places * (step or 255 / (length - 1))).astype(np.uint8)
    return rising


def _fitted(
    levels: NDArray[Any], there: NDArray[np.bool_], length: int
) -> tuple[float, float] | None:
    """Where a row of the model's pixels begins and ends, on a side of the image of this length."""
    columns = np.nonzero(there.any(0))[0]
    if len(columns) < 2:
        return None
    # Near its borders a resized image is bent, so the middle half alone tells, or two columns.
    quarter = min(len(columns) // 4, (len(columns) - 2) // 2)
    columns = columns[quarter : len(columns) - quarter]
    level = (levels * there)[:, columns].sum(0) / there[:, columns].sum(0)
    if np.ptp(level) < 2:  # too little of the image to say where, or on its side
        return None
    pixels = (length - 1) / int(_slope(length)[-1])  # of the image, that a level stands for
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
