"""Maximum flows without a barrier, by igraph: exact values, and one of many flows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.errors import needs
from attnflow.methods.adapter import Scores
from attnflow.solver.edge_list import layer_edges

Capacities = NDArray[np.float64]


def values_from(capacities: Capacities, query: int) -> Scores:
    """`(t,)` value of the maximum flow from one node of the top row to each of the lowest alone.

    Args:
        capacities: `(layers, t, t)`, as [l, query, key].
        query: The node of the top row.
    """
    layers, t, _ = capacities.shape
    edges = layer_edges(capacities)
    pairs, weights = np.stack([edges.tails, edges.heads], 1), edges.capacities.tolist()
    graph = _igraph().Graph(n=edges.source, edges=pairs, directed=True)
    return np.array([graph.maxflow_value(layers * t + query, j, weights) for j in range(t)])


def outflow(capacities: Capacities) -> Scores:
    """`(t,)` flow into each node of the lowest row in a maximum flow from the whole top row.

    Which of the many maximum flows that is depends on igraph's order of search.
    """
    t = capacities.shape[-1]
    return np.array(_maximum_flow(capacities).flow[:t])


def minimum_cut(capacities: Capacities) -> Scores:
    """`(layers,)` capacity of each layer's edges in a minimum cut; their sum is the flow.

    Which of several minimum cuts that is depends on igraph; only capacities > 0 are in it.
    """
    layers, t, _ = capacities.shape
    edges = layer_edges(capacities)
    # The edges of source and target come first, and are never cut.
    cut = np.array(_maximum_flow(capacities).cut, dtype=np.int64) - 2 * t
    totals = np.zeros(layers)
    np.add.at(totals, edges.heads[cut] // t, edges.capacities[cut])
    return totals


def _maximum_flow(capacities: Capacities) -> Any:
    """igraph's flow from the whole top row to the whole lowest; edges to the target come first."""
    layers, t, _ = capacities.shape
    edges, tokens = layer_edges(capacities), np.arange(t)
    source, target = np.full(t, edges.source), np.full(t, edges.target)
    tails = np.concatenate([tokens, source, edges.tails])
    heads = np.concatenate([target, layers * t + tokens, edges.heads])
    free = float(capacities.sum()) + 1.0  # more than any flow, so that it never binds
    weights = [free] * (2 * t) + edges.capacities.tolist()
    graph = _igraph().Graph(n=edges.target + 1, edges=np.stack([tails, heads], 1), directed=True)
    return graph.maxflow(edges.source, edges.target, weights)


def _igraph() -> Any:
    with needs("exact maximum flows need igraph"):
        import igraph
    return igraph
