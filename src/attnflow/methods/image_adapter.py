"""The adapter of models that read images: classifiers whose attention runs between patches.

Nodes are the tokens that the model puts before the patches, a class token say, and then the patches
in rows from the top; only patches are ordinary. A removed patch is grey, as in an explanation: the
mean of the pixels that the model was trained on. Or it is as dark as the image's darkest pixel; or
it is dropped. Its token is then taken out after the embeddings, so that the others keep their
positions.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from attnflow.capture.private_copy import private_copy
from attnflow.capture.token_removal import removal_of
from attnflow.errors import ModelError
from attnflow.inputs.given import Given
from attnflow.inputs.image import EncodedImage
from attnflow.inputs.image_inputs import ImageInputs
from attnflow.methods.adapter import ModelAdapter, Nodes, Operator
from attnflow.models.tasks import labels_of

Filling = Literal["neutral", "darkest", "dropped"]


@dataclass(frozen=True, eq=False)
class ImageVariant:
    """An image with patches removed.

    Attributes:
        image: The image.
        removed: `(t,)` bool, true at the removed patches.
        filling: What replaces them: the image's neutral pixels, or the least value of each channel;
            or nothing, where their tokens are dropped.
    """

    image: EncodedImage
    removed: Nodes
    filling: Filling

    @property
    def key(self) -> Hashable:
        # With nothing removed all fillings give the same image.
        filling = self.filling if self.removed.any() else None
        # The variant keeps its image alive, so that no other image can get this id meanwhile.
        return id(self.image), self.removed.tobytes(), filling

    @property
    def size(self) -> int:
        return len(self.removed) - int(self.dropped.sum())

    @property
    def dropped(self) -> Nodes:
        """`(t,)` bool, true at patches whose tokens are dropped."""
        return self.removed & (self.filling == "dropped")

    @property
    def fill(self) -> Tensor:
        """`(channels, height, width)` pixel values that replace removed patches."""
        if self.filling == "darkest":
            return self.image.pixels.amin((1, 2), keepdim=True).expand_as(self.image.pixels)
        return self.image.neutral if self.filling == "neutral" else self.image.pixels


class ImageClassifier(ModelAdapter):
    """An image classifier with its image processor. Contents are `EncodedImage`s."""

    task_name = "image-classification"
    loader = "AutoModelForImageClassification"
    kind = "an image classifier"
    granularities = ("token",)
    has_embeddings = False
    inputs: ImageInputs

    def __init__(self, model: Any, processor: Any = None) -> None:
        super().__init__(ImageInputs(model, processor, self.task_of(model)))
        self.processor, patches = processor, self.inputs.patches
        if patches.overlap:
            raise ModelError(
                f"patches of {type(model).__name__} are {patches.size} pixels and {patches.stride} "
                "apart, so that none can be removed by itself."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.model)

    def encode(self, image: Any = None, *, pixel_values: Any = None) -> EncodedImage:
        """Return one image as the model will read it, as `Explainer` reads it.

        Args:
            image: A file, an image of Pillow or an array.
            pixel_values: `(channels, height, width)` floats, instead of an image.

        Raises:
            InputError: It is not an image, or there is no image processor.
            StorageError: The file cannot be read.
            MissingExtraError: Pillow is not installed.
        """
        given = Given(images=image, pixel_values=pixel_values)
        return self.inputs.read(given).examples[0]

    def name(self, content: EncodedImage) -> str:
        return f"the image {content.text!r}" if content.text else "an image"

    def identity(self, content: EncodedImage) -> bytes:
        pixels: bytes = content.pixels.cpu().numpy().tobytes()
        return pixels

    def _as_content(self, values: Tensor) -> Tensor:
        return values

    @property
    def operators(self) -> Mapping[str, Operator]:
        return {
            "mask": self.masked_variant,
            "delete": self.deleted_variant,
            "darkest": self.darkened_variant,
        }

    def masked_variant(self, content: EncodedImage, removed: Nodes) -> ImageVariant:
        return ImageVariant(content, removed, "neutral")

    def deleted_variant(self, content: EncodedImage, removed: Nodes) -> ImageVariant:
        return ImageVariant(content, removed, "dropped")

    def darkened_variant(self, content: EncodedImage, removed: Nodes) -> ImageVariant:
        """Return the image with the least value of each channel in the removed patches."""
        return ImageVariant(content, removed, "darkest")

    def point(self, content: EncodedImage) -> Tensor:
        """`(1, channels, height, width)` pixel values."""
        return self.collate(content)["pixel_values"].detach()

    def inputs_at(self, points: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": points}

    def per_node(self, values: Tensor) -> Tensor:
        """`(patches, channels * pixels)`."""
        height, width = self.inputs.patches.size
        patches = values[0].unfold(1, height, height).unfold(2, width, width)
        return patches.permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1)

    def _logits_of(self, variants: Sequence[ImageVariant]) -> Tensor:
        logits = []
        # Dropped tokens leave no place for padding: a pass takes images of one size alone. They
        # come sorted by size.
        for _, group in groupby(variants, key=lambda v: v.size):
            batch = list(group)
            dropped = np.array([variant.dropped for variant in batch])
            model = self._dropping(dropped) if dropped.any() else self.model
            logits.append(model(pixel_values=self._pixels(batch)).logits)
        return torch.cat(logits)

    def _pixels(self, variants: Sequence[ImageVariant]) -> Tensor:
        """`(variants, channels, height, width)` pixel values, with the removed patches filled."""
        inputs = self.inputs.collate([variant.image for variant in variants])
        fill = torch.stack([variant.fill for variant in variants]).to(self.device)
        removed = torch.from_numpy(np.array([variant.removed for variant in variants]))
        removal = removal_of(self.model, inputs, fill)
        return removal.inputs_without(removed.to(self.device))["pixel_values"]

    def _dropping(self, dropped: Nodes) -> Any:
        """Return a private copy of the model that takes tokens out of its embeddings.

        Args:
            dropped: `(batch, t)` bool, true at these tokens; the same number for each image.
        """
        model = private_copy(self.model)
        embeddings = getattr(model.base_model, "embeddings", None)
        if not isinstance(embeddings, nn.Module):
            raise ModelError(
                f"{type(self.model).__name__} has no embeddings module after which patches can be "
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

        embeddings.register_forward_hook(drop)
        return model
