"""The part of an image that an image processor shows its model, measured, and its pixels shown.

Read next: image_crop.py, which measures.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.inputs.image_crop import Box, visible_box
from attnflow.inputs.image_file import SourceImage, with_channels

PROBE = 64  # pixels on each side of the black and white images that measure a processor


class ProcessorView:
    """Measures what an image processor leaves of images, once for each size of image.

    Attributes:
        process: From an image of Pillow to `(channels, height, width)` pixel values.
        channels: Number of channels that the model reads.
    """

    def __init__(self, process: Callable[[Any], Tensor], channels: int) -> None:
        self.process, self.channels = process, channels
        # Measuring a processor costs a pass through it, hence once for each size of image.
        self._boxes: dict[tuple[int, int], Box | None] = {}

    def box(self, height: int, width: int) -> Box | None:
        """The part of an image of this size that the model reads; None where it cannot be told."""
        if (height, width) not in self._boxes:
            self._boxes[height, width] = visible_box(self._levels, height, width)
        return self._boxes[height, width]

    def _levels(self, planes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """`(3, rows, columns)` levels 0..255 that the processor leaves of three planes."""
        black, white = self._black_and_white
        return 255 * (self._planes(planes) - black) / (white - black)

    @cached_property
    def _black_and_white(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`(3, 1, 1)` pixel values of black, and of white."""
        # The middle pixel: processors may pad at the edges.
        probes = [np.full((PROBE, PROBE, 3), level, np.uint8) for level in (0, 255)]
        black, white = (self._planes(probe) for probe in probes)
        row, column = (side // 2 for side in black.shape[1:])
        centre = (slice(None), slice(row, row + 1), slice(column, column + 1))
        return black[centre], white[centre]

    def _planes(self, planes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """`(3, rows, columns)` pixel values of three planes, each for itself."""
        if self.channels == 3:
            values = self.process(with_channels(SourceImage("", planes), 3))
        else:
            single = [SourceImage("", planes[:, :, i : i + 1]) for i in range(3)]
            values = torch.cat([self.process(with_channels(plane, 1)) for plane in single])
        return values.double().numpy()


def displayed(processor: Any, values: Tensor) -> NDArray[np.uint8]:
    """`(h, w, 3)` uint8, pixel values as an image; unknown scales are stretched to 0..255.

    Args:
        processor: The image processor, whose normalisation is undone; or None.
        values: `(channels, height, width)` pixel values.
    """
    pixels = values.double().cpu()
    # Undoes the normalisation, so that the image looks as it was given.
    mean, std = (getattr(processor, f"image_{name}", None) for name in ("mean", "std"))
    if getattr(processor, "do_normalize", False) and mean is not None and std is not None:
        shift, scale = (torch.tensor(side).double().view(-1, 1, 1) for side in (mean, std))
        pixels = pixels * scale + shift
    else:
        lowest, highest = pixels.min(), pixels.max()
        pixels = (pixels - lowest) / (highest - lowest).clamp(min=1e-12)
    if len(pixels) != 3:
        pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
