"""Run a model without some of its attention edges, to measure what they carry.

The weight of a removed edge is set to 0 in every head, after the softmax. The other weights stay as
they are, so that an edge's effect is not mixed with what renormalising would do to its neighbours.
Residual connections stay whole. Read next: attention.py for the interface to transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from attnflow.capture.attention import boolean_mask, weights_of_call
from attnflow.capture.private_copy import Model, private_copy
from attnflow.errors import InputError, ModelError

IMPLEMENTATION = "attnflow_edges"

_KEPT: ContextVar[list[Tensor] | None] = ContextVar("attnflow_kept", default=None)


@contextmanager
def only_edges(model: Model, kept: Tensor) -> Iterator[Model]:
    """Give a private copy of a model that keeps only the edges that are true.

    The copy is for one forward pass of a batch, inside this context.

    Args:
        model: A model whose attention runs through transformers' interface.
        kept: `(batch, layers, t, t)` bool, as [b, l, query, key].

    Raises:
        ModelError: The model runs attention in more or fewer layers than `kept` has.
        InputError: `kept` is no such tensor.
    """
    if kept.ndim != 4 or kept.dtype != torch.bool or kept.shape[2] != kept.shape[3]:
        raise InputError(
            "kept must be a (batch, layers, t, t) bool tensor, got one of shape "
            f"{tuple(kept.shape)} and {kept.dtype}."
        )
    # Calls take their layer in turn: a module may run as several layers, as in ALBERT.
    remaining = list(kept.unbind(1))
    token = _KEPT.set(remaining)
    try:
        yield private_copy(model, IMPLEMENTATION)
    finally:
        _KEPT.reset(token)
    if remaining:
        raise ModelError(
            f"{type(model).__name__} ran attention in {kept.shape[1] - len(remaining)} layers, "
            f"expected {kept.shape[1]}."
        )


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    remaining = _KEPT.get()
    if not remaining:
        raise ModelError(
            f"{type(module).__name__} runs attention in more layers than the mask of edges has."
        )
    kept = remaining.pop(0)[:, None]
    weights, value = weights_of_call(
        module, query, key, value, attention_mask, scaling, is_causal, options
    )
    output = (weights * kept) @ value
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, boolean_mask)
