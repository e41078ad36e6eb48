"""Subjects that read images: classifiers whose attention runs between patches.

Nodes are the tokens that the model puts before the patches, a class token say, and then the patches
in rows from the top; patches alone are ordinary. A removed patch is grey, the mean of the pixels
that the model was trained on (0 once they are normalised); or as dark as the image's darkest pixel;
or not there: its token is dropped behind the embeddings, so that the others keep their positions.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnflow.capture.patches import leading_tokens, patches_of
from attnflow.errors import InputError, ModelError
from attnflow.inputs.image_file import open_image, with_channels
from attnflow.methods.adapter import ModelAdapter, Nodes, Operator, check_task
from attnflow.models.tasks import labels_of

GREY = 0.0  # of normalised pixels


@dataclass(frozen=True, eq=False)
class Image:
    """An image as the model reads it.

    Attributes:
        pixels: `(channels, height, width)`, normalised.
        name: What a message calls it, its file say.
    """

    pixels: Tensor
    name: str = "an image"


@dataclass(frozen=True, eq=False)
class ImageVariant:
    """An image with patches removed.

    Attributes:
        image: The image.
        gone: `(t,)` bool.
        filling: What takes their place, a number for each channel; None: their tokens are dropped.
    """

    image: Image
    gone: Nodes
    filling: tuple[float, ...] | None = None
    key: Hashable = field(init=False)

    def __post_init__(self) -> None:
        how = self.filling if self.gone.any() else None
        object.__setattr__(self, "key", (id(self.image), self.gone.tobytes(), how))

    @property
    def size(self) -> int:
        return len(self.gone) - (int(self.gone.sum()) if self.filling is None else 0)


class ImageClassifier(ModelAdapter):
    """An image classifier with its image processor. Contents are of `Image`."""

    kind = "an image classifier"
    granularities = ("token",)

    def __init__(self, model: Any, processor: Any = None) -> None:
        check_task(model, "image-classification", "AutoModelForImageClassification")
        super().__init__(model)
        self.processor = processor
        self.patches = patches_of(model)
        self.before = len(leading_tokens(model))
        if self.patches.overlap:
            raise ModelError(
                f"patches of {type(model).__name__} are {self.patches.size} pixels and "
                f"{self.patches.stride} apart, so that none can be removed by itself."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.model)

    def encode(self, image: Any) -> Image:
        """A picture of `open_image`, a file say, as the model will read it.

        Raises:
            InputError: It is no image, or there is no image processor.
            StorageError: The file cannot be read.
            MissingExtraError: Pillow is not installed.
        """
        if self.processor is None:
            raise InputError("pictures need the model's image processor: give it, or pixels.")
        own = open_image(image)
        seen = with_channels(own, self.model.config.num_channels)
        (pixels,) = self.processor(seen, return_tensors="pt")["pixel_values"]
        return Image(pixels.float(), f"the image {own.name!r}" if own.name else "an image")

    def name(self, content: Image) -> str:
        return content.name

    def identity(self, content: Image) -> bytes:
        found: bytes = content.pixels.numpy().tobytes()
        return found

    def ordinary(self, content: Image) -> Nodes:
        rows, columns = self.patches.grid(*content.pixels.shape[1:])
        found = np.ones(self.before + rows * columns, bool)
        found[: self.before] = False
        return found

    def without(self, content: Image, removed: Nodes) -> Image:
        grey = self._filled(ImageVariant(content, removed, (GREY,)))
        return replace(content, pixels=grey)

    @property
    def operators(self) -> Mapping[str, Operator]:
        return {"mask": self.neutralised, "delete": self.deleted, "darkest": self.darkened}

    def neutralised(self, content: Image, removed: Nodes) -> ImageVariant:
        return ImageVariant(content, removed, (GREY,))

    def deleted(self, content: Image, removed: Nodes) -> ImageVariant:
        return ImageVariant(content, removed)

    def darkened(self, content: Image, removed: Nodes) -> ImageVariant:
        """Each channel's least number in the place of the removed patches."""
        return ImageVariant(content, removed, tuple(content.pixels.amin((1, 2)).tolist()))

    def _filled(self, variant: ImageVariant) -> Tensor:
        """`(channels, height, width)` pixels with the filling in place."""
        pixels = variant.image.pixels
        if variant.filling is None or not variant.gone.any():
            return pixels
        height, width = self.patches.size
        rows = pixels.shape[1] // height
        patches = torch.from_numpy(variant.gone[self.before :]).view(rows, -1)
        gone = torch.zeros(pixels.shape[1:], dtype=torch.bool)
        area = patches.repeat_interleave(height, 0).repeat_interleave(width, 1)
        gone[: area.shape[0], : area.shape[1]] = area
        return pixels.where(~gone, pixels.new_tensor(variant.filling)[:, None, None])

    def inputs(self, content: Image) -> dict[str, Tensor]:
        return {"pixel_values": content.pixels[None]}

    def point(self, content: Image) -> Tensor:
        """`(1, channels, height, width)` pixels."""
        return content.pixels[None].to(self.device)

    def inputs_at(self, points: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": points}

    def of_nodes(self, values: Tensor) -> Tensor:
        """`(patches, channels * pixels)`."""
        height, width = self.patches.size
        found = values[0].unfold(1, height, height).unfold(2, width, width)
        return found.permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1)

    def _logits_of(self, variants: Sequence[ImageVariant]) -> Tensor:
        found = []
        for _, group in groupby(variants, key=lambda v: v.size):  # they come in that order
            own = list(group)
            pixels = torch.stack([self._filled(v) for v in own]).to(self.device)
            dropped = np.array([v.gone & (v.filling is None) for v in own])
            with self._dropping(dropped):
                found.append(self.model(pixel_values=pixels).logits)
        return torch.cat(found)

    @contextmanager
    def _dropping(self, dropped: Nodes) -> Iterator[None]:
        """Take tokens, as many of each image, `(batch, t)` bool, out behind the embeddings."""
        if not dropped.any():
            yield
            return
        embeddings = getattr(self.model.base_model, "embeddings", None)
        if not isinstance(embeddings, nn.Module):
            raise ModelError(
                f"{type(self.model).__name__} has no embeddings module behind which patches can be "
                "dropped: choose operators that replace them, mask or darkest."
            )
        kept = torch.from_numpy(~dropped).to(self.device)

        def drop(_: Any, args: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor) or output.shape[:2] != kept.shape:
                raise ModelError(
                    f"{type(embeddings).__name__} does not give one vector for each patch, so that "
                    "patches cannot be dropped: choose operators that replace them."
                )
            return output[kept].view(len(kept), -1, output.shape[-1])

        handle = embeddings.register_forward_hook(drop)
        try:
            yield
        finally:
            handle.remove()
