"""The barrier flow by a primal-dual interior-point method, every problem of the batch on its own.

Solves, for fixed mu,

    minimise  c'f - mu sum_e [log f_e + log(u_e - f_e)]   subject to  B'f = 0,

c being -1 on the return edge. Let s = u - f be the slack, y the potentials, and d the drop of y
along an edge (plus 1 along the return edge). With multipliers z of f >= 0 and v of f <= u, its
optimality conditions are

    z - v + d = 0,    B'f = 0,    f z = mu,    s v = mu.

Newton's method on these, eliminated to one unknown per node, needs the weights w = 1/(z/f + v/s):

    B'w B dy = B'(f + w r),    df = w (r + dd),    r = target/f - target/s + d.

Each iteration

1. factors the Laplacian B'w B once;
2. predicts: the affine direction towards mu, and how far it could go;
3. chooses a target between the current complementarity and mu by Mehrotra's cube;
4. corrects: adds his second-order term, weighted by whichever of a few weights allows the longest
   step (unweighted it can stall);
5. moves flows and slacks by one length, potentials and multipliers by another.

The right-hand side is affine in the target, so two back-solves serve every target, and a third the
second-order term.

Source: Mehrotra (1992); Nocedal & Wright, "Numerical Optimization", Algorithm 14.3; Colombo &
Gondzio (2008) for weighted correctors. Read next: `edge_passes`, `block_tridiagonal`,
`starting_point`.
"""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from attnflow.solver.backend import Kernels
from attnflow.solver.chain import Chain
from attnflow.solver.starting_point import starting_potentials
from attnflow.solver.state import (
    CORRECTOR_WEIGHTS,
    TO_BOUNDARY,
    Linearisation,
    Point,
    Prediction,
    Problem,
    Step,
)

Part = TypeVar("Part", Problem, Point, Linearisation)


def select(part: Part, keep: Tensor) -> Part:
    """The given problems of a batch, or what belongs to them; no copy where those are all."""
    if keep.dtype == torch.bool and keep.all():
        return part
    return replace(part, **{f.name: getattr(part, f.name)[keep] for f in fields(part)})


def starting_mu(problem: Problem, barrier: float) -> Tensor:
    """`(batch,)` the mu at which the first point is centred, such that 2 m mu is `barrier`."""
    # 2 m mu is the gap of a centred point, so `barrier` says how far from the optimum to start.
    return torch.maximum(problem.mu, barrier / (2 * problem.m))


def first_point(problem: Problem, chain: Chain, kernels: Kernels, barrier: float) -> Point:
    """The centred start of `starting_point`, at a larger mu than the final one."""
    mu = starting_mu(problem, barrier)
    potential = starting_potentials(problem.u, mu, chain, kernels)
    return kernels.centred_point(problem.u, potential, mu, chain)


@dataclass(frozen=True, eq=False)
class Moved:
    """The end of a step.

    Attributes:
        linearisation: At the new point.
        length: `(batch,)` the length of the step, of flows or of multipliers, whichever is shorter,
            at most 1.
        stuck: `(batch,)` bool, true where a problem could not move at all.
    """

    linearisation: Linearisation
    length: Tensor
    stuck: Tensor


def step(
    point: Point, linearisation: Linearisation, problem: Problem, chain: Chain, kernels: Kernels
) -> Moved:
    """Move the point, in place."""
    mu = problem.mu
    newton = kernels.factor(
        linearisation.weight, linearisation.inward, linearisation.outward, chain
    )
    # The direction towards any target is pull + target push: two back-solves, whatever the target.
    right = torch.stack([linearisation.balance + linearisation.pull, linearisation.push], 2)
    pull, push = newton.solve(right).unbind(2)
    affine = pull + mu[:, None] * push
    prediction = kernels.predict(point, affine, mu, chain)
    target = _target(linearisation, prediction, problem)
    correction = newton.solve(prediction.correction[..., None])[..., 0]
    none = torch.zeros_like(mu)
    uncorrected = Step(mu, affine, pull + target[:, None] * push, target, none, none, none)
    weights = torch.tensor(CORRECTOR_WEIGHTS, dtype=mu.dtype, device=mu.device)
    rates = kernels.try_corrections(point, uncorrected, correction, weights, chain)
    # A full step where even that keeps TO_BOUNDARY from the bounds; else up to there.
    primal, dual = (TO_BOUNDARY / rate.clamp(min=TO_BOUNDARY) for rate in rates)
    # The shorter of the two lengths decides: what is left of the residuals shrinks by each alone.
    best = torch.minimum(primal, dual).argmax(1, keepdim=True)
    theta = weights[best[:, 0]]
    direction = uncorrected.direction + theta[:, None] * correction
    step = Step(mu, affine, direction, target, theta, _at(primal, best), _at(dual, best))
    # Near the end of float64 a factor or a step may not be finite. The point stays as it is then,
    # so that the caller can still return it.
    stuck = newton.failed | ~_is_finite(step)
    step = _without_moving(step, stuck)
    length = torch.minimum(step.primal_length, step.dual_length)
    return Moved(kernels.advance(point, step, chain, linearisation.weight), length, stuck)


def _target(linearisation: Linearisation, prediction: Prediction, problem: Problem) -> Tensor:
    """`(batch,)` aim of every product: mu where the affine step fits, else Mehrotra's cube."""
    primal = 1 / prediction.primal_rate.clamp(min=1)
    dual = 1 / prediction.dual_rate.clamp(min=1)
    products = linearisation.products
    reached = products + primal * prediction.primal_slope + dual * prediction.dual_slope
    # Rounding can leave a sum of products that has all but vanished below 0.
    reached = (reached + primal * dual * prediction.bilinear).clamp(min=0)
    mean = products / (2 * problem.m)
    # Never below mu: the method follows the path to the barrier's optimum, not to the vertex.
    target = torch.maximum(problem.mu, (reached / products) ** 3 * mean)
    # The cube would leave a little centring even where none is needed, and cost an iteration.
    fits = (prediction.primal_rate <= 1) & (prediction.dual_rate <= 1)
    return torch.where(fits, problem.mu, target)


def _at(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index)[:, 0]


def _is_finite(step: Step) -> Tensor:
    """`(batch,)` bool, true where every number of the step is finite."""
    nodes = torch.stack([step.affine, step.direction], 2).flatten(1)
    lengths = torch.stack([step.target, step.primal_length, step.dual_length], 1)
    return torch.isfinite(torch.cat([nodes, lengths], 1)).all(1)


def _without_moving(step: Step, stuck: Tensor) -> Step:
    """The step with zeros for the problems that are stuck."""
    moves = {f.name: getattr(step, f.name) for f in fields(Step) if f.name != "mu"}
    zeroed = {
        name: torch.where(stuck.view(-1, *[1] * (x.ndim - 1)), 0.0, x) for name, x in moves.items()
    }
    return replace(step, **zeroed)
