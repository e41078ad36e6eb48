"""The two solvers that a user would reach for otherwise: CVXPY with Clarabel, and igraph.

CVXPY gets the program of the paper, vectorised, with a sparse incidence matrix and capacities
scaled by the flow value. Without that scaling it fails far earlier. igraph gives the value of a
maximum flow and no more: which flow it took is arbitrary.

Source: Azarkhalili & Libbrecht (2025), equation 12.
"""

import warnings
from typing import Any

import numpy as np
from torch import Tensor

from attnflow.solver.edge_list import EdgeList, Floats, circulation
from attnflow.solver.network import layered_network, pruned

# An inaccurate answer is an answer: the table states its status and its difference.
FINISHED = ("optimal", "optimal_inaccurate")


def pruned_circulation(capacities: Tensor) -> EdgeList:
    """The circulation of one network, `(layers, t, t)`, without edges that no path uses."""
    return circulation(pruned(layered_network(capacities[None])))


def clarabel_flow(
    edges: EdgeList, mu: float, scale: float, time_limit: float
) -> tuple[str, Floats | None]:
    """CVXPY's status, and its barrier maximum flow `(layers, t, t)` if it found one.

    Args:
        edges: The circulation, in any units.
        mu: Barrier weight in the same units.
        scale: Divisor of both; a value near that of the flow.
        time_limit: Seconds that Clarabel may take; CVXPY's own come on top.
    """
    import cvxpy

    finite = np.isfinite(edges.capacities)
    u = edges.capacities[finite] / scale
    f = cvxpy.Variable(len(finite))
    barrier = cvxpy.sum(cvxpy.log(f)) + cvxpy.sum(cvxpy.log(u - f[: len(u)]))
    objective = cvxpy.Maximize(f[-1] + mu / scale * barrier)
    problem = cvxpy.Problem(objective, [_incidence(edges) @ f == 0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # inaccurate answers: the status says so
            problem.solve(solver=cvxpy.CLARABEL, time_limit=time_limit)
    except cvxpy.SolverError:
        return "failed", None
    if f.value is None:
        return problem.status, None
    return problem.status, edges.dense(f.value[: len(u)] * scale)


def _incidence(edges: EdgeList) -> Any:
    """Sparse `(nodes, m)`, 1 where an edge enters and -1 where it leaves; nodes with edges only."""
    from scipy.sparse import csr_array

    ends = np.concatenate([edges.heads, edges.tails])
    _, node = np.unique(ends, return_inverse=True)
    m = len(edges.tails)
    sign = np.repeat([1.0, -1.0], m)
    return csr_array((sign, (node, np.tile(np.arange(m), 2))), shape=(node.max() + 1, m))


def igraph_network(edges: EdgeList) -> tuple[Any, list[float]]:
    """The graph without its return edge, and finite capacities, which cannot bind."""
    import igraph

    ends = np.stack([edges.tails, edges.heads], 1)[:-1]
    graph = igraph.Graph(n=edges.target + 1, edges=ends, directed=True)
    finite = edges.capacities[np.isfinite(edges.capacities)]
    return graph, np.minimum(edges.capacities[:-1], finite.sum() + 1).tolist()


def igraph_value(edges: EdgeList, graph: Any, capacities: list[float]) -> float:
    """The exact value of a maximum flow, by push-relabel on floats."""
    return float(graph.maxflow_value(edges.source, edges.target, capacities))
