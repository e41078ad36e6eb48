"""Position ids of padded texts: a text's tokens are counted from its own first one.

Most models number positions by place in the tensor, padding in front included, unless they are
told: so a text with padding on the left would be another one to them. Where padding stands in
front, `position_ids` are handed over that say where each text begins. Some models count by
themselves, some know only distances between tokens, and some can be neither told nor trusted: those
are refused. Padding behind a text moves nothing, nor does a hole inside.

Read next: families.py for which model does what.
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
        InputError: Padding stands in front of a text, and the model would take it for text.
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
    places = torch.arange(mask.shape[1], device=mask.device)
    begins = (mask != 0).int().argmax(dim=1, keepdim=True)
    return {**inputs, "position_ids": (places - begins).clamp(min=0)}


def _counted(model: Any, inputs: Mapping[str, Tensor], sides: Sequence[tuple[str, str]]) -> bool:
    """Return whether all padding has the id that the model does not count."""
    pad = model.config.pad_token_id
    return all(
        ids in inputs and bool((inputs[ids] == pad)[inputs[mask] == 0].all()) for ids, mask in sides
    )


def _advice(positions: str | None, model: Any) -> str:
    if positions == "counted":
        return f", or with its own padding token {model.config.pad_token_id} and no inputs_embeds"
    return ", or hand position_ids" if positions is None else ""
