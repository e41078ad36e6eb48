"""An exactly centred, dual feasible first point, nearly balanced at every node.

Any potentials give a point with every barrier condition met: for a drop d along an edge, flow f
and slack s solve d = mu (1/s - 1/f), and the multipliers are mu/f and mu/s. Only the balance of
the nodes is off. It is mended in two steps.

First each row is taken for one node: the drops from row to row are chosen such that every layer
carries the same total F and that they add up to the return edge's unit of cost. To find F
without passing over all edges again and again, each layer's capacities are gathered in
logarithmic bins, and its total is tabulated against d.

Then each row of nodes in turn, upwards and downwards once, is balanced exactly against its
neighbours, by bisection on a potential for each node. A node between edges of very different
capacity needs a potential many decades away from its row's, which Newton steps, held back by the
smallest flow, would take a dozen iterations to reach.

Starting elsewhere (half capacities, proportional splitting) is thousands-fold off-centre on the
small edges and costs many times the iterations.
"""

import torch
from torch import Tensor

from attnflow.solver.edges import Layout

BINS = 48
BISECTIONS = 16
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
    """`(batch, nodes)` potentials, rows equal first and balanced node by node then.

    Args:
        u: `(batch, edges)` capacities, > 0 at live edges.
        live: `(batch, edges)` 1 at live edges, else 0.
        mu: `(batch,)` barrier weight to start with.
        layout: The networks' sizes.
    """
    sizes, counts = _stages(u, live, layout)
    drops = GRID.to(u.device) * (1 + mu * counts.sum((1, 2)))[:, None]
    flow, _ = centred(sizes[:, :, None], drops[:, None, :, None], mu.view(-1, 1, 1, 1))
    carried = (flow * counts[:, :, None]).sum(-1)
    equal = _potentials(_balanced_drops(carried, drops, mu), layout)
    return _Sweep(u, live, mu, layout, equal).potentials()


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


class _Sweep:
    """Balances rows of nodes one after the other, the others' potentials held."""

    def __init__(self, u: Tensor, live: Tensor, mu: Tensor, layout: Layout, equal: Tensor) -> None:
        self.u, self.source, self.sink, _ = layout.split(u)
        self.live, self.has_source, self.has_sink, _ = layout.split(live)
        self.mu, self.top = mu[:, None], equal[:, -1:]
        self.rows = layout.rows(equal).clone()

    def potentials(self) -> Tensor:
        """The potentials after one sweep up and one down."""
        layers = self.u.shape[1]
        for row in (*range(layers + 1), *reversed(range(layers))):
            self.rows[:, row] = self._balanced(row)
        return torch.cat([self.rows.flatten(1), self.top], 1)

    def _balanced(self, row: int) -> Tensor:
        """Potentials at which as much enters as leaves each node of the row."""
        base = self.rows[:, row]
        high = torch.full_like(base, 70.0)
        low = -high
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            potential = base + 1e-9 * torch.sinh(middle)
            too_high = self._leaving(row, potential) > self._entering(row, potential)
            high, low = torch.where(too_high, middle, high), torch.where(too_high, low, middle)
        found = base + 1e-9 * torch.sinh((low + high) / 2)
        return torch.where(self._leaving(row, base) > 0, found, base)

    def _entering(self, row: int, potential: Tensor) -> Tensor:
        if row == self.u.shape[1]:
            return centred(self.source, self.top - potential, self.mu)[0] * self.has_source
        drop = self.rows[:, row + 1, :, None] - potential[:, None, :]
        flow, _ = centred(self.u[:, row], drop, self.mu[..., None])
        return (flow * self.live[:, row]).sum(1)

    def _leaving(self, row: int, potential: Tensor) -> Tensor:
        if row == 0:
            return centred(self.sink, potential, self.mu)[0] * self.has_sink
        drop = potential[:, :, None] - self.rows[:, row - 1, None, :]
        flow, _ = centred(self.u[:, row - 1], drop, self.mu[..., None])
        return (flow * self.live[:, row - 1]).sum(2)
