"""An example without some of its tokens or patches: something neutral in their place.

Tokens become other tokens, patches other pixels. What the neutral example has in common with the
example itself (special tokens, say) cannot be removed. Read next: stages.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from attnflow.capture.patches import patches_of
from attnflow.capture.validation import check_neutral
from attnflow.errors import InputError, ModelError


class Removal(Protocol):
    """How an example loses nodes.

    Attributes:
        removable: `(batch, t)` bool, nodes that can be removed.
    """

    @property
    def removable(self) -> Tensor: ...

    def without(self, gone: Tensor) -> dict[str, Tensor]:
        """The inputs without the nodes that are `gone`, `(batch, t)` bool."""


def removal(model: nn.Module, inputs: Mapping[str, Tensor], neutral: Tensor) -> Removal:
    """How to remove nodes from these inputs.

    Args:
        model: Whose inputs they are.
        inputs: As for `capture`, with `input_ids` or `pixel_values`.
        neutral: `(batch, t)` ids, in an encoder-decoder of the source and then of the prefix; or
            pixels, of the shape of `pixel_values`.

    Raises:
        InputError: There is nothing that could be replaced, or `neutral` has another shape.
        ModelError: The model's patches overlap, so that none can go without parts of others.
    """
    if "pixel_values" in inputs:
        check_neutral(neutral, inputs["pixel_values"])
        return _Patches(inputs, neutral.to(inputs["pixel_values"].device), _patch_sides(model))
    if "input_ids" not in inputs:
        raise InputError("inputs must have input_ids or pixel_values, of which some are replaced.")
    sides = [inputs[name] for name in _IDS if name in inputs]
    check_neutral(neutral, torch.cat(sides, dim=1))
    return _Tokens(inputs, neutral.to(sides[0].device))


_IDS = ("input_ids", "decoder_input_ids")


@dataclass(frozen=True)
class _Tokens:
    inputs: Mapping[str, Tensor]
    neutral: Tensor

    @property
    def removable(self) -> Tensor:
        found, start = [], 0
        for name in _IDS:
            if name in self.inputs:
                ids = self.inputs[name]
                mask = self.inputs.get(name.replace("input_ids", "attention_mask"))
                real = torch.ones_like(ids) if mask is None else mask
                found.append((self.neutral[:, start : start + ids.shape[1]] != ids) & (real != 0))
                start += ids.shape[1]
        return torch.cat(found, dim=1)

    def without(self, gone: Tensor) -> dict[str, Tensor]:
        rest, start = dict(self.inputs), 0
        for name in _IDS:
            if name in rest:
                part = slice(start, start + rest[name].shape[1])
                rest[name] = rest[name].where(~gone[:, part], self.neutral[:, part])
                start = part.stop
        return rest


@dataclass(frozen=True)
class _Patches:
    inputs: Mapping[str, Tensor]
    neutral: Tensor
    sides: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        height, width = self.inputs["pixel_values"].shape[2:]
        return height // self.sides[0], width // self.sides[1]

    @property
    def removable(self) -> Tensor:
        """Of the patches alone, in rows from the top; tokens before them are not among these."""
        differ = (self.inputs["pixel_values"] != self.neutral).any(1, keepdim=True)
        return max_pool2d(differ.float(), self.sides).flatten(1) > 0

    def without(self, gone: Tensor) -> dict[str, Tensor]:
        pixels, (rows, columns) = self.inputs["pixel_values"], self.grid
        patches = gone[:, gone.shape[1] - rows * columns :].reshape(-1, 1, rows, columns).float()
        whole = interpolate(patches, scale_factor=self.sides, mode="nearest") > 0
        area = pixels.new_zeros(len(pixels), 1, *pixels.shape[2:]).bool()
        area[:, :, : whole.shape[2], : whole.shape[3]] = whole
        return {**self.inputs, "pixel_values": pixels.where(~area, self.neutral)}


def _patch_sides(model: nn.Module) -> tuple[int, int]:
    """Height and width of a patch, in pixels."""
    patches = patches_of(model)
    if patches.overlap:
        raise ModelError(
            f"patches of {type(model).__name__} are {patches.size} pixels and {patches.stride} "
            "apart, so that none can be removed by itself, as tensor='bcf' does: use tensor='cf'."
        )
    return patches.size
