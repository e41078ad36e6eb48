"""What a call gives of images, as the model reads it: pictures, or the pixel values themselves.

Whatever comes is checked here, once, and becomes an `EncodedImage` for each example. Read next:
pictures.py for what an image can be, placing.py for where the patches lie on it.
"""

import inspect
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.capture import leading_tokens, patches_of
from attnflow.errors import InputError, ModelError
from attnflow.inputs.image import EncodedImage, grid_box, named
from attnflow.inputs.image_crop import Box, viewed
from attnflow.inputs.image_file import Picture, picture, with_channels
from attnflow.inputs.per_example import Names


class ImageReader:
    """Reads images for one model, with its image processor if there is one."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.config = getattr(model.config, "vision_config", model.config)
        self.patches, self.leading = patches_of(model), leading_tokens(model)
        self.views: dict[tuple[int, ...], Box | None] = {}

    def read(self, images: Any, pixel_values: Any, neutral: Any) -> tuple[bool, list[EncodedImage]]:
        """Whether there is one image alone, and all of them.

        Raises:
            InputError: Both or none of images and pixel values were given, or what was given
                cannot be explained.
            ModelError: Image processor and model do not belong together.
            StorageError: A file cannot be read.
        """
        if (images is None) == (pixel_values is None):
            raise InputError("give images or pixel_values, one of the two.")
        if images is None:
            alone, many = _batch(pixel_values)
            names = Names([""] * len(many), "image")
            return alone, names.each(lambda i: self._of_values(many[i], neutral))
        if self.processor is None:
            raise InputError("there is no image processor to read images with: give pixel_values.")
        alone, listed = _listed(images)
        names = Names([_name(value) for value in listed], "image")
        return alone, names.each(lambda i: self._of_picture(listed[i], neutral))

    def _of_picture(self, value: Any, neutral: Any) -> EncodedImage:
        own = picture(value)
        values = self._processed(with_channels(own, self.channels))
        if wrong := self._misfit(values):
            raise ModelError(
                f"the image processor gave {wrong} They do not belong together: load both from "
                "one folder, or set the processor's size."
            )
        height, width = own.pixels.shape[:2]
        if (view := self._viewed(height, width)) is None:
            return self._encoded(own.name, values, self._shown(values), None, neutral)
        return self._encoded(own.name, values, own.colours, view, neutral)

    def _of_values(self, values: Tensor, neutral: Any) -> EncodedImage:
        values = values.detach().to(next(self.model.parameters()).dtype)
        if wrong := self._misfit(values):
            raise InputError(f"pixel_values: {wrong}")
        return self._encoded("", values, self._shown(values), None, neutral)

    def _encoded(
        self, name: str, values: Tensor, image: NDArray[np.uint8], view: Box | None, neutral: Any
    ) -> EncodedImage:
        """The image, where without a `view` it shows what the model reads and no more."""
        height, width = values.shape[1:]
        box = grid_box(self.patches, view or (0.0, 0.0, width, height), height, width)
        tokens = named(self.leading, self.patches.grid(height, width))
        return EncodedImage(
            text=name,
            inputs={"pixel_values": values},
            neutral=self._neutral(neutral, values),
            tokens=tokens,
            special=tuple(i < len(self.leading) for i in range(len(tokens))),
            image=image,
            grid=self.patches.grid(height, width),
            box=box,
        )

    @property
    def channels(self) -> int:
        """How many the model reads."""
        return int(self.config.num_channels)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the model reads; None where it takes any."""
        # Models that could stretch their positions to other sizes do it on request alone, and
        # nobody requests it; the others do it always.
        forward = inspect.signature(self.model.forward).parameters
        if "interpolate_pos_encoding" not in forward:
            return None
        size = self.config.image_size
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    def _misfit(self, values: Tensor) -> str | None:
        """What the model could not read in `(channels, height, width)` pixel values."""
        channels, *sides = values.shape
        shape, name = tuple(values.shape), type(self.model).__name__
        if channels != self.channels:
            return f"{channels} channels, {shape}, and {name} reads {self.channels}."
        if self.size is not None and tuple(sides) != self.size:
            height, width = self.size
            return f"{sides[0]} x {sides[1]} pixels, and {name} reads {height} x {width}."
        if 0 in self.patches.grid(*sides):
            height, width = self.patches.size
            return f"{sides[0]} x {sides[1]} pixels, less than a patch of {height} x {width}."
        if not values.isfinite().all():
            return "pixels that are not finite (NaN or infinite)."
        return None

    def _processed(self, image: Any) -> Tensor:
        """`(channels, height, width)`, what the image processor makes of an image of Pillow."""
        try:
            made = self.processor(images=[image], return_tensors="pt")["pixel_values"]
        except ValueError as error:  # of transformers: other channels than it is set for, say
            raise ModelError(
                f"the image processor does not take an image of mode {image.mode}: {error!s:.200}"
            ) from error
        if not isinstance(made, Tensor) or made.ndim != 4 or len(made) != 1:
            came = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ModelError(
                "the image processor must give pixel_values of shape (1, channels, height, width) "
                f"for an image; got {came}."
            )
        return made[0].to(next(self.model.parameters()).dtype)

    def _viewed(self, height: int, width: int) -> Box | None:
        """What part of an image of this size the model reads, measured once."""
        if (height, width) not in self.views:
            self.views[height, width] = viewed(self._levels, height, width)
        return self.views[height, width]

    def _levels(self, planes: NDArray[np.uint8]) -> NDArray[np.float64]:
        black, white = self._ends
        return 255 * (self._planes(planes) - black) / (white - black)

    @cached_property
    def _ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`(3, 1, 1)` each, what becomes of black and of white."""
        sides = [np.full((64, 64, 3), level, np.uint8) for level in (0, 255)]
        black, white = (self._planes(plane) for plane in sides)
        row, column = (side // 2 for side in black.shape[1:])
        place = (slice(None), slice(row, row + 1), slice(column, column + 1))
        return black[place], white[place]

    def _planes(self, planes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """`(3, rows, columns)`, three planes as the processor leaves them."""
        if self.channels == 3:
            made = self._processed(with_channels(Picture("", planes), 3))
        else:
            each = [Picture("", planes[:, :, i : i + 1]) for i in range(3)]
            made = torch.cat([self._processed(with_channels(one, 1)) for one in each])
        return made.double().numpy()

    def _neutral(self, neutral: Any, values: Tensor) -> Tensor:
        """`(channels, height, width)`, what takes the place of removed patches."""
        if neutral is None:
            return torch.full_like(values, self._grey)
        try:
            given = torch.as_tensor(neutral, dtype=values.dtype)
            whole = (given[:, None, None] if given.ndim == 1 else given).expand_as(values).clone()
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"neutral must be a number, one for each of {len(values)} channels, or of the "
                f"shape of an image's pixel values, {tuple(values.shape)}; got {neutral!r:.80}."
            ) from error
        if not whole.isfinite().all():
            raise InputError("neutral has numbers that are not finite.")
        return whole

    @property
    def _grey(self) -> float:
        """The mean that the processor takes off, which leaves 0; else mid grey."""
        if getattr(self.processor, "do_normalize", True):
            return 0.0
        rescaled = getattr(self.processor, "do_rescale", True)
        return 127.5 * (float(self.processor.rescale_factor) if rescaled else 1.0)

    def _shown(self, values: Tensor) -> NDArray[np.uint8]:
        """`(h, w, 3)`, pixel values as an image; without a processor from their least to most."""
        pixels = values.double().cpu()
        mean, std = (getattr(self.processor, f"image_{name}", None) for name in ("mean", "std"))
        if getattr(self.processor, "do_normalize", False) and mean is not None and std is not None:
            shift, scale = (torch.tensor(one).double().view(-1, 1, 1) for one in (mean, std))
            pixels = pixels * scale + shift
        else:
            lowest, highest = pixels.min(), pixels.max()
            pixels = (pixels - lowest) / (highest - lowest).clamp(min=1e-12)
        if len(pixels) != 3:
            pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
        return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def _batch(pixel_values: Any) -> tuple[bool, list[Tensor]]:
    """Whether there is one image alone, and `(channels, height, width)` of each."""
    if isinstance(pixel_values, np.ndarray):
        pixel_values = torch.from_numpy(pixel_values)
    if not isinstance(pixel_values, Tensor) or pixel_values.ndim not in (3, 4):
        came = (
            tuple(pixel_values.shape)
            if isinstance(pixel_values, Tensor)
            else type(pixel_values).__name__
        )
        raise InputError(
            "pixel_values must be a tensor of shape (channels, height, width) or (batch, channels, "
            f"height, width), got {came}."
        )
    if not pixel_values.is_floating_point():
        raise InputError(
            f"pixel_values must be floats, as an image processor makes them, not "
            f"{pixel_values.dtype}; give images= for pictures of 8 bits."
        )
    if 0 in pixel_values.shape:
        raise InputError(f"pixel_values is empty: its shape is {tuple(pixel_values.shape)}.")
    alone = pixel_values.ndim == 3
    return alone, list(pixel_values[None] if alone else pixel_values)


def _name(image: Any) -> str:
    """Of its file; "" where it has none."""
    if isinstance(image, str | Path):
        return Path(image).name
    return image.name if isinstance(image, Picture) else ""


def _listed(images: Any) -> tuple[bool, list[Any]]:
    """Whether there is one image alone, and all of them."""
    one = isinstance(images, str | dict | Tensor) or not isinstance(images, Iterable)
    if one or (isinstance(images, np.ndarray) and images.ndim < 4):
        return True, [images]
    many = list(images)
    if not many:
        raise InputError("images is empty: give at least one image.")
    return False, many
