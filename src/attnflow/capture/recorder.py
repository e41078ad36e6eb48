"""The recorder: collects the tensor that each layer is reduced to, tile after tile.

A layer is written straight into its place in the result, so that no second copy of it exists. Where
nodes are merged into segments, a tile is merged before it is written. Read next: attention.py,
which writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from attnflow.capture.merging import add_merged
from attnflow.capture.stacking import Merging


@dataclass
class Recorder:
    """Collects one `(batch, query, key)` tensor per attention call, in the order of the calls.

    Attributes:
        tensor: Name of the information tensor.
        merging: Segments that nodes are merged to; None where none are.
        layers: One tensor per call; None until it is recorded, by `af` in the forward pass, by
            other tensors in the backward pass.
        shapes: `(batch, queries, keys)` of each call, in tokens.
        outputs: Zeros that layers are written into; None: made when a layer is first written.
    """

    tensor: str
    merging: Merging | None = None
    layers: list[Tensor | None] = field(default_factory=list)
    shapes: list[tuple[int, int, int]] = field(default_factory=list)
    outputs: Sequence[Tensor] | None = None

    @property
    def frozen(self) -> bool:
        """True where gradients are those of the frozen network."""
        return self.tensor == "cf"

    def open_layer(self, batch: int, queries: int, keys: int) -> int:
        """Add one more attention call of that shape and return its layer index."""
        self.layers.append(None)
        self.shapes.append((batch, queries, keys))
        return len(self.layers) - 1

    def begin(self, outputs: Sequence[Tensor]) -> None:
        """Drop the layers, and record the next backward pass into `outputs`."""
        self.layers = [None] * len(self.layers)
        self.outputs = outputs

    def write(self, layer: int, rows: slice, total: Tensor, heads: int) -> None:
        """Write some rows of queries of a layer: the sum over heads for `cf`, else their mean.

        Args:
            layer: Index of the layer.
            rows: The queries; each row is written once.
            total: `(batch, rows, keys)` sum over heads; changed in place.
            heads: Number of heads.
        """
        output = self.layers[layer]
        if output is None:
            output = self.layers[layer] = self._new_output(layer, total)
        # Contributions of heads add up in `cf`; the paper's tensors are means.
        part = total if self.frozen else total.div_(heads)
        if self.merging is None:
            output[:, rows] = part
        else:
            queries, keys = self.merging.of_call(layer)
            add_merged(output, part, queries[:, rows], keys)

    def _new_output(self, layer: int, like: Tensor) -> Tensor:
        if self.outputs is not None:
            return self.outputs[layer]
        batch, *sizes = self.shapes[layer]
        return like.new_zeros(batch, *(self.merging.sizes(layer) if self.merging else sizes))
