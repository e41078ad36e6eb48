"""maximum_flow: the unique barrier maximum flow through a batch of layered networks.

A maximum flow is seldom unique, and which one is returned defines an attribution. The log barrier
picks one: the flow that maximises value + mu * sum of log distances to the bounds of every edge. As
mu shrinks it tends to the analytic centre of all maximum flows.

`presolve` prunes and scales, `interior_point` solves, `certificate` measures. The loop here only
steps until each problem has its certificate, and drops it from the batch then, so that no answer
depends on its batch mates.

Source: Azarkhalili & Libbrecht (2025), equation 12.
"""

from dataclasses import fields
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from attnflow.errors import InputError
from attnflow.network import LayeredNetwork, layered_network
from attnflow.solver.certificate import below, residuals, upper_bound
from attnflow.solver.chain import Chain
from attnflow.solver.flow import Array, Flow, Status, as_numpy
from attnflow.solver.interior_point import Problem, first_point, select, step
from attnflow.solver.kernels import kernels_for
from attnflow.solver.passes import Point
from attnflow.solver.presolve import Presolved, live_nodes, presolve, without_negligible

EDGES_AT_ONCE = 2**24
PADDING_WORTH_A_GROUP = 2**15
MOST_DRIFT = 1e-3
CLEARLY = 0.99  # leaves room for the rounding between the loop's sums and the certificate's


@overload
def maximum_flow(
    capacities: LayeredNetwork,
    *,
    gap: float = ...,
    mu: float | Tensor | None = ...,
    tolerance: float = ...,
    max_iterations: int = ...,
) -> Flow[Tensor]: ...
@overload
def maximum_flow(
    capacities: Array,
    sources: Array | None = ...,
    sinks: Array | None = ...,
    *,
    gap: float = ...,
    mu: float | Tensor | None = ...,
    tolerance: float = ...,
    max_iterations: int = ...,
) -> Flow[Array]: ...


def maximum_flow(
    capacities: Any,
    sources: Any = None,
    sinks: Any = None,
    *,
    gap: float = 1e-2,
    mu: float | Tensor | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 100,
) -> Flow[Any]:
    """The barrier maximum flow of each network, with its certificate.

    Args:
        capacities: `(batch, layers, t, t)` torch or numpy, finite and >= 0, 0 meaning no edge;
            layer 0 next to the inputs; query, then key: flow runs from query to key. Or a
            `LayeredNetwork`, which brings its own sources and sinks.
        sources: `(batch, t)` or `(t,)` bool over the top row, all when None.
        sinks: `(batch, t)` or `(t,)` bool over the bottom row, all when None.
        gap: The flow is at most `gap * U` below the maximum, U being the smallest total capacity
            of a row of edges; inside (0, 1). It sets mu = gap * U / (2 m), m the edges kept.
        mu: Barrier weight in units of the capacities, > 0, instead of `gap`; a number, or one for
            each network.
        tolerance: Largest residual of a solved problem, inside (0, 1).
        max_iterations: Most factorisations for a problem, >= 1.

    Returns:
        `Flow`, on the device of the capacities, in float64. A network without any path has zero
        flow and status EMPTY. A problem that could not be solved has a status that says so, its
        last point, and no effect on the others: see `Flow.raise_for_status`.

    Raises:
        InputError: An argument is not as described.
    """
    if isinstance(capacities, LayeredNetwork):
        if sources is not None or sinks is not None:
            raise InputError("a LayeredNetwork brings its own sources and sinks; pass neither.")
        network = capacities
    else:
        network = layered_network(capacities, sources, sinks)
    _check_options(gap, tolerance, max_iterations)
    weight = _barrier_weight(mu, network)
    network = without_negligible(network)
    live = live_nodes(network)
    report = _Report(network, gap, weight)
    for at in _groups(live):
        part = None if weight is None else weight[at]
        ready = presolve(_part(network, at), live[at], gap=gap, mu=part)
        _solve(ready, at, report, tolerance, max_iterations)
    flow = report.flow()
    return as_numpy(flow) if isinstance(capacities, np.ndarray) else flow


def _groups(live: Tensor) -> list[Tensor]:
    """Indices of networks to solve together: alike in size, together small enough for memory.

    A group is padded to its largest rows, and costs some calls for each iteration. Networks join
    while that costs more than their padding. Those without a path are in no group.
    """
    widths = live.sum(2).cpu()
    edges = (widths[:, 1:] * widths[:, :-1]).sum(1)
    groups: list[Tensor] = []
    members: list[int] = []
    for index in edges.argsort(descending=True, stable=True).tolist():
        if edges[index] == 0:
            continue
        padded = _edges_of(widths[[*members, index]])
        padding = (len(members) + 1) * padded - int(edges[[*members, index]].sum())
        crowded = (len(members) + 1) * padded > EDGES_AT_ONCE
        if members and (crowded or padding > PADDING_WORTH_A_GROUP):
            groups.append(torch.tensor(members, device=live.device))
            members = []
        members.append(index)
    return [*groups, torch.tensor(members, device=live.device)] if members else groups


def _edges_of(widths: Tensor) -> int:
    widest = widths.amax(0)
    return int((widest[1:] * widest[:-1]).sum())


def _part(network: LayeredNetwork, at: Tensor) -> LayeredNetwork:
    if len(at) == len(network.capacities) and (at == torch.arange(len(at), device=at.device)).all():
        return network
    return LayeredNetwork(*(getattr(network, f.name)[at] for f in fields(network)))


