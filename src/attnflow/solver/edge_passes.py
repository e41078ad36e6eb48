"""The passes over the edges that the solver makes, in plain torch.

Nothing of a direction is stored. Every step of an edge follows from the step dy of the potentials:

    df   = w (low/f - high/s + d + dd),    w = 1 / (z/f + v/s),    s = u - f
    dz   = (low - z df)/f - z,             dv = (high + v df)/s - v,

d and dd being the drops of y and dy along the edge, and `low`, `high` what f z and s v shall
become: mu for the affine direction, `target` for the plain one, and for the corrected one
`target` less `theta` times the products of the affine steps. So each pass recomputes what it needs
from f, s, z, v and the potentials, for a run of blocks at a time, few enough for the cache.

Edges that do not exist hold 0 in all four arrays and take no part.

`gather_bins`, `balance` and `centre` are the passes of the start. `compiled` has the same functions
in fused form; the two are tested against each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnflow.solver import block_tridiagonal
from attnflow.solver.chain import Chain
from attnflow.solver.state import Ahead, Linearised, Point, Step

FINEST = 1e-9  # finest change of a potential that `balance` resolves by halving
REACH = 70.0  # its bracket, FINEST * sinh(+-REACH)
Turns = Sequence[tuple[int, int]]


@dataclass
class _Edges:
    """The edges of a run of blocks at a point, flat: f, s, z, v, reciprocals, and the drop."""

    live: Tensor
    flow: Tensor
    slack: Tensor
    lower: Tensor
    upper: Tensor
    drop: Tensor
    per_flow: Tensor
    per_slack: Tensor
    weight: Tensor

    def flow_step(self, low: Tensor, high: Tensor, step_drop: Tensor) -> Tensor:
        """df of the direction towards f z = low and s v = high."""
        force = low * self.per_flow - high * self.per_slack + self.drop + step_drop
        return self.weight * force

    def lower_step(self, low: Tensor, flow_step: Tensor) -> Tensor:
        return (low - self.lower * flow_step) * self.per_flow - self.lower

    def upper_step(self, high: Tensor, flow_step: Tensor) -> Tensor:
        return (high + self.upper * flow_step) * self.per_slack - self.upper

    def rates(self, flow: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Parts of the distances to the bounds that steps use up, of flows and of multipliers."""
        primal = torch.stack([-flow * self.per_flow, flow * self.per_slack])
        dual = torch.stack([-lower / self.lower, -upper / self.upper])
        return primal * self.live, dual * self.live


def factor(
    weight: Tensor, inward: Tensor, outward: Tensor, chain: Chain
) -> block_tridiagonal.Factor:
    """As `block_tridiagonal.factor`, of flat weights."""
    return block_tridiagonal.factor(chain.blocks(weight), inward, outward, chain)


def linearise(point: Point, mu: Tensor, chain: Chain) -> Linearised:
    """Weights, sums at the nodes and residuals at a point, for the barrier weight `(batch,)` mu."""
    return _linearised(point, mu, chain, torch.empty_like(point.flow))


def _linearised(point: Point, mu: Tensor, chain: Chain, weight: Tensor) -> Linearised:
    nodes = [chain.new_nodes(point.potential) for _ in range(5)]
    found = Linearised(weight, *nodes, *(torch.zeros_like(mu) for _ in range(3)))
    for span, block in _spans(point, chain):
        lower, upper = block.flow * block.lower, block.slack * block.upper
        off = torch.maximum((lower - _each(mu)).abs(), (upper - _each(mu)).abs()) * block.live
        dual = block.lower - block.upper + block.drop
        relative = dual.abs() / (block.lower + block.upper) * block.live
        found.centrality = torch.maximum(found.centrality, off.amax(1) / mu)
        found.stationarity = torch.maximum(found.stationarity, relative.amax(1))
        found.products += ((lower + upper) * block.live).sum(1)
        weight[:, chain.edges_of(span)] = block.weight
        add(found.balance, block.flow * block.live, span, chain)
        add(found.pull, block.weight * block.drop, span, chain)
        add(found.push, block.weight * (block.per_flow - block.per_slack), span, chain)
        for k, w in zip(span, chain.blocks_of(block.weight, span), strict=True):
            chain.rows(found.inward)[k] += w.sum(1)
            chain.rows(found.outward)[k + 1] += w.sum(2)
    return found


