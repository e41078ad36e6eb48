"""Encoded texts as the padded tensors of a batch, and the tokens that stand for removed ones."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from attnflow.capture.input_names import MASK_OF_IDS
from attnflow.capture.placement import device_of
from attnflow.errors import ModelError
from attnflow.inputs.text import EncodedText


class TokenLists(Protocol):
    """A text as the lists that its model reads, whole or with tokens removed."""

    @property
    def inputs(self) -> Mapping[str, list[int]]: ...


def collate_texts(texts: Sequence[TokenLists], model: Any, tokenizer: Any) -> dict[str, Tensor]:
    """`(batch, t)` tensors on the model's device, padded on the right, with attention masks."""
    # The model's own padding first: some families count positions by it. Masks hide it anyway.
    padding = (pad_token_id(model.config), getattr(tokenizer, "pad_token_id", None), 0)
    pad = next(token for token in padding if token is not None)
    fill = dict.fromkeys(MASK_OF_IDS, pad)
    fill["token_type_ids"] = getattr(tokenizer, "pad_token_type_id", 0)
    rows = {
        name: _pad([text.inputs[name] for text in texts], fill.get(name, 0))
        for name in texts[0].inputs
    }
    for name, mask in MASK_OF_IDS.items():
        if name in rows:
            rows[mask] = _pad([[1] * len(text.inputs[name]) for text in texts], 0)
    device = device_of(model)
    return {name: torch.tensor(values, device=device) for name, values in rows.items()}


def pad_token_id(config: Any) -> int | None:
    """Return the model's own padding token; of a model of texts and images, that of its texts."""
    return getattr(config.get_text_config(), "pad_token_id", None)


def _pad(rows: Sequence[Sequence[int]], fill: int) -> list[list[int]]:
    longest = max(len(row) for row in rows)
    return [[*row, *[fill] * (longest - len(row))] for row in rows]


def places(text: EncodedText, inputs: Mapping[str, Tensor]) -> list[int]:
    """Index of each of the text's tokens among the nodes of its batch: one stack, then the other.

    Padding of the first stack lies between the two.
    """
    nodes: list[int] = []
    start = 0
    for name, mask in MASK_OF_IDS.items():
        if mask in inputs:
            nodes += range(start, start + len(text.inputs[name]))
            start += inputs[mask].shape[1]
    return nodes


def token_ids(inputs: Mapping[str, Tensor]) -> Tensor:
    """`(batch, nodes)` ids of a batch: those of the source, then those of a decoder's prefix."""
    return torch.cat([inputs[name] for name in MASK_OF_IDS if name in inputs], dim=1)


def real_nodes(inputs: Mapping[str, Tensor]) -> Tensor:
    """`(batch, nodes)` bool, true at tokens that are no padding."""
    return torch.cat([inputs[name] for name in MASK_OF_IDS.values() if name in inputs], dim=1) != 0


def masked_ids(texts: Sequence[EncodedText], inputs: Mapping[str, Tensor], *owners: Any) -> Tensor:
    """`(batch, nodes)` input ids with every ordinary token replaced by the neutral token.

    Args:
        texts: The texts of the batch.
        inputs: Their tensors, as `collate_texts` returns them.
        owners: As for `neutral_token`.

    Raises:
        ModelError: As `neutral_token`.
    """
    return token_ids(inputs).masked_fill(ordinary_nodes(texts, inputs), neutral_token(*owners))


def ordinary_nodes(texts: Sequence[EncodedText], inputs: Mapping[str, Tensor]) -> Tensor:
    """`(batch, nodes)` bool, true at tokens that are neither padding nor special."""
    ordinary = torch.zeros_like(real_nodes(inputs))
    for row, text in enumerate(texts):
        ordinary[row, places(text, inputs)] = ~torch.tensor(text.special, device=ordinary.device)
    return ordinary


def neutral_token(*owners: Any) -> int:
    """Id of [MASK], or where there is none of [UNK], padding or the end token.

    Args:
        owners: A tokenizer, then a config: the first that has one of these tokens.

    Raises:
        ModelError: None of them has.
    """
    # [MASK] was trained to stand for a word that is not told; the others only come near that.
    names = ("mask_token_id", "unk_token_id", "pad_token_id", "eos_token_id")
    for owner in owners:
        for name in names:
            if getattr(owner, name, None) is not None:
                return int(getattr(owner, name))
    raise ModelError(
        "the tokenizer has no mask, unknown, padding or end token for stages to put in the place "
        "of removed ones; give tensor='net' with stages=() (--stages none), or tensor='cf'."
    )
