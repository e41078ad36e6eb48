"""Attention that remembers: the forward pass of SDPA, and a backward pass that reduces as it goes.

The fast back ends of transformers never show their attention weights. So the model is lent another
one: its forward pass is SDPA, and its backward pass recomputes the weights from query and key, head
by head (as flash attention does), and adds what is asked for into one (batch, query, key) tensor
per layer. Neither the weights nor their gradients ever exist for more than one head at a time.

With A the weights of a head, O = A V its output and dO the gradient that arrives:

    G  = dO V'                          gradient of the weights
    dV = A' dO                          always
    dQ, dK = dS K, dS' Q   with dS = scaling * A * (G - rowsum(A * G))      unless frozen

For the conservative tensor (`cf`) the weights are constants: gradient leaves through V alone.
Models that compute attention by themselves are tapped at their probabilities instead (`tap`).

An edge that the attention mask forbids is no edge: its entry is 0, also where dO V' is not.

Source: transformers' `AttentionInterface` and `AttentionMaskInterface`. Read next: capture.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import scaled_dot_product_attention, softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from attnflow.errors import ModelError

IMPLEMENTATION = "attnflow"

# What a head adds to its layer's tensor, from its weights A and their gradients G.
_TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gf": lambda weights, gradient: gradient.relu(),
    "agf": lambda weights, gradient: (weights * gradient).relu(),
    "cf": lambda weights, gradient: weights * gradient,
}

# Options of attention functions that change the weights and that are not computed here.
_UNKNOWN_OPTIONS = ("softcap", "position_bias", "s_aux", "cache")


@dataclass
class Recorder:
    """Collects one (batch, query, key) tensor per attention call, in the order of the calls.

    `layers[l]` is None until it is known: after the forward pass for `af`, else after the backward.
    """

    tensor: str
    layers: list[Tensor | None] = field(default_factory=list)

    @property
    def frozen(self) -> bool:
        return self.tensor == "cf"

    def open_layer(self) -> int:
        """Announce one more attention call and return its layer index."""
        self.layers.append(None)
        return len(self.layers) - 1

    def close_layer(self, layer: int, total: Tensor, heads: int) -> None:
        """Keep the sum over heads of a layer: as it is for `cf`, else the mean."""
        self.layers[layer] = total if self.frozen else total / heads


_ACTIVE: ContextVar[Recorder | None] = ContextVar("attnflow_recorder", default=None)


@contextmanager
def recording(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Let the model's attention write to a recorder, for as long as this is open."""
    token = _ACTIVE.set(recorder)
    try:
        with lent(model, IMPLEMENTATION):
            yield
    finally:
        _ACTIVE.reset(token)


@contextmanager
def lent(model: nn.Module, implementation: str) -> Iterator[None]:
    """Switch every config inside the model to an attention function, and back whatever happens."""
    # The internal name, since the property's setter also writes into sub-configs.
    attribute = "_attn_implementation_internal"
    owned = (getattr(module, "config", None) for module in model.modules())
    switched = {id(config): config for config in owned if hasattr(config, attribute)}.values()
    before = [(config, getattr(config, attribute)) for config in switched]
    try:
        for config in switched:
            setattr(config, attribute, implementation)
        yield
    finally:
        for config, own in before:
            setattr(config, attribute, own)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32, except that a float64 model is followed in float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _recorded_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The function handed to transformers: (batch, heads, t, d) in, (batch, t, heads, d) out."""
    recorder = _ACTIVE.get()
    if recorder is None:
        raise ModelError(
            f"The attention implementation '{IMPLEMENTATION}' works only inside attnflow.capture; "
            "load the model with 'sdpa' or 'eager' and hand it to capture()."
        )
    check_call(module, query, key, options)
    if attention_mask is None and _is_causal(module, is_causal):
        ones = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        attention_mask = ones.tril()[None, None]
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = recorder.open_layer()
    output: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        query, key, value, attention_mask, scaling, recorder, layer
    )
    return output.transpose(1, 2).contiguous(), None


def check_call(module: nn.Module, query: Tensor, key: Tensor, options: dict[str, Any]) -> None:
    """Refuse a call of attention that is not computed here as the model means it.

    Raises:
        ModelError: An option that changes the weights, or more keys than queries.
    """
    unknown = [name for name in _UNKNOWN_OPTIONS if options.get(name) is not None]
    if unknown:
        raise ModelError(
            f"{type(module).__name__} calls attention with {unknown[0]}, which attnflow does not "
            "compute; such a model cannot be captured."
        )
    if query.shape[2] != key.shape[2]:
        raise ModelError(
            f"{type(module).__name__} attends from {query.shape[2]} queries to {key.shape[2]} "
            "keys; expected self-attention over one sequence, without cross-attention or a cache."
        )


def _is_causal(module: nn.Module, is_causal: bool | None) -> bool:
    # The rule of transformers' own sdpa function, which applies where no mask came.
    return bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)


def boolean_mask(*args: Any, **options: Any) -> Tensor | None:
    """Boolean masks as for sdpa, but causal ones always written out."""
    mask: Tensor | None = sdpa_mask(*args, **{**options, "allow_is_causal_skip": False})
    return mask


def _forbidden(mask: Tensor) -> Tensor:
    """Boolean, true where a boolean or additive mask forbids the edge."""
    return ~mask if mask.dtype == torch.bool else mask <= torch.finfo(mask.dtype).min / 2


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Attention weights (batch, t, t) of one head; a row that may attend nowhere is 0."""
    scores = query @ key.mT * scaling
    if mask is None:
        return softmax(scores, dim=-1)
    forbidden = _forbidden(mask)
    scores = scores if mask.dtype == torch.bool else scores + mask
    weights = softmax(scores.masked_fill(forbidden, -torch.inf), dim=-1)
    return weights.masked_fill(forbidden.all(dim=-1, keepdim=True), 0.0)


