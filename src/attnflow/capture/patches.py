"""Patches of an image model, and the tokens that it puts before them.

Both are read off the model itself, whose first convolution turns every patch into a token. They are
not read off its config: a model that was built by hand may differ from its config.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnflow.errors import ModelError

# Parameters that are tokens of their own, before the patches in the order of the model's own.
_LEADING = {
    "cls_token": "CLS",
    "class_embedding": "CLS",
    "distillation_token": "DIST",
    "dist_token": "DIST",
    "register_tokens": "REG",
    "reg_token": "REG",
}


@dataclass(frozen=True)
class Patches:
    """Patches of `size` pixels (height, width), each `stride` pixels from the next."""

    size: tuple[int, int]
    stride: tuple[int, int]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches in an image; 0 where it is smaller than a patch."""
        sides = zip((height, width), self.size, self.stride, strict=True)
        rows, columns = ((side - size) // step + 1 for side, size, step in sides)
        return max(rows, 0), max(columns, 0)

    @property
    def overlap(self) -> bool:
        """True where pixels belong to several patches, or to none."""
        return self.size != self.stride

    def area(self, patches: Tensor, height: int, width: int) -> Tensor:
        """`(batch, height, width)` bool, the pixels of the patches that are true.

        Args:
            patches: `(batch, rows * columns)` bool, in rows from the top, of patches that do not
                overlap. Pixels right of and below the last whole patch belong to none.
            height: Of the image, in pixels.
            width: Of the image, in pixels.
        """
        rows, columns = self.grid(height, width)
        grid = patches.view(-1, rows, columns)
        whole = grid.repeat_interleave(self.size[0], 1).repeat_interleave(self.size[1], 2)
        area = torch.zeros(len(grid), height, width, dtype=torch.bool, device=patches.device)
        area[:, : whole.shape[1], : whole.shape[2]] = whole
        return area


def patches_of(model: nn.Module) -> Patches:
    """Return size and stride of the patches that the model cuts its images into.

    Raises:
        ModelError: It has no convolution that could cut them.
    """
    convolution = _patching(model)
    return Patches(_pair(convolution.kernel_size), _pair(convolution.stride))


def channels_of(model: nn.Module) -> int:
    """Return the number of channels of the images that the model reads.

    Raises:
        ModelError: As `patches_of`.
    """
    return int(_patching(model).in_channels)


def _patching(model: nn.Module) -> nn.Conv2d:
    """Return the convolution that cuts images into patches, the model's first."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module
    raise ModelError(
        f"{type(model).__name__} has no convolution that cuts an image into patches: expected a "
        "vision transformer such as ViT, DeiT, DINOv2 or the image tower of CLIP."
    )


def leading_tokens(model: nn.Module) -> tuple[str, ...]:
    """Return names of the tokens before the patches: [CLS], and others that the model has."""
    names: list[str] = []
    for path, parameter in model.named_parameters():
        name = _LEADING.get(path.rpartition(".")[2])
        if name is not None:
            count = parameter.shape[-2] if parameter.ndim > 1 else 1
            names += [f"[{name}{i if count > 1 else ''}]" for i in range(count)]
    return tuple(names)


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    return int(sides[0]), int(sides[1])
