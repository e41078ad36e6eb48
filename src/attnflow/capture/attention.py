"""Recorded attention: the forward pass of SDPA, and a backward pass that reduces as it goes.

The fast back ends of transformers never show their attention weights. So the model runs another
one meanwhile. Its forward pass is SDPA. Its backward pass recomputes the weights from query and
key, as flash attention does. It goes head by head and, in a long text, some rows of queries at a
time. It adds each head's term into one (batch, query, key) tensor per layer. Neither the weights
nor their gradients ever exist for more than one head and one such tile.

With A the weights of a head, O = A V its output and dO the gradient that arrives:

    G  = dO V'                          gradient of the weights
    dV = A' dO                          always
    dQ, dK = dS K, dS' Q   with dS = scaling * A * (G - rowsum(A * G))      unless frozen

Scores may be capped, cap * tanh(score / cap), as in Gemma 2, and have a bias for each pair of
positions, as in T5. A head may have a sink, as in GPT-OSS: one more score in the softmax, of no
key, so that the weights of a row add up to less than 1. There may be fewer heads of keys and values
than of queries, and in cross-attention another number of keys.

For the conservative tensor (`cf`) the weights are constants: gradient leaves through V alone.
Models that compute attention themselves are recorded at their probabilities instead
(`record_probabilities`).

An edge that the attention mask forbids is no edge: its entry is 0, also where dO V' is not.

Source: transformers' `AttentionInterface` and `AttentionMaskInterface`. Read next: recorder.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import scaled_dot_product_attention, softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from attnflow.capture.frozen_backward import SOFTMAX_FUNCTIONS, ReplacedFunctions
from attnflow.capture.recorder import Recorder
from attnflow.errors import ModelError

IMPLEMENTATION = "attnflow"

# The term that a head adds to its layer's tensor, from its weights A and their gradients G. The
# paper clips each head alone; `cf` keeps signs, since contributions of heads add up, and is clipped
# after the sum (capture.clip).
_TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gf": lambda weights, gradient: gradient.relu(),
    "agf": lambda weights, gradient: (weights * gradient).relu(),
    "cf": lambda weights, gradient: weights * gradient,
}

# Weights of a head that exist at once, in some five arrays of 16 MiB each in float32. A text of up
# to 2,048 tokens is still one tile, so that the loop over tiles costs only long texts anything.
TILE = 2**22

# Weights of several heads that are computed at once: a mebibyte in float32.
TOGETHER = 2**18

# Options of attention functions that change the weights and that are not computed here.
_UNKNOWN_OPTIONS = ("cache",)


@dataclass(frozen=True)
class Scoring:
    """The function from queries and keys to scores and weights.

    Attributes:
        scaling: Factor of the products.
        mask: `(batch, heads, query, key)`, boolean or additive, or None.
        softcap: Bound of the scores, softcap * tanh(score / softcap), or None.
        bias: `(batch, heads, query, key)`, added to the scores, or None.
        sinks: `(heads,)`, a score for each head that takes its share of the softmax, or None.
    """

    scaling: float
    mask: Tensor | None = None
    softcap: float | None = None
    bias: Tensor | None = None
    sinks: Tensor | None = None

    @classmethod
    def of_call(
        cls, query: Tensor, mask: Tensor | None, scaling: float | None, options: dict[str, Any]
    ) -> Scoring:
        """Return the scoring of one call, from transformers' arguments."""
        if scaling is None:
            scaling = query.shape[-1] ** -0.5
        bias, sinks = (
            None if x is None else x.detach()
            for x in (options.get("position_bias"), options.get("s_aux"))
        )
        return cls(scaling, mask, options.get("softcap"), bias, sinks)

    def of_head(self, head: int | slice, rows: slice, shape: torch.Size) -> Scoring:
        """Return the scoring of some queries of one head or several.

        `shape` is that of all queries, (batch, heads, t, ...).
        """
        mask, bias = (
            None if x is None else x.expand(*shape[:3], -1)[:, head, rows]
            for x in (self.mask, self.bias)
        )
        sinks = None if self.sinks is None else self.sinks[head]
        return Scoring(self.scaling, mask, self.softcap, bias, sinks)

    @property
    def forbidden(self) -> Tensor | None:
        """Boolean, true where the mask forbids the edge; None where there is no mask."""
        if self.mask is None:
            return None
        if self.mask.dtype == torch.bool:
            return ~self.mask
        # Models mask with the dtype's least number or -inf, some of them plus a bias: half the
        # least number separates both from any bias.
        return self.mask <= torch.finfo(self.mask.dtype).min / 2

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """`(..., query, key)` scores of the products alone, without bias and mask."""
        scores = query @ key.mT * self.scaling
        if self.softcap is not None:
            scores = self.softcap * (scores / self.softcap).tanh()
        return scores

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """`(..., query, key)` attention weights; a row that may attend nowhere is 0."""
        return self.normalised(self.scores(query, key))

    def normalised(self, scores: Tensor) -> Tensor:
        """`(..., query, key)` attention weights of such scores, with bias and mask added."""
        if self.bias is not None:
            scores = scores + self.bias
        if self.mask is None:
            return self._softmax(scores)
        forbidden = cast(Tensor, self.forbidden)
        scores = scores if self.mask.dtype == torch.bool else scores + self.mask
        # Exactly 0 at forbidden edges, which an additive mask alone does not give.
        weights = self._softmax(scores.masked_fill(forbidden, -torch.inf))
        return weights.masked_fill(forbidden.all(dim=-1, keepdim=True), 0.0)

    def _softmax(self, scores: Tensor) -> Tensor:
        weights = softmax(scores, dim=-1)
        if self.sinks is None:
            return weights
        # exp(total) / (exp(total) + exp(sink)) is left to the keys, with total their log-sum-exp.
        total = scores.logsumexp(dim=-1, keepdim=True)
        return weights * (total - self.sinks[..., None, None]).sigmoid()

    def slope(self, query: Tensor, key: Tensor) -> Tensor | float:
        """Return the derivative of the scores by the products of queries and keys."""
        if self.softcap is None:
            return self.scaling
        capped = (query @ key.mT * (self.scaling / self.softcap)).tanh()
        return self.scaling * (1 - capped.square())

    def slope_through_origin(self, query: Tensor, key: Tensor, scores: Tensor) -> Tensor | float:
        """Return the scores over the products of queries and keys, as of every activation."""
        if self.softcap is None:
            return self.scaling
        products = query @ key.mT * self.scaling
        # tanh(x) / x is 1 at 0, where it is the ratio of two zeros.
        return self.scaling * (scores / products).where(products != 0, 1.0)


