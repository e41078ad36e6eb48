"""The passes over the edges that the solver makes, in plain torch.

Nothing of a direction is stored. Every step of an edge follows from the step dy of the potentials:

    df   = w (low/f - high/s + d + dd),    w = 1 / (z/f + v/s),    s = u - f
    dz   = (low - z df)/f - z,             dv = (high + v df)/s - v,

d and dd being the drops of y and dy along the edge, and `low`, `high` what f z and s v shall
become:

- for the affine direction mu, both;
- for the direction without its second-order term `target`, both;
- with it `target` - `theta` df dz and `target` + `theta` df dv, of the affine df, dz and dv.

So each pass recomputes what it needs from f, s, z, v and the potentials, for a chunk of blocks at a
time, few enough for the cache. A pass that stored its steps would wait for memory instead: writing
to new arrays costs as much as all arithmetic here.

Edges that do not exist hold 0 in all four arrays and take no part. Where a pass divides by them
they are 1 instead, and its results are masked.

`gather_bins`, `balance_rows` and `centred_point` are the passes of the start. `compiled` has the
same functions in fused form; this module states what they compute, and the two are tested against
each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnflow.solver import block_tridiagonal
from attnflow.solver.chain import Chain
from attnflow.solver.state import Linearisation, Point, Prediction, Step

# `balance_rows` halves a bracket FINEST * sinh(+-REACH): linear near 0 and logarithmic beyond, so
# that ten halvings find a potential that may lie 1e-9 or 1e21 away.
FINEST = 1e-9
REACH = 70.0
Turns = Sequence[tuple[int, int]]


@dataclass
class _ChunkEdges:
    """The edges of a chunk of blocks at a point, flat: f, s, z, v, reciprocals, and the drop."""

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
        """Return df of the direction towards f z = low and s v = high."""
        force = low * self.per_flow - high * self.per_slack + self.drop + step_drop
        return self.weight * force

    def lower_step(self, low: Tensor, flow_step: Tensor) -> Tensor:
        """Return dz of the same direction."""
        return (low - self.lower * flow_step) * self.per_flow - self.lower

    def upper_step(self, high: Tensor, flow_step: Tensor) -> Tensor:
        """Return dv of the same direction."""
        return (high + self.upper * flow_step) * self.per_slack - self.upper

    def rates(self, flow: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parts of the distances to the bounds that steps use up, primal and dual."""
        primal = torch.stack([-flow * self.per_flow, flow * self.per_slack])
        dual = torch.stack([-lower / self.lower, -upper / self.upper])
        return primal * self.live, dual * self.live


def factor(
    weight: Tensor, inward: Tensor, outward: Tensor, chain: Chain
) -> block_tridiagonal.Factor:
    """Factor the Laplacian of flat weights, as `block_tridiagonal.factor`."""
    return block_tridiagonal.factor(chain.blocks(weight), inward, outward, chain)


def linearise(point: Point, mu: Tensor, chain: Chain) -> Linearisation:
    """Compute weights, sums at the nodes and residuals at a point, for `(batch,)` mu."""
    return _linearised(point, mu, chain, torch.empty_like(point.flow))


def _linearised(point: Point, mu: Tensor, chain: Chain, weight: Tensor) -> Linearisation:
    nodes = [chain.new_nodes(point.potential) for _ in range(5)]
    linearisation = Linearisation(weight, *nodes, *(torch.zeros_like(mu) for _ in range(3)))
    for chunk, block in _edges_by_chunk(point, chain):
        lower, upper = block.flow * block.lower, block.slack * block.upper
        off = (
            torch.maximum((lower - _per_problem(mu)).abs(), (upper - _per_problem(mu)).abs())
            * block.live
        )
        dual = block.lower - block.upper + block.drop
        relative = dual.abs() / (block.lower + block.upper) * block.live
        linearisation.centrality = torch.maximum(linearisation.centrality, off.amax(1) / mu)
        linearisation.stationarity = torch.maximum(linearisation.stationarity, relative.amax(1))
        linearisation.products += ((lower + upper) * block.live).sum(1)
        weight[:, chain.edges_of(chunk)] = block.weight
        add_net_inflow(linearisation.balance, block.flow * block.live, chunk, chain)
        add_net_inflow(linearisation.pull, block.weight * block.drop, chunk, chain)
        add_net_inflow(
            linearisation.push, block.weight * (block.per_flow - block.per_slack), chunk, chain
        )
        for k, w in zip(chunk, chain.blocks_of(block.weight, chunk), strict=True):
            chain.rows(linearisation.inward)[k] += w.sum(1)
            chain.rows(linearisation.outward)[k + 1] += w.sum(2)
    return linearisation


