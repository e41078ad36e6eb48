"""The barrier flow by its dual alone: for networks whose primal-dual iterates do not fit in memory.

The unknowns are the potentials y. For any y each edge carries the flow that is centred for its drop
(`passes.centred`), so every optimality condition holds but conservation, B'f(y) = 0, which is the
gradient of a smooth convex function. Newton's method minimises it, with a line search, first for a
larger mu and then for smaller ones; from one mu to the next it follows the tangent of the path,
which costs a second right-hand side only. Flows, multipliers and weights are computed block by
block when needed. Beside the capacities only the factor is kept: a third of the memory, for two to
four times the factorisations.

Works on one network at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attnflow.solver.backend import Kernels
from attnflow.solver.block_tridiagonal import factor
from attnflow.solver.chain import Chain
from attnflow.solver.edge_passes import add, centred, exact_sum
from attnflow.solver.interior_point import starting_mu
from attnflow.solver.starting_point import starting_potentials
from attnflow.solver.state import TO_BOUNDARY, UNBOUNDED, Problem

STARTING_BARRIER = 10.0  # 2 m mu at the first point, in units of the scale
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

    def spans(self, chain: Chain) -> Iterator[tuple[range, tuple[Tensor, ...]]]:
        """Flow, slack, lower and upper, flat, of one block after the other."""
        for k in range(len(chain.shapes)):
            span = range(k, k + 1)
            u = self.problem.u[:, chain.edges_of(span)]
            flow, slack = centred(u, self.drop(span, chain), self.mu)
            lower, upper = (torch.where(u > 0, self.mu / x, 0.0) for x in (flow, slack))
            yield span, (flow, slack, lower, upper)

    def drop(self, span: range, chain: Chain) -> Tensor:
        """Drops of both parts of the potentials, flat, of a run of blocks."""
        return chain.drops_of(self.potential, span) + chain.drops_of(self.carry, span)

    def weights(self, chain: Chain) -> Iterator[Tensor]:
        """Derivative of the flow by the drop, `(1, tails, heads)` of each block."""
        for span, edges in self.spans(chain):
            yield chain.blocks_of(_weight(*edges), span)[0]

    def moved(self, step: Tensor) -> "CentredPoint":
        potential, lost = exact_sum(self.potential, step)
        return CentredPoint(self.problem, self.mu, potential, self.carry + lost)


@dataclass
class _Sums:
    """Of nodes: what enters minus what leaves of the flow and of w d; the weights that do."""

    balance: Tensor
    pull: Tensor
    inward: Tensor
    outward: Tensor
    value: Tensor


def solve(
    problem: Problem, chain: Chain, kernels: Kernels, tolerance: float, max_iterations: int
) -> tuple[CentredPoint, int, bool]:
    """The optimum, the factorisations used, and whether float64 could go no further."""
    mu = starting_mu(problem, STARTING_BARRIER)
    potential = starting_potentials(problem.u, mu, chain, kernels)
    point = CentredPoint(problem, mu, potential, torch.zeros_like(potential))
    for iteration in range(max_iterations + 1):
        sums = _sums(point, chain)
        final = bool(point.mu == problem.mu)
        if final and _conservation(sums) <= tolerance:
            return point, iteration, False
        if iteration == max_iterations:
            break
        newton = factor(point.weights(chain), sums.inward, sums.outward, chain)
        right = torch.stack([sums.balance, sums.pull], 2)
        step, along = newton.solve(right).unbind(2)
        slope = (sums.balance * step).sum()
        if newton.failed.any() or not torch.isfinite(slope):
            return point, iteration, True
        if not final and slope < CENTRED * point.mu:
            point = _followed(point, step, along, chain)
            continue
        following = _searched(point, step, slope, chain)
        if following is None:
            return point, iteration, True
        point = following
    return point, max_iterations, False


def _conservation(sums: _Sums) -> float:
    return float(sums.balance.abs().max() / sums.value)


def _sums(point: CentredPoint, chain: Chain) -> _Sums:
    balance, pull, inward, outward = (chain.new_nodes(point.potential) for _ in range(4))
    for span, edges in point.spans(chain):
        weight = _weight(*edges)
        add(balance, edges[0], span, chain)
        add(pull, weight * point.drop(span, chain), span, chain)
        chain.rows(inward)[span.start].add_(chain.blocks_of(weight, span)[0].sum(1))
        chain.rows(outward)[span.stop].add_(chain.blocks_of(weight, span)[0].sum(2))
    value = -balance[:, -1]
    for nodes in (balance, pull):
        nodes[:, [0, -1]] = 0
    return _Sums(balance, pull, inward, outward, value)


def _weight(flow: Tensor, slack: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Derivative of the flow by the drop; 0 where there is no edge."""
    return torch.where(flow > 0, 1 / (lower / flow + upper / slack), 0.0)


def _followed(point: CentredPoint, step: Tensor, along: Tensor, chain: Chain) -> CentredPoint:
    """On towards a smaller mu along the tangent of the path, as far as that is dual feasible."""
    mu = torch.maximum(point.problem.mu, REDUCTION * point.mu)
    tangent = step - along * (mu / point.mu - 1)
    length = _longest(point, tangent, chain)
    following = point.moved(length * tangent)
    following.mu = mu if length == 1 else torch.lerp(point.mu, mu, length)
    return following


def _longest(point: CentredPoint, step: Tensor, chain: Chain) -> float:
    """Longest step, at most 1, that keeps the drops along edges of infinite capacity negative."""
    longest = 1.0
    last = len(chain.shapes) - 1
    for k in (0, last - 1, last):
        span = range(k, k + 1)
        unbounded = point.problem.u[:, chain.edges_of(span)] >= UNBOUNDED
        part = chain.drops_of(step, span) / -point.drop(span, chain)
        used = torch.where(unbounded, part, 0.0).max()
        longest = min(longest, TO_BOUNDARY / max(float(used), TO_BOUNDARY))
    return longest


def _searched(
    point: CentredPoint, step: Tensor, slope: Tensor, chain: Chain
) -> CentredPoint | None:
    """A step so long that the slope along it has halved at least, and has not turned steeper.

    The slope falls all along a line, since the function is convex.
    """
    low = 0.0
    high = length = longest = _longest(point, step, chain)
    for _ in range(TRIALS):
        trial = point.moved(length * step)
        here = (_balance(trial, chain) * step).sum()
        if abs(here) <= slope / 2 or (length == longest and 0 <= here <= slope):
            return trial
        low, high = (length, high) if here > 0 else (low, length)
        length = (low + high) / 2
    return None


def _balance(point: CentredPoint, chain: Chain) -> Tensor:
    balance = chain.new_nodes(point.potential)
    for span, (flow, *_) in point.spans(chain):
        add(balance, flow, span, chain)
    balance[:, [0, -1]] = 0
    return balance
