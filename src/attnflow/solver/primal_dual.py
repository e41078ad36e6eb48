"""The primal-dual method for a group of networks: step until each has its certificate.

Short texts, and batches with work for every thread, are given one thread a network, compiled from
the first point to the last (`compiled.primal_dual`); others step together, a pass over all of them
after the other.

All start close to the optimum. Where steps from there turn out to be blocked, which a few networks
do whose capacities have little in common with a flow, the problem starts anew with more room.
Read next: `interior_point`, for a step; `start`, for the first point.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnflow.solver.backend import Kernels, Loop, kernels_for
from attnflow.solver.certificate import below
from attnflow.solver.flow import Method
from attnflow.solver.flow_builder import Ended, Report
from attnflow.solver.interior_point import first_point, select, step
from attnflow.solver.presolve import Presolved
from attnflow.solver.state import Outcome, Point, Problem

CLEARLY = 0.99
NEAR, ROOMY = 0.1, 10.0  # 2 m mu at the first point, in units of the scale
BLOCKED = 0.05  # a step shorter than that
TRIAL = 4  # so many first steps may be found blocked


@dataclass(frozen=True)
class Limits:
    """When to stop: the largest residual of a solved problem, and the most factorisations."""

    tolerance: float
    max_iterations: int

    @property
    def aim(self) -> float:
        """The tolerance with room for rounding between the loops' sums and the certificate's."""
        return CLEARLY * self.tolerance


@dataclass
class Running:
    """The problems still in the batch: which of the group, factorisations used, where they are."""

    places: Tensor
    spent: Tensor
    problem: Problem
    point: Point

    def keep(self, which: Tensor) -> None:
        """Drop the others."""
        if not which.all():
            self.places, self.spent = self.places[which], self.spent[which]
            self.problem = select(self.problem, which)
            self.point = select(self.point, which)


@dataclass(frozen=True)
class Group:
    """Networks of like size: the `members` of the report."""

    ready: Presolved
    members: Tensor
    report: Report
    limits: Limits

    def record(self, running: Running, leaving: Tensor, given_up: Tensor) -> None:
        """Keep those that leave, as they are."""
        point, problem = select(running.point, leaving), select(running.problem, leaving)
        ended = Ended(point, problem, self.ready.chain, self.limits.tolerance, given_up[leaving])
        at, used = running.places[leaving], running.spent[leaving]
        self.report.record(self.members[at], self.ready, at, ended, used, Method.PRIMAL_DUAL)


def solve(ready: Presolved, members: Tensor, report: Report, limits: Limits) -> None:
    """Solve a group, the networks `members` of the report."""
    group = Group(ready, members, report, limits)
    everyone = torch.arange(len(members), device=members.device)
    blocked = _attempt(group, everyone, torch.zeros_like(everyone), NEAR, trial=TRIAL)
    if len(blocked.places):
        places, order = blocked.places.sort()
        _attempt(group, places, blocked.spent[order], ROOMY, trial=0)


@dataclass(frozen=True)
class Blocked:
    """Which problems of a group were blocked in the trial, and what factorisations they spent."""

    places: Tensor
    spent: Tensor


def _attempt(group: Group, places: Tensor, spent: Tensor, barrier: float, trial: int) -> Blocked:
    """Solve these problems of the group from first points at this barrier."""
    ready = group.ready
    chosen = torch.zeros_like(group.members, dtype=torch.bool).index_fill(0, places, True)
    problem = select(ready.problem, chosen)
    kernels, loop = kernels_for(places.device, len(places), ready.chain)
    point = first_point(problem, ready.chain, kernels, barrier)
    running = Running(places, spent, problem, point)
    if loop is None:
        return _step_together(running, group, kernels, trial)
    return _step_each(running, group, loop, trial)


def _step_each(running: Running, group: Group, loop: Loop, trial: int) -> Blocked:
    limits = group.limits
    outcome = loop(
        running.point,
        running.problem,
        group.ready.chain,
        running.spent,
        aim=limits.aim,
        most=limits.max_iterations,
        blocked=BLOCKED,
        trial=trial,
    )
    blocked = outcome == Outcome.BLOCKED
    if not blocked.all():
        group.record(running, ~blocked, outcome != Outcome.LIMIT)
    return Blocked(running.places[blocked], running.spent[blocked])


def _step_together(running: Running, group: Group, kernels: Kernels, trial: int) -> Blocked:
    """A problem leaves as soon as it is solved, so that its answer is its own."""
    chain, limits = group.ready.chain, group.limits
    here = kernels.linearise(running.point, running.problem.mu, chain)
    stuck = torch.zeros_like(running.places, dtype=torch.bool)
    places, spent = [running.places[:0]], [running.spent[:0]]
    while True:
        converged = below(here, running.point, limits.aim)
        leaving = converged | stuck | (running.spent >= limits.max_iterations)
        if leaving.any():
            group.record(running, leaving, stuck | converged)
            running.keep(~leaving)
            here = select(here, ~leaving)
        if not len(running.places):
            return Blocked(torch.cat(places), torch.cat(spent))
        here, length, stuck = step(running.point, here, running.problem, chain, kernels)
        running.spent = running.spent + 1
        blocked = (length < BLOCKED) & (running.spent <= trial)
        if blocked.any():
            places.append(running.places[blocked])
            spent.append(running.spent[blocked])
            running.keep(~blocked)
            here, stuck = select(here, ~blocked), stuck[~blocked]
