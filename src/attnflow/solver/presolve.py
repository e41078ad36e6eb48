"""Presolve: networks become scaled problems for the interior point.

Nodes that no path from source to target uses are left out, and with them all edges that are on
none: the top row of a classifier has one node, whatever the length of the text. Each network is
divided by U, the smallest total capacity of a row of edges that are left, so that flow values are
at most 1. The barrier's weight is absolute (`mu`), or relative: mu = gap * U / (2 m), m being the
number of kept edges. The relative one keeps the flow's value within gap * U of the true maximum.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.network import LayeredNetwork, largest_capacity, pruned, row_bound
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
    """The networks without edges that are vanishingly small; no copy where there are none.

    Raises:
        InputError: The capacities were changed after the network was made, and are none now.
    """
    u = network.capacities
    # No row of edges can carry more, so that what is found here may be vanishing, and no other is.
    most = NEGLIGIBLE * u.shape[-1] ** 2 * largest_capacity(u)
    if torch.equal(u > 0, u >= most.clamp(min=torch.finfo(u.dtype).tiny)):
        return network
    network = pruned(network)
    least = (NEGLIGIBLE * row_bound(network)).view(-1, 1, 1, 1)
    return replace(
        network, capacities=network.capacities.masked_fill(network.capacities < least, 0)
    )


def live_nodes(network: LayeredNetwork) -> Tensor:
    """`(batch, L + 1, t)` bool, the nodes that are on a path.

    An edge is on a path if and only if both of its ends are: one of them is fed, and the other is
    drained. So the edges themselves need no pruning.
    """
    edge = network.capacities > 0
    layers = edge.shape[1]
    fed, drained = [network.sources], [network.sinks]
    for layer in range(layers):
        fed.append((edge[:, layers - 1 - layer] & fed[-1][:, :, None]).any(1))
        drained.append((edge[:, layer] & drained[-1][:, None, :]).any(2))
    return torch.stack(fed[::-1], 1) & torch.stack(drained, 1)


def presolve(
    network: LayeredNetwork, live: Tensor, members: Tensor, *, gap: float, mu: Tensor | None
) -> Group:
    """Gather the live nodes of some networks, scale and flatten.

    Args:
        network: The batch.
        live: `(batch, L + 1, t)`, its `live_nodes`.
        members: `(n,)` int, which networks; each has a path.
        gap: Relative gap.
        mu: `(batch,)` in units of the capacities, instead of `gap`.
    """
    live = live[members]
    widths = live.sum(2).amax(0).tolist()
    nodes = [_live_first(row, width) for row, width in zip(live.unbind(1), widths, strict=True)]
    chain = Chain((1, *widths, 1, 1))
    u = _flat_capacities(network, live, members, nodes, chain)
    layers = chain.blocks(u)[1:-2]
    scale = torch.stack([layer.sum((1, 2)) for layer in layers], 1).amin(1)
    u.div_(scale[:, None]).clamp_(max=UNBOUNDED)
    m = (u > 0).sum(1).to(u.dtype)
    weight = gap / (2 * m) if mu is None else mu[members] / scale
    return Group(members, Problem(u, weight, m), chain, nodes, scale)


def _live_first(live: Tensor, width: int) -> Tensor:
    """`(batch, width)` nodes of a row, those that are live before others; all in their order."""
    batch, t = live.shape
    if width == t:
        return torch.arange(t, device=live.device).expand(batch, t)
    return torch.argsort(live, dim=1, descending=True, stable=True)[:, :width]


def _flat_capacities(
    network: LayeredNetwork, live: Tensor, members: Tensor, nodes: list[Tensor], chain: Chain
) -> Tensor:
    u = network.capacities.new_empty(len(live), chain.edges)
    sink, *layers, source, back = chain.blocks(u)
    # A narrower network's rows are filled up with nodes that are not live, whose edges are none.
    rows = [row.gather(1, at) for row, at in zip(live.unbind(1), nodes, strict=True)]
    # Finite, since 0 times infinity is no number.
    above = network.super_capacity[members].clamp(max=torch.finfo(u.dtype).max)[:, None]
    sink.copy_((rows[0] * above)[:, :, None])
    source.copy_((rows[-1] * above)[:, None, :])
    back.copy_(network.return_capacity[members][:, None, None])
    for k, layer in enumerate(layers):
        layer.copy_(_gathered(network.capacities[:, k], members, nodes[k + 1], nodes[k]))
        for row, edges in ((rows[k + 1], layer), (rows[k], layer.mT)):
            if not row.all():
                edges.mul_(row[:, :, None])
    return u


def _gathered(blocks: Tensor, members: Tensor, tails: Tensor, heads: Tensor) -> Tensor:
    """`(members, tails, heads)` capacities between these nodes."""
    if tails.shape[1] == heads.shape[1] == blocks.shape[1]:
        return blocks[members]
    return blocks[members[:, None, None], tails[:, :, None], heads[:, None, :]]
