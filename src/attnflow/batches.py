"""Encoded texts as the padded tensors that a model takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from attnflow.errors import ModelError
from attnflow.tokens import EncodedText


def of_like_length(texts: Sequence[EncodedText], size: int) -> Iterator[list[int]]:
    """Indices in batches, longest texts first, so that memory runs out at once or not at all."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i].tokens))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def inputs(texts: Sequence[EncodedText], model: Any, tokenizer: Any) -> dict[str, Tensor]:
    """`(batch, t)` tensors on the model's device, right-padded; the attention mask says how far."""
    t = max(len(text.tokens) for text in texts)
    padding = (model.config.pad_token_id, getattr(tokenizer, "pad_token_id", None), 0)
    fill = {
        "input_ids": next(token for token in padding if token is not None),
        "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
    }
    rows = {
        name: [list(e.inputs[name]) + [fill.get(name, 0)] * (t - len(e.tokens)) for e in texts]
        for name in texts[0].inputs
    }
    rows["attention_mask"] = [[1] * len(e.tokens) + [0] * (t - len(e.tokens)) for e in texts]
    device = next(model.parameters()).device
    return {name: torch.tensor(values, device=device) for name, values in rows.items()}


def neutral(texts: Sequence[EncodedText], ids: Tensor, *owners: Any) -> Tensor:
    """`(batch, t)` the ids with a token that says nothing in the place of every ordinary one.

    Raises:
        ModelError: The owners, a tokenizer or a config, have no token for that.
    """
    ordinary = torch.zeros_like(ids, dtype=torch.bool)
    for row, text in enumerate(texts):
        ordinary[row, : len(text.tokens)] = ~torch.tensor(text.special, device=ids.device)
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
