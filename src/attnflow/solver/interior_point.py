"""The barrier flow by a primal-dual interior-point method, every problem of the batch on its own.

Solves, for fixed mu,

    minimise  c'f - mu sum_e [log f_e + log(u_e - f_e)]   subject to  B'f = 0,

c being -1 on the return edge. With slack s = u - f, potentials y, the drop d of y along an edge
(plus 1 along the return edge), and multipliers z of f >= 0 and v of f <= u, its optimality
conditions are

    z - v + d = 0,    B'f = 0,    f z = mu,    s v = mu.

Newton's method on these, eliminated to one unknown per node, needs the weights w = 1/(z/f + v/s):

    B'w B dy = B'(f + w r),    df = w (r + dd),    r = target/f - target/s + d.

Each iteration factors once, looks ahead along the affine direction, chooses a target between the
current complementarity and mu by Mehrotra's cube, and adds his second-order term weighted by
whichever of a few weights allows the longest step (unweighted it can stall). The right-hand side is
affine in the target, so two back-solves serve every target, and a third the second-order term.

Source: Mehrotra (1992); Nocedal & Wright, "Numerical Optimization", Algorithm 14.3; Colombo &
Gondzio (2008) for weighted correctors. Read next: `passes`, `block_tridiagonal`, `start`.
"""

from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from attnflow.solver.backend import Kernels
from attnflow.solver.chain import Chain
from attnflow.solver.starting_point import starting_potentials
from attnflow.solver.state import (
    CORRECTOR_WEIGHTS,
    TO_BOUNDARY,
    Ahead,
    Linearised,
    Point,
    Problem,
    Step,
)

Part = TypeVar("Part", Problem, Point, Linearised)


def select(part: Part, keep: Tensor) -> Part:
    """The given problems of a batch, or what belongs to them; no copy where those are all."""
    if keep.dtype == torch.bool and keep.all():
        return part
    return replace(part, **{f.name: getattr(part, f.name)[keep] for f in fields(part)})


def starting_mu(problem: Problem, barrier: float) -> Tensor:
    """`(batch,)` the mu at which the first point is centred, such that 2 m mu is `barrier`."""
    return torch.maximum(problem.mu, barrier / (2 * problem.m))


def first_point(problem: Problem, chain: Chain, kernels: Kernels, barrier: float) -> Point:
    """The centred start of `start`, at a larger mu than the final one."""
    mu = starting_mu(problem, barrier)
    potential = starting_potentials(problem.u, mu, chain, kernels)
    return kernels.centre(problem.u, potential, mu, chain)


def step(
    point: Point, here: Linearised, problem: Problem, chain: Chain, kernels: Kernels
) -> tuple[Linearised, Tensor, Tensor]:
    """Move the point, in place.

    Returns:
        What `linearise` says there; `(batch,)` the length of the step, of flows or of multipliers,
        whichever is shorter, at most 1; and which problems could not move at all.
    """
    mu = problem.mu
    newton = kernels.factor(here.weight, here.inward, here.outward, chain)
    pull, push = newton.solve(torch.stack([here.balance + here.pull, here.push], 2)).unbind(2)
    affine = pull + mu[:, None] * push
    ahead = kernels.look_ahead(point, affine, mu, chain)
    target = _target(here, ahead, problem)
    correction = newton.solve(ahead.correction[..., None])[..., 0]
    none = torch.zeros_like(mu)
    plan = Step(mu, affine, pull + target[:, None] * push, target, none, none, none)
    weights = torch.tensor(CORRECTOR_WEIGHTS, dtype=mu.dtype, device=mu.device)
    used = kernels.try_corrections(point, plan, correction, weights, chain)
    primal, dual = (TO_BOUNDARY / rates.clamp(min=TO_BOUNDARY) for rates in used)
    best = torch.minimum(primal, dual).argmax(1, keepdim=True)
    theta = weights[best[:, 0]]
    direction = plan.direction + theta[:, None] * correction
    plan = Step(mu, affine, direction, target, theta, _at(primal, best), _at(dual, best))
    stuck = newton.failed | ~_is_sound(plan)
    plan = _standing_still(plan, stuck)
    length = torch.minimum(plan.primal, plan.dual)
    return kernels.advance(point, plan, chain, here.weight), length, stuck


def _target(here: Linearised, ahead: Ahead, problem: Problem) -> Tensor:
    """What every product shall become: mu at once where the affine step fits, else Mehrotra's."""
    primal, dual = 1 / ahead.primal.clamp(min=1), 1 / ahead.dual.clamp(min=1)
    reached = here.products + primal * ahead.primal_slope + dual * ahead.dual_slope
    reached = (reached + primal * dual * ahead.bend).clamp(min=0)
    mean = here.products / (2 * problem.m)
    target = torch.maximum(problem.mu, (reached / here.products) ** 3 * mean)
    fits = (ahead.primal <= 1) & (ahead.dual <= 1)
    return torch.where(fits, problem.mu, target)


def _at(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index)[:, 0]


def _is_sound(step: Step) -> Tensor:
    """`(batch,)` bool, true where every number of the step is finite."""
    nodes = torch.stack([step.affine, step.direction], 2).flatten(1)
    lengths = torch.stack([step.target, step.primal, step.dual], 1)
    return torch.isfinite(torch.cat([nodes, lengths], 1)).all(1)


def _standing_still(step: Step, where: Tensor) -> Step:
    """The step with zeros for the problems that cannot move."""
    moved = {f.name: getattr(step, f.name) for f in fields(Step) if f.name != "mu"}
    zeroed = {
        name: torch.where(where.view(-1, *[1] * (x.ndim - 1)), 0.0, x) for name, x in moved.items()
    }
    return replace(step, **zeroed)
