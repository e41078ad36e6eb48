"""The layers of a flow, from what every call of attention left.

In a model of one stack every call is a layer of the flow, `(batch, t, t)`. In an encoder-decoder
the nodes are the source's s tokens and then the target prefix's t, and the layers, from the inputs
up: the encoder's, then a self-attention and a cross-attention of every layer of the decoder. Every
layer moves one of the two sides, and the other is carried past it: whatever has arrived at a
carried node leaves it by its one edge to itself, so that this edge cannot bind.

    encoder   source -> source      target prefix carried
    self      target -> target      source carried
    cross     target -> source      source carried; targets keep their residual edge

Source: the layered form of a two-stack Transformer is ours; see docs/method.md. Read next: run.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnflow.errors import ModelError


@dataclass(frozen=True)
class Stacks:
    """How the calls of attention lie on each other.

    encoder  calls in the encoder; 0 where there is one stack alone
    calls    all calls
    source   tokens of the source; 0 where there is one stack alone
    """

    encoder: int
    calls: int
    source: int

    def place(self, call: int, nodes: int) -> tuple[slice, slice]:
        """Rows and columns of a call's tensor among the nodes: queries and keys."""
        source, target = slice(0, self.source), slice(self.source, nodes)
        if self.source == 0:
            return target, target
        if call < self.encoder:
            return source, source
        is_cross = (call - self.encoder) % 2 == 1
        return target, source if is_cross else target

    def carried(self, nodes: int) -> Tensor:
        """`(layers, nodes)` bool, true where a node is carried past a layer."""
        found = torch.ones(self.calls, nodes, dtype=torch.bool)
        for call in range(self.calls):
            found[call, self.place(call, nodes)[0]] = False
        return found


def stacks(config: Any, inputs: Mapping[str, Tensor], calls: int) -> Stacks:
    """How the calls of attention of one forward pass lie on each other."""
    if not getattr(config, "is_encoder_decoder", False):
        return Stacks(0, calls, 0)
    encoder = _first(config, "encoder_layers", "num_layers", "num_hidden_layers")
    return Stacks(encoder, calls, inputs["input_ids"].shape[1])


def expected_calls(config: Any) -> int | None:
    """Calls of attention that a config promises; None where it does not say."""
    if getattr(config, "is_encoder_decoder", False):
        encoder = _first(config, "encoder_layers", "num_layers", "num_hidden_layers")
        return encoder + 2 * _first(config, "decoder_layers", "num_decoder_layers", "num_layers")
    found = getattr(config, "num_hidden_layers", None)
    # ALBERT counts groups of layers.
    return None if found is None else found * getattr(config, "inner_group_num", 1)


def _first(config: Any, *names: str) -> int:
    """The first of these entries that the config has."""
    return next(int(getattr(config, n)) for n in names if getattr(config, n, None) is not None)


def placed(calls: list[Tensor], shape: Stacks, nodes: int, name: str) -> Tensor:
    """`(batch, layers, nodes, nodes)` of every call's tensor; what is carried is still 0.

    Raises:
        ModelError: A call attended over another number of tokens.
    """
    batch = len(calls[0])
    layers = calls[0].new_zeros(batch, len(calls), nodes, nodes)
    for call, tensor in enumerate(calls):
        rows, columns = shape.place(call, nodes)
        room = layers[:, call, rows, columns]
        if room.shape != tensor.shape:
            raise ModelError(
                f"{name} attends from {tensor.shape[1]} to {tensor.shape[2]} positions, but the "
                f"inputs have {room.shape[1]} and {room.shape[2]} tokens there; expected one "
                "position per token."
            )
        room.copy_(tensor)
    return layers


def placed_nodes(calls: list[Tensor], shape: Stacks, nodes: int) -> Tensor:
    """`(batch, layers, nodes)` of every call's `(batch, queries)`; what is carried is still 0."""
    layers = calls[0].new_zeros(len(calls[0]), len(calls), nodes)
    for call, tensor in enumerate(calls):
        layers[:, call, shape.place(call, nodes)[0]] = tensor
    return layers


def carrying(layers: Tensor, carried: Tensor | None) -> Tensor:
    """The layers with what arrives at every carried node on its edge to itself.

    Args:
        layers: `(batch, layers, nodes, nodes)`, as [b, l, query, key].
        carried: `(layers, nodes)` bool, or None where nothing is.
    """
    if carried is None:
        return layers
    layers = layers.clone()
    for layer in reversed(range(layers.shape[1] - 1)):
        arrived = layers[:, layer + 1].sum(1)
        _carry(layers[:, layer], arrived, carried[layer])
    return layers


def balanced(layers: Tensor, carried: Tensor | None = None) -> Tensor:
    """The layers, `(batch, layers, nodes, nodes)`, each scaled to a total of 1; 0 stays.

    What is carried is part of that total, and is not scaled: it is what has arrived.
    """
    if carried is None:
        total = layers.sum((2, 3), keepdim=True)
        return layers / total.where(total > 0, 1.0)
    layers = layers.clone()
    arrived = layers.new_zeros(layers[:, 0, 0].shape)
    for layer in reversed(range(layers.shape[1])):
        _carry(layers[:, layer], torch.zeros_like(arrived), carried[layer])
        rest = (1 - arrived[:, carried[layer]].sum(1)).clamp(min=0)  # what rounding leaves
        total = layers[:, layer].sum((1, 2))
        layers[:, layer] *= (rest / total.where(total > 0, 1.0))[:, None, None]
        _carry(layers[:, layer], arrived, carried[layer])
        arrived = layers[:, layer].sum(1)
    return layers


def _carry(layer: Tensor, arrived: Tensor, carried: Tensor) -> None:
    """Put what has arrived at carried nodes, `(batch, nodes)`, on their edges to themselves."""
    diagonal = layer.diagonal(dim1=1, dim2=2)
    diagonal[:, carried] = arrived[:, carried]
