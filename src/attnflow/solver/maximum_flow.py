"""maximum_flow: the unique barrier maximum flow through a batch of layered networks.

A maximum flow is seldom unique, and which one is returned defines an attribution. The log barrier
picks one: the flow that maximises value + mu * sum of log distances to the bounds of every edge. As
mu shrinks it tends to the analytic centre of all maximum flows.

`presolve` prunes and scales, `groups` says which networks to solve together, `primal_dual` solves
them, `certificate` measures. Networks that do not fit in memory that way are solved by `dual`, one
after the other.

Source: Azarkhalili & Libbrecht (2025), equation 12.
"""

from dataclasses import fields
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from attnflow.errors import InputError
from attnflow.solver import dual, primal_dual
from attnflow.solver.backend import kernels_for
from attnflow.solver.batching import groups
from attnflow.solver.flow import Array, Flow, Method, as_numpy
from attnflow.solver.flow_builder import Ended, Report
from attnflow.solver.memory import free_bytes, most_edges, primal_dual_bytes
from attnflow.solver.network import LayeredNetwork, layered_network
from attnflow.solver.presolve import Presolved, live_nodes, presolve, without_negligible
from attnflow.solver.primal_dual import Limits


@overload
def maximum_flow(
    capacities: LayeredNetwork,
    *,
    gap: float = ...,
    mu: float | Tensor | None = ...,
    tolerance: float = ...,
    max_iterations: int = ...,
    max_memory: float | None = ...,
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
    max_memory: float | None = ...,
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
    max_memory: float | None = None,
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
        max_memory: Bytes that the solve may take beside its input and its result; what is free on
            the device when None. Networks too large for the primal-dual method in that are solved
            by the dual one, which needs about half and takes longer: see `Flow.method`.

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
    _check_options(gap, tolerance, max_iterations, max_memory)
    weight = _barrier_weight(mu, network)
    network = without_negligible(network)
    live = live_nodes(network)
    report = Report(network, gap, weight)
    room = free_bytes(live.device) if max_memory is None else max_memory
    limits = Limits(tolerance, max_iterations)
    for at in groups(live, most_edges(room)):
        part = None if weight is None else weight[at]
        ready = presolve(_part(network, at), live[at], gap=gap, mu=part)
        fits = len(at) > 1 or primal_dual_bytes(ready.chain.edges) <= room
        solve = primal_dual.solve if fits else _solve_by_dual
        solve(ready, at, report, limits)
    flow = report.flow()
    return as_numpy(flow) if isinstance(capacities, np.ndarray) else flow


def _part(network: LayeredNetwork, at: Tensor) -> LayeredNetwork:
    if len(at) == len(network.capacities) and (at == torch.arange(len(at), device=at.device)).all():
        return network
    return LayeredNetwork(*(getattr(network, f.name)[at] for f in fields(network)))


def _solve_by_dual(ready: Presolved, member: Tensor, report: Report, limits: Limits) -> None:
    """Solve a group of one network by the dual method."""
    kernels, _ = kernels_for(member.device, 1, ready.chain)
    point, iterations, given_up = dual.solve(
        ready.problem, ready.chain, kernels, limits.aim, limits.max_iterations
    )
    gave_up = torch.tensor([given_up], device=member.device)
    ended = Ended(point, ready.problem, ready.chain, limits.tolerance, gave_up)
    used = torch.tensor([iterations], device=member.device)
    report.record(member, ready, torch.zeros_like(member), ended, used, Method.DUAL)


def _check_options(
    gap: float, tolerance: float, max_iterations: int, max_memory: float | None
) -> None:
    for name, value in (("gap", gap), ("tolerance", tolerance)):
        if not isinstance(value, int | float) or not 0 < value < 1:
            raise InputError(f"{name} must lie inside (0, 1), got {value!r}.")
    if not isinstance(max_iterations, int) or max_iterations < 1:
        raise InputError(
            f"max_iterations must be an integer of at least 1, got {max_iterations!r}."
        )
    if max_memory is not None and not max_memory > 0:
        raise InputError(f"max_memory must be a number of bytes > 0, got {max_memory!r}.")


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
