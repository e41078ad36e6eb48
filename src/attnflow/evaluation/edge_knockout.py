"""Knock out the attention edges that a route ranks first, or keep only them.

A route gives every attention edge a number, `(layers, t, t)`. Residual connections stay whole.
An edge of `cf` or `net` from a token to itself carries attention and residual together; its flow is
divided between the two in proportion to their capacities, or to their positive effects. Edges that
a mask forbids, those to later tokens in a decoder, are none, and do not count in a share.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attnflow.capture import only_edges
from attnflow.capture.capture import record
from attnflow.capture.net_worth import net_capture
from attnflow.methods import Instance, Scores
from attnflow.methods.attention import readout_row
from attnflow.methods.decomposition import edge_importance
from attnflow.methods.information_tensors import INFORMATION_TENSORS, objective_of
from attnflow.methods.model_internals import forward, internals
from attnflow.methods.net import NetStages
from attnflow.methods.readouts import walked
from attnflow.solver import maximum_flow

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
BATCH_SIZE = 8


@dataclass(frozen=True)
class KnockoutCurve:
    """Probabilities of the explained class.

    Attributes:
        whole: With all edges.
        knocked_out: `(shares,)` without the best edges at each share.
        kept: `(shares,)` with these edges alone.
    """

    whole: float
    knocked_out: Scores
    kept: Scores


def _random(instance: Instance) -> Tensor:
    t = instance.nodes
    layers = instance.adapter.model.config.num_hidden_layers
    numbers = np.random.default_rng(instance.seed).random((layers, t, t))
    return torch.from_numpy(numbers)


def _patching(instance: Instance) -> Tensor:
    """Attribution patching: gradient times weight, summed over heads, with its sign."""
    layers = internals(instance)
    return (layers.attention * layers.gradient).sum(1).double()


def information_flow_routes(instance: Instance) -> Tensor:
    """`(layers, t, t)` largest threshold at which each edge is still in the graph.

    The graph grows down from the readout position. An edge enters if it weighs more than the
    threshold and its upper node is in. So its rank is that of the weakest edge on the best path to
    it. One of a token's feed-forward and residual parts always has at least half of the weight, so
    neither ever cuts a token off. Source: Ferrando & Voita (2024).
    """
    attention, residual = edge_importance(instance)
    reached = torch.zeros(attention.shape[-1])
    reached[readout_row(instance)] = 1.0
    thresholds = []
    for edges, passthrough in zip(attention.flip(0), residual.flip(0), strict=True):
        thresholds.append(torch.minimum(edges, reached[:, None]))
        reached = torch.minimum(edges + passthrough.diag(), reached[:, None]).amax(0)
    return torch.stack(thresholds[::-1]).double()


def _flow(capacities: Tensor) -> Tensor:
    flow = maximum_flow(capacities[None])
    # A flow without a certificate must not be judged as the maximum.
    flow.raise_for_status()
    return flow.edges[0]


EDGE_WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "capacity": lambda capacities: capacities,
    "walk": lambda capacities: walked(capacities).sent,
    "flow": _flow,
}


def _route(tensor: str, weights: str, paths: bool = False) -> Callable[[Instance], Tensor]:
    """Return a route: the attention's part of each edge's weight.

    With `paths` an edge weighs as much as the weakest edge of the best path through it. Attention
    and residual on one edge have parts in proportion to their capacities.
    """

    def route(instance: Instance) -> Tensor:
        edges = INFORMATION_TENSORS[tensor](instance)
        if instance.position is not None:
            edges = edges.with_source(instance.position)
        # An edge without capacity weighs 0, also divided by 1e-300.
        attention = edges.attention.relu() / edges.capacities.clamp(min=1e-300)
        return _weighted(edges.capacities, attention, weights, paths)

    return route


def _weighted(capacities: Tensor, attention: Tensor, weights: str, paths: bool) -> Tensor:
    """Weights of the edges, times the attention's share of each."""
    on_edges = EDGE_WEIGHTS[weights](capacities)
    return (best_path_through(on_edges) if paths else on_edges) * attention


def _net_edges(instance: Instance) -> tuple[Tensor, Tensor]:
    """`(layers, t, t)` capacities of `net` with the whole text, and the attention's share of each.

    Effects add up on an edge from a token to itself before they are clipped, so that its share is
    that of the positive effects.
    """
    (effects,) = record(
        instance.adapter.model,
        instance.inputs,
        [objective_of(instance)],
        tensor="cf",
        rules=NetStages(()).rules(instance),
        segments=None,
    )
    signed, residual = effects.effects
    own = signed[0].diagonal(dim1=1, dim2=2).relu()
    share = torch.ones_like(signed[0])
    share.diagonal(dim1=1, dim2=2).copy_(own / (own + residual[0].relu()).clamp(min=1e-30))
    capture = net_capture(effects)  # uses the effects up
    capacities = capture.capacities[0].double().cpu()
    capacities[-1] *= capture.sources[0].cpu()[:, None]
    return capacities, share.double().cpu()


