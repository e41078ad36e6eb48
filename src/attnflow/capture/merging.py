"""Segments: neighbouring nodes merged into one, while a layer is still being recorded.

A long text has too many pairs of tokens for a flow: t squared in every layer. Merged to s segments
it has s squared. The effect of segment J on segment I is the sum of the effects of J's tokens on
I's, with their signs: contributions add up, so that what is conserved at every token is conserved
at every segment. Only then are negative ones clipped. The tensors of the paper have no sign, and
their capacities are added.

A tile of a layer is merged as soon as it is known, so that no (t, t) tensor ever exists. Read next:
recorder.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Which nodes of a batch are merged.

    Attributes:
        of_node: `(batch, t)` int64, the index of each node's segment. Padding is in segments
            without any token.
        count: How many segments there are; of fewer in an example the last have no node.
        source: How many of them, the first, are of an encoder-decoder's source; 0 in one stack.
    """

    of_node: Tensor
    count: int
    source: int = 0

    def side(self, nodes: slice) -> Tensor:
        """`(batch, nodes)` indices of the segments among those of their own side."""
        found = self.of_node[:, nodes]
        return found - self.source if nodes.start and self.source else found

    def touched(self, nodes: Tensor) -> Tensor:
        """`(batch, count)` bool, true where one of a segment's nodes `(batch, t)` is."""
        found = torch.zeros(len(nodes), self.count, dtype=torch.int64, device=nodes.device)
        return found.scatter_add_(1, self.of_node, nodes.long()) > 0

    def spread(self, segments: Tensor) -> Tensor:
        """`(batch, t)`, at each node what is at its segment, `(batch, count)`."""
        return segments.gather(1, self.of_node)

    def summed(self, nodes: Tensor) -> Tensor:
        """`(batch, layers, count)` sums over segments of `(batch, layers, t)`."""
        found = nodes.new_zeros(*nodes.shape[:2], self.count)
        return found.scatter_add_(2, self.of_node[:, None].expand_as(nodes), nodes)


def add_merged(output: Tensor, part: Tensor, queries: Tensor, keys: Tensor) -> None:
    """Add `(batch, queries, keys)` to `(batch, segments, segments)`, each to its pair of segments.

    Args:
        output: Sums so far; changed in place.
        part: What is added.
        queries: `(batch, queries)` segments of the queries.
        keys: `(batch, keys)` segments of the keys.
    """
    narrow = part.new_zeros(*part.shape[:2], output.shape[2])
    narrow.scatter_add_(2, keys[:, None].expand_as(part), part)
    output.scatter_add_(1, queries[:, :, None].expand_as(narrow), narrow)
