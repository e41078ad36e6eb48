"""Maximum flows without a barrier, by igraph: exact values, and one of many flows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.errors import needs
from attnflow.methods.adapter import Scores

Capacities = NDArray[np.float64]


def values_from(capacities: Capacities, query: int) -> Scores:
    """`(t,)` value of the maximum flow from one node of the top row to each of the lowest alone.

    Args:
        capacities: `(layers, t, t)`, as [l, query, key].
        query: The node of the top row.
    """
    layers, t, _ = capacities.shape
    edges, weights = _edges(capacities)
    graph = _igraph().Graph(n=(layers + 1) * t, edges=edges, directed=True)
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
    edges, weights = _edges(capacities)
    by_layer = np.zeros(layers)
    for index in _maximum_flow(capacities).cut:
        edge = index - 2 * t  # after the edges of source and target, which are never cut
        by_layer[edges[edge][1] // t] += weights[edge]
    return by_layer


def _maximum_flow(capacities: Capacities) -> Any:
    """igraph's flow from the whole top row to the whole lowest; edges to the target come first."""
    layers, t, _ = capacities.shape
    edges, weights = _edges(capacities)
    source, target = (layers + 1) * t, (layers + 1) * t + 1
    above = [(source, layers * t + i) for i in range(t)]
    below = [(j, target) for j in range(t)]
    # More than can ever flow, so that no edge of source or target is in a minimum cut.
    free = float(capacities.sum()) + 1.0
    graph = _igraph().Graph(n=target + 1, edges=[*below, *above, *edges], directed=True)
    return graph.maxflow(source, target, [free] * (2 * t) + weights)


def _edges(capacities: Capacities) -> tuple[list[tuple[int, int]], list[float]]:
    t = capacities.shape[-1]
    layer, query, key = capacities.nonzero()
    pairs = zip(((layer + 1) * t + query).tolist(), (layer * t + key).tolist(), strict=True)
    return list(pairs), capacities[layer, query, key].tolist()


def _igraph() -> Any:
    with needs("exact maximum flows need igraph"):
        import igraph
    return igraph