def look_ahead(point: Point, affine: Tensor, mu: Tensor, chain: Chain) -> Ahead:
    """What the full affine step, towards mu, would do."""
    none = torch.zeros_like(mu)
    ahead = Ahead(none, none, none, none, none, chain.new_nodes(point.potential))
    for span, block in _spans(point, chain):
        flow, lower, upper = _affine(block, _each(mu), chain.drops_of(affine, span))
        primal, dual = block.rates(flow, lower, upper)
        ahead.primal = torch.maximum(ahead.primal, primal.amax((0, 2)))
        ahead.dual = torch.maximum(ahead.dual, dual.amax((0, 2)))
        along = (block.flow * lower + block.slack * upper) * block.live
        ahead.dual_slope = ahead.dual_slope + along.sum(1)
        ahead.primal_slope = ahead.primal_slope + (flow * (block.lower - block.upper)).sum(1)
        ahead.bend = ahead.bend + (flow * (lower - upper)).sum(1)
        add(ahead.correction, block.weight * _correction(block, flow, lower, upper), span, chain)
    return ahead


def try_corrections(
    point: Point, step: Step, correction: Tensor, thetas: Tensor, chain: Chain
) -> tuple[Tensor, Tensor]:
    """Largest parts used up by full steps with each weight of the second-order term.

    Args:
        point: Where the step starts.
        step: Its `direction` is the plain one, to `target`; `theta` and the lengths are not used.
        correction: `(batch, nodes)` step of the potentials for the second-order terms.
        thetas: `(k,)` weights to try.
        chain: The networks' sizes.

    Returns:
        `(batch, k)` of flows and slacks, and of multipliers.
    """
    mu, target = _each(step.mu), _each(step.target)
    largest = point.flow.new_zeros(2, len(thetas), len(point.flow))
    for span, block in _spans(point, chain):
        nodes = (step.affine, step.direction, correction)
        affine, plain, corrected = (chain.drops_of(y, span) for y in nodes)
        flow, lower, upper = _affine(block, mu, affine)
        extra = block.weight * (_correction(block, flow, lower, upper) + corrected)
        first = block.flow_step(target, target, plain)
        base = block.rates(first, block.lower_step(target, first), block.upper_step(target, first))
        slope = block.rates(
            extra,
            -(flow * lower + block.lower * extra) * block.per_flow,
            (flow * upper + block.upper * extra) * block.per_slack,
        )
        for at, theta in enumerate(thetas.tolist()):
            for kind in (0, 1):
                used = (base[kind] + theta * slope[kind]).amax((0, 2))
                largest[kind, at] = torch.maximum(largest[kind, at], used)
    return largest[0].T, largest[1].T


def advance(point: Point, step: Step, chain: Chain, weight: Tensor) -> Linearised:
    """Move the point, in place, and linearise there. The old `weight` is overwritten."""
    mu, target, theta = _each(step.mu), _each(step.target), _each(step.theta)
    arrays = (point.flow, point.slack, point.lower, point.upper)
    for span, block in _spans(point, chain):
        affine, drop = (chain.drops_of(y, span) for y in (step.affine, step.direction))
        flow, lower, upper = _affine(block, mu, affine)
        low, high = target - theta * flow * lower, target + theta * flow * upper
        flow_step = block.flow_step(low, high, drop)
        lower_step, upper_step = block.lower_step(low, flow_step), block.upper_step(high, flow_step)
        lengths = (step.primal, -step.primal, step.dual, step.dual)
        moves = (flow_step, flow_step, lower_step, upper_step)
        for array, length, move in zip(arrays, lengths, moves, strict=True):
            array[:, chain.edges_of(span)] += _each(length) * move * block.live
    move_potentials(point, step)
    return _linearised(point, step.mu, chain, weight)


def balance(
    u: Tensor, chain: Chain, potential: Tensor, mu: Tensor, turns: Turns, halvings: int
) -> None:
    """Move rows of the potentials, in place, until as much enters as leaves each of their nodes.

    Edges carry the flow that is centred for their drop (`centred`); the neighbouring rows stay.
    Each node is a problem of its own with one unknown, found by halving a bracket that is scaled
    to reach over thirty decades.

    Args:
        u: `(batch, edges)` capacities, 0 where there is no edge.
        chain: The networks' sizes.
        potential: `(batch, nodes)`.
        mu: `(batch,)` barrier weight.
        turns: Inner rows, one after the other, and of the last bracket of each what to take: the
            middle (0), the lower end (-1), where not more leaves than enters, or the upper (1),
            where not more enters.
        halvings: How often to look at the edges.
    """
    for row, end in turns:
        below, here, above = chain.rows(potential)[row - 1 : row + 2]
        out, into = (chain.blocks(u)[k] for k in (row - 1, row))
        middle, width = torch.zeros_like(here), REACH
        for _ in range(halvings):
            trial = here + FINEST * torch.sinh(middle)
            leaving = centred(out, trial[:, :, None] - below[:, None, :], mu)[0].sum(2)
            entering = centred(into, above[:, :, None] - trial[:, None, :], mu)[0].sum(1)
            width /= 2
            middle += torch.where(leaving > entering, -width, width)
        here += torch.where(leaving > 0, FINEST * torch.sinh(middle + end * width), 0.0)


