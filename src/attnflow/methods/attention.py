"""Methods that read attention weights, and their gradients, without a flow.

A node's score is read in the readout row. It is that of the node at which the model reads its
decision: [CLS], or the last token of a text to be continued.
Sources: Abnar & Zuidema (2020) for rollout and attention flow; Chefer et al. (ICCV 2021) for
`chefer`; Barkan et al. (2021) for Grad-SAM; Qiang et al. (2022) for CAT, AttCAT and AttGrads.
"""

import torch
from torch import Tensor

from attnflow.errors import ModelError
from attnflow.methods.adapter import Scores
from attnflow.methods.exact_flow import values_from
from attnflow.methods.instance import Instance
from attnflow.methods.model_internals import Forward, Internals, forward, internals


def raw_attention(instance: Instance) -> Scores:
    """A[L, CLS, j], mean over heads, and 0 for the readout node itself."""
    row = in_readout_row(instance, forward(instance).mean_attention[-1])
    return _without_readout_node(instance, row)


def rollout(instance: Instance) -> Scores:
    """(0.5 A_L + 0.5 I) ... (0.5 A_1 + 0.5 I), in the readout row."""
    return in_readout_row(instance, rolled_out(residual_attention(forward(instance))))


def attention_flow(instance: Instance) -> Scores:
    """Maximum flow from the readout node alone to each token.

    Capacities are those of `rollout`. One flow a token, each with one source and one sink: the
    attention flow of Abnar & Zuidema, not the one flow to all tokens that attnflow is about.
    """
    capacities = residual_attention(forward(instance)).double().numpy()
    return values_from(capacities, readout_row(instance))


def chefer(instance: Instance) -> Scores:
    """R <- R + E_l R over mean_h relu(A G), from R = I; the readout row without its own entry."""
    passes = internals(instance)
    return in_readout_row(
        instance, accumulated((passes.attention * passes.gradient).relu().mean(1))
    )


def attention_gradients(instance: Instance) -> Scores:
    """AttGrads: the last layer's heads weighted by their mean gradients, in the readout row."""
    passes = internals(instance)
    weights = passes.gradient[-1].mean((1, 2))
    weighted = (weights[:, None, None] * passes.attention[-1]).mean(0).relu()
    return _without_readout_node(instance, in_readout_row(instance, weighted))


def grad_sam(instance: Instance) -> Scores:
    """Mean over layers, heads and keys of A relu(G), for the token as query."""
    passes = internals(instance)
    return as_scores((passes.attention * passes.gradient.relu()).mean((0, 1, 3)))


def cat(instance: Instance) -> Scores:
    """Sum over the inputs of all blocks of hidden state times gradient."""
    return as_scores(_cat(internals(instance)).sum(0))


def attcat(instance: Instance) -> Scores:
    """`cat` with each layer's term times the attention that the token gets, mean over heads."""
    passes = internals(instance)
    return as_scores((_cat(passes) * passes.attention.mean((1, 2))).sum(0))


def _cat(passes: Internals) -> Tensor:
    # Without the last output, which enters no block.
    return (passes.hidden * passes.hidden_gradient)[:-1].sum(-1)


def residual_attention(passes: Forward) -> Tensor:
    """`(layers, t, t)` 0.5 A + 0.5 I, A being the mean over heads."""
    # Half for the residual connection, whatever the size of the two vectors: Abnar & Zuidema.
    attention = passes.mean_attention
    return 0.5 * attention + 0.5 * torch.eye(attention.shape[-1])


def rolled_out(layers: Tensor) -> Tensor:
    """`(t, t)` product of `(layers, t, t)` matrices, the last on the left."""
    product = torch.eye(layers.shape[-1], dtype=layers.dtype)
    for layer in layers:
        product = layer @ product
    return product


def accumulated(layers: Tensor) -> Tensor:
    """`(t, t)` Chefer's relevance, R <- R + E_l R from the inputs up, less the first identity."""
    identity = torch.eye(layers.shape[-1], dtype=layers.dtype)
    relevance = identity
    for layer in layers:
        relevance = relevance + layer @ relevance
    return relevance - identity


def as_scores(row: Tensor) -> Scores:
    """`(t,)` the row as float64 of numpy."""
    scores: Scores = row.detach().double().cpu().numpy()
    return scores


def in_readout_row(instance: Instance, matrix: Tensor) -> Scores:
    """`(t,)` row of a `(t, t)` matrix that belongs to the node which the model reads."""
    return as_scores(matrix[readout_row(instance)])


def readout_row(instance: Instance) -> int:
    """Return the node which the model reads: methods find their scores in its row.

    Raises:
        ModelError: The model does not read one node alone.
    """
    node = instance.readout_node
    if node is None:
        raise ModelError(
            f"{type(instance.adapter.model).__name__} does not read its decision at the first "
            "token alone, in whose row this method finds its scores: use "
            f"{instance.adapter.instead} instead."
        )
    return node


def _without_readout_node(instance: Instance, scores: Scores) -> Scores:
    # Its attention to itself says nothing about the other tokens.
    scores[readout_row(instance)] = 0.0
    return scores
