"""A network as lists of edges, the form that other programs take.

The solver itself never makes such lists: it works on blocks (see `chain`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.solver.network import LayeredNetwork

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class EdgeList:
    """Edges of one network of shape `(layers, t, t)`.

    Nodes are numbered row by row from the input row, `row * t + token`.

    Attributes:
        tails, heads: `(m,)` node numbers.
        capacities: `(m,)`.
        shape: layers, t, t.
    """

    tails: Integers
    heads: Integers
    capacities: Floats
    shape: tuple[int, ...]

    @property
    def source(self) -> int:
        """Number of the super-source, after the tokens."""
        return (self.shape[0] + 1) * self.shape[1]

    @property
    def target(self) -> int:
        """Number of the super-target, the last node."""
        return self.source + 1

    def dense(self, values: Floats) -> Floats:
        """`(layers, t, t)` with a number for each of the first edges, and 0 elsewhere."""
        t, tails, heads = self.shape[1], self.tails[: len(values)], self.heads[: len(values)]
        matrix = np.zeros(self.shape)
        matrix[heads // t, tails % t, heads % t] = values
        return matrix


def layer_edges(capacities: NDArray[Any]) -> EdgeList:
    """List the edges between tokens, in the order of `(layers, t, t)` capacities; 0 is no edge."""
    t = capacities.shape[1]
    layer, query, key = at = capacities.nonzero()
    tails, heads = (layer + 1) * t + query, layer * t + key
    return EdgeList(tails, heads, capacities[at].astype(np.float64), capacities.shape)


def circulation(network: LayeredNetwork, index: int = 0) -> EdgeList:
    """List all edges of one network: of the layers, from the source, into the target, and back."""
    layers = layer_edges(network.capacities[index].cpu().numpy())
    source, target, t = layers.source, layers.target, layers.shape[1]
    fed = source - t + network.sources[index].cpu().numpy().nonzero()[0]
    drained = network.sinks[index].cpu().numpy().nonzero()[0]
    above = np.full(len(fed) + len(drained), network.super_capacity[index].item())
    back = [network.return_capacity[index].item()]
    return EdgeList(
        tails=np.concatenate([layers.tails, np.full_like(fed, source), drained, [target]]),
        heads=np.concatenate([layers.heads, fed, np.full_like(drained, target), [source]]),
        capacities=np.concatenate([layers.capacities, above, back]),
        shape=layers.shape,
    )
