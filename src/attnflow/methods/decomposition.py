"""Methods that follow every token's own part of every vector through the model: BERT's layout only.

With attention weights, normalisation scales and activation slopes as they are, each vector is a sum
of one part a source token. Norms of the parts (GlobEnc), their nearness to the whole (ALTI), or
the logit they end in (DecompX) say how much of it the token made.
Sources: Ferrando et al. (EMNLP 2022) for ALTI; Modarressi et al. (NAACL 2022) for GlobEnc, and
(ACL 2023) for DecompX.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnflow.errors import ModelError
from attnflow.methods.adapter import Scores
from attnflow.methods.attention import as_scores, in_row_read, rolled_out
from attnflow.methods.instance import Instance
from attnflow.methods.model_internals import forward
from attnflow.methods.text_adapter import Classifier

READ = 0  # the token that BERT's head reads
AT_ONCE = 512  # vectors: with 1,536 numbers of 4 bytes behind each, 3 MB


@dataclass(frozen=True)
class BertLayer:
    """A BERT layer with what it computed: attention `(heads, t, t)` and its input `(t, d)`."""

    block: Any
    attention: Tensor
    input: Tensor

    def mixed(self, vectors: Tensor) -> Tensor:
        """`(t, sources, d)` of `(t, sources, d)` through attention, without biases."""
        value, dense = self.block.attention.self.value, self.block.attention.output.dense
        heads = len(self.attention)
        values = (vectors @ value.weight.T).unflatten(-1, (heads, -1))
        mixed = torch.einsum("hij,jshd->ishd", self.attention, values).flatten(2)
        found: Tensor = mixed @ dense.weight.T
        return found

    @property
    def attention_bias(self) -> Tensor:
        """`(d,)` what the biases of values and output add to every token."""
        value, dense = self.block.attention.self.value, self.block.attention.output.dense
        found: Tensor = dense.weight @ value.bias + dense.bias
        return found

    def attended(self, head: int | None = None) -> Tensor:
        """`(t, t, d)` what attention brings each query from each key, the values' bias included.

        Args:
            head: By this head alone; by all of them when None.
        """
        attend, dense = self.block.attention.self, self.block.attention.output.dense
        heads = slice(None) if head is None else slice(head, head + 1)
        values = attend.value(self.input).unflatten(-1, (len(self.attention), -1))[:, heads]
        mixed = torch.einsum("hij,jhd->ijhd", self.attention[heads], values).flatten(2)
        weight = dense.weight.unflatten(-1, (len(self.attention), -1))[:, heads].flatten(1)
        found: Tensor = mixed @ weight.T
        return found

    def edges(self) -> tuple[Tensor, Tensor]:
        """`(t, t, d)` part of each key in each query's sum before the first norm; and that sum.

        A token's own vector is its own part; the output's bias is no token's.
        """
        parts = self.attended() + torch.diag_embed(self.input.T).permute(1, 2, 0)
        return parts, parts.sum(1) + self.block.attention.output.dense.bias


@torch.no_grad()
def alti(instance: Instance) -> Scores:
    """Rollout of `edge_nearness`, in the row read."""
    return in_row_read(instance, rolled_out(edge_nearness(instance)))


@torch.no_grad()
def edge_nearness(instance: Instance) -> Tensor:
    """`(layers, t, t)` relu(|y|_1 - |y - part|_1) behind the first norm, rows of sum 1."""
    layers = []
    for layer in bert_layers(instance):
        parts, total = layer.edges()
        norm = layer.block.attention.output.LayerNorm
        whole, parts = norm(total), _normalised(norm, parts, total)
        near = _nearness(whole, parts)
        layers.append(near / near.sum(-1, keepdim=True).clamp(min=1e-12))
    return torch.stack(layers).cpu()


@torch.no_grad()
def edge_importance(instance: Instance) -> tuple[Tensor, Tensor]:
    """Of attention edges `(layers, t, t)` and residual ones `(layers, t)`, each token's sum 1.

    relu(|y|_1 - |y - part|_1) before the first norm, for the part of each key and head and of the
    residual; the heads of an edge are added last. Source: Ferrando & Voita (2024).
    """
    attention, residual = [], []
    for layer in bert_layers(instance):
        total = layer.edges()[1]
        heads = range(len(layer.attention))
        each = torch.stack([_nearness(total, layer.attended(head)) for head in heads]).sum(0)
        own = _nearness(total, layer.input[:, None])
        whole = (each.sum(-1, keepdim=True) + own).clamp(min=1e-12)
        attention.append(each / whole)
        residual.append((own / whole)[:, 0])
    return torch.stack(attention).cpu(), torch.stack(residual).cpu()


def _nearness(total: Tensor, parts: Tensor) -> Tensor:
    """`(t, sources)` relu(|y|_1 - |y - part|_1) of totals `(t, d)` and parts `(t, sources, d)`."""
    found: Tensor = (total.norm(1, -1)[:, None] - (total[:, None] - parts).norm(1, -1)).relu()
    return found


@torch.no_grad()
def edge_norms(instance: Instance) -> Tensor:
    """`(layers, t, t)` length of each part of the sum before the first norm (Kobayashi 2020)."""
    return torch.stack([layer.edges()[0].norm(dim=-1) for layer in bert_layers(instance)]).cpu()


@torch.no_grad()
def globenc(instance: Instance) -> Scores:
    """Product of norms of the parts behind both norms, the feed-forward part left out."""
    layers = []
    for layer in bert_layers(instance):
        parts, total = layer.edges()
        first, second = layer.block.attention.output.LayerNorm, layer.block.output.LayerNorm
        middle = first(total)
        sent = middle + _feed_forward(layer.block, middle)
        parts = _normalised(second, _normalised(first, parts, total), sent)
        layers.append(parts.norm(dim=-1))
    return in_row_read(instance, rolled_out(torch.stack(layers).cpu()))


@torch.no_grad()
def decompx(instance: Instance) -> Scores:
    """The part of the explained number that each token's vectors end in."""
    layers = bert_layers(instance)
    head = instance.adapter.model
    parts = torch.diag_embed(layers[0].input.T).permute(1, 2, 0)
    for layer in layers[:-1]:
        parts = _behind_layer(layer, parts, layer.mixed(parts))
    only = slice(READ, READ + 1)  # of the last layer's tokens, the one that the head reads
    parts = _behind_layer(layers[-1], parts[only], layers[-1].mixed(parts)[only])
    pooler = head.bert.pooler.dense
    pooled = _activated(torch.tanh, _with_bias(parts @ pooler.weight.T, pooler.bias))
    row, bias = _explained_row(instance, head.classifier)
    logit = _with_bias(pooled @ row[:, None], bias[None])
    return as_scores(logit[0, :, 0])


