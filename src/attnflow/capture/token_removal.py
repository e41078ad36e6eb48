"""Remove tokens or patches from an example: those of a baseline replace them, or they are hidden.

Tokens are replaced by other tokens, patches by other pixels. What the baseline has in common with
the example itself (special tokens, say) cannot be removed. Or the attention mask hides tokens from
all others, whose positions stay: nearer to what a decoder knows than a token in their place, of
which it was trained on none that says nothing. Read next: staged.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from transformers import PreTrainedModel

from attnflow.capture.families import family_of
from attnflow.capture.input_names import MASK_OF_IDS
from attnflow.capture.patches import Patches, patches_of
from attnflow.capture.position_ids import with_fixed_positions
from attnflow.capture.validation import check_baseline
from attnflow.errors import InputError, ModelError


class Removal(Protocol):
    """Removes nodes from one batch of inputs.

    Attributes:
        removable: `(batch, t)` bool, nodes that can be removed.
    """

    @property
    def removable(self) -> Tensor: ...

    def inputs_without(self, removed: Tensor) -> dict[str, Tensor]:
        """Return the inputs without the nodes that are true in `removed`, `(batch, t)` bool."""


def removal_of(model: nn.Module, inputs: Mapping[str, Tensor], baseline: Tensor) -> Removal:
    """Return the way to remove nodes from these inputs.

    Args:
        model: The model that reads the inputs.
        inputs: As for `capture`, with `input_ids` or `pixel_values`.
        baseline: `(batch, t)` ids, in an encoder-decoder of the source and then of the prefix; or
            pixels, of the shape of `pixel_values`.

    Raises:
        InputError: There is nothing that could be replaced, or `baseline` has another shape.
        ModelError: The model's patches overlap, so that none can be removed by itself.
    """
    if "pixel_values" in inputs:
        pixels = inputs["pixel_values"]
        check_baseline(baseline, pixels)
        return _PatchRemoval(inputs, baseline.to(pixels.device), _separate_patches(model))
    if "input_ids" not in inputs:
        raise InputError("inputs must have input_ids or pixel_values, of which some are replaced.")
    sides = [inputs[name] for name in MASK_OF_IDS if name in inputs]
    check_baseline(baseline, torch.cat(sides, dim=1))
    return _TokenRemoval(inputs, baseline.to(sides[0].device))


@dataclass(frozen=True)
class _TokenRemoval:
    inputs: Mapping[str, Tensor]
    baseline: Tensor

    @property
    def removable(self) -> Tensor:
        sides = []
        for name, nodes in self._sides():
            ids = self.inputs[name]
            real = self.inputs.get(MASK_OF_IDS[name], torch.ones_like(ids)) != 0
            sides.append((self.baseline[:, nodes] != ids) & real)
        return torch.cat(sides, dim=1)

    def inputs_without(self, removed: Tensor) -> dict[str, Tensor]:
        inputs = dict(self.inputs)
        for name, nodes in self._sides():
            inputs[name] = inputs[name].where(~removed[:, nodes], self.baseline[:, nodes])
        return inputs

    def _sides(self) -> Iterator[tuple[str, slice]]:
        """Yield the name of each side's ids and its range of nodes."""
        start = 0
        for name in MASK_OF_IDS:
            if name in self.inputs:
                stop = start + self.inputs[name].shape[1]
                yield name, slice(start, stop)
                start = stop


def can_hide(model: PreTrainedModel) -> bool:
    """Return whether tokens of a model can be hidden by its attention mask, in any place.

    That is a model of one stack whose positions are given, or known by distances alone: others
    would take hidden tokens in front for padding, and count from the first one left.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        return False
    family = family_of(model)
    return family is not None and family.positions in ("given", "relative")


@dataclass(frozen=True)
class HiddenTokens:
    """Removes tokens of a model of one stack by its attention mask; positions stay.

    Attributes:
        inputs: As for `capture`, with `input_ids`; with `position_ids` where the model takes them.
        removable: `(batch, t)` bool.
    """

    inputs: Mapping[str, Tensor]
    removable: Tensor

    @classmethod
    def of(
        cls, model: PreTrainedModel, inputs: Mapping[str, Tensor], removable: Tensor
    ) -> HiddenTokens:
        """Return the removal of these tokens, with the positions that all keep."""
        return cls(with_fixed_positions(model, inputs), removable)

    def inputs_without(self, removed: Tensor) -> dict[str, Tensor]:
        mask = self.inputs.get("attention_mask")
        mask = torch.ones_like(self.inputs["input_ids"]) if mask is None else mask
        return {**self.inputs, "attention_mask": mask * ~removed.to(mask.device)}


@dataclass(frozen=True)
class _PatchRemoval:
    inputs: Mapping[str, Tensor]
    baseline: Tensor
    patches: Patches

    @property
    def removable(self) -> Tensor:
        """`(batch, patches)` bool, in rows from the top, without the tokens before the patches."""
        # A patch is removable where any of its pixels would change: the maximum over the patch.
        differ = (self.inputs["pixel_values"] != self.baseline).any(1, keepdim=True)
        return max_pool2d(differ.float(), self.patches.size).flatten(1) > 0

    def inputs_without(self, removed: Tensor) -> dict[str, Tensor]:
        pixels = self.inputs["pixel_values"]
        height, width = pixels.shape[2:]
        rows, columns = self.patches.grid(height, width)
        # The last nodes are the patches; a class token before them has no pixels.
        area = self.patches.area(removed[:, removed.shape[1] - rows * columns :], height, width)
        return {**self.inputs, "pixel_values": pixels.where(~area[:, None], self.baseline)}


def _separate_patches(model: nn.Module) -> Patches:
    """Return the model's patches; a ModelError if they overlap."""
    patches = patches_of(model)
    if patches.overlap:
        raise ModelError(
            f"patches of {type(model).__name__} are {patches.size} pixels and {patches.stride} "
            "apart, so that none can be removed by itself, as stages do: give tensor='net' with "
            "stages=() (--stages none), or tensor='cf'."
        )
    return patches
