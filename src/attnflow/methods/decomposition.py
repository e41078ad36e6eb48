"""Methods that decompose every vector into parts, one for each source token: BERT's layout only.

With attention weights, normalisation scales and activation slopes held constant, each vector is the
sum of these parts. Their norms (GlobEnc), their proximity to the whole (ALTI), or the part of the
logit that they end in (DecompX) measure how much a token contributes.
Sources: Ferrando et al. (EMNLP 2022) for ALTI; Modarressi et al. (NAACL 2022) for GlobEnc, and
(ACL 2023) for DecompX.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnflow.errors import ModelError, shown
from attnflow.methods.adapter import Scores
from attnflow.methods.attention import as_scores, in_readout_row, rolled_out
from attnflow.methods.instance import Instance
from attnflow.methods.model_internals import forward
from attnflow.methods.text_adapter import Classifier

READ = 0  # the token that BERT's head reads
AT_ONCE = 512  # vectors in one step: with 1,536 numbers of 4 bytes each 3 MB, which a cache holds


@dataclass(frozen=True)
class BertLayer:
    """A BERT layer with what it computed: attention `(heads, t, t)` and its input `(t, d)`."""

    block: Any
    attention: Tensor
    input: Tensor

    def mixed(self, vectors: Tensor) -> Tensor:
        """`(t, sources, d)` parts after attention, from parts before it; without biases."""
        value, dense = self.block.attention.self.value, self.block.attention.output.dense
        heads = len(self.attention)
        values = (vectors @ value.weight.T).unflatten(-1, (heads, -1))
        mixed = torch.einsum("hij,jshd->ishd", self.attention, values).flatten(2)
        output: Tensor = mixed @ dense.weight.T
        return output

    @property
    def attention_bias(self) -> Tensor:
        """`(d,)` sum that the biases of values and output add to every token."""
        value, dense = self.block.attention.self.value, self.block.attention.output.dense
        # A query's weights sum to 1, so that the values' bias arrives whole.
        bias: Tensor = dense.weight @ value.bias + dense.bias
        return bias

    def attended(self, head: int | None = None) -> Tensor:
        """`(t, t, d)` vector from each key to each query, the values' bias included.

        Args:
            head: The only head that counts; all of them when None.
        """
        attend, dense = self.block.attention.self, self.block.attention.output.dense
        heads = slice(None) if head is None else slice(head, head + 1)
        values = attend.value(self.input).unflatten(-1, (len(self.attention), -1))[:, heads]
        mixed = torch.einsum("hij,jhd->ijhd", self.attention[heads], values).flatten(2)
        weight = dense.weight.unflatten(-1, (len(self.attention), -1))[:, heads].flatten(1)
        vectors: Tensor = mixed @ weight.T
        return vectors

    def edges(self) -> tuple[Tensor, Tensor]:
        """`(t, t, d)` part of each key in each query's sum before the first norm; and that sum.

        A token's vector itself is part of its own part; the output's bias belongs to no token.
        """
        parts = self.attended() + torch.diag_embed(self.input.T).permute(1, 2, 0)
        return parts, parts.sum(1) + self.block.attention.output.dense.bias


@torch.no_grad()
def alti(instance: Instance) -> Scores:
    """Rollout of `edge_contributions`, in the readout row."""
    return in_readout_row(instance, rolled_out(edge_contributions(instance)))


@torch.no_grad()
def edge_contributions(instance: Instance) -> Tensor:
    """`(layers, t, t)` relu(|y|_1 - |y - part|_1) after the first norm, rows of sum 1.

    Source: Ferrando et al. (EMNLP 2022), section 3.
    """
    layers = []
    for layer in bert_layers(instance):
        parts, total = layer.edges()
        norm = layer.block.attention.output.LayerNorm
        whole, parts = norm(total), _normalised(norm, parts, total)
        near = proximity(whole, parts)
        # Where no part is near the whole the row stays 0, and is not NaN.
        layers.append(near / near.sum(-1, keepdim=True).clamp(min=1e-12))
    return torch.stack(layers).cpu()


@torch.no_grad()
def edge_importance(instance: Instance) -> tuple[Tensor, Tensor]:
    """Importance of attention edges `(layers, t, t)` and of residual ones `(layers, t)`.

    It is relu(|y|_1 - |y - part|_1) before the first norm, for the part of each key and head and
    that of the residual. The heads of an edge are added last. A query's sum is 1. Source: Ferrando
    & Voita (2024).
    """
    attention, residual = [], []
    for layer in bert_layers(instance):
        total = layer.edges()[1]
        heads = range(len(layer.attention))
        # Head by head: the vectors of all heads at once are that many times as large.
        edges = torch.stack([proximity(total, layer.attended(head)) for head in heads]).sum(0)
        bypass = proximity(total, layer.input[:, None])
        whole = (edges.sum(-1, keepdim=True) + bypass).clamp(min=1e-12)
        attention.append(edges / whole)
        residual.append((bypass / whole)[:, 0])
    return torch.stack(attention).cpu(), torch.stack(residual).cpu()


def proximity(total: Tensor, parts: Tensor) -> Tensor:
    """`(t, sources)` relu(|y|_1 - |y - part|_1) of totals `(t, d)` and parts `(t, sources, d)`."""
    distance: Tensor = (total[:, None] - parts).norm(1, -1)
    return (total.norm(1, -1)[:, None] - distance).relu()


@torch.no_grad()
def edge_norms(instance: Instance) -> Tensor:
    """`(layers, t, t)` length of each part of the sum before the first norm (Kobayashi 2020)."""
    return torch.stack([layer.edges()[0].norm(dim=-1) for layer in bert_layers(instance)]).cpu()


@torch.no_grad()
def globenc(instance: Instance) -> Scores:
    """Product of the norms of the parts after both norms, the feed-forward part left out."""
    layers = []
    for layer in bert_layers(instance):
        parts, total = layer.edges()
        first, second = layer.block.attention.output.LayerNorm, layer.block.output.LayerNorm
        middle = first(total)
        # Left out of the parts, the feed-forward part still counts in the scale of the norm.
        sent = middle + _feed_forward(layer.block, middle)
        parts = _normalised(second, _normalised(first, parts, total), sent)
        layers.append(parts.norm(dim=-1))
    return in_readout_row(instance, rolled_out(torch.stack(layers).cpu()))


@torch.no_grad()
def decompx(instance: Instance) -> Scores:
    """Part of the explained number that each token's vectors end in."""
    layers = bert_layers(instance)
    head = instance.adapter.model
    parts = torch.diag_embed(layers[0].input.T).permute(1, 2, 0)
    for layer in layers[:-1]:
        parts = _after_layer(layer, parts, layer.mixed(parts))
    only = slice(READ, READ + 1)  # of the last layer's tokens, the one that the head reads
    parts = _after_layer(layers[-1], parts[only], layers[-1].mixed(parts)[only])
    pooler = head.bert.pooler.dense
    pooled = _activated(torch.tanh, _with_bias(parts @ pooler.weight.T, pooler.bias))
    row, bias = _explained_row(instance, head.classifier)
    logit = _with_bias(pooled @ row[:, None], bias[None])
    return as_scores(logit[0, :, 0])


