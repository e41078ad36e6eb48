"""The image with its patches coloured by their shares, as pixels: for files, figures, and pages.

The image beneath is grey, so that the only hue carries the scores. PNG files are written here,
zlib with a frame around it: results of images can then be shown without the extra `images`.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import AttributionData
from attnflow.errors import InputError, shown

TINT = (240, 118, 32)
STRONGEST = 0.82  # of the tint over the image, on the patch of highest score
CONTRAST = 0.72  # that is left to the image beneath
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as image libraries turn colours to grey

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def overlay(attribution: AttributionData, size: int | tuple[int, int] | None = None) -> Pixels:
    """`(h, w, 3)` uint8, see `Attribution.overlay`.

    Raises:
        InputError: There is a text and no image, or the size is not positive.
    """
    image = shown_image(attribution)
    height, width = _sides(image, size)
    grey = softened(resized(image, height, width))
    if attribution.regions is not None:
        painted = _painted_regions(attribution, height, width)
    else:
        image, box = image_and_box(attribution)
        painted = _painted(heat(attribution), image.shape, box, height, width)
    opacity = STRONGEST * painted
    mixed = grey[:, :, None] * (1 - opacity[:, :, None]) + opacity[:, :, None] * np.array(TINT)
    return np.rint(mixed).astype(np.uint8)


def softened(image: Pixels) -> NDArray[np.float64]:
    """`(h, w)`, the image in greys, none so dark or light that the tint would not show on it."""
    return 127.5 + CONTRAST * (image @ np.array(LUMA) - 127.5)


def heat(attribution: AttributionData) -> NDArray[np.float64]:
    """`(rows, columns)` scores over the highest of them, 0 to 1."""
    scores = attribution.heatmap()
    highest = scores.max()
    return scores / highest if highest > 0 else scores


def shown_image(attribution: AttributionData) -> Pixels:
    """Return the image, or the images of a text.

    Raises:
        InputError: There is a text and no image.
    """
    if attribution.image is None:
        raise InputError("there is no image to lay scores over: it is a text that was explained.")
    return attribution.image


def image_and_box(attribution: AttributionData) -> tuple[Pixels, Box]:
    """Return the image, and the edges of the grid of patches on it.

    Raises:
        InputError: There is a text and no image.
    """
    if attribution.image is None or attribution.box is None:
        raise InputError("there is no image to lay scores over: it is a text that was explained.")
    return attribution.image, attribution.box


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """`(height, width, 3)`: larger with its pixels as they are, smaller by area."""
    if image.shape[:2] == (height, width):
        return image
    import torch  # here, so that a result is loaded and shown as text without it

    planes = torch.tensor(image).permute(2, 0, 1)[None].float()
    if height < image.shape[0] or width < image.shape[1]:
        sides = (min(height, image.shape[0]), min(width, image.shape[1]))
        planes = torch.nn.functional.interpolate(planes, sides, mode="bilinear", antialias=True)
    # Enlarged by repeating: smoothing would invent detail between pixels and between patches.
    planes = torch.nn.functional.interpolate(planes, (height, width), mode="nearest-exact")
    return planes[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def png(pixels: Pixels) -> bytes:
    """Return a PNG file of `(h, w, 3)` colours, or of `(h, w, 4)` with opacity."""
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter, none
    lines[:, 1:] = pixels.reshape(height, -1)
    kind = {3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _sides(image: Pixels, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width; of a longer side the other by the image's proportions."""
    height, width = image.shape[:2]
    if size is None:
        return height, width
    if isinstance(size, int | np.integer) and size > 0:
        scale = size / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))
    if isinstance(size, tuple) and len(size) == 2 and all(side > 0 for side in size):
        return int(size[0]), int(size[1])
    raise InputError(
        f"size must be (height, width) or the longer side in pixels, got {shown(size)}."
    )


def _painted(
    cells: NDArray[np.float64],
    shape: tuple[int, ...],
    box: Box,
    height: int,
    width: int,
) -> NDArray[np.float64]:
    """`(height, width)` value of the cell that each pixel's middle lies in; 0 outside."""
    left, top, right, bottom = box
    rows, inside_rows = _cells(top, bottom, cells.shape[0], shape[0], height)
    columns, inside_columns = _cells(left, right, cells.shape[1], shape[1], width)
    return cells[np.ix_(rows, columns)] * np.outer(inside_rows, inside_columns)


def _painted_regions(attribution: AttributionData, height: int, width: int) -> NDArray[np.float64]:
    """`(height, width)` heat of the region that each pixel's middle lies in; 0 outside.

    The hottest is the best ordinary token, of image and text.
    """
    image = shown_image(attribution)
    best = float(np.where(attribution.special, 0.0, attribution.scores).max())
    painted = np.zeros((height, width))
    for token, region in enumerate(attribution.regions or ()):
        if region is not None and best > 0:
            # The pixels whose middles lie between the edges.
            columns = _between(region[0], region[2], image.shape[1], width)
            rows = _between(region[1], region[3], image.shape[0], height)
            painted[rows, columns] = attribution.scores[token] / best
    return painted


def _between(start: float, end: float, length: int, pixels: int) -> slice:
    first, last = (int(np.ceil(edge * pixels / length - 0.5)) for edge in (start, end))
    return slice(max(first, 0), max(last, 0))


def _cells(
    start: float, end: float, count: int, length: int, pixels: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the index of the cell that each pixel's middle lies in, and whether there is one."""
    middles = (np.arange(pixels) + 0.5) * length / pixels
    place = np.floor((middles - start) / (end - start) * count).astype(np.intp)
    return place.clip(0, count - 1), (place >= 0) & (place < count)
