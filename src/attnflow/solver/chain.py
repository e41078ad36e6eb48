"""A layered network as a chain of rows of nodes, and the maps between its edges and nodes.

Rows from the bottom: the super-target (1 node), the rows of tokens 0..L, and the super-source (1).
The last row is the super-target once more (1), now as the tail of the return edge. Block k holds
the edges from row k + 1 down to row k, `(tails, heads)`. So the super-edges, the layers and the
return edge are blocks like any other. The two end rows have fixed potentials, 0 below and 1 above:
their difference is the return edge's unit of reward. Rows may differ in width.

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
    """A chain of rows; `widths[k]` is the number of nodes in row k, 1 in the first and last two."""

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
        """Number of edges."""
        return self.edge_starts[-1]

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return self.node_starts[-1]

    def blocks(self, x: Tensor) -> list[Tensor]:
        """Views `(batch, tails, heads)` of flat edges."""
        return self.blocks_of(x, range(len(self.shapes)))

    def rows(self, y: Tensor) -> list[Tensor]:
        """Views `(batch, width)` of flat nodes."""
        return list(torch.split(y, list(self.widths), dim=1))

    def chunks(self, max_edges: int) -> list[range]:
        """Consecutive blocks with at most so many edges together, or one block with more."""
        chunks: list[range] = []
        for k in range(len(self.shapes)):
            first = chunks[-1].start if chunks else 0
            if chunks and self.edge_starts[k + 1] - self.edge_starts[first] <= max_edges:
                chunks[-1] = range(first, k + 1)
            else:
                chunks.append(range(k, k + 1))
        return chunks

    def edges_of(self, chunk: range) -> slice:
        """Position of a chunk's edges among the flat edges."""
        return slice(self.edge_starts[chunk.start], self.edge_starts[chunk.stop])

    def blocks_of(self, x: Tensor, chunk: range) -> list[Tensor]:
        """Views `(batch, tails, heads)` of the flat edges of a chunk."""
        shapes = self.shapes[chunk.start : chunk.stop]
        parts = torch.split(x, [tails * heads for tails, heads in shapes], dim=1)
        return [p.view(-1, *shape) for p, shape in zip(parts, shapes, strict=True)]

    def drops_of(self, y: Tensor, chunk: range) -> Tensor:
        """Potential of the tail minus that of the head, flat, for the edges of a chunk."""
        rows = self.rows(y)
        drops = [rows[k + 1][:, :, None] - rows[k][:, None, :] for k in chunk]
        return torch.cat([drop.flatten(1) for drop in drops], 1)

    def new_nodes(self, like: Tensor) -> Tensor:
        """Zeros `(batch, nodes)` of the dtype and device of `like`."""
        return like.new_zeros(len(like), self.nodes)
