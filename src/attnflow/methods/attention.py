"""Methods that read attention weights, and their gradients, without a flow.

A node's score is read in the row of the node that the model reads its decision at: [CLS], or the
last token of a text that is to go on.
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
    """A[L, CLS, j], mean over heads, and 0 for the token read."""
    return _without_read(instance, in_row_read(instance, forward(instance).mean_attention[-1]))


def rollout(instance: Instance) -> Scores:
    """(0.5 A_L + 0.5 I) ... (0.5 A_1 + 0.5 I), in the row of the token read."""
    return in_row_read(instance, rolled_out(residual_attention(forward(instance))))


def attention_flow(instance: Instance) -> Scores:
    """For each token the maximum flow from the token read, alone, to it.

    Capacities are those of `rollout`. One flow a token, each with one source and one sink: the
    attention flow of Abnar & Zuidema, not the one flow to all tokens that attnflow is about.
    """
    capacities = residual_attention(forward(instance)).double().numpy()
    return values_from(capacities, row_read(instance))


def chefer(instance: Instance) -> Scores:
    """R <- R + E_l R over mean_h relu(A G), from R = I; the read row without its own entry."""
    found = internals(instance)
    return in_row_read(instance, accumulated((found.attention * found.gradient).relu().mean(1)))


def attention_gradients(instance: Instance) -> Scores:
    """AttGrads: the last layer's heads weighted by their mean gradients, in the row read."""
    found = internals(instance)
    weights = found.gradient[-1].mean((1, 2))
    weighted = (weights[:, None, None] * found.attention[-1]).mean(0).relu()
    return _without_read(instance, in_row_read(instance, weighted))


def grad_sam(instance: Instance) -> Scores:
    """Mean over layers, heads and keys of A relu(G), for the token as query."""
    found = internals(instance)
    return as_scores((found.attention * found.gradient.relu()).mean((0, 1, 3)))


def cat(instance: Instance) -> Scores:
    """Sum over the inputs of all blocks of hidden state times gradient."""
    return as_scores(_cat(internals(instance)).sum(0))


def attcat(instance: Instance) -> Scores:
    """As `cat`, each layer's term times the attention that the token receives, mean over heads."""
    found = internals(instance)
    return as_scores((_cat(found) * found.attention.mean((1, 2))).sum(0))


def _cat(found: Internals) -> Tensor:
    return (found.hidden * found.hidden_gradient)[:-1].sum(-1)


def residual_attention(found: Forward) -> Tensor:
    """`(layers, t, t)` 0.5 A + 0.5 I, A being the mean over heads."""
    attention = found.mean_attention
    return 0.5 * attention + 0.5 * torch.eye(attention.shape[-1])


def rolled_out(layers: Tensor) -> Tensor:
    """`(t, t)` product of `(layers, t, t)` matrices, the last on the left."""
    product = torch.eye(layers.shape[-1], dtype=layers.dtype)
    for layer in layers:
        product = layer @ product
    return product


def accumulated(layers: Tensor) -> Tensor:
    """`(t, t)` Chefer's relevance, R <- R + E_l R from below, less the identity at first."""
    identity = torch.eye(layers.shape[-1], dtype=layers.dtype)
    relevance = identity
    for layer in layers:
        relevance = relevance + layer @ relevance
    return relevance - identity


def as_scores(row: Tensor) -> Scores:
    """`(t,)` float64 of numpy."""
    found: Scores = row.detach().double().cpu().numpy()
    return found


def in_row_read(instance: Instance, matrix: Tensor) -> Scores:
    """`(t,)` the row of `(t, t)` that belongs to the node which the model reads."""
    return as_scores(matrix[row_read(instance)])


def row_read(instance: Instance) -> int:
    """The node which the model reads: methods find their scores in its row.

    To be called of a model that `forward` has looked into.

    Raises:
        ModelError: It does not read one node alone.
    """
    node = instance.read_node
    if node is None:
        raise ModelError(
            f"{type(instance.adapter.model).__name__} does not read its decision at the first "
            "token alone, in whose row this method finds its scores."
        )
    return node


def _without_read(instance: Instance, scores: Scores) -> Scores:
    scores[row_read(instance)] = 0.0
    return scores
