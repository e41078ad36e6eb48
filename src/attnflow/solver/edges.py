"""All edges of a network in one row of numbers, and the two maps between edges and nodes.

All that an interior-point method does to single edges is elementwise, so the edges of a problem
are kept flat, `(batch, m)`: the L * t * t edges of the layers, then t source edges, t sink edges
and the return edge. Only the maps below know that order. Nodes are flat as well, `(batch, n)`:
the rows from the bottom, then the super-source; the super-target is grounded at potential 0.

`tension` is the incidence matrix B (head minus tail) and `imbalance` its transpose B'.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Sizes of a layered network: `layers` L of `t` x `t` edges."""

    layers: int
    t: int

    @property
    def edges(self) -> int:
        return self.layers * self.t * self.t + 2 * self.t + 1

    @property
    def nodes(self) -> int:
        return (self.layers + 1) * self.t + 1

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Views: layers `(b, L, t, t)`, source `(b, t)`, sink `(b, t)`, return `(b,)`."""
        inner, t = self.layers * self.t * self.t, self.t
        layers = x[:, :inner].view(-1, self.layers, t, t)
        return layers, x[:, inner : inner + t], x[:, inner + t : inner + 2 * t], x[:, -1]

    def join(self, layers: Tensor, source: Tensor, sink: Tensor, back: Tensor) -> Tensor:
        """The inverse of `split`."""
        return torch.cat([layers.flatten(1), source, sink, back[:, None]], 1)

    def rows(self, y: Tensor) -> Tensor:
        """View of flat nodes without the super-source: `(b, L + 1, t)`."""
        return y[:, :-1].view(-1, self.layers + 1, self.t)

    def tension(self, y: Tensor) -> Tensor:
        """B y: potential of the head minus potential of the tail, for every edge."""
        rows, source = self.rows(y), y[:, -1:]
        layers = rows[:, :-1, None, :] - rows[:, 1:, :, None]
        return self.join(layers, rows[:, -1] - source, -rows[:, 0], source[:, 0])

    def imbalance(self, x: Tensor) -> Tensor:
        """B' x: what enters minus what leaves each node."""
        layers, source, sink, back = self.split(x)
        entering = torch.cat([layers.sum(2), source[:, None]], 1)
        leaving = torch.cat([sink[:, None], layers.sum(3)], 1)
        top = back - source.sum(1)
        return torch.cat([(entering - leaving).flatten(1), top[:, None]], 1)
