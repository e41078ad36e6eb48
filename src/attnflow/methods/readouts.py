"""What can be read off a tensor of edges: flows of several kinds, and what isolates them.

All start where the top layer has capacity, or those of `OF_ROW_READ` at the node that the model
reads, and end at the input nodes. Flows are unique, conserved and within the capacities; the other
readings use the same tensor without one of these.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from attnflow.methods.adapter import Scores
from attnflow.methods.attention import accumulated, as_scores, rolled_out
from attnflow.methods.exact_flow import outflow
from attnflow.methods.information_tensors import Signed
from attnflow.solver import Flow, maximum_flow


def flow(edges: Signed) -> Scores:
    """Outflow of the barrier flow from the input row."""
    return as_scores(_flow(edges.positive).sink[0])


def throughput(edges: Signed) -> Scores:
    """Mean of the barrier flow through a token's node in every row."""
    return as_scores(_flow(edges.positive).throughput(0))


def net_flow(edges: Signed) -> Scores:
    """Outflow of the flow of positive effects minus that of negative ones."""
    return flow(edges) - flow(edges.opposite)


def net_throughput(edges: Signed) -> Scores:
    """Throughput of the flow of positive effects minus that of negative ones."""
    return throughput(edges) - throughput(edges.opposite)


def plain_flow(edges: Signed) -> Scores:
    """Outflow of a maximum flow without a barrier: one of many."""
    return outflow(edges.positive.numpy())


def random_walk(edges: Signed) -> Scores:
    """Each node splits what it gets in proportion to its capacities downwards."""
    return as_scores(walked(edges.positive)[0][0])


def walk_throughput(edges: Signed) -> Scores:
    """Mean of the random walk's visits over all rows."""
    return as_scores(walked(edges.positive)[0].mean(0))


def shortest_path(edges: Signed, read: int) -> Scores:
    """Capacity of the best path to each token, a path's being the product of its edges' shares."""
    capacities = edges.positive
    share = capacities / capacities.sum(-1, keepdim=True).clamp(min=1e-300)
    best = share[-1, read]
    for layer in share[:-1].flip(0):
        best = (best[:, None] * layer).amax(0)
    return as_scores(best)


def rollout(edges: Signed, read: int) -> Scores:
    """Product of the layers, in the row read."""
    return as_scores(rolled_out(_scaled(edges.positive))[read])


def chefer(edges: Signed, read: int) -> Scores:
    """Chefer's accumulation: R <- R + E R."""
    return as_scores(accumulated(edges.positive)[read])


def column_sums(edges: Signed) -> Scores:
    """What enters each token's nodes, over all layers."""
    return as_scores(edges.positive.sum((0, 1)))


def first_sums(edges: Signed) -> Scores:
    """What enters each input token from the first layer."""
    return as_scores(edges.positive[0].sum(0))


def signed_sums(edges: Signed) -> Scores:
    """Effects, negative ones included, of the first layer's edges: frozen gradient x input."""
    return as_scores(edges.effects[0].sum(0))


def all_signed_sums(edges: Signed) -> Scores:
    """Effects, negative ones included, over all layers."""
    return as_scores(edges.effects.sum((0, 1)))


READINGS: dict[str, Callable[[Signed], Scores]] = {
    "flow": flow,
    "throughput": throughput,
    "net": net_flow,
    "net-throughput": net_throughput,
    "plain": plain_flow,
    "walk": random_walk,
    "walk-throughput": walk_throughput,
    "sums": column_sums,
    "first": first_sums,
    "signed-first": signed_sums,
    "signed-sums": all_signed_sums,
}
OF_ROW_READ: dict[str, Callable[[Signed, int], Scores]] = {
    "path": shortest_path,
    "rollout": rollout,
    "chefer": chefer,
}


def _flow(capacities: Tensor) -> Flow[Tensor]:
    found = maximum_flow(capacities[None])
    found.raise_for_status()
    return found


def walked(capacities: Tensor) -> tuple[Tensor, Tensor]:
    """A random walk from the top, which splits at each node in proportion to its capacities.

    Returns:
        `(layers + 1, t)` visits of each row, 1 in all of them as long as a way leads on; and
        `(layers, t, t)` what goes along each edge.
    """
    start = capacities[-1].sum(-1)
    visits, sent = [start / start.sum().clamp(min=1e-300)], []
    for layer in capacities.flip(0):
        share = layer / layer.sum(-1, keepdim=True).clamp(min=1e-300)
        sent.append(visits[-1][:, None] * share)
        visits.append(sent[-1].sum(0))
    return torch.stack(visits[::-1]), torch.stack(sent[::-1])


def _scaled(capacities: Tensor) -> Tensor:
    """Layers of largest entry 1, so that products stay within range."""
    return capacities / capacities.amax((1, 2), keepdim=True).clamp(min=1e-300)