_ACTIVE: ContextVar[Recorder | None] = ContextVar("attnflow_recorder", default=None)


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Let attention that runs `IMPLEMENTATION` write to a recorder inside this context.

    Only in this thread: others may record at the same time.
    """
    token = _ACTIVE.set(recorder)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def weights_of_call(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None,
    is_causal: bool | None,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Return the weights of all heads at once, and the values of each, of one call.

    For attention functions on short texts, without gradients; the arguments are transformers'.
    """
    check_call(module, options)
    key, value = (of_every_head(x, query) for x in (key, value))
    mask = explicit_mask(module, query, key, attention_mask, is_causal)
    return Scoring.of_call(query, mask, scaling, options).weights(query, key), value


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float32, or float64 for a float64 model."""
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
    """Compute attention for transformers: (batch, heads, t, d) in, (batch, t, heads, d) out."""
    recorder = _ACTIVE.get()
    if recorder is None:
        raise ModelError(
            f"The attention implementation '{IMPLEMENTATION}' works only inside attnflow.capture; "
            "load the model with 'sdpa' or 'eager' and give it to capture()."
        )
    check_call(module, options)
    mask = explicit_mask(module, query, key, attention_mask, is_causal)
    scoring = Scoring.of_call(query, mask, scaling, options)
    layer = recorder.open_layer(len(query), query.shape[2], key.shape[2])
    output: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        query, key, value, scoring, recorder, layer
    )
    return output.transpose(1, 2).contiguous(), None


def check_call(module: nn.Module, options: dict[str, Any]) -> None:
    """Raise if a call has an option that changes the weights and is not computed here.

    Raises:
        ModelError: There is such an option.
    """
    unknown = [name for name in _UNKNOWN_OPTIONS if options.get(name) is not None]
    if unknown:
        raise ModelError(
            f"{type(module).__name__} calls attention with {unknown[0]}, which attnflow does not "
            "compute; such a model cannot be captured."
        )


def explicit_mask(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool | None
) -> Tensor | None:
    """Return the mask; where none is given and the module is causal, the causal one."""
    # The rule of transformers' own sdpa function.
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if mask is not None or not causal or query.shape[2] != key.shape[2]:
        return mask
    ones = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
    return ones.tril()[None, None]


def boolean_mask(*args: Any, **options: Any) -> Tensor | None:
    """Return a boolean mask as for sdpa, with causal ones always explicit.

    SDPA can be told that it is causal and then needs no mask; the recomputed weights here do.
    """
    mask: Tensor | None = sdpa_mask(*args, **{**options, "allow_is_causal_skip": False})
    return mask


def tiles(batch: int, queries: int, keys: int) -> Iterator[slice]:
    """Yield ranges of queries, each of at most `TILE` weights of a head, or of one query."""
    rows = max(TILE // (batch * keys), 1)
    for start in range(0, queries, rows):
        yield slice(start, min(start + rows, queries))


def _tiles(query: Tensor, key: Tensor) -> Iterator[slice]:
    return tiles(len(query), query.shape[2], key.shape[2])


def _by_head(
    query: Tensor, key: Tensor, scoring: Scoring, rows: slice
) -> Iterator[tuple[int, int, Scoring, Tensor]]:
    """Yield each head's index, the index of its key and value head, its scoring and its weights.

    Several heads of queries may share one of keys and values.
    """
    group = query.shape[1] // key.shape[1]
    for head in range(query.shape[1]):
        of_head, shared = scoring.of_head(head, rows, query.shape), head // group
        yield head, shared, of_head, of_head.weights(query[:, head, rows], key[:, shared])


class _Attention(Function):
    """softmax(scaling Q K' + mask) V, recorded as the module docstring states."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scoring: Scoring,
        recorder: Recorder,
        layer: int,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scoring, ctx.recorder, ctx.layer = scoring, recorder, layer
        if recorder.tensor == "af":
            for rows in _tiles(query, key):
                total = _zeros(query, key, rows)
                for *_, weights in _by_head(query, key, scoring, rows):
                    total += weights
                recorder.write(layer, rows, total, query.shape[1])
        return _attended(query, key, value, scoring)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        if ctx.recorder.shares_pattern:
            return *_shared_backward(ctx, output_gradient), None, None, None
        dv = torch.zeros_like(value)
        dq, dk = (None, None) if ctx.recorder.frozen else map(torch.zeros_like, (query, key))
        for rows in _tiles(query, key):
            total = _zeros(query, key, rows)
            for head, shared, scoring, weights in _by_head(query, key, ctx.scoring, rows):
                do = output_gradient[:, head, rows]
                # A forbidden edge has a gradient though no weight, which `gf` would take for one.
                gradient = do @ value[:, shared].mT
                if scoring.forbidden is not None:
                    gradient = gradient.masked_fill_(scoring.forbidden, 0.0)
                total += _TERMS[ctx.recorder.tensor](weights, gradient)
                dv[:, shared] += weights.mT @ do
                if dq is not None and dk is not None:
                    head_query, head_key = query[:, head, rows], key[:, shared]
                    slope = scoring.slope(head_query, head_key)
                    ds = _through_softmax(weights, gradient) * slope
                    dq[:, head, rows] = ds @ head_key
                    dk[:, shared] += ds.mT @ head_query
            ctx.recorder.write(ctx.layer, rows, total, query.shape[1])
        return dq, dk, dv, None, None, None


def _shared_backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value where each product is shared between its factors.

    The weights and the values have half of the gradient of their product each, and queries and keys
    half of that of the scores. So an edge's effect is A G / 2 through the value and s dS / 2
    through the key, with G and dS of this backward pass; the query has s dS / 2 of each of its
    edges.
    """
    query, key, value = ctx.saved_tensors
    recorder, layer = ctx.recorder, ctx.layer
    dq, dk, dv = (torch.zeros_like(x) for x in (query, key, value))
    for rows in _tiles(query, key):
        total = _zeros(query, key, rows)
        of_queries = total.new_zeros(total.shape[:2])
        for heads, shared in _head_groups(query, key, rows):
            scoring = ctx.scoring.of_head(heads, rows, query.shape)
            head_query = query[:, heads, rows]
            head_key, head_value = (of_every_head(x[:, shared], head_query) for x in (key, value))
            scores = scoring.scores(head_query, head_key)
            weights = scoring.normalised(scores)
            do = output_gradient[:, heads, rows] / 2
            gradient = do @ head_value.mT
            dv[:, shared] += _of_shared_heads(weights.mT @ do, shared)
            # Twice dS: its half is taken where that costs no pass over all pairs.
            through_value = weights * gradient
            ds = gradient.sub_(through_value.sum(-1, keepdim=True)).mul_(weights)
            through_key = scores * ds
            of_queries += through_key.sum((1, 3)) / 2
            total += through_value.add_(through_key, alpha=0.5).sum(1)
            slope = scoring.slope_through_origin(head_query, head_key, scores)
            if isinstance(slope, Tensor):
                ds, slope = ds * slope, 1.0
            dq[:, heads, rows] = ds @ (head_key * (slope / 2))
            dk[:, shared] += _of_shared_heads(ds.mT @ (head_query * (slope / 2)), shared)
        recorder.write(layer, rows, total, query.shape[1])
        recorder.write_queries(layer, rows, of_queries)
    return dq, dk, dv


def _head_groups(query: Tensor, key: Tensor, rows: slice) -> Iterator[tuple[slice, slice]]:
    """Yield heads of queries, and of keys, that are computed at once.

    Computing the heads of a short text together saves most of the time, which there goes into calls
    rather than into numbers. Those of a longer text are computed one by one, since their arrays
    would no longer fit into a cache.
    """
    heads, group = query.shape[1], query.shape[1] // key.shape[1]
    fits = TOGETHER // (len(query) * (rows.stop - rows.start) * key.shape[2])
    # Queries that share a head of keys stay together, or each is by itself.
    size = max(fits // group * group, 1)
    for start in range(0, heads, size):
        stop = min(start + size, heads)
        yield slice(start, stop), slice(start // group, (stop - 1) // group + 1)


def _of_shared_heads(gradient: Tensor, shared: slice) -> Tensor:
    """`(batch, shared heads, keys, d)` sums over the heads of queries that share one of keys."""
    batch, heads, *sizes = gradient.shape
    count = shared.stop - shared.start
    return gradient.view(batch, count, heads // count, *sizes).sum(2)


def _through_softmax(weights: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the scores, from that of the weights."""
    ds = weights * gradient
    return ds - weights * ds.sum(dim=-1, keepdim=True)


def of_every_head(shared: Tensor, query: Tensor) -> Tensor:
    """Repeat the heads of keys or values that query heads share, in groups."""
    group = query.shape[1] // shared.shape[1]
    return shared if group == 1 else shared.repeat_interleave(group, dim=1)


def _attended(query: Tensor, key: Tensor, value: Tensor, scoring: Scoring) -> Tensor:
    """`(batch, heads, query, d)` outputs of attention."""
    if scoring.softcap is not None or scoring.sinks is not None:  # which SDPA does not know
        output = query.new_empty(*query.shape[:3], value.shape[3])
        for rows in _tiles(query, key):
            for head, shared, _, weights in _by_head(query, key, scoring, rows):
                output[:, head, rows] = weights @ value[:, shared]
        return output
    key, value = (of_every_head(x, query) for x in (key, value))
    mask = scoring.mask
    if scoring.bias is not None:
        mask = _biased(scoring)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scoring.scaling)


