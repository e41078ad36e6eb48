"""Readouts: a tensor of edges becomes scores, by flows of several kinds or without one.

All start where the top layer has capacity, or those of `ROW_READOUTS` at the node that the model
reads, and end at the input nodes. Flows are unique, conserved and within the capacities; the other
readouts use the same tensor without one of these properties.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attnflow.methods.adapter import Scores
from attnflow.methods.attention import accumulated, as_scores, rolled_out
from attnflow.methods.exact_flow import outflow
from attnflow.methods.information_tensors import SignedEffects
from attnflow.solver import Flow, maximum_flow


@dataclass(frozen=True, eq=False)
class Walk:
    """A random walk from the top, which splits at each node in proportion to its capacities.

    Attributes:
        visits: `(layers + 1, t)` visits of each row, which add up to 1 where edges lead down.
        sent: `(layers, t, t)` visits of each edge.
    """

    visits: Tensor
    sent: Tensor


def flow(edges: SignedEffects) -> Scores:
    """Outflow of the barrier flow from the input row."""
    return as_scores(_flow(edges.capacities).sink[0])


def throughput(edges: SignedEffects) -> Scores:
    """Mean of the barrier flow through a token's node in every row."""
    return as_scores(_flow(edges.capacities).throughput(0))


def net_flow(edges: SignedEffects) -> Scores:
    """Outflow of the flow of positive effects minus that of negative ones."""
    return flow(edges) - flow(edges.negated)


def net_throughput(edges: SignedEffects) -> Scores:
    """Throughput of the flow of positive effects minus that of negative ones."""
    return throughput(edges) - throughput(edges.negated)


def plain_flow(edges: SignedEffects) -> Scores:
    """Outflow of a maximum flow without a barrier: one of many."""
    return outflow(edges.capacities.numpy())


def random_walk(edges: SignedEffects) -> Scores:
    """Visits of a walk: each node splits what arrives in proportion to its capacities downwards."""
    return as_scores(walked(edges.capacities).visits[0])


def walk_throughput(edges: SignedEffects) -> Scores:
    """Mean of the random walk's visits over all rows."""
    return as_scores(walked(edges.capacities).visits.mean(0))


def shortest_path(edges: SignedEffects, row: int) -> Scores:
    """Best path to each token, by the product of its edges' shares of their node's capacity."""
    capacities = edges.capacities
    # The clamp turns 0 / 0 of nodes without capacity into 0.
    share = capacities / capacities.sum(-1, keepdim=True).clamp(min=1e-300)
    best = share[-1, row]
    for layer in share[:-1].flip(0):
        best = (best[:, None] * layer).amax(0)
    return as_scores(best)


def rollout(edges: SignedEffects, row: int) -> Scores:
    """Product of the layers, in the readout row."""
    return as_scores(rolled_out(_scaled(edges.capacities))[row])


def chefer(edges: SignedEffects, row: int) -> Scores:
    """Chefer's accumulation: R <- R + E R."""
    return as_scores(accumulated(edges.capacities)[row])


def column_sums(edges: SignedEffects) -> Scores:
    """Capacity into each token's nodes, over all layers."""
    return as_scores(edges.capacities.sum((0, 1)))


def first_sums(edges: SignedEffects) -> Scores:
    """Capacity into each input token, in the first layer."""
    return as_scores(edges.capacities[0].sum(0))


def signed_sums(edges: SignedEffects) -> Scores:
    """Effects, negative ones included, of the first layer's edges: frozen gradient x input."""
    return as_scores(edges.total[0].sum(0))


def all_signed_sums(edges: SignedEffects) -> Scores:
    """Effects, negative ones included, over all layers."""
    return as_scores(edges.total.sum((0, 1)))


READOUTS: dict[str, Callable[[SignedEffects], Scores]] = {
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
ROW_READOUTS: dict[str, Callable[[SignedEffects, int], Scores]] = {
    "path": shortest_path,
    "rollout": rollout,
    "chefer": chefer,
}


def _flow(capacities: Tensor) -> Flow[Tensor]:
    # A flow without a certificate would be compared as if it were the method's answer.
    solved = maximum_flow(capacities[None])
    solved.raise_for_status()
    return solved


def walked(capacities: Tensor) -> Walk:
    """Return the random walk of `(layers, t, t)` capacities."""
    start = capacities[-1].sum(-1)
    visits, sent = [start / start.sum().clamp(min=1e-300)], []
    for layer in capacities.flip(0):
        share = layer / layer.sum(-1, keepdim=True).clamp(min=1e-300)
        sent.append(visits[-1][:, None] * share)
        visits.append(sent[-1].sum(0))
    return Walk(torch.stack(visits[::-1]), torch.stack(sent[::-1]))


def _scaled(capacities: Tensor) -> Tensor:
    """The layers with largest entry 1, so that products stay within range."""
    return capacities / capacities.amax((1, 2), keepdim=True).clamp(min=1e-300)
