"""The two solvers that a user would reach for otherwise: CVXPY with Clarabel, and igraph.

CVXPY gets the program of the paper, vectorised, with a sparse incidence matrix and capacities
scaled by the flow value; without that scaling it fails far earlier. igraph gives the value of a
maximum flow and no more: which flow it took is arbitrary.

Source: Azarkhalili & Libbrecht (2025), equation 12.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnflow.solver.network import layered_network, pruned

Floats = NDArray[np.float64]
FINISHED = ("optimal", "optimal_inaccurate")


@dataclass(frozen=True)
class Circulation:
    """The edges of one network as lists, as both competitors want them.

    Attributes:
        tails, heads: `(m,)` node numbers: row by row from the input row, source, target.
        capacities: `(m,)`, infinite at the super-edges and the return edge, which is the last.
        at: Layer, query and key of the first edges, which are the network's own.
        shape: layers, t, t.
    """

    tails: NDArray[np.int64]
    heads: NDArray[np.int64]
    capacities: Floats
    at: tuple[NDArray[np.int64], ...]
    shape: tuple[int, ...]

    @property
    def source(self) -> int:
        return (self.shape[0] + 1) * self.shape[1]


def circulation(capacities: Tensor) -> Circulation:
    """The circulation of one network, `(layers, t, t)`, without edges that no path uses."""
    u = pruned(layered_network(capacities[None])).capacities[0].cpu().numpy()
    layers, t, _ = u.shape
    layer, query, key = at = u.nonzero()
    fed, drained = u[-1].any(1).nonzero()[0], u[0].any(0).nonzero()[0]
    source, target = (layers + 1) * t, (layers + 1) * t + 1
    infinite = np.full(len(fed) + len(drained) + 1, math.inf)
    return Circulation(
        tails=np.concatenate(
            [(layer + 1) * t + query, np.full_like(fed, source), drained, [target]]
        ),
        heads=np.concatenate(
            [layer * t + key, layers * t + fed, np.full_like(drained, target), [source]]
        ),
        capacities=np.concatenate([u[at], infinite]),
        at=at,
        shape=u.shape,
    )


def clarabel_flow(
    network: Circulation, mu: float, scale: float, time_limit: float
) -> tuple[str, Floats | None]:
    """CVXPY's status, and its barrier maximum flow `(layers, t, t)` if it found one.

    Args:
        network: Capacities in units of their own.
        mu: Barrier weight in the same units.
        scale: What to divide both by; a value near that of the flow.
        time_limit: Seconds that Clarabel may take; CVXPY's own come on top.
    """
    import cvxpy

    finite = np.isfinite(network.capacities)
    u = network.capacities[finite] / scale
    f = cvxpy.Variable(len(finite))
    barrier = cvxpy.sum(cvxpy.log(f)) + cvxpy.sum(cvxpy.log(u - f[: len(u)]))
    objective = cvxpy.Maximize(f[-1] + mu / scale * barrier)
    problem = cvxpy.Problem(objective, [_incidence(network) @ f == 0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # inaccurate answers: the status says so
            problem.solve(solver=cvxpy.CLARABEL, time_limit=time_limit)
    except cvxpy.SolverError:
        return "failed", None
    if f.value is None:
        return problem.status, None
    flow = np.zeros(network.shape)
    flow[network.at] = f.value[: len(u)] * scale
    return problem.status, flow


def _incidence(network: Circulation) -> Any:
    """Sparse `(nodes, m)`, 1 where an edge enters and -1 where it leaves, of nodes that are met."""
    from scipy.sparse import csr_array

    ends = np.concatenate([network.heads, network.tails])
    _, node = np.unique(ends, return_inverse=True)
    m = len(network.tails)
    sign = np.repeat([1.0, -1.0], m)
    return csr_array((sign, (node, np.tile(np.arange(m), 2))), shape=(node.max() + 1, m))


def igraph_network(network: Circulation) -> tuple[Any, list[float]]:
    """The graph without its return edge, and capacities: finite ones, which cannot bind."""
    import igraph

    ends = np.stack([network.tails, network.heads], 1)[:-1]
    graph = igraph.Graph(n=network.source + 2, edges=ends, directed=True)
    finite = network.capacities[np.isfinite(network.capacities)]
    return graph, np.minimum(network.capacities[:-1], finite.sum() + 1).tolist()


def igraph_value(network: Circulation, graph: Any, capacities: list[float]) -> float:
    """The exact value of a maximum flow, by push-relabel on floats."""
    return float(graph.maxflow_value(network.source, network.source + 1, capacities))
