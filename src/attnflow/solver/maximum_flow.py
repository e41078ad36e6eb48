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
from attnflow.solver.certificate import Residuals, residuals, upper_bound
from attnflow.solver.flow import Array, Flow, Status, as_numpy
from attnflow.solver.interior_point import (
    Point,
    chosen,
    first_point,
    is_sound,
    select,
    step,
)
from attnflow.solver.presolve import Presolved, presolve

EDGES_AT_ONCE = 2**22
MOST_DRIFT = 1e-3


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
    parts = [
        _solve(
            _part(network, at),
            gap,
            None if weight is None else weight[at],
            tolerance,
            max_iterations,
        )
        for at in _groups(network)
    ]
    flow = parts[0] if len(parts) == 1 else _joined(parts)
    return as_numpy(flow) if isinstance(capacities, np.ndarray) else flow


def _groups(network: LayeredNetwork) -> list[slice]:
    """Runs of the batch whose edges fit into memory together."""
    batch, layers, t, _ = network.capacities.shape
    size = max(1, EDGES_AT_ONCE // (layers * t * t))
    return [slice(start, start + size) for start in range(0, batch, size)]


def _part(network: LayeredNetwork, at: slice) -> LayeredNetwork:
    return LayeredNetwork(*(getattr(network, f.name)[at] for f in fields(network)))


def _joined(parts: list[Flow[Tensor]]) -> Flow[Tensor]:
    names = [f.name for f in fields(Flow) if f.name != "status"]
    arrays = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return Flow(**arrays, status=tuple(status for part in parts for status in part.status))


def _solve(
    network: LayeredNetwork, gap: float, mu: Tensor | None, tolerance: float, max_iterations: int
) -> Flow[Tensor]:
    ready = presolve(network, gap=gap, mu=mu)
    report = _Report(ready)
    active = (~ready.empty).nonzero()[:, 0]
    problem = select(ready.problem, active)
    point = first_point(problem, ready.layout)
    stuck = torch.zeros_like(active, dtype=torch.bool)
    for iteration in range(max_iterations + 1):
        measured = residuals(point, problem, ready.layout)
        converged = measured.below(tolerance)
        solved = converged & (measured.interiority <= MOST_DRIFT)
        stuck |= converged & ~solved
        leaving = solved | stuck | (iteration == max_iterations)
        if leaving.any():
            ending = _endings(solved, stuck)[leaving]
            report.record(active[leaving], select(point, leaving), ending, iteration)
            active, stuck = active[~leaving], stuck[~leaving]
            problem, point = select(problem, ~leaving), select(point, ~leaving)
        if not len(active):
            break
        following, failed = step(point, problem, ready.layout)
        stuck = failed | ~is_sound(following)
        point = chosen(~stuck, following, point)
    return report.flow()


ENDINGS = (Status.EMPTY, Status.SOLVED, Status.NUMERICAL_LIMIT, Status.ITERATION_LIMIT)


def _endings(solved: Tensor, stuck: Tensor) -> Tensor:
    """Index into `ENDINGS` of each problem that leaves."""
    return torch.where(solved, 1, torch.where(stuck, 2, 3))


class _Report:
    """What the problems of a batch left behind, each as it ended."""

    def __init__(self, ready: Presolved) -> None:
        self.ready = ready
        batch, edges = ready.problem.u.shape
        new = ready.problem.u.new_zeros
        self.edge_flow, self.bound, self.residuals = new(batch, edges), new(batch), new(4, batch)
        self.iterations = torch.zeros(batch, dtype=torch.int64, device=ready.scale.device)
        self.ending = torch.zeros_like(self.iterations)

    def record(self, at: Tensor, point: Point, ending: Tensor, iteration: int) -> None:
        """Keep the points of the problems `at`."""
        problem = select(self.ready.problem, at)
        measured: Residuals = residuals(point, problem, self.ready.layout)
        self.edge_flow[at] = point.flow * problem.live
        self.bound[at] = upper_bound(point, problem, self.ready.layout)
        self.residuals[:, at] = torch.stack(
            [
                measured.conservation,
                measured.stationarity,
                measured.centrality,
                measured.interiority,
            ]
        )
        self.iterations[at] = iteration
        self.ending[at] = ending

    def flow(self) -> Flow[Tensor]:
        """Everything in the units of the capacities."""
        scale = self.ready.scale
        edges, source, sink, value = self.ready.layout.split(self.edge_flow * scale[:, None])
        conservation, stationarity, centrality, interiority = self.residuals
        return Flow(
            value=value.clone(),
            upper_bound=self.bound * scale,
            edges=edges,
            source=source,
            sink=sink,
            mu=self.ready.problem.mu * scale,
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
