"""An exactly centred, dual feasible first point, from a network of one node a row.

Any potentials whose drop from row to row is the same number d for all edges of a layer give a
point with every barrier condition met: flow f and slack s solve -d = mu (1/f - 1/s), and the
multipliers are mu/f and mu/s. Only the balance inside the rows is off. The drops are chosen such
that every layer carries the same total F and they add up to the return edge's unit of cost.

Starting elsewhere (half capacities, proportional splitting) is thousands-fold off-centre on the
small edges and costs many times the iterations.

To find F without passing over all edges again and again, each layer's capacities are first
gathered in logarithmic bins, and its total is tabulated against d.
"""

import torch
from torch import Tensor

from attnflow.solver.edges import Layout

BINS = 48
GRID = torch.sinh(torch.linspace(-18.0, 18.0, 193, dtype=torch.float64)) * 1e-5


def centred(u: Tensor, drop: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Flow and slack with f + s = u and drop = mu (1/s - 1/f), without cancellation."""
    half = mu / u
    root = torch.sqrt(drop * drop / 4 + half * half)
    total = 2 * half + 2 * root
    larger = u * (total + drop.abs()) / (2 * total)
    smaller = 2 * mu / (total + drop.abs())
    return torch.where(drop > 0, larger, smaller), torch.where(drop > 0, smaller, larger)


def starting_potentials(u: Tensor, live: Tensor, mu: Tensor, layout: Layout) -> Tensor:
    """`(batch, nodes)` potentials of equal rows.

    Args:
        u: `(batch, edges)` capacities, > 0 at live edges.
        live: `(batch, edges)` bool.
        mu: `(batch,)` barrier weight to start with.
        layout: The networks' sizes.
    """
    sizes, counts = _stages(u, live, layout)
    drops = GRID.to(u.device) * (1 + mu * counts.sum((1, 2)))[:, None]
    flow, _ = centred(sizes[:, :, None], drops[:, None, :, None], mu.view(-1, 1, 1, 1))
    carried = (flow * counts[:, :, None]).sum(-1)
    chosen = _balanced_drops(carried, drops, mu)
    return _potentials(chosen, layout)


def _stages(u: Tensor, live: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Mean capacity and number of edges in each bin, `(batch, L + 2, bins)`, sink first."""
    layers, source, sink, _ = layout.split(u)
    alive, has_source, has_sink, _ = layout.split(live.to(u.dtype))
    stages = [(sink, has_sink), (source, has_source)]
    stages[1:1] = zip(layers.flatten(2).unbind(1), alive.flatten(2).unbind(1), strict=True)
    binned = [_binned(capacity, present) for capacity, present in stages]
    return torch.stack([b[0] for b in binned], 1), torch.stack([b[1] for b in binned], 1)


def _binned(u: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
    """Mean capacity (1 where empty) and count in bins over the four decades below the largest."""
    decades = torch.log10(u * live / (u * live).amax(1, keepdim=True).clamp(min=1e-300))
    index = ((decades + 4) * (BINS / 4)).clamp(0, BINS - 1).long()
    zeros = u.new_zeros(len(u), BINS)
    count = zeros.scatter_add(1, index, live)
    total = zeros.scatter_add(1, index, u * live)
    return torch.where(count > 0, total / count.clamp(min=1), torch.ones_like(total)), count


def _balanced_drops(carried: Tensor, drops: Tensor, mu: Tensor) -> Tensor:
    """`(batch, L + 2)` drop of each stage at the total flow for which they add up to 1 + mu / F.

    Args:
        carried: `(batch, L + 2, grid)` flow through each stage at each drop, ascending.
        drops: `(batch, grid)`.
    """
    low, high = carried[..., 0].amax(1), carried[..., -1].amin(1)
    for _ in range(60):
        flow = torch.sqrt(low * high)
        at = _drops_at(carried, drops, flow)
        too_much = at.sum(1) > 1 + mu / flow
        low, high = torch.where(too_much, low, flow), torch.where(too_much, flow, high)
    return _drops_at(carried, drops, torch.sqrt(low * high))


def _drops_at(carried: Tensor, drops: Tensor, flow: Tensor) -> Tensor:
    """The drop at which each stage carries `flow`, between two points of the grid."""
    wanted = flow[:, None, None].expand(-1, carried.shape[1], 1)
    right = torch.searchsorted(carried, wanted.contiguous()).clamp(1, drops.shape[1] - 1)
    below, above = carried.gather(2, right - 1), carried.gather(2, right)
    part = ((wanted - below) / (above - below).clamp(min=1e-300)).clamp(0, 1)
    grid = drops[:, None].expand_as(carried)
    return torch.lerp(grid.gather(2, right - 1), grid.gather(2, right), part)[..., 0]


def _potentials(drops: Tensor, layout: Layout) -> Tensor:
    """Potentials that rise by one drop a row: sink stage, layers from the bottom, source stage."""
    heights = drops.cumsum(1)
    rows = heights[:, :-1, None].expand(-1, -1, layout.t)
    return torch.cat([rows.flatten(1), heights[:, -1:]], 1)