def centre(u: Tensor, potential: Tensor, mu: Tensor, chain: Chain) -> Point:
    """The point whose flows and multipliers are centred for the potentials, `(batch,)` mu."""
    flow, slack, lower, upper = (torch.empty_like(u) for _ in range(4))
    point = Point(flow, slack, lower, upper, potential, torch.zeros_like(potential))
    for span, edges in point.spans(chain):
        here = u[:, chain.edges_of(span)]
        near = centred(here, chain.drops_of(potential, span), mu)
        for x, found in zip(edges, near, strict=False):
            x.copy_(found)
        for x, found in zip(edges[2:], near, strict=True):
            x.copy_(torch.where(here > 0, _each(mu) / found, 0.0))
    return point


def gather_bins(u: Tensor, chain: Chain, bins: int) -> tuple[Tensor, Tensor]:
    """Edges of each block but the last by capacity, `(batch, blocks - 1, bins)` both.

    A bin is half a decade wide, from the largest capacity of the block down; the last takes all
    that is smaller.

    Returns:
        The sum of the capacities in each bin, and the number of the edges.
    """
    limits = 10 ** (-torch.arange(1, bins, dtype=u.dtype, device=u.device) / 2)
    totals, counts = [], []
    for block in chain.blocks(u)[:-1]:
        flat = block.flatten(1)
        index = (flat[..., None] <= flat.amax(1, keepdim=True)[..., None] * limits).sum(2)
        zeros = u.new_zeros(len(u), bins)
        totals.append(zeros.scatter_add(1, index, flat))
        counts.append(zeros.scatter_add(1, index, (flat > 0).to(u.dtype)))
    return torch.stack(totals, 1), torch.stack(counts, 1)


def centred(u: Tensor, drop: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Flow and slack with f + s = u and drop = mu (1/s - 1/f), without cancellation.

    Args:
        u: `(batch, ...)` capacities, 0 where there is no edge.
        drop: As `u`.
        mu: `(batch,)`.
    """
    twice = 2 * mu.view(-1, *[1] * (u.ndim - 1))
    along = (drop * u).abs()
    far = along + torch.sqrt(along * along + twice * twice)
    larger, smaller = u * far / (far + twice), u * twice / (far + twice)
    return torch.where(drop > 0, larger, smaller), torch.where(drop > 0, smaller, larger)


def move_potentials(point: Point, step: Step) -> None:
    """Move the potentials of a point in place, keeping what rounding loses."""
    total, lost = exact_sum(point.potential, step.dual[:, None] * step.direction)
    point.potential, point.carry = total, point.carry + lost


def exact_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum and its rounding error (Knuth's two-sum)."""
    total = a + b
    seen = total - a
    return total, (a - (total - seen)) + (b - seen)


def _spans(point: Point, chain: Chain) -> Iterator[tuple[range, _Edges]]:
    for span, edges in point.spans(chain):
        live = edges[0] > 0
        flow, slack, lower, upper = (torch.where(live, x, 1.0) for x in edges)
        per_flow, per_slack = 1 / flow, 1 / slack
        weight = live / (lower * per_flow + upper * per_slack)
        drop = chain.drops_of(point.potential, span) + chain.drops_of(point.carry, span)
        yield span, _Edges(live, flow, slack, lower, upper, drop, per_flow, per_slack, weight)


def _affine(block: _Edges, mu: Tensor, drop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Affine steps of flow and multipliers."""
    flow = block.flow_step(mu, mu, drop)
    return flow, block.lower_step(mu, flow), block.upper_step(mu, flow)


def _correction(block: _Edges, flow: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The force of the second-order terms that the affine step overlooks."""
    return -flow * (lower * block.per_flow + upper * block.per_slack)


def add(nodes: Tensor, edges: Tensor, span: range, chain: Chain) -> None:
    """Add to nodes what enters and subtract what leaves, of the flat edges of a run of blocks."""
    rows = chain.rows(nodes)
    for k, block in zip(span, chain.blocks_of(edges, span), strict=True):
        rows[k] += block.sum(1)
        rows[k + 1] -= block.sum(2)


def _each(x: Tensor) -> Tensor:
    """One number a problem, ready to meet flat edges."""
    return x[:, None]
