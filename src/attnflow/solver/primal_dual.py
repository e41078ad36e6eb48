"""The primal-dual method for a group of networks: step until each has its certificate.

A problem leaves the batch as soon as it is solved, so that no answer depends on its batch mates.

All start close to the optimum. Where steps from there turn out to be blocked, which a few networks
do whose capacities have little in common with a flow, the problem starts anew with more room.
Read next: `interior_point`, for a step; `start`, for the first point.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnflow.solver.certificate import below
from attnflow.solver.chain import Chain
from attnflow.solver.flow import Method
from attnflow.solver.interior_point import Problem, first_point, select, step
from attnflow.solver.iterate import Linearised, Point
from attnflow.solver.kernels import Kernels, kernels_for
from attnflow.solver.presolve import Presolved
from attnflow.solver.report import Ended, Report

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
    here: Linearised
    kernels: Kernels

    def keep(self, which: Tensor) -> None:
        """Drop the others."""
        if not which.all():
            self.places, self.spent = self.places[which], self.spent[which]
            self.problem = select(self.problem, which)
            self.point = select(self.point, which)
            self.here = select(self.here, which)


def solve(ready: Presolved, members: Tensor, report: Report, limits: Limits) -> None:
    """Solve a group, the networks `members` of the report."""
    everyone = torch.arange(len(members), device=members.device)
    unspent = torch.zeros_like(everyone)
    running = _started(ready.problem, ready.chain, everyone, unspent, NEAR)
    blocked, spent = _iterate(running, ready, members, report, limits, trial=TRIAL)
    if len(blocked):
        blocked, order = blocked.sort()
        problem = select(ready.problem, torch.isin(everyone, blocked))
        running = _started(problem, ready.chain, blocked, spent[order], ROOMY)
        _iterate(running, ready, members, report, limits, trial=0)


def _started(
    problem: Problem, chain: Chain, places: Tensor, spent: Tensor, barrier: float
) -> Running:
    kernels = kernels_for(places.device, problem.u.numel())
    point = first_point(problem, chain, kernels, barrier)
    here = kernels.linearise(point, problem.mu, chain)
    return Running(places, spent, problem, point, here, kernels)


def _iterate(
    running: Running,
    ready: Presolved,
    members: Tensor,
    report: Report,
    limits: Limits,
    *,
    trial: int,
) -> tuple[Tensor, Tensor]:
    """Step until all have left. The places of those blocked in the trial, and what they spent."""
    chain = ready.chain
    stuck = torch.zeros_like(running.places, dtype=torch.bool)
    places, spent = [running.places[:0]], [running.spent[:0]]
    while True:
        converged = below(running.here, running.point, limits.aim)
        leaving = converged | stuck | (running.spent >= limits.max_iterations)
        if leaving.any():
            ended = _ended(running, leaving, chain, limits.tolerance, stuck | converged)
            at = running.places[leaving]
            used = running.spent[leaving]
            report.record(members[at], ready, at, ended, used, Method.PRIMAL_DUAL)
            running.keep(~leaving)
        if not len(running.places):
            return torch.cat(places), torch.cat(spent)
        running.here, length, stuck = step(
            running.point, running.here, running.problem, chain, running.kernels
        )
        running.spent = running.spent + 1
        blocked = (length < BLOCKED) & (running.spent <= trial)
        if blocked.any():
            places.append(running.places[blocked])
            spent.append(running.spent[blocked])
            running.keep(~blocked)
            stuck = stuck[~blocked]


def _ended(
    running: Running, leaving: Tensor, chain: Chain, tolerance: float, given_up: Tensor
) -> Ended:
    point, problem = select(running.point, leaving), select(running.problem, leaving)
    return Ended(point, problem, chain, tolerance, given_up[leaving])