def predict(point: Point, affine: Tensor, mu: Tensor, chain: Chain) -> Prediction:
    """Predict what the full affine step, towards mu, would do."""
    none = torch.zeros_like(mu)
    prediction = Prediction(none, none, none, none, none, chain.new_nodes(point.potential))
    for chunk, block in _edges_by_chunk(point, chain):
        flow, lower, upper = _affine(block, _per_problem(mu), chain.drops_of(affine, chunk))
        primal, dual = block.rates(flow, lower, upper)
        prediction.primal_rate = torch.maximum(prediction.primal_rate, primal.amax((0, 2)))
        prediction.dual_rate = torch.maximum(prediction.dual_rate, dual.amax((0, 2)))
        along = (block.flow * lower + block.slack * upper) * block.live
        prediction.dual_slope = prediction.dual_slope + along.sum(1)
        prediction.primal_slope = prediction.primal_slope + (
            flow * (block.lower - block.upper)
        ).sum(1)
        prediction.bilinear = prediction.bilinear + (flow * (lower - upper)).sum(1)
        add_net_inflow(
            prediction.correction,
            block.weight * _correction(block, flow, lower, upper),
            chunk,
            chain,
        )
    return prediction


def try_corrections(
    point: Point, step: Step, correction: Tensor, thetas: Tensor, chain: Chain
) -> tuple[Tensor, Tensor]:
    """Find the largest parts used up by full steps with each weight of the second-order term.

    Args:
        point: Where the step starts.
        step: Its `direction` is that without correction; `theta` and the lengths are not used.
        correction: `(batch, nodes)` step of the potentials for the second-order terms.
        thetas: `(k,)` weights to try.
        chain: The networks' sizes.

    Returns:
        `(batch, k)` of flows and slacks, and of multipliers.
    """
    # The rates are affine in theta, so that one pass serves all of its values.
    mu, target = _per_problem(step.mu), _per_problem(step.target)
    largest = point.flow.new_zeros(2, len(thetas), len(point.flow))
    for chunk, block in _edges_by_chunk(point, chain):
        nodes = (step.affine, step.direction, correction)
        affine, plain, corrected = (chain.drops_of(y, chunk) for y in nodes)
        flow, lower, upper = _affine(block, mu, affine)
        extra = block.weight * (_correction(block, flow, lower, upper) + corrected)
        first = block.flow_step(target, target, plain)
        base = block.rates(first, block.lower_step(target, first), block.upper_step(target, first))
        slope = block.rates(
            extra,
            -(flow * lower + block.lower * extra) * block.per_flow,
            (flow * upper + block.upper * extra) * block.per_slack,
        )
        for k, theta in enumerate(thetas.tolist()):
            for kind in (0, 1):
                used = (base[kind] + theta * slope[kind]).amax((0, 2))
                largest[kind, k] = torch.maximum(largest[kind, k], used)
    return largest[0].T, largest[1].T


def advance(point: Point, step: Step, chain: Chain, weight: Tensor) -> Linearisation:
    """Move the point, in place, and linearise there. The old `weight` is overwritten."""
    mu, target, theta = _per_problem(step.mu), _per_problem(step.target), _per_problem(step.theta)
    arrays = (point.flow, point.slack, point.lower, point.upper)
    for chunk, block in _edges_by_chunk(point, chain):
        affine, drop = (chain.drops_of(y, chunk) for y in (step.affine, step.direction))
        flow, lower, upper = _affine(block, mu, affine)
        low, high = target - theta * flow * lower, target + theta * flow * upper
        flow_step = block.flow_step(low, high, drop)
        lower_step, upper_step = block.lower_step(low, flow_step), block.upper_step(high, flow_step)
        # Slacks step by -df rather than being u - f, which would cancel where they are small.
        lengths = (step.primal_length, -step.primal_length, step.dual_length, step.dual_length)
        moves = (flow_step, flow_step, lower_step, upper_step)
        for array, length, move in zip(arrays, lengths, moves, strict=True):
            array[:, chain.edges_of(chunk)] += _per_problem(length) * move * block.live
    move_potentials(point, step)
    return _linearised(point, step.mu, chain, weight)


