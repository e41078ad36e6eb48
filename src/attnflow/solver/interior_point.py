"""The barrier flow by a primal-dual interior-point method, every problem of the batch on its own.

Solves, for fixed mu,

    minimise  c'f - mu sum_e [log f_e + log(u_e - f_e)]   subject to  B'f = 0,

c being -1 on the return edge. With slack s = u - f, potentials y, and multipliers z = `lower` of
f >= 0 and v = `upper` of f <= u, its optimality conditions are

    z - v = c + B y,    B'f = 0,    f z = mu,    s v = mu.

Newton's method on these, eliminated to one unknown per node, needs the weights w = 1/(z/f + v/s):

    B'w B dy = B'(f + w r),    df = w (r - B dy),    r = target/f - target/s - (c + B y).

Each iteration factors once, looks ahead along the affine direction, chooses a target between the
current complementarity and mu by Mehrotra's cube, and adds his second-order term weighted by
whichever of a few weights allows the longest step (unweighted it can stall).

Source: Mehrotra (1992); Nocedal & Wright, "Numerical Optimization", Algorithm 14.3; Colombo &
Gondzio (2008) for weighted correctors. Read next: `block_tridiagonal`, `start`, `certificate`.
"""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from attnflow.solver.block_tridiagonal import Factor, factor
from attnflow.solver.edges import Layout
from attnflow.solver.start import centred, starting_potentials

CORRECTOR_WEIGHTS = (1.0, 0.5, 0.25, 0.1)
TO_BOUNDARY = 0.99
UNBOUNDED = 1e100  # stands for an infinite capacity, in units of the scale
START_CENTRED_AT = 10.0


@dataclass(frozen=True)
class Problem:
    """Scaled: `u` and `live` (0 or 1) `(batch, edges)`, final `mu` and number of live edges `m`."""

    u: Tensor
    live: Tensor
    mu: Tensor
    m: Tensor


@dataclass(frozen=True)
class Point:
    """An iterate, or a direction from one: `(batch, edges)`, and the potentials `(batch, nodes)`.

    `carry` holds what is lost when `potential` is rounded. Slack edges live on differences of
    potentials many decades below 1; without it gaps under 1e-3 end in rounding noise.
    """

    flow: Tensor
    slack: Tensor
    lower: Tensor
    upper: Tensor
    potential: Tensor
    carry: Tensor


Part = TypeVar("Part", Problem, Point)


def select(part: Part, keep: Tensor) -> Part:
    """The given problems of a batch, or their points."""
    return replace(part, **{f.name: getattr(part, f.name)[keep] for f in fields(part)})


def is_sound(point: Point) -> Tensor:
    """`(batch,)` bool, true where every number of the point is finite."""
    parts = [torch.isfinite(getattr(point, f.name)).all(1) for f in fields(Point)]
    return torch.stack(parts).all(0)


def first_point(problem: Problem, layout: Layout) -> Point:
    """The centred start of `start`, at a larger mu than the final one."""
    mu = torch.maximum(problem.mu, START_CENTRED_AT / (2 * problem.m))
    potential = starting_potentials(problem.u, problem.live, mu, layout)
    carry = torch.zeros_like(potential)
    drop = -reduced_cost(potential, carry, layout)
    flow, slack = centred(problem.u, drop, mu[:, None])
    return Point(flow, slack, mu[:, None] / flow, mu[:, None] / slack, potential, carry)


def reduced_cost(potential: Tensor, carry: Tensor, layout: Layout) -> Tensor:
    """c + B y."""
    tension = layout.tension(potential)
    tension[:, -1] -= 1
    return tension + layout.tension(carry)


def step(point: Point, problem: Problem, layout: Layout) -> tuple[Point, Tensor]:
    """The next point, and where the factorisation failed `(batch,)` bool."""
    newton = Newton(point, problem, layout)
    goal = problem.mu[:, None]
    affine = newton.direction(goal, goal)
    primal, dual = lengths_within(boundary_rates(point, affine, problem.live), 1.0)
    now = complementarity(point, problem)
    ahead = complementarity(moved(point, affine, primal, dual), problem)
    target = torch.maximum(problem.mu, (ahead / now) ** 3 * now)
    fits = (primal >= 1) & (dual >= 1)
    target = torch.where(fits, problem.mu, target)[:, None]
    direction = corrected(newton, affine, target)
    primal, dual = lengths_within(boundary_rates(point, direction, problem.live), TO_BOUNDARY)
    return moved(point, direction, primal, dual), newton.factor.failed


