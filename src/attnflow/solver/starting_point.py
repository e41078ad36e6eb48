"""An exactly centred, dual feasible first point, nearly balanced at every node.

Any potentials give a point with every barrier condition met. For a drop d along an edge, flow f and
slack s solve d = mu (1/s - 1/f), and the multipliers are mu/f and mu/s. Only the balance of the
nodes is off. It is mended in two steps.

First each row is taken for one node. The drops from row to row are chosen such that every block
carries the same total F, and such that they add up to the return edge's unit of reward. To find F
without passing over all edges again and again, each block's capacities are gathered in logarithmic
bins, and its total is tabulated against d.

Then each row of nodes in turn, downwards and upwards twice, is balanced against its neighbours,
with a potential for each node (`edge_passes.balance_rows`). A node between edges of very different
capacity needs a potential many decades away from its row's. Newton steps of the whole network, held
back by the smallest flow, would take a dozen iterations to reach it.

Starting elsewhere (half capacities, proportional splitting) is thousands-fold off-centre on the
small edges and costs many times the iterations.
"""

import torch
from torch import Tensor

from attnflow.solver.backend import Kernels
from attnflow.solver.chain import Chain
from attnflow.solver.edge_passes import centred_flow

# Eight bins and 33 drops need the same iterations as 48 and 193, at a fraction of the time.
BINS = 8
# Fewer halvings in the first sweep cost iterations, more save as little as they cost
# (docs/solver-log.md, "The start").
HALVINGS = 10
SWEEPS = 2
CANDIDATES = 32  # flows tried at once in each round of the search for the total
ROUNDS = 6  # each narrows the bracket of the total 31-fold: 31^6 is 1e9
# Drops at which totals are tabulated, in units of 1 + mu m: both signs, 1e-5 to 300, since drops of
# blocks lie many decades apart.
GRID = torch.sinh(torch.linspace(-18.0, 18.0, 33, dtype=torch.float64)) * 1e-5


def starting_potentials(u: Tensor, mu: Tensor, chain: Chain, kernels: Kernels) -> Tensor:
    """`(batch, nodes)` potentials, first equal within rows, then balanced node by node.

    Args:
        u: `(batch, edges)` capacities, 0 where there is no edge.
        mu: `(batch,)` barrier weight to start with.
        chain: The networks' sizes.
        kernels: The passes to use.
    """
    totals, counts = kernels.gather_bins(u, chain, BINS)
    sizes = totals / counts.clamp(min=1)
    drops = GRID.to(u.device) * (1 + mu * counts.sum((1, 2)))[:, None]
    flow, _ = centred_flow(sizes[:, :, None], drops[:, None, :, None], mu)
    carried = (flow * counts[:, :, None]).sum(-1)
    potential = _potentials(_balanced_drops(carried, drops, mu), chain)
    inner = range(1, len(chain.widths) - 2)
    # Down, then up: the order that needs the fewest iterations (docs/solver-log.md, "The start").
    rows = (*inner[-1:], *SWEEPS * (*reversed(inner[:-1]), *inner[1:]))
    turns = [(row, _end(row, inner)) for row in rows]
    kernels.balance_rows(u, chain, potential, mu, turns, HALVINGS)
    return potential


def _end(row: int, inner: range) -> int:
    """The end of a node's bracket at which its uncapacitated edge does not carry without bound.

    In the lowest row of tokens that edge leaves the node, in the highest it enters.
    """
    return {inner[0]: -1, inner[-1]: 1}.get(row, 0)


def _balanced_drops(carried: Tensor, drops: Tensor, mu: Tensor) -> Tensor:
    """`(batch, L + 2)` drop of each block at the total flow for which they add up to 1 + mu / F.

    The flow is sought among candidates in geometric progression, then between two of them, and so
    on. The drops are then scaled to the sum that it asks for.

    Args:
        carried: `(batch, L + 2, grid)` flow through each block at each drop, ascending.
        drops: `(batch, grid)`.
        mu: `(batch,)`.
    """
    low, high = carried[..., 0].amax(1).log(), carried[..., -1].amin(1).log()
    part = torch.linspace(0, 1, CANDIDATES, dtype=mu.dtype, device=mu.device)
    for _ in range(ROUNDS):
        flow = torch.lerp(low[:, None], high[:, None], part)
        total = _drops_at(carried, drops, flow.exp()).sum(1)
        enough = (total <= 1 + mu[:, None] / flow.exp()).sum(1, keepdim=True)
        at = enough.clamp(1, CANDIDATES - 1)
        low, high = flow.gather(1, at - 1)[:, 0], flow.gather(1, at)[:, 0]
    near = _drops_at(carried, drops, low.exp()[:, None])[..., 0]
    # An interpolated sum is not exact, and the least error puts the source on the wrong side of the
    # return edge, whose infinite capacity would saturate.
    return near * (1 + mu / low.exp())[:, None] / near.sum(1, keepdim=True)


def _drops_at(carried: Tensor, drops: Tensor, flow: Tensor) -> Tensor:
    """`(batch, L + 2, k)` drops at which each block carries each `flow` `(batch, k)`."""
    wanted = flow[:, None].expand(-1, carried.shape[1], -1).contiguous()
    right = torch.searchsorted(carried, wanted).clamp(1, drops.shape[1] - 1)
    below, above = carried.gather(2, right - 1), carried.gather(2, right)
    # A saturated block carries the same at both ends of the interval: any drop between will do.
    part = ((wanted - below) / (above - below).clamp(min=1e-300)).clamp(0, 1)
    grid = drops[:, None].expand_as(carried)
    return torch.lerp(grid.gather(2, right - 1), grid.gather(2, right), part)


def _potentials(drops: Tensor, chain: Chain) -> Tensor:
    """Potentials that rise by one drop a row, from 0, and the fixed 1 at the upper end."""
    potential = chain.new_nodes(drops)
    rows = chain.rows(potential)
    for row, height in zip(rows[1:-1], drops.cumsum(1).unbind(1), strict=True):
        row.copy_(height[:, None].expand_as(row))
    rows[-1].fill_(1)
    return potential
