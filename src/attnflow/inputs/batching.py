"""Encoded texts as the padded tensors that a model takes; encoded images as they are, stacked."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attnflow.errors import ModelError
from attnflow.inputs.image import EncodedImage
from attnflow.inputs.text import EncodedText

SIDES = {"input_ids": "attention_mask", "decoder_input_ids": "decoder_attention_mask"}


def of_images(images: Sequence[EncodedImage], model: Any) -> tuple[Tensor, Tensor]:
    """`(batch, channels, height, width)` on the model's device: pixel values, and neutral ones."""
    device = next(model.parameters()).device
    whole = torch.stack([image.inputs["pixel_values"] for image in images])
    return whole.to(device), torch.stack([image.neutral for image in images]).to(device)


def inputs(texts: Sequence[EncodedText], model: Any, tokenizer: Any) -> dict[str, Tensor]:
    """`(batch, t)` tensors on the model's device, right-padded; attention masks say how far."""
    padding = (pad_token_id(model.config), getattr(tokenizer, "pad_token_id", None), 0)
    pad = next(token for token in padding if token is not None)
    fill = dict.fromkeys(SIDES, pad)
    fill["token_type_ids"] = getattr(tokenizer, "pad_token_type_id", 0)
    rows = {
        name: _padded([text.inputs[name] for text in texts], fill.get(name, 0))
        for name in texts[0].inputs
    }
    for name, mask in SIDES.items():
        if name in rows:
            rows[mask] = _padded([[1] * len(text.inputs[name]) for text in texts], 0)
    device = next(model.parameters()).device
    return {name: torch.tensor(values, device=device) for name, values in rows.items()}


def pad_token_id(config: Any) -> int | None:
    """The model's own padding token; of a model of texts and images, that of its texts."""
    found: int | None = getattr(config.get_text_config(), "pad_token_id", None)
    return found


def _padded(rows: Sequence[Sequence[int]], fill: int) -> list[list[int]]:
    longest = max(len(row) for row in rows)
    return [[*row, *[fill] * (longest - len(row))] for row in rows]


def places(text: EncodedText, inputs: Mapping[str, Tensor]) -> list[int]:
    """Where the text's tokens stand among the nodes of its batch: one side's, then the other's."""
    found: list[int] = []
    start = 0
    for name in SIDES:
        if name in inputs:
            found += range(start, start + len(text.inputs[name]))
            start += inputs[name].shape[1]
    return found


def neutral(texts: Sequence[EncodedText], inputs: Mapping[str, Tensor], *owners: Any) -> Tensor:
    """`(batch, t)` the ids with a token that says nothing in the place of every ordinary one.

    Those of an encoder-decoder's prefix stand behind the source's.

    Raises:
        ModelError: The owners, a tokenizer or a config, have no token for that.
    """
    ids = torch.cat([inputs[name] for name in SIDES if name in inputs], dim=1)
    ordinary = torch.zeros_like(ids, dtype=torch.bool)
    for row, text in enumerate(texts):
        ordinary[row, places(text, inputs)] = ~torch.tensor(text.special, device=ids.device)
    return ids.masked_fill(ordinary, neutral_token(*owners))


def neutral_token(*owners: Any) -> int:
    """Id of [MASK], or where there is none [UNK], or the padding or end token.

    Args:
        owners: A tokenizer, then a config: the first that has one of them.

    Raises:
        ModelError: None has.
    """
    names = ("mask_token_id", "unk_token_id", "pad_token_id", "eos_token_id")
    for owner in owners:
        for name in names:
            if getattr(owner, name, None) is not None:
                return int(getattr(owner, name))
    raise ModelError(
        "the tokenizer has no mask, unknown, padding or end token for tensor='bcf' to put in "
        "the place of removed ones; use tensor='cf'."
    )
