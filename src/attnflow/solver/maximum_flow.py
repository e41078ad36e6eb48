"""The unique barrier maximum flow through a batch of layered networks.

A maximum flow is seldom unique, and which one is returned defines an attribution. The log barrier
picks one: the flow that maximises value + mu * sum of log distances to the bounds of every edge. As
mu shrinks it tends to the analytic centre of all maximum flows.

1. `presolve` prunes and scales.
2. `batching` groups networks of like size.
3. `primal_dual` solves a group; a network that does not fit in memory that way is solved by `dual`.
4. `flow_builder` collects the flows, with the residuals that `certificate` measures.

Source: Azarkhalili & Libbrecht (2025), equation 12.
"""

import sys
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from attnflow.errors import InputError, shown
from attnflow.forks import warn_of_one_thread
from attnflow.solver import dual, primal_dual
from attnflow.solver.batching import groups
from attnflow.solver.flow import Array, Flow, as_numpy
from attnflow.solver.flow_builder import FlowBuilder
from attnflow.solver.memory import free_bytes, most_edges, primal_dual_bytes
from attnflow.solver.network import (
    LayeredNetwork,
    as_float64,
    layered_network,
    one_for_each,
    row_bound,
)
from attnflow.solver.presolve import live_nodes, presolve, without_negligible
from attnflow.solver.state import StoppingCriteria

# The loops stop at this part of the tolerance: their sums and the certificate's, which decides,
# round differently.
CLEARLY = 0.99

# Largest barrier weight in units of U: products of such weights are still numbers.
ENOUGH_ITERATIONS = 100  # no network that converges needs more
LARGEST_WEIGHT = 1e40
MOST_ITERATIONS = 10**9


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
    max_iterations: int = ENOUGH_ITERATIONS,
    max_memory: float | None = None,
) -> Flow[Any]:
    """Compute the barrier maximum flow of each network, with its certificate.

    Args:
        capacities: `(batch, layers, t, t)` torch or numpy, finite and >= 0, 0 meaning no edge.
            Layer 0 is next to the inputs; query, then key: flow runs from query to key. Or a
            `LayeredNetwork`, which brings its own sources and sinks.
        sources: `(batch, t)` or `(t,)` bool over the top row, all when None.
        sinks: `(batch, t)` or `(t,)` bool over the bottom row, all when None.
        gap: The flow is at most `gap * U` below the maximum, U being the smallest total capacity
            of a row of edges; inside (0, 1). It sets mu = gap * U / (2 m), m the edges kept.
        mu: Barrier weight in units of the capacities, > 0, instead of `gap`; a number, or one for
            each network.
        tolerance: Largest residual of a solved problem, inside (0, 1).
        max_iterations: Most factorisations for a network, >= 1.
        max_memory: Bytes that the solve may take besides its input and its result; what is free on
            the device when None. A network too large for the primal-dual method in that is solved
            by the dual one, which needs less (see `solver.memory`) and takes longer: see
            `Flow.method`.

    Returns:
        `Flow`, on the device of the capacities, in float64. A network without any path has zero
        flow and status EMPTY. A problem that could not be solved has a status that says why,
        its last point, and no effect on the others: see `Flow.raise_for_status`.

    Raises:
        InputError: An argument is not as described.
    """
    warn_of_one_thread()
    if isinstance(capacities, LayeredNetwork):
        if sources is not None or sinks is not None:
            raise InputError("a LayeredNetwork brings its own sources and sinks; pass neither.")
        network = capacities
    else:
        network = layered_network(capacities, sources, sinks)
    check_accuracy(gap, mu)
    _check_options(tolerance, max_iterations, max_memory)
    weight = _barrier_weight(mu, network)
    network = without_negligible(network)
    live = live_nodes(network)
    builder = FlowBuilder(network, gap, weight, tolerance)
    stopping = StoppingCriteria(CLEARLY * tolerance, max_iterations)
    budget = free_bytes(live.device) if max_memory is None else _bytes(max_memory)

    def solve(members: Tensor) -> None:
        group = presolve(network, live, members, gap=gap, mu=weight)
        # A group of several was made to fit; of one network nobody has asked yet.
        fits = len(members) > 1 or primal_dual_bytes(group.chain.edges) <= budget
        method = primal_dual if fits else dual
        method.solve(group, stopping, builder)

    for members in groups(live, most_edges(budget)):
        solve(members)
        if len(members) > 1:
            # Rounding, which padding changes, decides where and why a solve ends in vain. Solved
            # alone, its status names the same limit as in every batch. A low limit of iterations,
            # which many may reach, names itself.
            at_limit = max_iterations >= ENOUGH_ITERATIONS
            for alone in builder.unsolved(members, at_limit=at_limit)[:, None]:
                solve(alone)
    flow = builder.flow()
    return as_numpy(flow) if isinstance(capacities, np.ndarray) else flow


def check_accuracy(gap: float, mu: float | Tensor | None) -> None:
    """Check the options that set the barrier weight, for which no network is needed.

    Raises:
        InputError: They are not as `maximum_flow` takes them.
    """
    _check_inside_unit("gap", gap)
    if mu is None:
        return
    if isinstance(mu, bool) or not isinstance(mu, int | float | Tensor):
        raise InputError(f"mu must be a number > 0, got {shown(mu)}.")
    weight = as_float64("mu", mu, torch.device("cpu"))
    if not (torch.isfinite(weight) & (weight > 0)).all():
        raise InputError(
            f"mu must be finite and > 0, got {shown(mu)}. Without a barrier the maximum flow is "
            "not unique; for a flow close to a true maximum ask for a small gap."
        )


def _check_options(tolerance: float, max_iterations: int, max_memory: float | None) -> None:
    _check_inside_unit("tolerance", tolerance)
    is_whole = isinstance(max_iterations, int) and not isinstance(max_iterations, bool)
    if not is_whole or not 1 <= max_iterations <= MOST_ITERATIONS:
        raise InputError(
            f"max_iterations must be an integer from 1 to {MOST_ITERATIONS:,}, "
            f"got {shown(max_iterations)}."
        )
    if max_memory is None:
        return
    is_number = isinstance(max_memory, int | float) and not isinstance(max_memory, bool)
    if not is_number or not max_memory > 0:
        raise InputError(f"max_memory must be a number of bytes > 0, got {shown(max_memory)}.")


def _bytes(max_memory: float) -> float:
    """Return bytes as a float, in which integers beyond float64 are all that there are."""
    return float(min(max_memory, sys.float_info.max))


def _check_inside_unit(name: str, value: float) -> None:
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(f"{name} must lie inside (0, 1), got {shown(value)}.")


def _barrier_weight(mu: float | Tensor | None, network: LayeredNetwork) -> Tensor | None:
    if mu is None:
        return None
    weight = one_for_each("mu", mu, network.capacities)
    bound = row_bound(network)
    too_large = (bound > 0) & (weight > LARGEST_WEIGHT * bound)
    if too_large.any():
        raise InputError(
            f"mu must be at most {LARGEST_WEIGHT:g} times the total capacity of the narrowest row, "
            f"here {float(bound[too_large].min()):.3g}, got {shown(mu)}: float64 cannot square the "
            "numbers of a problem beyond."
        )
    return weight