def balance_rows(
    u: Tensor, chain: Chain, potential: Tensor, mu: Tensor, turns: Turns, halvings: int
) -> None:
    """Move rows of the potentials, in place, until as much enters as leaves each of their nodes.

    Edges carry the flow that is centred for their drop (`centred_flow`); the neighbouring rows
    stay. Each node is a problem of its own with one unknown, found by halving a bracket that
    reaches over thirty decades. Newton's method overshoots here: the balance is S-shaped over many
    decades.

    Args:
        u: `(batch, edges)` capacities, 0 where there is no edge.
        chain: The networks' sizes.
        potential: `(batch, nodes)`.
        mu: `(batch,)` barrier weight.
        turns: Inner rows, one after the other, and which part of each row's last bracket to take.
            The middle is 0; the lower end, where not more leaves than enters, is -1; the upper,
            where not more enters, is 1.
        halvings: Number of halvings, each of which reads the edges once.
    """
    for row, end in turns:
        below, here, above = chain.rows(potential)[row - 1 : row + 2]
        out, into = (chain.blocks(u)[k] for k in (row - 1, row))
        middle, width = torch.zeros_like(here), REACH
        for _ in range(halvings):
            trial = here + FINEST * torch.sinh(middle)
            leaving = centred_flow(out, trial[:, :, None] - below[:, None, :], mu)[0].sum(2)
            entering = centred_flow(into, above[:, :, None] - trial[:, None, :], mu)[0].sum(1)
            width /= 2
            middle += torch.where(leaving > entering, -width, width)
        here += torch.where(leaving > 0, FINEST * torch.sinh(middle + end * width), 0.0)


def centred_point(u: Tensor, potential: Tensor, mu: Tensor, chain: Chain) -> Point:
    """The point whose flows and multipliers are centred for the potentials and `(batch,)` mu."""
    flow, slack, lower, upper = (torch.empty_like(u) for _ in range(4))
    point = Point(flow, slack, lower, upper, potential, torch.zeros_like(potential))
    for chunk, edges in point.chunks(chain):
        capacity = u[:, chain.edges_of(chunk)]
        flow, slack = centred_flow(capacity, chain.drops_of(potential, chunk), mu)
        for array, values in zip(edges[:2], (flow, slack), strict=True):
            array.copy_(values)
        for array, values in zip(edges[2:], (flow, slack), strict=True):
            array.copy_(torch.where(capacity > 0, _per_problem(mu) / values, 0.0))
    return point


def gather_bins(u: Tensor, chain: Chain, bins: int) -> tuple[Tensor, Tensor]:
    """Histogram of the capacities of each block but the last, `(batch, blocks - 1, bins)`.

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


def centred_flow(u: Tensor, drop: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Solve f + s = u and drop = mu (1/s - 1/f) for flow and slack, without cancellation.

    Both lie in (0, u). The two roots of the quadratic are computed from the same positive sum, the
    larger and the smaller. The sign of the drop says which of them is the flow.

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
    """Move the potentials of a point in place, and add what rounding loses to `carry`."""
    total, lost = exact_sum(point.potential, step.dual_length[:, None] * step.direction)
    point.potential, point.carry = total, point.carry + lost


def exact_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum and its rounding error (Knuth's two-sum)."""
    total = a + b
    b_rounded = total - a
    return total, (a - (total - b_rounded)) + (b - b_rounded)


def _edges_by_chunk(point: Point, chain: Chain) -> Iterator[tuple[range, _ChunkEdges]]:
    """Yield each chunk of blocks with its edges."""
    for chunk, edges in point.chunks(chain):
        live = edges[0] > 0
        flow, slack, lower, upper = (torch.where(live, x, 1.0) for x in edges)
        per_flow, per_slack = 1 / flow, 1 / slack
        # 0 where there is no edge, and so are all products with it.
        weight = live / (lower * per_flow + upper * per_slack)
        # Each part's differences first: the sum of both parts would round the carry away.
        drop = chain.drops_of(point.potential, chunk) + chain.drops_of(point.carry, chunk)
        yield chunk, _ChunkEdges(live, flow, slack, lower, upper, drop, per_flow, per_slack, weight)


def _affine(block: _ChunkEdges, mu: Tensor, drop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Affine steps of flow and multipliers, df, dz and dv."""
    flow = block.flow_step(mu, mu, drop)
    return flow, block.lower_step(mu, flow), block.upper_step(mu, flow)


def _correction(block: _ChunkEdges, flow: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Force of the second-order terms df dz and df dv that the affine step overlooks."""
    return -flow * (lower * block.per_flow + upper * block.per_slack)


def add_net_inflow(nodes: Tensor, edges: Tensor, chunk: range, chain: Chain) -> None:
    """Add to nodes what enters and subtract what leaves, of the flat edges of a chunk, in place."""
    rows = chain.rows(nodes)
    for k, block in zip(chunk, chain.blocks_of(edges, chunk), strict=True):
        rows[k] += block.sum(1)
        rows[k + 1] -= block.sum(2)


def _per_problem(x: Tensor) -> Tensor:
    """One number for each problem, as a column that broadcasts over flat edges."""
    return x[:, None]
