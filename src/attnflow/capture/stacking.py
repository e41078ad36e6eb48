"""Stack the recorded calls of attention to the layers of a flow.

In a model of one stack every call is a layer of the flow, `(batch, t, t)`. In an encoder-decoder
the nodes are the source's s tokens and then the target prefix's t tokens. The layers are, from the
inputs up, the encoder's, then a self-attention and a cross-attention of every decoder layer. Every
layer moves one of the two sides. The nodes of the other are its passthrough: all flow that arrives
at such a node leaves it by its one edge to itself. So this edge cannot bind.

    encoder   source -> source      the target prefix is passthrough
    self      target -> target      the source is passthrough
    cross     target -> source      the source is passthrough; targets keep their residual edge

Source: the layered form of a two-stack Transformer is ours; see docs/method.md. Read next:
passes.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnflow.capture.merging import Segments
from attnflow.errors import ModelError


@dataclass(frozen=True)
class StackLayout:
    """Position of each call's queries and keys among the nodes of the flow.

    Attributes:
        encoder: Number of calls in the encoder; 0 in a model of one stack.
        source: Number of source tokens; 0 in a model of one stack.
    """

    encoder: int
    source: int

    def place(self, call: int, nodes: int) -> tuple[slice, slice]:
        """Return the nodes of a call's queries and those of its keys."""
        source, target = slice(0, self.source), slice(self.source, nodes)
        if self.source == 0:
            return target, target
        if call < self.encoder:
            return source, source
        is_cross = (call - self.encoder) % 2 == 1
        return target, source if is_cross else target

    def passthrough(self, calls: int, nodes: int) -> Tensor:
        """`(layers, nodes)` bool, true where a layer does not move a node."""
        passthrough = torch.ones(calls, nodes, dtype=torch.bool)
        for call in range(calls):
            passthrough[call, self.place(call, nodes)[0]] = False
        return passthrough


ONE_STACK = StackLayout(encoder=0, source=0)


def stack_layout(config: Any, inputs: Mapping[str, Tensor]) -> StackLayout:
    """Return the layout of the attention calls of one forward pass."""
    if not getattr(config, "is_encoder_decoder", False):
        return ONE_STACK
    encoder = _first(config, "encoder_layers", "num_layers", "num_hidden_layers")
    return StackLayout(encoder, inputs["input_ids"].shape[1])


@dataclass(frozen=True)
class Merging:
    """Segments of every call's queries and keys, where nodes are merged.

    Attributes:
        segments: Segments of the nodes.
        layout: Layout of the calls, in tokens.
    """

    segments: Segments
    layout: StackLayout

    @property
    def merged(self) -> StackLayout:
        """Return the layout of the calls in segments."""
        return StackLayout(self.layout.encoder, self.segments.source)

    def of_call(self, call: int) -> tuple[Tensor, Tensor]:
        """`(batch, queries)` segment of each query, and `(batch, keys)` segment of each key."""
        rows, columns = self.layout.place(call, self.segments.of_node.shape[1])
        return self.segments.side(rows), self.segments.side(columns)

    def sizes(self, call: int) -> tuple[int, int]:
        """Return the number of segments of a call's queries, and of its keys."""
        rows, columns = self.merged.place(call, self.segments.count)
        return rows.stop - rows.start, columns.stop - columns.start


def expected_calls(config: Any) -> int | None:
    """Return the number of attention calls by a config; None where the config does not state it."""
    if getattr(config, "is_encoder_decoder", False):
        encoder = _first(config, "encoder_layers", "num_layers", "num_hidden_layers")
        return encoder + 2 * _first(config, "decoder_layers", "num_decoder_layers", "num_layers")
    layers = getattr(config, "num_hidden_layers", None)
    # ALBERT counts groups of layers.
    return None if layers is None else layers * getattr(config, "inner_group_num", 1)


def _first(config: Any, *names: str) -> int:
    """Return the first of these entries that the config has."""
    return next(int(getattr(config, n)) for n in names if getattr(config, n, None) is not None)


def output_views(layers: Tensor, layout: StackLayout) -> list[Tensor]:
    """Return a view of `(batch, layers, nodes, nodes)` for every call, into which it is written."""
    places = [layout.place(call, layers.shape[2]) for call in range(layers.shape[1])]
    return [layers[:, call, rows, columns] for call, (rows, columns) in enumerate(places)]


def check_calls(
    calls: Sequence[tuple[int, int, int]], layout: StackLayout, nodes: int, name: str
) -> None:
    """Raise unless every call, `(batch, queries, keys)`, has one position for each of its nodes.

    Raises:
        ModelError: A call attended over another number of positions.
    """
    for call, (_, queries, keys) in enumerate(calls):
        rows, columns = (len(range(nodes)[part]) for part in layout.place(call, nodes))
        if (queries, keys) != (rows, columns):
            raise ModelError(
                f"{name} attends from {queries} to {keys} positions, but the inputs have {rows} "
                f"and {columns} tokens there; expected one position per token."
            )


def place_nodes(calls: list[Tensor], layout: StackLayout, nodes: int) -> Tensor:
    """`(batch, layers, nodes)` of every call's `(batch, queries)`; 0 at passthrough nodes."""
    layers = calls[0].new_zeros(len(calls[0]), len(calls), nodes)
    for call, tensor in enumerate(calls):
        layers[:, call, layout.place(call, nodes)[0]] = tensor
    return layers


def with_passthrough(layers: Tensor, passthrough: Tensor | None) -> Tensor:
    """Return the layers with all that arrives at a passthrough node on its edge to itself.

    Args:
        layers: `(batch, layers, nodes, nodes)`, as [b, l, query, key].
        passthrough: `(layers, nodes)` bool, or None where no node is.
    """
    if passthrough is None:
        return layers
    layers = layers.clone()
    # From the top down, since an edge carries what the layers above bring to its node.
    for layer in reversed(range(layers.shape[1] - 1)):
        arrived = layers[:, layer + 1].sum(1)
        _set_passthrough(layers[:, layer], arrived, passthrough[layer])
    return layers


def balanced(layers: Tensor, passthrough: Tensor | None = None) -> Tensor:
    """Return the layers, each scaled to a total of 1; layers of 0 stay.

    Passthrough edges are part of that total and are not scaled: they carry what has arrived.

    Args:
        layers: `(batch, layers, nodes, nodes)`, >= 0.
        passthrough: `(layers, nodes)` bool, or None where no node is.
    """
    if passthrough is None:
        total = layers.sum((2, 3), keepdim=True)
        return layers / total.where(total > 0, 1.0)
    layers = layers.clone()
    arrived = layers.new_zeros(layers[:, 0, 0].shape)
    for layer in reversed(range(layers.shape[1])):
        _set_passthrough(layers[:, layer], torch.zeros_like(arrived), passthrough[layer])
        rest = (1 - arrived[:, passthrough[layer]].sum(1)).clamp(min=0)  # rounding may leave less
        total = layers[:, layer].sum((1, 2))
        layers[:, layer] *= (rest / total.where(total > 0, 1.0))[:, None, None]
        _set_passthrough(layers[:, layer], arrived, passthrough[layer])
        arrived = layers[:, layer].sum(1)
    return layers


def _set_passthrough(layer: Tensor, arrived: Tensor, passthrough: Tensor) -> None:
    """Set the edges of passthrough nodes to themselves to what has `arrived`, `(batch, nodes)`."""
    diagonal = layer.diagonal(dim1=1, dim2=2)
    diagonal[:, passthrough] = arrived[:, passthrough]