def _solve(
    ready: Presolved, active: Tensor, report: "_Report", tolerance: float, max_iterations: int
) -> None:
    """Solve the networks of a group, which are the networks `active` of the report."""
    problem, chain = ready.problem, ready.chain
    places = torch.arange(len(active), device=active.device)
    kernels = kernels_for(active.device)
    point = first_point(problem, chain, kernels)
    here = kernels.linearise(point, problem.mu, chain)
    stuck = torch.zeros_like(active, dtype=torch.bool)
    for iteration in range(max_iterations + 1):
        converged = below(here, point, CLEARLY * tolerance)
        leaving = converged | stuck | (iteration == max_iterations)
        if leaving.any():
            ended = _Ended(select(point, leaving), select(problem, leaving), chain, tolerance)
            given_up = (stuck | converged)[leaving]
            report.record(
                active[places[leaving]], ready, places[leaving], ended, given_up, iteration
            )
            places = places[~leaving]
            if not len(places):
                return
            problem, point = select(problem, ~leaving), select(point, ~leaving)
            here = select(here, ~leaving)
        here, stuck = step(point, here, problem, chain, kernels)


class _Ended:
    """Points that leave the loop, and their certificates."""

    def __init__(self, point: Point, problem: Problem, chain: Chain, tolerance: float) -> None:
        self.point = point
        self.bound = upper_bound(point, problem, chain)
        self.residuals = residuals(point, problem, chain)
        certified = self.residuals.below(tolerance)
        self.solved = certified & (self.residuals.interiority <= MOST_DRIFT)


ENDINGS = (Status.EMPTY, Status.SOLVED, Status.NUMERICAL_LIMIT, Status.ITERATION_LIMIT)


class _Report:
    """What the networks of a batch left behind, each as it ended, in units of the capacities."""

    def __init__(self, network: LayeredNetwork, gap: float, mu: Tensor | None) -> None:
        u = network.capacities
        batch, _, t, _ = u.shape
        self.edges = torch.zeros_like(u)
        self.source, self.sink = u.new_zeros(batch, t), u.new_zeros(batch, t)
        self.value, self.bound, self.residuals = *u.new_zeros(2, batch), u.new_zeros(4, batch)
        self.mu = u.new_full((batch,), gap / 2) if mu is None else mu.clone()
        self.iterations = torch.zeros(batch, dtype=torch.int64, device=u.device)
        self.ending = torch.zeros_like(self.iterations)

    def record(
        self,
        at: Tensor,
        ready: Presolved,
        places: Tensor,
        ended: _Ended,
        given_up: Tensor,
        iteration: int,
    ) -> None:
        """Keep the networks `at`, which are the problems `places` of their group."""
        scale, nodes = ready.scale[places], [row[places] for row in ready.nodes]
        sink, *layers, source, back = ready.chain.blocks(ended.point.flow)
        for k, layer in enumerate(layers):
            tails, heads = nodes[k + 1][:, :, None], nodes[k][:, None, :]
            self.edges[at[:, None, None], k, tails, heads] = layer * scale[:, None, None]
        self.source[at[:, None], nodes[-1]] = source[:, 0] * scale[:, None]
        self.sink[at[:, None], nodes[0]] = sink[..., 0] * scale[:, None]
        self.value[at] = back[:, 0, 0] * scale
        self.bound[at] = ended.bound * scale
        self.mu[at] = ready.problem.mu[places] * scale
        measured = ended.residuals
        self.residuals[:, at] = torch.stack([getattr(measured, f.name) for f in fields(measured)])
        self.iterations[at] = iteration
        self.ending[at] = torch.where(ended.solved, 1, torch.where(given_up, 2, 3))

    def flow(self) -> Flow[Tensor]:
        """The result."""
        conservation, stationarity, centrality, interiority = self.residuals
        return Flow(
            value=self.value,
            upper_bound=self.bound,
            edges=self.edges,
            source=self.source,
            sink=self.sink,
            mu=self.mu,
            conservation=conservation,
            stationarity=stationarity,
            centrality=centrality,
            interiority=interiority,
            iterations=self.iterations,
            status=tuple(ENDINGS[i] for i in self.ending.tolist()),
        )


def _check_options(gap: float, tolerance: float, max_iterations: int) -> None:
    for name, value in (("gap", gap), ("tolerance", tolerance)):
        if not isinstance(value, int | float) or not 0 < value < 1:
            raise InputError(f"{name} must lie inside (0, 1), got {value!r}.")
    if not isinstance(max_iterations, int) or max_iterations < 1:
        raise InputError(
            f"max_iterations must be an integer of at least 1, got {max_iterations!r}."
        )


def _barrier_weight(mu: float | Tensor | None, network: LayeredNetwork) -> Tensor | None:
    if mu is None:
        return None
    if isinstance(mu, bool) or not isinstance(mu, int | float | Tensor):
        raise InputError(f"mu must be a number > 0, got {mu!r}.")
    batch = len(network.capacities)
    weight = torch.as_tensor(mu, dtype=torch.float64, device=network.capacities.device)
    if weight.shape not in ((), (batch,)):
        raise InputError(
            f"mu must be one number or one for each of the {batch} networks, "
            f"got shape {tuple(weight.shape)}."
        )
    if not (torch.isfinite(weight) & (weight > 0)).all():
        raise InputError(
            f"mu must be finite and > 0, got {mu!r}. Without a barrier the maximum flow is not "
            "unique; for a flow close to a true maximum ask for a small gap."
        )
    return weight.expand(batch)