def _biased(scoring: Scoring) -> Tensor:
    """Return bias and mask as one additive mask."""
    bias, mask = cast(Tensor, scoring.bias), scoring.mask
    if mask is None:
        return bias
    if mask.dtype == torch.bool:
        return bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
    return bias + mask


def _zeros(query: Tensor, key: Tensor, rows: slice) -> Tensor:
    """`(batch, rows, key)` zeros that the terms of a layer's heads are added to."""
    shape = (len(query), rows.stop - rows.start, key.shape[2])
    return torch.zeros(shape, dtype=accumulation_dtype(query.dtype), device=query.device)


class _RecordedProbabilities(Function):
    """Identity on `(batch, heads, t, t)` probabilities whose backward pass records the gradient."""

    @staticmethod
    def forward(
        ctx: Any, probabilities: Tensor, scores: Tensor, recorder: Recorder, layer: int
    ) -> Tensor:
        ctx.save_for_backward(probabilities)
        ctx.recorder, ctx.layer = recorder, layer
        return probabilities.view_as(probabilities)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        (probabilities,) = ctx.saved_tensors
        recorder, heads = ctx.recorder, gradient.shape[1]
        for rows in tiles(len(gradient), *gradient.shape[2:]):
            part = gradient[:, :, rows]
            total = torch.zeros_like(part[:, 0], dtype=accumulation_dtype(gradient.dtype))
            for head in range(heads):
                weights = probabilities[:, head, rows]
                # Where the mask forbids an edge its weight is exactly 0; the mask is not seen.
                edges = part[:, head].masked_fill(weights == 0, 0.0)
                total += _TERMS[recorder.tensor](weights, edges)
            recorder.write(ctx.layer, rows, total, heads)
        return (None if recorder.frozen else gradient), None, None, None


