"""Which attention edges carry a decision: knock out the best and watch it fall, or keep only those.

A route names a number for every attention edge `(layers, t, t)`. Residual connections stay whole.
An edge of `cf` from a token to itself carries attention and residual together; what goes along it
is shared between the two as their capacities are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attnflow.capture import only_edges
from attnflow.methods import Instance, Scores
from attnflow.methods.attention import readout_row
from attnflow.methods.decomposition import edge_importance
from attnflow.methods.information_tensors import INFORMATION_TENSORS
from attnflow.methods.model_internals import forward, internals
from attnflow.methods.readouts import walked
from attnflow.solver import maximum_flow

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
AT_ONCE = 8


@dataclass(frozen=True)
class KnockoutCurve:
    """Probabilities of the explained class, `(shares,)` each."""

    whole: float
    knocked_out: Scores
    kept: Scores


def _random(instance: Instance) -> Tensor:
    t = instance.nodes
    layers = instance.adapter.model.config.num_hidden_layers
    drawn = np.random.default_rng(instance.seed).random((layers, t, t))
    return torch.from_numpy(drawn)


def _patching(instance: Instance) -> Tensor:
    """Attribution patching: gradient times weight, summed over heads, with its sign."""
    found = internals(instance)
    return (found.attention * found.gradient).sum(1).double()


def information_flow_routes(instance: Instance) -> Tensor:
    """The largest threshold at which an edge is still in the graph grown from the token read down.

    An edge enters if it weighs more than the threshold and its upper node is in: its rank is that
    of the weakest edge on the best way to it. Of a token's feed-forward and residual parts one has
    at least half, so that these never cut it off. Source: Ferrando & Voita (2024).
    """
    attention, residual = edge_importance(instance)
    reached = torch.zeros(attention.shape[-1])
    reached[readout_row(instance)] = 1.0
    found = []
    for edges, kept in zip(attention.flip(0), residual.flip(0), strict=True):
        found.append(torch.minimum(edges, reached[:, None]))
        ways = torch.minimum(edges + kept.diag(), reached[:, None])
        reached = ways.amax(0)
    return torch.stack(found[::-1]).double()


def _flow(capacities: Tensor) -> Tensor:
    flow = maximum_flow(capacities[None])
    flow.raise_for_status()
    return flow.edges[0]


CARRIED: dict[str, Callable[[Tensor], Tensor]] = {
    "capacity": lambda capacities: capacities,
    "walk": lambda capacities: walked(capacities)[1],
    "flow": _flow,
}


def _route(tensor: str, carried: str, paths: bool = False) -> Callable[[Instance], Tensor]:
    """What an edge's attention has of what it carries, or of the best whole path's weakest edge.

    An edge's attention and its residual, where it has one, share as their capacities do.
    """

    def route(instance: Instance) -> Tensor:
        edges = INFORMATION_TENSORS[tensor](instance)
        on_edges = CARRIED[carried](edges.capacities)
        attention, whole = edges.attention.relu(), edges.capacities.clamp(min=1e-300)
        return (best_path_through(on_edges) if paths else on_edges) * attention / whole

    return route


def best_path_through(edges: Tensor) -> Tensor:
    """`(layers, t, t)` for each edge the largest bottleneck of a path from top to input over it."""
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
        f"{tensor} {carried}": _route(tensor, carried)
        for carried, tensors in {
            "capacity": ("agf", "norm", "alti", "cf", "cf4", "bcf"),
            "walk": ("alti", "cf", "bcf"),
            "flow": ("af", "agf", "cf", "cf4", "bcf"),
        }.items()
        for tensor in tensors
    },
    **{
        f"{tensor} {carried} paths": _route(tensor, carried, paths=True)
        for tensor in ("cf", "bcf")
        for carried in CARRIED
    },
}


def knockout_curve(
    instance: Instance, edges: Tensor, shares: Sequence[float] = SHARES, *, seed: int = 0
) -> KnockoutCurve:
    """What is left of the prediction without the best edges, and with these alone.

    Args:
        instance: Of one text.
        edges: `(layers, t, t)` a number for each attention edge, large for the first to go.
        shares: Of all attention edges, rounded up to whole ones.
        seed: Of the order of ties.
    """
    top = _tops(edges, shares, seed)
    kept = torch.cat([torch.ones_like(top[:1]), ~top, top])
    found = np.concatenate([_probabilities(instance, part) for part in torch.split(kept, AT_ONCE)])
    knocked_out, alone = found[1:].reshape(2, len(shares))
    return KnockoutCurve(float(found[0]), knocked_out, alone)


def _tops(edges: Tensor, shares: Sequence[float], seed: int) -> Tensor:
    """`(shares, layers, t, t)` bool, the best edges at each share."""
    flat = edges.flatten().numpy()
    shuffled = np.random.default_rng(seed).permutation(len(flat))
    order = shuffled[np.argsort(-flat[shuffled], kind="stable")]
    top = torch.zeros(len(shares), len(flat), dtype=torch.bool)
    for row, share in enumerate(shares):
        top[row, order[: math.ceil(share * len(flat))]] = True
    return top.view(len(shares), *edges.shape)


def _probabilities(instance: Instance, kept: Tensor) -> Scores:
    adapter = instance.adapter
    with torch.inference_mode(), only_edges(adapter.model, kept.to(adapter.device)):
        points = instance.point
        logits = adapter.logits(points.expand(len(kept), *points.shape[1:]))
    found: Scores = logits.double().softmax(-1)[:, instance.target].cpu().numpy()
    return found