def _behind_layer(layer: BertLayer, parts: Tensor, mixed: Tensor) -> Tensor:
    """Parts `(t, sources, d)` behind a layer, of those before it and those behind its attention."""
    rows = max(1, AT_ONCE // parts.shape[1])
    tokens = zip(torch.split(parts, rows), torch.split(mixed, rows), strict=True)
    return torch.cat([_of_few_tokens(layer, *few) for few in tokens])


def _of_few_tokens(layer: BertLayer, parts: Tensor, mixed: Tensor) -> Tensor:
    """`_behind_layer` of tokens so few that what is computed of them stays in a cache."""
    block = layer.block
    parts = _with_bias(mixed + parts, layer.attention_bias)
    parts = _behind_norm(block.attention.output.LayerNorm, parts)
    inner = _with_bias(parts @ block.intermediate.dense.weight.T, block.intermediate.dense.bias)
    inner = _activated(block.intermediate.intermediate_act_fn, inner)
    outer = _with_bias(inner @ block.output.dense.weight.T, block.output.dense.bias)
    return _behind_norm(block.output.LayerNorm, outer + parts)


def _explained_row(instance: Instance, linear: Any) -> tuple[Tensor, Tensor]:
    """Weights `(d,)` and bias of the explained number, linear in the logits around the text's."""
    with torch.enable_grad():
        logits = forward(instance).logits.detach().to(linear.weight.device)[None].requires_grad_()
        (slopes,) = torch.autograd.grad(instance.value(logits)[0], logits)
    return slopes[0] @ linear.weight, slopes[0] @ linear.bias


def bert_layers(instance: Instance) -> list[BertLayer]:
    """The model's layers with what they computed, from below.

    Raises:
        ModelError: The model is not laid out as BERT.
    """
    model = instance.adapter.model
    kind = model.config.model_type
    if kind != "bert" or not isinstance(instance.adapter, Classifier):
        raise ModelError(
            f"this method is written for BERT's layers and a classifier's head, got {kind!r}, "
            f"{instance.adapter.kind}."
        )
    found, device = forward(instance), instance.adapter.device
    attention, hidden = found.attention.to(device), found.hidden[:-1].to(device)
    computed = zip(model.bert.encoder.layer, attention, hidden, strict=True)
    return [BertLayer(*one) for one in computed]


def _feed_forward(block: Any, x: Tensor) -> Tensor:
    found: Tensor = block.output.dense(block.intermediate(x))
    return found


def _normalised(norm: Any, parts: Tensor, total: Tensor) -> Tensor:
    """Parts `(t, sources, d)` behind a layer norm whose scale is that of the totals `(t, d)`."""
    variance = total.var(-1, unbiased=False)
    centred = parts - parts.mean(-1, keepdim=True)
    found: Tensor = centred * norm.weight * (variance + norm.eps).rsqrt()[:, None, None]
    return found


def _behind_norm(norm: Any, parts: Tensor) -> Tensor:
    return _with_bias(_normalised(norm, parts, parts.sum(1)), norm.bias)


def _with_bias(parts: Tensor, bias: Tensor) -> Tensor:
    """Shares the bias `(d,)` among the parts by the size of their products with it."""
    share = (parts @ bias).abs()
    share = share / share.sum(1, keepdim=True).clamp(min=1e-12)
    return parts + share[..., None] * bias


def _activated(function: Any, parts: Tensor) -> Tensor:
    """Parts times the slope of the activation's chord through the origin."""
    total = parts.sum(1, keepdim=True)
    near = torch.where(total.abs() < 1e-6, 1e-6, total)
    slope: Tensor = function(near) / near
    return parts * slope
