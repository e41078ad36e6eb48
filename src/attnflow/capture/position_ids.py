"""Position ids of padded texts: a text's tokens are counted from its own first one.

Most models number positions by index in the tensor, padding in front included, unless they get
`position_ids`. A text with padding on the left would be another text to them. So where padding
stands in front, `position_ids` are added that count from the first token of each text. Some models
count by themselves, and some know only distances between tokens. Others take no `position_ids` and
do not count: those are refused. Padding after a text moves nothing, nor does a hole inside it.

Read next: families.py for the numbering of each family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attnflow.capture.families import family_of
from attnflow.capture.input_names import MASK_OF_IDS
from attnflow.errors import InputError


def left_padding(mask: Tensor | None) -> Tensor | None:
    """`(batch,)` padding tokens in front of each text; None where no text has any."""
    if mask is None:
        return None
    count = (mask != 0).int().argmax(dim=1)
    return count if bool(count.any()) else None


def with_position_ids(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs, with `position_ids` where padding in front needs them.

    Raises:
        InputError: Padding stands in front of a text, and the model would count it as text.
    """
    sides = [
        (ids, mask)
        for ids, mask in MASK_OF_IDS.items()
        if left_padding(inputs.get(mask)) is not None
    ]
    if not sides or "position_ids" in inputs:
        return dict(inputs)
    family = family_of(model)
    positions = None if family is None else family.positions
    if positions == "relative" or (positions == "counted" and _counted(model, inputs, sides)):
        return dict(inputs)
    if positions != "given":
        raise InputError(
            f"inputs[{sides[0][1]!r}] has padding in front of a text, which {type(model).__name__} "
            "would count as positions of the text; pad on the right (tokenizer.padding_side)"
            f"{_advice(positions, model)}."
        )
    mask = inputs["attention_mask"]
    indices = torch.arange(mask.shape[1], device=mask.device)
    starts = (mask != 0).int().argmax(dim=1, keepdim=True)
    # Padding itself may have any position that exists; nothing reads it.
    return {**inputs, "position_ids": (indices - starts).clamp(min=0)}


def with_fixed_positions(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs with the positions that their tokens keep when some of them are hidden.

    Raises:
        InputError: As `with_position_ids`.
    """
    inputs, family = with_position_ids(model, inputs), family_of(model)
    if "position_ids" in inputs or family is None or family.positions != "given":
        return inputs  # counted by the ids themselves, or known by distances
    ids = inputs["input_ids"]
    return {**inputs, "position_ids": torch.arange(ids.shape[1], device=ids.device).expand_as(ids)}


def _counted(model: Any, inputs: Mapping[str, Tensor], sides: Sequence[tuple[str, str]]) -> bool:
    """Return whether all padding has the id that the model does not count."""
    pad = model.config.pad_token_id
    return all(
        ids in inputs and bool((inputs[ids] == pad)[inputs[mask] == 0].all()) for ids, mask in sides
    )


def _advice(positions: str | None, model: Any) -> str:
    if positions == "counted":
        return f", or with its own padding token {model.config.pad_token_id} and no inputs_embeds"
    return ", or give position_ids" if positions is None else ""
