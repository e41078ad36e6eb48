"""The flow made small enough to draw: the largest links of each layer, as integers.

A long text has millions of edges, most of them nearly empty. Each layer of a flow carries all of
it. The largest links are kept layer by layer until they hold `KEPT` of that layer's flow or the
budget is spent. Besides them the strongest few into every node are kept. The flow through each node
is kept in full: paths can then be followed in true proportions. What was pruned shows up as a share
that is not drawn, not as a wrong number.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import AttributionData

KEPT = 0.95
# Keeps the page of a dense flow of 512 tokens below two megabytes.
BUDGET = 18_000
FEEDERS = 4
# Integers are shorter in JSON than floats, and a millionth is finer than any line drawn.
UNITS = 1_000_000


def has_flow(attribution: AttributionData) -> bool:
    """Return whether there is a flow to draw: edges were asked for, and they carry some."""
    return attribution.edges is not None and float(attribution.edges[-1].sum()) > 0


def links(edges: NDArray[np.float64], budget: int = BUDGET) -> dict[str, Any]:
    """Return the links of a flow above 0 to draw, ready for JSON, in `UNITS` to the whole flow.

    `through[row][token]` is the flow through each node, row 0 at the tokens. `layers[l]` has the
    parallel lists `query`, `key` and `flow`, largest flow first, and `total`, the layer's flow.
    They hold `budget` links in all, or the few feeders of every node where these are more.
    """
    value = float(edges[-1].sum())
    scale = UNITS / value
    limit = max(budget // len(edges), 1)
    return {
        "value": value,
        "through": np.rint(scale * node_flow(edges)).astype(int).tolist(),
        "layers": [_layer(layer * scale, limit) for layer in edges],
    }


def node_flow(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(layers + 1, t)` flow through each node, row 0 at the tokens."""
    return np.concatenate([edges[:1].sum(axis=1), edges.sum(axis=2)])


def _layer(layer: NDArray[np.float64], limit: int) -> dict[str, Any]:
    """Return the chosen links of one layer, largest first."""
    flat = layer.ravel()
    chosen = np.union1d(_largest(flat, limit), _feeders(layer))
    # A node without flow has feeders too, all of them empty.
    chosen = chosen[np.rint(flat[chosen]) > 0]
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    query, key = np.divmod(chosen, layer.shape[1])
    return {
        "query": query.tolist(),
        "key": key.tolist(),
        "flow": np.rint(flat[chosen]).astype(int).tolist(),
        "total": float(flat.sum()),
    }


def _largest(flat: NDArray[np.float64], limit: int) -> NDArray[np.intp]:
    """Return the largest links until they hold `KEPT` of the layer, at most `limit` of them."""
    order = np.argsort(-flat, kind="stable")[:limit]
    enough = int(np.searchsorted(np.cumsum(flat[order]), KEPT * flat.sum())) + 1
    return order[:enough]


def _feeders(layer: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the few largest links into every node, so that each token has paths to follow."""
    tokens = layer.shape[1]
    strongest = np.argsort(-layer, axis=0, kind="stable")[:FEEDERS]
    return (strongest * tokens + np.arange(tokens)).ravel()
