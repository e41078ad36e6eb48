"""The primal-dual method for a group of networks: step until each has its certificate.

Short texts, and batches with work for every thread, are given one thread a network, compiled from
the first point to the last (`compiled.primal_dual`). Others step together, one pass over all of
them after another.

All start close to the optimum. Where steps from there turn out to be blocked, which a few networks
do whose capacities have little in common with a flow, the problem restarts farther away.
Read next: `interior_point`, for a step; `starting_point`, for the first point.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnflow.solver.backend import Kernels, Loop, kernels_for
from attnflow.solver.certificate import below
from attnflow.solver.flow import Method
from attnflow.solver.flow_builder import FlowBuilder
from attnflow.solver.interior_point import first_point, select, step
from attnflow.solver.presolve import Group
from attnflow.solver.state import Outcome, Point, Problem, StoppingCriteria

# 2 m mu at the first point, in units of the scale: how far from the optimum to start. Of 0.01 to
# 10, 0.1 needs the fewest factorisations on real tensors. Random networks may not become feasible
# from there, for want of space, and are faster from 10 (docs/solver-log.md, "Where to start").
NEAR, FAR = 0.1, 10.0
# A problem restarts at FAR when one of its first TRIAL steps is shorter than BLOCKED. What is
# blocked shows that early, and a restart then wastes little.
BLOCKED, TRIAL = 0.05, 4


@dataclass
class RunningProblems:
    """The problems of a group that have not ended.

    Attributes:
        places: `(n,)` int, their places in the group.
        iterations: `(n,)` int, factorisations used so far.
        problem: The problems.
        point: Their iterates.
    """

    places: Tensor
    iterations: Tensor
    problem: Problem
    point: Point

    def keep(self, mask: Tensor) -> None:
        """Drop the problems outside the mask."""
        if not mask.all():
            self.places, self.iterations = self.places[mask], self.iterations[mask]
            self.problem = select(self.problem, mask)
            self.point = select(self.point, mask)


def solve(group: Group, stopping: StoppingCriteria, builder: FlowBuilder) -> None:
    """Solve a group, and record its networks in `builder`."""
    places = torch.arange(len(group.members), device=group.members.device)
    iterations = torch.zeros_like(places)
    trial = replace(stopping, trial_steps=TRIAL, shortest_step=BLOCKED)
    places, iterations = _solve_from(NEAR, places, iterations, group, trial, builder)
    if len(places):
        _solve_from(FAR, places, iterations, group, stopping, builder)


def _solve_from(
    barrier: float,
    places: Tensor,
    iterations: Tensor,
    group: Group,
    stopping: StoppingCriteria,
    builder: FlowBuilder,
) -> tuple[Tensor, Tensor]:
    """Solve these problems of the group from first points at this barrier.

    Returns:
        Places, ascending, and iterations of the problems that were blocked in the trial.
    """
    problem = select(group.problem, _mask(places, len(group.members)))
    kernels, loop = kernels_for(places.device, len(places), group.chain)
    point = first_point(problem, group.chain, kernels, barrier)
    running = RunningProblems(places, iterations, problem, point)
    if loop is None:
        return _step_together(running, group, stopping, builder, kernels)
    return _step_each(running, group, stopping, builder, loop)


def _mask(places: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool, device=places.device).index_fill(0, places, True)


def _step_each(
    running: RunningProblems,
    group: Group,
    stopping: StoppingCriteria,
    builder: FlowBuilder,
    loop: Loop,
) -> tuple[Tensor, Tensor]:
    outcome = loop(running.point, running.problem, group.chain, running.iterations, stopping)
    blocked = outcome == Outcome.BLOCKED
    if not blocked.all():
        _record(running, ~blocked, outcome != Outcome.LIMIT, group, builder)
    return running.places[blocked], running.iterations[blocked]


def _step_together(
    running: RunningProblems,
    group: Group,
    stopping: StoppingCriteria,
    builder: FlowBuilder,
    kernels: Kernels,
) -> tuple[Tensor, Tensor]:
    chain = group.chain
    linearisation = kernels.linearise(running.point, running.problem.mu, chain)
    stuck = torch.zeros_like(running.places, dtype=torch.bool)
    places, iterations = [running.places[:0]], [running.iterations[:0]]
    while True:
        converged = below(linearisation, running.point, stopping.residual)
        # A problem leaves as soon as it is solved: further steps would make its answer depend on
        # how long its batch mates take.
        leaving = converged | stuck | (running.iterations >= stopping.max_iterations)
        if leaving.any():
            _record(running, leaving, stuck | converged, group, builder)
            running.keep(~leaving)
            linearisation = select(linearisation, ~leaving)
        if not len(running.places):
            blocked_places, order = torch.cat(places).sort()
            return blocked_places, torch.cat(iterations)[order]
        moved = step(running.point, linearisation, running.problem, chain, kernels)
        linearisation, stuck = moved.linearisation, moved.stuck
        running.iterations = running.iterations + 1
        early = running.iterations <= stopping.trial_steps
        blocked = early & (moved.length < stopping.shortest_step)
        if blocked.any():
            places.append(running.places[blocked])
            iterations.append(running.iterations[blocked])
            running.keep(~blocked)
            linearisation, stuck = select(linearisation, ~blocked), stuck[~blocked]


def _record(
    running: RunningProblems, leaving: Tensor, exhausted: Tensor, group: Group, builder: FlowBuilder
) -> None:
    """Record the problems that leave, as they are."""
    builder.record(
        group,
        running.places[leaving],
        select(running.point, leaving),
        select(running.problem, leaving),
        exhausted=exhausted[leaving],
        iterations=running.iterations[leaving],
        method=Method.PRIMAL_DUAL,
    )
