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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnflow.capture import patch_sides
from attnflow.errors import InputError, ModelError, needs
from attnflow.methods.subject import Nodes, Operator, Subject, labels_of

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


class ImageClassifier(Subject):
    """An image classifier with its image processor. Contents are of `Image`."""

    kind = "image classifier"
    granularities = ("token",)

    def __init__(self, model: Any, processor: Any = None) -> None:
        if model.main_input_name != "pixel_values" or not hasattr(model.config, "id2label"):
            raise ModelError(
                f"{type(model).__name__} is no image classifier: it reads {model.main_input_name}."
            )
        super().__init__(model)
        self.processor = processor
        self._before: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.model)

    def encode(self, image: Any, name: str = "an image") -> Image:
        """An image of PIL, or an array, as the model will read it.

        Raises:
            InputError: There is no image processor.
        """
        if self.processor is None:
            raise InputError("an image needs the model's image processor; give pixels as Image.")
        (pixels,) = self.processor(image, return_tensors="pt")["pixel_values"]
        return Image(pixels, name)

    def opened(self, path: Path) -> Image:
        """The image in a file, as the model will read it.

        Raises:
            InputError: The file is no image, or there is no image processor.
            MissingExtraError: Pillow is not installed.
        """
        with needs("image files need Pillow"):
            from PIL import Image as pillow
        try:
            with pillow.open(path) as file:
                image = file.convert("L" if self.model.config.num_channels == 1 else "RGB")
        except OSError as error:
            raise InputError(f"cannot read {path} as an image: {error}.") from error
        return self.encode(image, name=path.name)

    def name(self, content: Image) -> str:
        return content.name

    def identity(self, content: Image) -> bytes:
        found: bytes = content.pixels.numpy().tobytes()
        return found

    def ordinary(self, content: Image) -> Nodes:
        found = np.ones(self.before(content) + self._patches(content), bool)
        found[: self.before(content)] = False
        return found

    def before(self, content: Image) -> int:
        """How many tokens the model puts before the patches."""
        if self._before is None:
            inputs = self.inputs_at(self.point(content))
            with torch.inference_mode():
                output = self.model(**inputs, output_hidden_states=True)
            self._before = output.hidden_states[0].shape[1] - self._patches(content)
        return self._before

    def _patches(self, content: Image) -> int:
        height, width = patch_sides(self.model.config)
        return (content.pixels.shape[1] // height) * (content.pixels.shape[2] // width)

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
        height, width = patch_sides(self.model.config)
        rows = pixels.shape[1] // height
        patches = torch.from_numpy(variant.gone[self.before(variant.image) :]).view(rows, -1)
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
        height, width = patch_sides(self.model.config)
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