def record_probabilities(recorder: Recorder) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Return a forward hook for a module whose outputs are `(batch, heads, t, t)` probabilities."""
    return lambda module, args, probabilities: _recorded(probabilities, recorder, probabilities)


def _recorded(probabilities: Tensor, recorder: Recorder, scores: Tensor) -> Tensor:
    """Return `(batch, heads, t, t)` probabilities, recorded as one more layer.

    `scores` are what they were made of: their graph leads the backward pass here.
    """
    layer = recorder.open_layer(len(probabilities), *probabilities.shape[2:])
    if recorder.tensor == "af":
        dtype = accumulation_dtype(probabilities.dtype)
        for rows in tiles(len(probabilities), *probabilities.shape[2:]):
            total = probabilities[:, :, rows].sum(dim=1, dtype=dtype)
            recorder.write(layer, rows, total, probabilities.shape[1])
    return _RecordedProbabilities.apply(probabilities, scores, recorder, layer)  # type: ignore[no-untyped-call]


def attention_heads(weights: Tensor, batch: int) -> int | None:
    """Return the heads of weights that torch's softmax returned; None if they are not attention's.

    Attention has four axes, (batch, heads, query, key), or the first two as one.
    """
    if weights.ndim == 4:
        return weights.shape[1]
    is_joined = weights.ndim == 3 and len(weights) > batch and len(weights) % batch == 0
    return len(weights) // batch if is_joined else None


@contextmanager
def recorded_softmax(recorder: Recorder, batch: int) -> Iterator[None]:
    """Record attention of models that call torch's softmax for it, inside this context.

    Args:
        recorder: The recorder.
        batch: Number of examples in the passes.
    """

    def softmax_recorded(function: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
        weights = function(*args, **options)
        heads = attention_heads(weights, batch)
        if heads is None:
            return weights
        by_head = weights.view(batch, heads, *weights.shape[-2:])
        scores: Tensor = args[0] if args else options["input"]
        return _recorded(by_head, recorder, scores).view_as(weights)

    with ReplacedFunctions(dict.fromkeys(SOFTMAX_FUNCTIONS, softmax_recorded)):
        yield


# The only module-level state: transformers looks attention functions up by name.
AttentionInterface.register(IMPLEMENTATION, _recorded_attention)
AttentionMaskInterface.register(IMPLEMENTATION, boolean_mask)
