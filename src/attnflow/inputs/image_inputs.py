"""Images of a call, or their pixel values, read for one model.

Whatever comes is checked here, once, and becomes an `EncodedImage` for each example. Read next:
image_file.py for the forms of an image, image_crop.py for the place of its patches.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.capture import channels_of, leading_tokens, patches_of
from attnflow.capture.placement import device_of
from attnflow.capture.timm_models import timm_size
from attnflow.capture.weights import pass_dtype
from attnflow.checks import check_dense
from attnflow.errors import InputError, ModelError, shown
from attnflow.inputs.example import ContinuedText, ReadExamples
from attnflow.inputs.given import Given, wrong_modality
from attnflow.inputs.image import EncodedImage, check_nodes, grid_box, token_names
from attnflow.inputs.image_crop import Box
from attnflow.inputs.image_file import SourceImage, open_image, with_channels
from attnflow.inputs.per_example import ExampleLabels
from attnflow.inputs.processor_view import ProcessorView, displayed
from attnflow.models.tasks import Task


class ImageInputs:
    """Reads the images of a call for one model, with its image processor if there is one.

    Attributes:
        model: The model.
        processor: Its image processor, or None.
        task: The task of the model.
        tokenizer: None: images have no tokenizer.
        pooling: "", since only texts are pooled.
        patches: The way in which the model cuts images into patches.
        leading: Names of the tokens before the patches.
    """

    tokenizer = None
    pooling = ""

    def __init__(self, model: Any, processor: Any, task: Task) -> None:
        self.model, self.processor, self.task = model, processor, task
        # CLIP keeps the config of its image tower inside its own.
        self.config = getattr(model.config, "vision_config", model.config)
        self.patches, self.leading = patches_of(model), leading_tokens(model)
        self._view = ProcessorView(self._process, self.channels)

    def read(self, given: Given) -> ReadExamples[EncodedImage]:
        """Encode the images, or pixel values, of a call.

        Raises:
            InputError: Both or none of images and pixel values were given, or what was given
                cannot be explained.
            ModelError: Image processor and model do not belong together.
            StorageError: A file cannot be read.
        """
        if (given.images is None) == (given.pixel_values is None):
            raise InputError("give images or pixel_values, one of the two.")
        if given.images is None:
            is_single, arrays = _batch(given.pixel_values)
            labels = ExampleLabels([""] * len(arrays), "image")
            encode: Callable[[Any, Any], EncodedImage] = self.encode_pixels
            sources: list[Any] = list(arrays)
        else:
            if self.processor is None:
                raise InputError(
                    "there is no image processor to read images with: give pixel_values."
                )
            is_single, sources = _listed(given.images)
            labels = ExampleLabels([_file_name(image) for image in sources], "image")
            encode = self.encode
        examples = []
        for i, source in enumerate(sources):
            with labels.about(i):
                examples.append(encode(source, given.neutral))
        return ReadExamples(examples, is_single, "image")

    def encode(self, image: Any, neutral: Any = None) -> EncodedImage:
        """Encode one image: a file, an image of Pillow, or an array.

        Args:
            image: As for `open_image`.
            neutral: Pixel values of removed patches, as for `Explainer.__call__`.

        Raises:
            InputError: It is not an image, or there is no image processor.
            ModelError: Image processor and model do not belong together.
            StorageError: The file cannot be read.
        """
        source = open_image(image)
        values = self._process(with_channels(source, self.channels))
        if misfit := self._misfit(values):
            raise ModelError(
                f"the image processor gave {misfit} They do not belong together: load both from "
                "one folder, or set the processor's size."
            )
        height, width = source.pixels.shape[:2]
        view = self._view.box(height, width)
        # Where the crop cannot be measured, what the model reads is shown: patches lie right on it.
        shown = displayed(self.processor, values) if view is None else source.colours
        return self._encoded(source.name, values, shown, view, neutral)

    def encode_pixels(self, values: Tensor, neutral: Any = None) -> EncodedImage:
        """Encode one image given as `(channels, height, width)` pixel values.

        Raises:
            InputError: The model does not read such pixel values.
        """
        values = values.detach().to(pass_dtype(self.model))
        if misfit := self._misfit(values):
            raise InputError(f"pixel_values: {misfit}")
        return self._encoded("", values, displayed(self.processor, values), None, neutral)

    def with_prompt(self, example: EncodedImage) -> EncodedImage:
        """Return the image itself: no model of images generates."""
        return example

    def continued(
        self, example: EncodedImage, continuation: str | int
    ) -> ContinuedText[EncodedImage]:
        """Refuse: no model of images generates.

        Raises:
            InputError: Always.
        """
        raise wrong_modality(self.model, "image", "continuation")

    def collate(self, examples: Sequence[EncodedImage]) -> dict[str, Tensor]:
        """`pixel_values`, `(batch, channels, height, width)`, on the model's device."""
        return {"pixel_values": self._stack([image.pixels for image in examples])}

    def places(self, example: EncodedImage, inputs: Mapping[str, Tensor]) -> list[int]:
        """Index of each token: images are not padded."""
        return list(range(len(example.tokens)))

    def baseline(self, examples: Sequence[EncodedImage], inputs: Mapping[str, Tensor]) -> Tensor:
        """`(batch, channels, height, width)` pixel values that stand for removed patches."""
        return self._stack([image.neutral for image in examples])

    def check_nodes(self, example: EncodedImage, nodes: int) -> None:
        """Check that the model turned the image into a token for each patch.

        Raises:
            ModelError: It made another number of tokens.
        """
        check_nodes(example, nodes, type(self.model).__name__)

    @property
    def channels(self) -> int:
        """Number of channels that the model reads."""
        return channels_of(self.model)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the model reads; None where it takes any."""
        # Models that could stretch their positions to other sizes do it on request alone, and
        # nobody requests it; the others do it always.
        forward = inspect.signature(self.model.forward).parameters
        if "interpolate_pos_encoding" not in forward:
            return timm_size(self.model)
        size = self.config.image_size
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def grey(self) -> float:
        """Pixel value of a removed patch: the processor's mean, which is 0 after it; or mid grey.

        Mid grey stands in where the processor does not subtract a mean.
        """
        if getattr(self.processor, "do_normalize", True):
            return 0.0
        rescaled = getattr(self.processor, "do_rescale", True)
        return 127.5 * (float(self.processor.rescale_factor) if rescaled else 1.0)

    def _stack(self, images: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(images)).to(device_of(self.model))

    def _encoded(
        self, name: str, values: Tensor, image: NDArray[np.uint8], view: Box | None, neutral: Any
    ) -> EncodedImage:
        """The image; without a `view` it shows what the model reads and no more."""
        height, width = values.shape[1:]
        box = grid_box(self.patches, view or (0.0, 0.0, width, height), height, width)
        tokens = token_names(self.leading, self.patches.grid(height, width))
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

    def _misfit(self, values: Tensor) -> str | None:
        """The reason why the model cannot read `(channels, height, width)` pixel values, if any."""
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

    def _process(self, image: Any) -> Tensor:
        """`(channels, height, width)` pixel values of an image of Pillow."""
        try:
            values = self.processor(images=[image], return_tensors="pt")["pixel_values"]
        except ValueError as error:  # from transformers: other channels than it is set for, say
            raise ModelError(
                f"the image processor does not take an image of mode {image.mode}: {error!s:.200}"
            ) from error
        if not isinstance(values, Tensor) or values.ndim != 4 or len(values) != 1:
            came = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ModelError(
                "the image processor must give pixel_values of shape (1, channels, height, width) "
                f"for an image; got {came}."
            )
        return values[0].to(pass_dtype(self.model))

    def _neutral(self, neutral: Any, values: Tensor) -> Tensor:
        """`(channels, height, width)` pixel values that stand for removed patches."""
        if neutral is None:
            return torch.full_like(values, self.grey)
        try:
            given = torch.as_tensor(neutral, dtype=values.dtype)
            # Cloned, since `expand_as` shares the memory of what was given.
            whole = (given[:, None, None] if given.ndim == 1 else given).expand_as(values).clone()
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"neutral must be a number, one for each of {len(values)} channels, or of the "
                f"shape of an image's pixel values, {tuple(values.shape)}; got {shown(neutral)}."
            ) from error
        if not whole.isfinite().all():
            raise InputError("neutral has numbers that are not finite.")
        return whole


def _batch(pixel_values: Any) -> tuple[bool, list[Tensor]]:
    """True where there is one image alone; and `(channels, height, width)` of each image."""
    if isinstance(pixel_values, np.ndarray):
        pixel_values = torch.from_numpy(pixel_values)
    if not isinstance(pixel_values, Tensor) or pixel_values.ndim not in (3, 4):
        is_tensor = isinstance(pixel_values, Tensor)
        came = tuple(pixel_values.shape) if is_tensor else type(pixel_values).__name__
        raise InputError(
            "pixel_values must be a tensor of shape (channels, height, width) or (batch, channels, "
            f"height, width), got {came}."
        )
    check_dense("pixel_values", pixel_values)
    if not pixel_values.is_floating_point():
        raise InputError(
            f"pixel_values must be floats, as an image processor makes them, not "
            f"{pixel_values.dtype}; give images= for pictures of 8 bits."
        )
    if 0 in pixel_values.shape:
        raise InputError(f"pixel_values is empty: its shape is {tuple(pixel_values.shape)}.")
    is_single = pixel_values.ndim == 3
    return is_single, list(pixel_values[None] if is_single else pixel_values)


def _file_name(image: Any) -> str:
    """The name of its file; "" where it has none."""
    if isinstance(image, str | Path):
        return Path(image).name
    return image.name if isinstance(image, SourceImage) else ""


def _listed(images: Any) -> tuple[bool, list[Any]]:
    """True where there is one image alone; and all images."""
    # These can be iterated over as well, and are still one image.
    is_one = isinstance(images, str | dict | Tensor) or not isinstance(images, Iterable)
    if is_one or (isinstance(images, np.ndarray) and images.ndim < 4):
        return True, [images]
    many = list(images)
    if not many:
        raise InputError("images is empty: give at least one image.")
    return False, many
