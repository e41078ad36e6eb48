"""The parts of attention at one query: what each head brings to it from each key.

With A the weights of a head and v its values, the part of key j is A[j] W_O v[j]. Weights and
values come from an attention function of our own; W_O is the linear module that runs after it,
wherever a family has it. Read next: attention.py for the interface to transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.pytorch_utils import Conv1D

from attnflow.capture.attention import boolean_mask, weights_of_call
from attnflow.errors import ModelError

IMPLEMENTATION = "attnflow_parts"


@dataclass
class AttentionCall:
    """One call of attention, as it was computed for one query.

    Attributes:
        weights: `(heads, t)` of the query.
        values: `(heads, t, width)` of all keys.
        projection: The linear module that the heads' sums run through; None until it is called.
        projected: `(d,)` its output for the query.
    """

    weights: Tensor
    values: Tensor
    projection: nn.Module | None = None
    projected: Tensor | None = None

    def from_heads(self) -> Iterator[Tensor]:
        """Yield the `(t, d)` vectors that each head brings to the query from every key."""
        of_heads = self._weight.chunk(len(self.weights), 1)
        for attention, values, weight in zip(self.weights, self.values, of_heads, strict=True):
            yield attention[:, None] * (values @ weight.T)

    @property
    def bias(self) -> Tensor:
        """`(d,)` bias of the projection, which belongs to no key; 0 where it has none."""
        bias: Tensor | None = getattr(self.projection, "bias", None)
        return torch.zeros_like(self.output) if bias is None else bias

    @property
    def output(self) -> Tensor:
        """`(d,)` what the projection gives for the query."""
        if self.projected is None:
            raise ModelError(
                "no linear module runs after the model's attention, so that it cannot be taken "
                "apart into heads and keys."
            )
        return self.projected

    @property
    def _weight(self) -> Tensor:
        """`(d, heads * width)` weight of the projection, in the form of `nn.Linear`."""
        module: Any = self.projection
        weight: Tensor = module.weight
        return weight.T if isinstance(module, Conv1D) else weight


@dataclass
class _Calls:
    """Calls of attention in one pass of the model, in their order, at one row of queries."""

    row: int
    made: list[AttentionCall]


_CALLS: ContextVar[_Calls | None] = ContextVar("attnflow_parts", default=None)


@contextmanager
def attention_parts(model: nn.Module, row: int) -> Iterator[list[AttentionCall]]:
    """Record the calls of attention in one forward pass of one content, at one row of queries.

    Args:
        model: A private copy that runs `IMPLEMENTATION`; it keeps the hooks.
        row: The row of queries.
    """
    calls = _Calls(row, [])

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        last = calls.made[-1] if calls.made else None
        if last is not None and last.projection is None:
            last.projection, last.projected = module, output[0, row]

    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            module.register_forward_hook(hook)
    token = _CALLS.set(calls)
    try:
        yield calls.made
    finally:
        _CALLS.reset(token)


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
    calls = _CALLS.get()
    if calls is None:
        raise ModelError(
            f"The attention implementation '{IMPLEMENTATION}' works only inside attention_parts."
        )
    weights, value = weights_of_call(
        module, query, key, value, attention_mask, scaling, is_causal, options
    )
    calls.made.append(AttentionCall(weights[0, :, calls.row], value[0]))
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, boolean_mask)
