"""The barrier flow by its dual alone: for networks whose primal-dual iterates do not fit in memory.

The unknowns are the potentials y. For any y each edge carries the flow that is centred for its drop
(`edge_passes.centred_flow`). So every optimality condition holds but conservation, B'f(y) = 0,
which is the gradient of a smooth convex function.

1. Newton's method minimises it, with a line search, first for a larger mu.
2. From one mu to the next smaller it follows the tangent of the path, which costs a second
   right-hand side only.

Flows, multipliers and weights are computed block by block when needed, and besides the capacities
only the factor is kept: `memory` says what that saves. It takes two to four times the
factorisations of the primal-dual method.

Works on one network at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attnflow.solver.backend import Kernels, kernels_for
from attnflow.solver.block_tridiagonal import factor
from attnflow.solver.chain import Chain
from attnflow.solver.edge_passes import add_net_inflow, centred_flow, exact_sum
from attnflow.solver.flow import Method
from attnflow.solver.flow_builder import FlowBuilder
from attnflow.solver.interior_point import starting_mu
from attnflow.solver.presolve import Group
from attnflow.solver.starting_point import starting_potentials
from attnflow.solver.state import TO_BOUNDARY, UNBOUNDED, Problem, StoppingCriteria

# 2 m mu at the first point, in units of the scale. Farther from the optimum than the primal-dual
# method starts, whose steps need not keep the drops of uncapacitated edges negative.
STARTING_BARRIER = 10.0
REDUCTION = 0.1  # from one mu to the next
CENTRED = 0.1  # Newton decrement, squared, from which mu is reduced
TRIALS = 40  # of a line search


@dataclass
class CentredPoint:
    """Potentials, and the flows and multipliers that are centred for them. A batch of one."""

    problem: Problem
    mu: Tensor
    potential: Tensor
    carry: Tensor

    def chunks(self, chain: Chain) -> Iterator[tuple[range, tuple[Tensor, ...]]]:
        """Yield flow, slack, lower and upper, flat, for one block at a time."""
        for k in range(len(chain.shapes)):
            chunk = range(k, k + 1)
            u = self.problem.u[:, chain.edges_of(chunk)]
            flow, slack = centred_flow(u, self.drop(chunk, chain), self.mu)
            lower, upper = (torch.where(u > 0, self.mu / x, 0.0) for x in (flow, slack))
            yield chunk, (flow, slack, lower, upper)

    def drop(self, chunk: range, chain: Chain) -> Tensor:
        """Drops of both parts of the potentials, flat, for the edges of a chunk."""
        return chain.drops_of(self.potential, chunk) + chain.drops_of(self.carry, chunk)

    def weights(self, chain: Chain) -> Iterator[Tensor]:
        """Yield the derivative of the flow by the drop, `(1, tails, heads)`, block by block."""
        for chunk, edges in self.chunks(chain):
            yield chain.blocks_of(_weight(*edges), chunk)[0]

    def moved(self, step: Tensor) -> "CentredPoint":
        """The point after a step `(1, nodes)` of the potentials."""
        potential, lost = exact_sum(self.potential, step)
        return CentredPoint(self.problem, self.mu, potential, self.carry + lost)


@dataclass
class _Sums:
    """Sums at the nodes, named as in `Linearisation`, and the flow's value."""

    balance: Tensor
    pull: Tensor
    inward: Tensor
    outward: Tensor
    value: Tensor


def solve(group: Group, stopping: StoppingCriteria, builder: FlowBuilder) -> None:
    """Solve a group of one network, and record it in `builder`."""
    kernels, _ = kernels_for(group.members.device, 1, group.chain)
    point, iterations, exhausted = _minimise(group, stopping, kernels)
    builder.record(
        group,
        torch.zeros_like(group.members),
        point,
        group.problem,
        exhausted=torch.tensor([exhausted], device=group.members.device),
        iterations=torch.tensor([iterations], device=group.members.device),
        method=Method.DUAL,
    )