def _after_layer(layer: BertLayer, parts: Tensor, mixed: Tensor) -> Tensor:
    """Parts `(t, sources, d)` after a layer, from those before it and those after its attention."""
    rows = max(1, AT_ONCE // parts.shape[1])
    tokens = zip(torch.split(parts, rows), torch.split(mixed, rows), strict=True)
    return torch.cat([_of_few_tokens(layer, *few) for few in tokens])


def _of_few_tokens(layer: BertLayer, parts: Tensor, mixed: Tensor) -> Tensor:
    """`_after_layer` for so few tokens that their intermediate vectors stay in a cache."""
    block = layer.block
    parts = _with_bias(mixed + parts, layer.attention_bias)
    parts = _after_norm(block.attention.output.LayerNorm, parts)
    inner = _with_bias(parts @ block.intermediate.dense.weight.T, block.intermediate.dense.bias)
    inner = _activated(block.intermediate.intermediate_act_fn, inner)
    outer = _with_bias(inner @ block.output.dense.weight.T, block.output.dense.bias)
    return _after_norm(block.output.LayerNorm, outer + parts)


def _explained_row(instance: Instance, linear: Any) -> tuple[Tensor, Tensor]:
    """Weights `(d,)` and bias of the explained number, linearised at the logits of the text."""
    with torch.enable_grad():
        logits = forward(instance).logits.detach().to(linear.weight.device)[None].requires_grad_()
        (slopes,) = torch.autograd.grad(instance.value(logits)[0], logits)
    return slopes[0] @ linear.weight, slopes[0] @ linear.bias


def bert_layers(instance: Instance) -> list[BertLayer]:
    """Return the model's layers with what they computed, from the inputs up.

    Raises:
        ModelError: The model is not laid out as BERT.
    """
    model = instance.adapter.model
    kind = model.config.model_type
    if kind != "bert" or not isinstance(instance.adapter, Classifier):
        raise ModelError(
            f"this method is written for BERT's layers and a classifier's head, got {shown(kind)}, "
            f"{instance.adapter.kind}: use {instance.adapter.instead} instead."
        )
    passes, device = forward(instance), instance.adapter.device
    attention, hidden = passes.attention.to(device), passes.hidden[:-1].to(device)
    computed = zip(model.bert.encoder.layer, attention, hidden, strict=True)
    return [BertLayer(*layer) for layer in computed]


def _feed_forward(block: Any, x: Tensor) -> Tensor:
    output: Tensor = block.output.dense(block.intermediate(x))
    return output


def _normalised(norm: Any, parts: Tensor, total: Tensor) -> Tensor:
    """Parts `(t, sources, d)` after a layer norm whose scale is that of the totals `(t, d)`."""
    variance = total.var(-1, unbiased=False)
    centred = parts - parts.mean(-1, keepdim=True)
    normalised: Tensor = centred * norm.weight * (variance + norm.eps).rsqrt()[:, None, None]
    return normalised


def _after_norm(norm: Any, parts: Tensor) -> Tensor:
    return _with_bias(_normalised(norm, parts, parts.sum(1)), norm.bias)


def _with_bias(parts: Tensor, bias: Tensor) -> Tensor:
    """The parts with the bias `(d,)` shared among them by the size of their products with it."""
    share = (parts @ bias).abs()
    share = share / share.sum(1, keepdim=True).clamp(min=1e-12)
    return parts + share[..., None] * bias


def _activated(function: Any, parts: Tensor) -> Tensor:
    """Parts times the slope of the activation's chord through the origin."""
    total = parts.sum(1, keepdim=True)
    # The chord has no slope at 0; near it the function's value is rounding.
    away = torch.where(total.abs() < 1e-6, 1e-6, total)
    slope: Tensor = function(away) / away
    return parts * slope
