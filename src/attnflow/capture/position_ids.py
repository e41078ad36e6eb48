"""Positions of padded texts: a text's tokens are counted from its own first one.

Most models number positions by place in the tensor, padding in front included, unless they are
told: so a text with padding on the left would be another one to them. Where padding stands in
front, `position_ids` are handed over that say where each text begins. Some models count by
themselves, some know only distances between tokens, and some can be neither told nor trusted: those
are refused. Padding behind a text moves nothing, nor does a hole inside.

Read next: families.py for which model does what.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attnflow.capture.families import family_of
from attnflow.errors import InputError


def in_front(mask: Tensor | None) -> Tensor | None:
    """`(batch,)` how much padding stands before each text; None where there is none at all."""
    if mask is None:
        return None
    count = (mask != 0).int().argmax(dim=1)
    return count if bool(count.any()) else None


def positioned(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs, with `position_ids` where padding in front asks for them.

    Raises:
        InputError: Padding stands in front of a text, and the model would take it for text.
    """
    sides = [name for name in _MASKS if in_front(inputs.get(name)) is not None]
    if not sides or "position_ids" in inputs:
        return dict(inputs)
    family = family_of(model)
    positions = None if family is None else family.positions
    if positions == "relative" or (positions == "counted" and _counted(model, inputs, sides)):
        return dict(inputs)
    if positions != "given":
        raise InputError(
            f"inputs[{sides[0]!r}] has padding in front of a text, which {type(model).__name__} "
            "would count as positions of the text; pad on the right (tokenizer.padding_side)"
            f"{_advice(positions, model)}."
        )
    mask = inputs["attention_mask"]
    places = torch.arange(mask.shape[1], device=mask.device)
    begins = (mask != 0).int().argmax(dim=1, keepdim=True)
    return {**inputs, "position_ids": (places - begins).clamp(min=0)}


_MASKS = {"attention_mask": "input_ids", "decoder_attention_mask": "decoder_input_ids"}


def _counted(model: Any, inputs: Mapping[str, Tensor], sides: list[str]) -> bool:
    """Whether all padding has the id that the model does not count."""
    pad = model.config.pad_token_id
    return all(
        _MASKS[side] in inputs and bool((inputs[_MASKS[side]] == pad)[inputs[side] == 0].all())
        for side in sides
    )


def _advice(positions: str | None, model: Any) -> str:
    if positions == "counted":
        return f", or with its own padding token {model.config.pad_token_id} and no inputs_embeds"
    return ", or hand position_ids" if positions is None else ""
