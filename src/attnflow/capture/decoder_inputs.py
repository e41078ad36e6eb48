"""Inputs of the text decoder of a vision-language model, with its images in them.

Such a model turns images into features with a vision tower and a projector, and puts them in the
place of the placeholder tokens of its text. From there on a decoder of texts reads all of them. The
flow is that of the decoder: so the model runs up to its decoder once, without gradients, and what
arrives there replaces `input_ids` and pixels in every later pass:

    inputs_embeds     `(batch, t, width)`, embeddings of tokens and features of images
    position_ids      `(batch, t)`, or `(axes, batch, t)` of rotary positions in time, rows, columns
    attention_mask    `(batch, t)`
    token_type_ids    `(batch, t)`, where the model's own mask depends on them (Gemma 3)
    deepstack_embeds  `(batch, levels, t, width)`, features that early layers add (Qwen3-VL)

Positions are those of the whole example, so that tokens can be hidden without moving any other.

Features of level l are added to the hidden states after layer l. They enter the decoder at the node
of their own image token: `passes.py` counts their effect to that token's residual edges up to that
layer, so that the effects stay conserved at every node. Read next: passes.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnflow.capture.contexts import with_new_tensors_on
from attnflow.capture.input_names import DEEPSTACK
from attnflow.capture.placement import device_of
from attnflow.capture.private_copy import private_copy
from attnflow.capture.weights import pass_dtype
from attnflow.errors import ModelError

# The names that decoders give the added features and their places.
_ADDED, _PLACES = "deepstack_visual_embeds", "visual_pos_masks"
# Inputs of tokens that the model's own code reads besides embeddings and positions.
_KEPT = ("attention_mask", "token_type_ids")
# What decoders are given besides; anything else that holds numbers would be lost.
_KNOWN = ("inputs_embeds", "position_ids", "cache_position", *_KEPT, _ADDED, _PLACES)


class _AtDecoder(Exception):  # noqa: N818  # no error: it ends the pass
    """Raised where the decoder begins."""


def text_decoder(model: PreTrainedModel) -> nn.Module:
    """Return the part of a vision-language model that reads embeddings of texts and images.

    Raises:
        ModelError: It names no such part.
    """
    decoder: nn.Module = model.get_decoder()
    if decoder is model or getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(model).__name__} has no decoder of texts that reads its images as tokens: "
            "expected a model such as LLaVA, Qwen2.5-VL, Gemma 3 or SmolVLM."
        )
    return decoder


def decoder_inputs(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the decoder's inputs of one example, as the module docstring lists them.

    Args:
        model: A vision-language model.
        inputs: Its processor's output for one text and its images: `input_ids` and
            `attention_mask`, `(1, t)`, and what goes with the images.

    Raises:
        ModelError: The model has no such decoder, or calls it in a way that is not known.
    """
    device = device_of(model)
    inputs = {name: value.detach().to(device) for name, value in inputs.items()}
    arrived = _arrived(model, inputs)
    embeddings = arrived.get("inputs_embeds")
    if not isinstance(embeddings, Tensor) or embeddings.shape[:2] != inputs["input_ids"].shape:
        raise ModelError(
            f"{type(model).__name__} does not give its decoder one embedding for each of "
            f"{inputs['input_ids'].shape[1]} tokens, so that no flow can end at them."
        )
    other = [name for name, value in arrived.items() if name not in _KNOWN and _has_numbers(value)]
    if other:
        raise ModelError(
            f"{type(model).__name__} gives its decoder {other[0]} besides its embeddings, and what "
            "that brings to a token is not known: expected a model such as LLaVA, Qwen-VL, Gemma 3 "
            "or SmolVLM."
        )
    # The tower and projector run in the type of their weights, as they do for the model itself.
    embeddings = embeddings.to(pass_dtype(model))
    batch, t, width = embeddings.shape
    positions = arrived.get("position_ids")
    if positions is None:
        positions = torch.arange(t, device=device).expand(batch, t)
    read = {name: inputs[name] for name in _KEPT if name in inputs}
    read |= {"inputs_embeds": embeddings, "position_ids": positions}
    added = arrived.get(_ADDED)
    if added:
        levels = embeddings.new_zeros(len(added), batch, t, width)
        levels[:, arrived[_PLACES].to(device)] = torch.stack(list(added)).to(levels)
        read[DEEPSTACK] = levels.transpose(0, 1).contiguous()
    return read


def _has_numbers(value: Any) -> bool:
    """Return whether there is a tensor in an argument."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(_has_numbers, value))
    return isinstance(value, Tensor)


def _arrived(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the keywords with which a model calls its decoder."""
    arrived: dict[str, Any] = {}

    def at_decoder(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        arrived.update(kwargs)
        raise _AtDecoder

    copy = private_copy(model)  # which keeps what a model remembers of its last call, and the hook
    text_decoder(copy).register_forward_pre_hook(at_decoder, with_kwargs=True)
    with (
        torch.no_grad(),
        torch.autocast(device_of(model).type, enabled=False),
        with_new_tensors_on(device_of(model)),
        suppress(_AtDecoder),
    ):
        copy(**inputs, use_cache=False, return_dict=True)
    return arrived


def add_deepstack(decoder: nn.Module, levels: Tensor) -> list[Tensor]:
    """Let a private copy's decoder add features to its hidden states, and return them as leaves.

    Args:
        decoder: The decoder.
        levels: `(batch, levels, t, width)`, 0 at tokens that are of no image.

    Returns:
        `(batch, t, width)` of each level, which can be differentiated.
    """
    leaves = [
        level.detach().clone().requires_grad_(torch.is_grad_enabled()) for level in levels.unbind(1)
    ]
    everywhere = torch.ones(levels.shape[0], levels.shape[2], dtype=torch.bool)

    def give(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        features = [leaf.flatten(0, 1) for leaf in leaves]
        return args, {**kwargs, _PLACES: everywhere.to(levels.device), _ADDED: features}

    decoder.register_forward_pre_hook(give, with_kwargs=True)
    return leaves
