"""The recorder: collects the tensor that each layer is reduced to, tile after tile.

A layer is written straight into its place in the result, so that no second copy of it exists. Where
nodes are merged into segments, a tile is merged before it is written. Read next: attention.py,
which writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from attnflow.capture.merging import add_merged
from attnflow.capture.stacking import Merging

Sharing = Literal["frozen", "shared"]


@dataclass(frozen=True)
class ProductRules:
    """The backward rules of `cf` for the two products of a Transformer that are not linear.

    A product is linear in one factor once the other is held constant ("frozen"). Or both share it
    ("shared"): each has half of the product's gradient, so that together they have its whole
    effect. Source: Achtibat et al. (2024), AttnLRP, whose rules the shared form follows.

    Attributes:
        pattern: Attention weights times values. Frozen: weights are constants. Shared: weights and
            values share their product, and queries and keys the half of the weights.
        gates: Activated gate times the other branch of a gated MLP. Frozen: the gate is constant.
    """

    pattern: Sharing = "frozen"
    gates: Sharing = "frozen"


FROZEN = ProductRules()


@dataclass
class Recorder:
    """Collects one `(batch, query, key)` tensor per attention call, in the order of the calls.

    Attributes:
        tensor: Name of the information tensor.
        merging: Segments that nodes are merged to; None where none are.
        rules: The backward rules of `cf`; other tensors have the model's own gradients.
        query_effects: `(batch, queries)` of each call, the effects by way of the queries, with a
            shared pattern; None elsewhere.
        layers: One tensor per call; None until it is recorded, by `af` in the forward pass, by
            other tensors in the backward pass.
        shapes: `(batch, queries, keys)` of each call, in tokens.
        outputs: Zeros that layers are written into; None: made when a layer is first written.
    """

    tensor: str
    merging: Merging | None = None
    rules: ProductRules = FROZEN
    query_effects: list[Tensor | None] = field(default_factory=list)
    layers: list[Tensor | None] = field(default_factory=list)
    shapes: list[tuple[int, int, int]] = field(default_factory=list)
    outputs: Sequence[Tensor] | None = None

    @property
    def frozen(self) -> bool:
        """True where gradients are those of the frozen network."""
        return self.tensor == "cf"

    @property
    def shares_pattern(self) -> bool:
        """True where queries and keys have a share in the effects."""
        return self.frozen and self.rules.pattern == "shared"

    def open_layer(self, batch: int, queries: int, keys: int) -> int:
        """Add one more attention call of that shape and return its layer index."""
        self.layers.append(None)
        self.query_effects.append(None)
        self.shapes.append((batch, queries, keys))
        return len(self.layers) - 1

    def begin(self, outputs: Sequence[Tensor]) -> None:
        """Drop the layers, and record the next backward pass into `outputs`."""
        self.layers = [None] * len(self.layers)
        self.query_effects = [None] * len(self.layers)
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
            add_merged(output, part.to(output.device), queries[:, rows], keys)

    def write_queries(self, layer: int, rows: slice, effects: Tensor) -> None:
        """Write `(batch, rows)` effects by way of some queries of a layer."""
        output = self.query_effects[layer]
        if output is None:
            batch, queries, _ = self.shapes[layer]
            output = self.query_effects[layer] = effects.new_zeros(batch, queries)
        output[:, rows] = effects

    def _new_output(self, layer: int, like: Tensor) -> Tensor:
        if self.outputs is not None:
            return self.outputs[layer]
        batch, *sizes = self.shapes[layer]
        return like.new_zeros(batch, *(self.merging.sizes(layer) if self.merging else sizes))
