"""A layered network as a chain of rows of nodes, and the maps between its edges and nodes.

Rows from the bottom: the super-target (1 node), the rows of tokens 0..L, the super-source (1), and
the super-target once more (1), now as the tail of the return edge. Block k holds the edges from
row k + 1 down to row k, `(tails, heads)`; so the super-edges, the layers and the return edge are
blocks like any other. The two end rows have fixed potentials, 0 below and 1 above: their
difference is the return edge's unit of reward. Rows may differ in width.

Numbers of edges are kept flat, `(batch, edges)`, and so are numbers of nodes, `(batch, nodes)`.
Only this module knows where a block or a row lies in them.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chain:
    """`widths[k]` is the number of nodes in row k, 1 in the first and the last two."""

    widths: tuple[int, ...]

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Tails and heads of each block."""
        return [(tails, heads) for heads, tails in pairwise(self.widths)]

    @cached_property
    def edge_starts(self) -> list[int]:
        """First edge of each block, and the number of all edges."""
        return [0, *accumulate(tails * heads for tails, heads in self.shapes)]

    @cached_property
    def node_starts(self) -> list[int]:
        """First node of each row, and the number of all nodes."""
        return [0, *accumulate(self.widths)]

    @property
    def edges(self) -> int:
        return self.edge_starts[-1]

    @property
    def nodes(self) -> int:
        return self.node_starts[-1]

    def blocks(self, x: Tensor) -> list[Tensor]:
        """Views `(batch, tails, heads)` of flat edges."""
        sizes = [tails * heads for tails, heads in self.shapes]
        parts = torch.split(x, sizes, dim=1)
        return [p.view(-1, *shape) for p, shape in zip(parts, self.shapes, strict=True)]

    def rows(self, y: Tensor) -> list[Tensor]:
        """Views `(batch, width)` of flat nodes."""
        return list(torch.split(y, list(self.widths), dim=1))

    def drops(self, y: Tensor) -> list[Tensor]:
        """Potential of the tail minus that of the head, for each block."""
        return [tail[:, :, None] - head[:, None, :] for head, tail in pairwise(self.rows(y))]

    def new_nodes(self, like: Tensor) -> Tensor:
        """Zeros, one for each node."""
        return like.new_zeros(len(like), self.nodes)