def _net_route(weights: str, paths: bool = False) -> Callable[[Instance], Tensor]:
    """Return a route of `net` with one stage, the whole text; otherwise as `_route`."""
    return lambda instance: _weighted(*instance.cached(_net_edges), weights, paths)


def best_path_through(edges: Tensor) -> Tensor:
    """`(layers, t, t)` largest bottleneck of a path from top to input through each edge."""
    # At the ends a node carries the sum of its edges, which binds none of them.
    above = [edges[-1].sum(-1)]
    for layer in edges.flip(0):
        above.append(torch.minimum(above[-1][:, None], layer).amax(0))
    below = [edges[0].sum(0)]
    for layer in edges:
        below.append(torch.minimum(layer, below[-1][None]).amax(1))
    tops = torch.stack(above[:-1][::-1])[:, :, None]
    bottoms = torch.stack(below[:-1])[:, None]
    return torch.minimum(torch.minimum(edges, tops), bottoms)


ROUTES: dict[str, Callable[[Instance], Tensor]] = {
    "random": _random,
    "attention": lambda instance: forward(instance).mean_attention.double(),
    "patching": _patching,
    "information-flow-routes": information_flow_routes,
    **{
        f"{tensor} {weights}": _route(tensor, weights)
        for weights, tensors in {
            "capacity": ("agf", "norm", "alti", "cf", "cf4", "bcf"),
            "walk": ("alti", "cf", "bcf"),
            "flow": ("af", "agf", "cf", "cf4", "bcf"),
        }.items()
        for tensor in tensors
    },
    **{
        f"{tensor} {weights} paths": _route(tensor, weights, paths=True)
        for tensor in ("cf", "bcf")
        for weights in EDGE_WEIGHTS
    },
    **{f"net1 {weights}": _net_route(weights) for weights in EDGE_WEIGHTS},
    **{f"net1 {weights} paths": _net_route(weights, paths=True) for weights in EDGE_WEIGHTS},
}


def sink_edges(nodes: int) -> Tensor:
    """`(nodes, nodes)` bool, a decoder's edges from each token to itself and to the first token.

    Attention rests on the first token where nothing else is wanted. Without these edges a decoder
    falls apart, whatever else it may read: routes between tokens are compared with them in place.
    """
    edges = torch.eye(nodes, dtype=torch.bool)
    edges[:, 0] = True
    return edges


def knockout_curve(
    instance: Instance,
    edges: Tensor,
    shares: Sequence[float] = SHARES,
    *,
    seed: int = 0,
    always: Tensor | None = None,
) -> KnockoutCurve:
    """Measure the prediction without the best edges, and with these alone.

    Args:
        instance: A text and the class to explain.
        edges: `(layers, t, t)` a number for each attention edge; the largest are removed first.
        shares: Shares of all attention edges that there are, inside (0, 1], rounded up to whole
            edges.
        seed: Of the order of ties.
        always: `(t, t)` bool, edges that stay in every layer and do not count; none when None.
    """
    always = torch.zeros(edges.shape[1:], dtype=torch.bool) if always is None else always
    top = _tops(edges, (forward(instance).mean_attention > 0) & ~always, shares, seed)
    kept = torch.cat([torch.ones_like(top[:1]), ~top, top]) | always
    p = np.concatenate([_probabilities(instance, part) for part in torch.split(kept, BATCH_SIZE)])
    knocked_out, alone = p[1:].reshape(2, len(shares))
    return KnockoutCurve(float(p[0]), knocked_out, alone)


def _tops(edges: Tensor, exists: Tensor, shares: Sequence[float], seed: int) -> Tensor:
    """`(shares, layers, t, t)` bool, true at the best edges of each share of those that exist."""
    flat = edges.double().where(exists, -torch.inf).flatten().numpy()
    # Ties at random, as of tokens: the order of layers and positions would favour some.
    shuffled = np.random.default_rng(seed).permutation(len(flat))
    order = shuffled[np.argsort(-flat[shuffled], kind="stable")]
    top = torch.zeros(len(shares), len(flat), dtype=torch.bool)
    for row, share in enumerate(shares):
        top[row, order[: math.ceil(share * int(exists.sum()))]] = True
    return top.view(len(shares), *edges.shape)


def _probabilities(instance: Instance, kept: Tensor) -> Scores:
    adapter = instance.adapter
    with torch.inference_mode(), only_edges(adapter.model, kept.to(adapter.device)) as model:
        points = instance.point
        logits = adapter.on(model).logits(points.expand(len(kept), *points.shape[1:]))
    return logits.double().softmax(-1)[:, instance.target].cpu().numpy()