def _minimise(
    group: Group, stopping: StoppingCriteria, kernels: Kernels
) -> tuple[CentredPoint, int, bool]:
    """The last point, the factorisations used, and whether float64 could go no further."""
    problem, chain = group.problem, group.chain
    mu = starting_mu(problem, STARTING_BARRIER)
    potential = starting_potentials(problem.u, mu, chain, kernels)
    point = CentredPoint(problem, mu, potential, torch.zeros_like(potential))
    for iteration in range(stopping.max_iterations + 1):
        sums = _sums(point, chain)
        final = bool(point.mu == problem.mu)
        if final and _conservation(sums) <= stopping.residual:
            return point, iteration, False
        if iteration == stopping.max_iterations:
            break
        # The plain factorisation, since it takes the weights block by block; the compiled one
        # would need the array of all weights that this method is there to avoid.
        newton = factor(point.weights(chain), sums.inward, sums.outward, chain)
        right = torch.stack([sums.balance, sums.pull], 2)
        step, along = newton.solve(right).unbind(2)
        slope = (sums.balance * step).sum()
        if newton.failed.any() or not torch.isfinite(slope):
            return point, iteration, True
        # Only roughly centred points are needed on the way; the last one is centred in full.
        if not final and slope < CENTRED * point.mu:
            point = _followed(point, step, along, chain)
            continue
        following = _line_search(point, step, slope, chain)
        if following is None:
            return point, iteration, True
        point = following
    return point, stopping.max_iterations, False


def _conservation(sums: _Sums) -> float:
    return float(sums.balance.abs().max() / sums.value)


def _sums(point: CentredPoint, chain: Chain) -> _Sums:
    balance, pull, inward, outward = (chain.new_nodes(point.potential) for _ in range(4))
    for chunk, edges in point.chunks(chain):
        weight = _weight(*edges)
        add_net_inflow(balance, edges[0], chunk, chain)
        add_net_inflow(pull, weight * point.drop(chunk, chain), chunk, chain)
        chain.rows(inward)[chunk.start].add_(chain.blocks_of(weight, chunk)[0].sum(1))
        chain.rows(outward)[chunk.stop].add_(chain.blocks_of(weight, chunk)[0].sum(2))
    value = -balance[:, -1]
    # The end rows are grounded: their potentials are fixed, and nothing need balance there.
    for nodes in (balance, pull):
        nodes[:, [0, -1]] = 0
    return _Sums(balance, pull, inward, outward, value)


def _weight(flow: Tensor, slack: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Derivative of the flow by the drop; 0 where there is no edge."""
    return torch.where(flow > 0, 1 / (lower / flow + upper / slack), 0.0)


def _followed(point: CentredPoint, step: Tensor, along: Tensor, chain: Chain) -> CentredPoint:
    """A point at a smaller mu along the tangent of the path, as far as that is dual feasible."""
    mu = torch.maximum(point.problem.mu, REDUCTION * point.mu)
    tangent = step - along * (mu / point.mu - 1)
    length = _longest(point, tangent, chain)
    following = point.moved(length * tangent)
    # Where the tangent leaves the domain early, mu falls only as far as the step reaches.
    following.mu = mu if length == 1 else torch.lerp(point.mu, mu, length)
    return following


def _longest(point: CentredPoint, step: Tensor, chain: Chain) -> float:
    """Longest step, at most 1, that keeps the drops along edges of infinite capacity negative."""
    # A positive drop would send 1e100 along such an edge. Only super-edges and the return edge can
    # be uncapacitated.
    longest = 1.0
    last = len(chain.shapes) - 1
    for k in (0, last - 1, last):
        chunk = range(k, k + 1)
        unbounded = point.problem.u[:, chain.edges_of(chunk)] >= UNBOUNDED
        part = chain.drops_of(step, chunk) / -point.drop(chunk, chain)
        used = torch.where(unbounded, part, 0.0).max()
        longest = min(longest, TO_BOUNDARY / max(float(used), TO_BOUNDARY))
    return longest


def _line_search(
    point: CentredPoint, step: Tensor, slope: Tensor, chain: Chain
) -> CentredPoint | None:
    """A point along the step at which the slope is at most half as steep; None if none is found.

    The slope changes in one direction only along a line, since the function is convex, so halving
    brackets the point. The longest step is taken as well where the slope there still points on.
    """
    low = 0.0
    high = length = longest = _longest(point, step, chain)
    for _ in range(TRIALS):
        trial = point.moved(length * step)
        trial_slope = (_balance(trial, chain) * step).sum()
        reached_end = length == longest and 0 <= trial_slope <= slope
        if abs(trial_slope) <= slope / 2 or reached_end:
            return trial
        low, high = (length, high) if trial_slope > 0 else (low, length)
        length = (low + high) / 2
    return None


def _balance(point: CentredPoint, chain: Chain) -> Tensor:
    balance = chain.new_nodes(point.potential)
    for chunk, (flow, *_) in point.chunks(chain):
        add_net_inflow(balance, flow, chunk, chain)
    balance[:, [0, -1]] = 0
    return balance
