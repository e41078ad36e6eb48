"""From networks to scaled problems for the interior point, and the way back.

Each network is pruned to the edges on a path from source to target and divided by U, the smallest
total capacity of a row of edges, so that flow values are at most 1. The barrier's weight is
absolute (`mu`), or relative: mu = gap * U / (2 m), m being the number of kept edges, which keeps
the flow's value within gap * U of the true maximum.

Edges below `NEGLIGIBLE` of U count as absent: float64 could not square them.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnflow.network import LayeredNetwork, pruned, row_bound
from attnflow.solver.edges import Layout
from attnflow.solver.interior_point import UNBOUNDED, Problem

NEGLIGIBLE = 1e-100


@dataclass(frozen=True)
class Presolved:
    """`problem` is scaled by `scale` U `(batch,)`; `empty` `(batch,)` has no path at all."""

    problem: Problem
    layout: Layout
    scale: Tensor
    empty: Tensor


def presolve(network: LayeredNetwork, *, gap: float, mu: Tensor | None) -> Presolved:
    """Prune, scale and flatten; `mu` `(batch,)` in units of the capacities overrides `gap`."""
    network = pruned(network)
    network = pruned(_without_negligible(network))
    scale = row_bound(network)
    empty = scale <= 0
    scale = torch.where(empty, torch.ones_like(scale), scale)
    layout = Layout(network.capacities.shape[1], network.capacities.shape[-1])
    live = layout.join(network.capacities > 0, network.sources, network.sinks, ~empty)
    u = _flat_capacities(network, layout) / scale[:, None]
    u = torch.where(live, u.clamp(max=UNBOUNDED), torch.full_like(u, 2.0))
    m = live.sum(1).clamp(min=1).to(u.dtype)
    weight = gap / (2 * m) if mu is None else mu / scale
    return Presolved(Problem(u, live.to(u.dtype), weight, m), layout, scale, empty)


def _without_negligible(network: LayeredNetwork) -> LayeredNetwork:
    least = NEGLIGIBLE * row_bound(network).view(-1, 1, 1, 1)
    u = network.capacities
    return replace(network, capacities=torch.where(u < least, torch.zeros_like(u), u))


def _flat_capacities(network: LayeredNetwork, layout: Layout) -> Tensor:
    above = network.super_capacity[:, None].expand(-1, layout.t)
    return layout.join(network.capacities, above, above, network.return_capacity)