def _by_head(
    query: Tensor, key: Tensor, mask: Tensor | None, scaling: float
) -> Iterator[tuple[int, int, Tensor | None, Tensor]]:
    """Each head's index, that of its key and value head (shared in groups), mask and weights."""
    group = query.shape[1] // key.shape[1]
    for head in range(query.shape[1]):
        mask_h = None if mask is None else mask[:, head]
        weights = attention_weights(query[:, head], key[:, head // group], mask_h, scaling)
        yield head, head // group, mask_h, weights


class _Attention(Function):
    """softmax(scaling Q K' + mask) V, recording as the module docstring says."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
        recorder: Recorder,
        layer: int,
    ) -> Tensor:
        heads, group = query.shape[1], query.shape[1] // key.shape[1]
        mask = None if mask is None else mask.expand(len(query), heads, -1, -1)
        ctx.save_for_backward(query, key, value, mask)
        ctx.scaling, ctx.recorder, ctx.layer = scaling, recorder, layer
        if recorder.tensor == "af":
            total = _zeros(query)
            for *_, weights in _by_head(query, key, mask, scaling):
                total += weights
            recorder.close_layer(layer, total, heads)
        if group > 1:
            key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        recorder, scaling = ctx.recorder, ctx.scaling
        total = _zeros(query)
        dq, dk, dv = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for head, shared, mask_h, weights in _by_head(query, key, mask, scaling):
            do = output_gradient[:, head]
            gradient = do @ value[:, shared].mT
            if mask_h is not None:
                gradient = gradient.masked_fill(_forbidden(mask_h), 0.0)
            total += _TERMS[recorder.tensor](weights, gradient)
            dv[:, shared] += weights.mT @ do
            if not recorder.frozen:
                ds = weights * gradient
                ds = scaling * (ds - weights * ds.sum(dim=-1, keepdim=True))
                dq[:, head] = ds @ key[:, shared]
                dk[:, shared] += ds.mT @ query[:, head]
        recorder.close_layer(ctx.layer, total, query.shape[1])
        through_weights = (None, None) if recorder.frozen else (dq, dk)
        return (*through_weights, dv, None, None, None, None)


def _zeros(heads: Tensor) -> Tensor:
    """The (batch, t, t) that a layer's heads (batch, heads, t, d) are added into."""
    batch, _, t, _ = heads.shape
    dtype = accumulation_dtype(heads.dtype)
    return torch.zeros(batch, t, t, dtype=dtype, device=heads.device)


class _Tap(Function):
    """Identity on (batch, heads, t, t) probabilities that reduces their gradient on its way."""

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, recorder: Recorder, layer: int) -> Tensor:
        ctx.save_for_backward(probabilities)
        ctx.recorder, ctx.layer = recorder, layer
        return probabilities.view_as(probabilities)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        (probabilities,) = ctx.saved_tensors
        recorder, heads = ctx.recorder, gradient.shape[1]
        total = _zeros(gradient)
        for head in range(heads):
            total += _TERMS[recorder.tensor](probabilities[:, head], gradient[:, head])
        recorder.close_layer(ctx.layer, total, heads)
        return (None if recorder.frozen else gradient), None, None


def tap(recorder: Recorder) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A forward hook for a module whose output is attention probabilities (batch, heads, t, t)."""

    def hook(module: nn.Module, args: Any, probabilities: Tensor) -> Tensor:
        layer = recorder.open_layer()
        if recorder.tensor == "af":
            dtype = accumulation_dtype(probabilities.dtype)
            recorder.close_layer(
                layer, probabilities.sum(dim=1, dtype=dtype), probabilities.shape[1]
            )
        tapped: Tensor = _Tap.apply(probabilities, recorder, layer)  # type: ignore[no-untyped-call]
        return tapped

    return hook


# The only module-level state: transformers looks attention functions up by name.
AttentionInterface.register(IMPLEMENTATION, _recorded_attention)
AttentionMaskInterface.register(IMPLEMENTATION, boolean_mask)
