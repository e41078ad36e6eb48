"""Segments: neighbouring nodes merged into one, while a layer is still being recorded.

A long text has too many pairs of tokens for a flow: t squared in every layer. Merged to s segments
it has s squared. The effect of segment J on segment I is the sum of the effects of J's tokens on
I's tokens, with their signs. Contributions add up: effects conserved at every token are conserved
at every segment. Negative effects are clipped after the sum. The tensors of the paper have no sign,
and their capacities are added.

A tile of a layer is merged as soon as it is computed, so that no (t, t) tensor ever exists. Read
next: recorder.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Partition of a batch's nodes into segments that are merged.

    Attributes:
        of_node: `(batch, t)` int64, the index of each node's segment. Padding is in segments
            without any token.
        count: Number of segments in the longest example; others leave the last ones empty.
        source: Number of segments of an encoder-decoder's source, which come first; 0 in one stack.
    """

    of_node: Tensor
    count: int
    source: int = 0

    def side(self, nodes: slice) -> Tensor:
        """`(batch, nodes)` segment of each node, counted from the first segment of its side."""
        segments = self.of_node[:, nodes]
        return segments - self.source if nodes.start and self.source else segments

    def touched(self, nodes: Tensor) -> Tensor:
        """`(batch, count)` bool, true where any of a segment's nodes, `(batch, t)` bool, is."""
        counts = torch.zeros(len(nodes), self.count, dtype=torch.int64, device=nodes.device)
        return counts.scatter_add_(1, self.of_node, nodes.long()) > 0

    def spread(self, segments: Tensor) -> Tensor:
        """`(batch, t)` value at each node, that of its segment in `(batch, count)`."""
        return segments.gather(1, self.of_node)

    def summed(self, nodes: Tensor) -> Tensor:
        """`(batch, layers, count)` sums over segments of `(batch, layers, t)`."""
        sums = nodes.new_zeros(*nodes.shape[:2], self.count)
        return sums.scatter_add_(2, self.of_node[:, None].expand_as(nodes), nodes)


def add_merged(output: Tensor, part: Tensor, queries: Tensor, keys: Tensor) -> None:
    """Add `(batch, queries, keys)` to `(batch, segments, segments)`, each to its pair of segments.

    Args:
        output: Sums so far; changed in place.
        part: Summands, `(batch, queries, keys)`.
        queries: `(batch, queries)` segments of the queries.
        keys: `(batch, keys)` segments of the keys.
    """
    # Keys first: the intermediate result then is as narrow as the segments.
    narrow = part.new_zeros(*part.shape[:2], output.shape[2])
    narrow.scatter_add_(2, keys[:, None].expand_as(part), part)
    output.scatter_add_(1, queries[:, :, None].expand_as(narrow), narrow)
