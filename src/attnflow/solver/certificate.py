"""Why a flow can be believed: residuals of the optimality conditions, and a cut from above.

Conservation, stationarity and centrality together say that the flow is the barrier's optimum,
which is unique. The bound says how far that is from the true maximum flow: for potentials p from
1 at the source to 0 at the target, no flow exceeds sum_e u_e max(0, p_tail - p_head), the
capacity of the cut {p > c} averaged over c. Any potentials prove a bound; those of the optimum
prove a tight one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnflow.solver.edges import Layout
from attnflow.solver.interior_point import UNBOUNDED, Point, Problem, reduced_cost


@dataclass(frozen=True)
class Residuals:
    """How far a point is from the optimum, `(batch,)` each; `Flow` says what they mean."""

    conservation: Tensor
    stationarity: Tensor
    centrality: Tensor
    interiority: Tensor

    def below(self, tolerance: float) -> Tensor:
        worst = torch.stack([self.conservation, self.stationarity, self.centrality])
        return worst.amax(0) <= tolerance


def residuals(point: Point, problem: Problem, layout: Layout) -> Residuals:
    """How far a point is from the barrier's optimum."""
    live, mu = problem.live, problem.mu[:, None]
    imbalance = layout.imbalance(point.flow * live).abs().amax(1)
    dual = point.lower - point.upper - reduced_cost(point.potential, point.carry, layout)
    off_centre = torch.maximum(
        (point.flow * point.lower / mu - 1).abs(), (point.slack * point.upper / mu - 1).abs()
    )
    return Residuals(
        conservation=imbalance / point.flow[:, -1],
        stationarity=(dual.abs() / (point.lower + point.upper) * live).amax(1),
        centrality=(off_centre * live).amax(1),
        interiority=_drift(point, problem),
    )


def _drift(point: Point, problem: Problem) -> Tensor:
    """How far flow + slack is from the capacity, relative to the slack.

    The slack is carried on its own, and is worth something only as far as it is u - f.
    """
    off = (point.flow + point.slack - problem.u).abs() / point.slack
    return (torch.where(problem.u < UNBOUNDED, off, torch.zeros_like(off)) * problem.live).amax(1)


def upper_bound(point: Point, problem: Problem, layout: Layout) -> Tensor:
    """`(batch,)` bound on the maximum flow of the scaled problems, at most their row bound 1."""
    height = (point.potential / point.potential[:, -1:]).clamp(0, 1)
    drop = -layout.tension(height)[:, :-1]
    falling = (drop > 0) & (problem.live[:, :-1] > 0)
    cut = torch.where(falling, drop * problem.u[:, :-1], torch.zeros_like(drop)).sum(1)
    proven = torch.isfinite(cut) & (point.potential[:, -1] > 0)
    return torch.where(proven, cut.clamp(max=1), torch.ones_like(cut))
