"""Presolve: networks become scaled problems for the interior point.

Each network is pruned to the edges on a path from source to target. It is divided by U, the
smallest total capacity of a row of edges, so that flow values are at most 1. Nodes that no path
uses are left out: the top row of a classifier has one node, whatever the length of the text. The
barrier's weight is absolute (`mu`), or relative: mu = gap * U / (2 m), m being the number of kept
edges. The relative one keeps the flow's value within gap * U of the true maximum.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.network import LayeredNetwork, pruned, row_bound
from attnflow.solver.state import UNBOUNDED, Problem

# Edges below this part of U count as absent: float64 could not square them.
NEGLIGIBLE = 1e-100


@dataclass(frozen=True)
class Group:
    """Networks of like size, presolved.

    Attributes:
        members: `(n,)` int, the indices of these networks in their batch.
        problem: Their problems, in units of `scale`.
        chain: Rows as wide as the widest network's.
        nodes: For each row of tokens of `chain`, `(n, width)` int, which tokens stand in it.
        scale: `(n,)` U.
    """

    members: Tensor
    problem: Problem
    chain: Chain
    nodes: list[Tensor]
    scale: Tensor


def without_negligible(network: LayeredNetwork) -> LayeredNetwork:
    """The networks with only the edges that matter: on a path, and not vanishingly small."""
    network = pruned(network)
    least = (NEGLIGIBLE * row_bound(network)).view(-1, 1, 1, 1)
    small = network.capacities < least
    if not (small & (network.capacities > 0)).any():
        return network
    # Again, since an edge that was taken away may have been another's only continuation.
    return pruned(replace(network, capacities=network.capacities.masked_fill(small, 0)))


def live_nodes(network: LayeredNetwork) -> Tensor:
    """`(batch, L + 1, t)` bool, the nodes of a pruned network that are on a path."""
    live = network.capacities > 0
    return torch.cat([live.any(2), network.sources[:, None]], 1)


def presolve(
    network: LayeredNetwork, live: Tensor, members: Tensor, *, gap: float, mu: Tensor | None
) -> Group:
    """Gather the live nodes of some networks, scale and flatten.

    Args:
        network: The batch, pruned.
        live: `(batch, L + 1, t)`, its `live_nodes`.
        members: `(n,)` int, which networks; each has a path.
        gap: Relative gap.
        mu: `(batch,)` in units of the capacities, instead of `gap`.
    """
    network, live = _members(network, members), live[members]
    widths = live.sum(2).amax(0).tolist()
    nodes = [_live_first(row, width) for row, width in zip(live.unbind(1), widths, strict=True)]
    chain = Chain((1, *widths, 1, 1))
    scale = row_bound(network)
    u = _flat_capacities(network, live, nodes, chain)
    u.div_(scale[:, None]).clamp_(max=UNBOUNDED)
    m = (u > 0).sum(1).to(u.dtype)
    weight = gap / (2 * m) if mu is None else mu[members] / scale
    return Group(members, Problem(u, weight, m), chain, nodes, scale)


def _members(network: LayeredNetwork, members: Tensor) -> LayeredNetwork:
    """The given networks of a batch; no copy where those are all, in their order."""
    everyone = torch.arange(len(network.capacities), device=members.device)
    if torch.equal(members, everyone):
        return network
    return LayeredNetwork(*(getattr(network, f.name)[members] for f in fields(network)))


def _live_first(live: Tensor, width: int) -> Tensor:
    """`(batch, width)` nodes of a row, those that are live before others; all in their order."""
    batch, t = live.shape
    if width == t:
        return torch.arange(t, device=live.device).expand(batch, t)
    return torch.argsort(live, dim=1, descending=True, stable=True)[:, :width]


def _flat_capacities(
    network: LayeredNetwork, live: Tensor, nodes: list[Tensor], chain: Chain
) -> Tensor:
    u = network.capacities.new_empty(len(live), chain.edges)
    sink, *layers, source, back = chain.blocks(u)
    # Finite, since 0 times infinity is no number: a node that is not live has no edge, capacity 0.
    above = network.super_capacity.clamp(max=torch.finfo(u.dtype).max)[:, None]
    sink.copy_((live[:, 0].gather(1, nodes[0]) * above)[:, :, None])
    source.copy_((live[:, -1].gather(1, nodes[-1]) * above)[:, None, :])
    back.copy_(network.return_capacity[:, None, None])
    for k, layer in enumerate(layers):
        layer.copy_(_gathered(network.capacities[:, k], nodes[k + 1], nodes[k]))
    return u


def _gathered(block: Tensor, tails: Tensor, heads: Tensor) -> Tensor:
    """`(batch, tails, heads)` capacities between these nodes."""
    if tails.shape[1] == heads.shape[1] == block.shape[1]:
        return block
    network = torch.arange(len(block), device=block.device)[:, None, None]
    return block[network, tails[:, :, None], heads[:, None, :]]