class Newton:
    """The linearised conditions at a point, factored once, for any number of right-hand sides."""

    def __init__(self, point: Point, problem: Problem, layout: Layout) -> None:
        self.point, self.problem, self.layout = point, problem, layout
        stiffness = point.lower / point.flow + point.upper / point.slack
        self.weight = problem.live / stiffness
        self.factor: Factor = factor(*layout.split(self.weight))
        self.reduced = reduced_cost(point.potential, point.carry, layout)
        self.live_flow = point.flow * problem.live

    def direction(self, low: Tensor, high: Tensor) -> Point:
        """The step that would make every f z equal to `low` and every s v equal to `high`."""
        point = self.point
        force = low / point.flow - high / point.slack - self.reduced
        right = self.layout.imbalance(self.live_flow + self.weight * force)
        potential = self.factor.solve(right[..., None])[..., 0]
        flow = self.weight * (force - self.layout.tension(potential))
        lower = (low - point.lower * flow) / point.flow - point.lower
        upper = (high + point.upper * flow) / point.slack - point.upper
        return Point(flow, -flow, lower, upper, potential, torch.zeros_like(potential))


def corrected(newton: Newton, affine: Point, target: Tensor) -> Point:
    """To `target`, less what the affine step overlooked as far as that allows a longer step."""
    plain = newton.direction(target, target)
    full = newton.direction(
        target - affine.flow * affine.lower, target - affine.slack * affine.upper
    )
    point, live = newton.point, newton.problem.live
    rates, corrected_rates = boundary_rates(point, plain, live), boundary_rates(point, full, live)
    longest = torch.minimum(*lengths_within(rates, TO_BOUNDARY))
    best = torch.zeros_like(longest)
    for weight in CORRECTOR_WEIGHTS:
        trial = [torch.lerp(*pair, weight) for pair in zip(rates, corrected_rates, strict=True)]
        length = torch.minimum(*lengths_within(trial, TO_BOUNDARY))
        best[length > longest] = weight
        longest = torch.maximum(length, longest)
    return blended(plain, full, best[:, None])


def blended(plain: Point, full: Point, weight: Tensor) -> Point:
    pairs = {f.name: (getattr(plain, f.name), getattr(full, f.name)) for f in fields(Point)}
    return Point(**{name: torch.lerp(*pair, weight) for name, pair in pairs.items()})


def chosen(where: Tensor, one: Point, other: Point) -> Point:
    return Point(
        **{
            f.name: torch.where(where[:, None], getattr(one, f.name), getattr(other, f.name))
            for f in fields(Point)
        }
    )


def complementarity(point: Point, problem: Problem) -> Tensor:
    products = point.flow * point.lower + point.slack * point.upper
    return (products * problem.live).sum(1) / (2 * problem.m)


def boundary_rates(point: Point, direction: Point, live: Tensor) -> list[Tensor]:
    """For each bound, the part of the distance to it that a full step of the direction uses up."""
    used = -live
    return [
        used * direction.flow / point.flow,
        used * direction.slack / point.slack,
        used * direction.lower / point.lower,
        used * direction.upper / point.upper,
    ]


def lengths_within(rates: list[Tensor], fraction: float) -> tuple[Tensor, Tensor]:
    """Longest primal and dual steps `(batch,)`, at most 1, that use up at most `fraction`."""
    flow, slack, lower, upper = (rate.amax(1) for rate in rates)
    primal, dual = torch.maximum(flow, slack), torch.maximum(lower, upper)
    return fraction / primal.clamp(min=fraction), fraction / dual.clamp(min=fraction)


def moved(point: Point, direction: Point, primal: Tensor, dual: Tensor) -> Point:
    primal, dual = primal[:, None], dual[:, None]
    potential, lost = exact_sum(point.potential, dual * direction.potential)
    return Point(
        point.flow + primal * direction.flow,
        point.slack + primal * direction.slack,
        point.lower + dual * direction.lower,
        point.upper + dual * direction.upper,
        potential,
        point.carry + lost,
    )


def exact_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum and its rounding error (Knuth's two-sum)."""
    total = a + b
    seen = total - a
    return total, (a - (total - seen)) + (b - seen)
