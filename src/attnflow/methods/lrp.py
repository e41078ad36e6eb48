"""Layer-wise relevance propagation through BERT's layout, for TransAtt.

Relevance starts as 1 at the explained class's logit and is split backwards, a module at a time. It
is split in a linear layer by the positive products of weight and input, at a sum by its terms, at a
product half for each factor. Layer norms, activations and softmax pass it on. The total is
conserved. Source: Chefer, Gur & Wolf (CVPR 2021), section 3, with the halves of its code. Read
next: `attention`, for the later method of the same authors, which needs no relevance.
"""

import torch
from torch import Tensor, nn

from attnflow.methods.adapter import Scores
from attnflow.methods.attention import in_readout_row, rolled_out
from attnflow.methods.decomposition import READ, BertLayer, bert_layers
from attnflow.methods.instance import Instance
from attnflow.methods.model_internals import forward, internals


def transatt(instance: Instance) -> Scores:
    """Rollout over all layers of I + `edge_relevance`, rows of sum 1, in the readout row.

    From the first layer on, as the comparisons of Qiang et al. (2022) have it; the authors' own
    code takes the last layer alone unless told otherwise.
    """
    edges = edge_relevance(instance)
    layers = edges + torch.eye(edges.shape[-1], dtype=edges.dtype)
    return in_readout_row(instance, rolled_out(layers / layers.sum(-1, keepdim=True)))


def edge_relevance(instance: Instance) -> Tensor:
    """`(layers, t, t)` mean over heads of relu(gradient x relevance of the attention weight)."""
    relevance = torch.stack(attention_relevance(instance)[0])
    return (internals(instance).gradient * relevance).relu().mean(1)


@torch.no_grad()
def attention_relevance(instance: Instance) -> tuple[list[Tensor], Tensor]:
    """Relevance of each layer's attention weights `(heads, t, t)`, and of the input `(t, d)`.

    Raises:
        ModelError: The model is not laid out as BERT.
    """
    layers = bert_layers(instance)
    model = instance.adapter.model
    last = internals(instance).hidden[-1].to(instance.adapter.device)
    pooled = model.bert.pooler.dense(last[READ]).tanh()
    # All relevance starts at the logit of the class, whatever number gradients are taken of.
    start = torch.zeros(len(forward(instance).logits), device=last.device)
    start[instance.target] = 1.0
    relevance = torch.zeros_like(last)
    relevance[READ] = _through_linear(
        _through_linear(start, pooled, model.classifier), last[READ], model.bert.pooler.dense
    )
    of_attention = []
    for layer in reversed(layers):
        attention, relevance = _through_layer(relevance, layer)
        of_attention.append(attention.cpu())
    return of_attention[::-1], relevance.cpu()


def _through_layer(relevance: Tensor, layer: BertLayer) -> tuple[Tensor, Tensor]:
    """Relevance of a layer's attention weights `(heads, t, t)`, and of its input `(t, d)`."""
    block, x = layer.block, layer.input
    attend, joined = block.attention.self, block.attention.output
    heads = len(layer.attention)
    query, key, value = (
        projected(x).unflatten(-1, (heads, -1)).transpose(0, 1)
        for projected in (attend.query, attend.key, attend.value)
    )
    context = (layer.attention @ value).transpose(0, 1).flatten(1)
    mixed = joined.dense(context)
    middle = joined.LayerNorm(mixed + x)
    inner = block.intermediate(middle)

    of_outer, of_middle = _through_sum(relevance, block.output.dense(inner), middle)
    of_inner = _through_linear(of_outer, inner, block.output.dense)
    of_middle = of_middle + _through_linear(of_inner, middle, block.intermediate.dense)
    of_mixed, of_input = _through_sum(of_middle, mixed, x)
    of_context = _through_linear(of_mixed, context, joined.dense)
    of_context = of_context.view(len(x), heads, -1).transpose(0, 1)
    of_attention, of_value = _through_product(of_context, layer.attention, value)
    of_query, of_key = _through_product(of_attention, query, key.mT)
    parts = ((of_query, attend.query), (of_key.mT, attend.key), (of_value, attend.value))
    for part, projected in parts:
        joined_heads = part.transpose(0, 1).flatten(1)
        of_input = of_input + _through_linear(joined_heads, x, projected)
    return of_attention, of_input


def _through_linear(relevance: Tensor, x: Tensor, linear: nn.Linear) -> Tensor:
    """Split by the positive products of weight and input: the rule z+, alpha = 1."""
    weight = linear.weight
    positive, negative = x.relu(), -(-x).relu()
    above, below = weight.relu(), -(-weight).relu()
    share = _ratio(relevance, positive @ above.T + negative @ below.T)
    return positive * (share @ above) + negative * (share @ below)


def _through_sum(relevance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Split by the terms, then scaled to the shares of the two totals' sizes."""
    # Terms of opposite signs get relevance far beyond what is split: the authors scale it back.
    share = _ratio(relevance, a + b)
    of_a, of_b = a * share, b * share
    total = of_a.sum().abs() + of_b.sum().abs()
    left, right = (
        part * _ratio(part.sum().abs() * relevance.sum(), total * part.sum())
        for part in (of_a, of_b)
    )
    return left, right


def _through_product(relevance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Split by the terms of the product a @ b, half for each factor."""
    share = _ratio(relevance, a @ b)
    return a * (share @ b.mT) / 2, b * (a.mT @ share) / 2


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: nothing flowed there."""
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))
