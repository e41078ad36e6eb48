"""Attention weights of every head, hidden states, and the gradients of both, for one instance.

Published methods need them whole. `capture` never holds them, so the model's eager attention runs
here instead. Read next: `attention`, `decomposition`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnflow.capture.private_copy import private_copy
from attnflow.errors import ModelError
from attnflow.methods.instance import Instance


@dataclass(frozen=True)
class Forward:
    """Attention, hidden states and logits of a forward pass, detached and on the CPU.

    Attributes:
        attention: `(layers, heads, t, t)`, as [l, h, query, key]; rows sum to 1.
        hidden: `(layers + 1, t, d)`, the hidden states: inputs of the blocks, and the last output.
        logits: `(classes,)`.
    """

    attention: Tensor
    hidden: Tensor
    logits: Tensor

    @property
    def mean_attention(self) -> Tensor:
        """`(layers, t, t)` mean over heads."""
        return self.attention.mean(1)


@dataclass(frozen=True)
class Internals(Forward):
    """The same with gradients of the explained number.

    Attributes:
        gradient: `(layers, heads, t, t)`, by attention.
        hidden_gradient: `(layers + 1, t, d)`, by hidden states.
    """

    gradient: Tensor
    hidden_gradient: Tensor


def forward(instance: Instance) -> Forward:
    """Run the model once forward; a second call returns the same."""
    return instance.cached(_forward)


def internals(instance: Instance) -> Internals:
    """Run the model once forward and once backward; a second call returns the same."""
    return instance.cached(_internals)


def _forward(instance: Instance) -> Forward:
    with torch.no_grad():
        output = _output(instance, instance.point)
    return Forward(
        _joined(output.attentions),
        _joined(output.hidden_states),
        instance.adapter.read(output)[0].cpu(),
    )


def _internals(instance: Instance) -> Internals:
    with torch.enable_grad():
        output = _output(instance, instance.point.requires_grad_())
        wanted = (*output.attentions, *output.hidden_states)
        logits = instance.adapter.read(output)
        # Not `backward`, which would leave gradients in the model's parameters.
        gradients = torch.autograd.grad(instance.value(logits)[0], wanted)
    layers = len(output.attentions)
    return Internals(
        attention=_joined(output.attentions),
        hidden=_joined(output.hidden_states),
        logits=logits[0].detach().cpu(),
        gradient=_joined(gradients[:layers]),
        hidden_gradient=_joined(gradients[layers:]),
    )


def _output(instance: Instance, point: Tensor) -> Any:
    model = instance.adapter.model
    output = eager(model)(
        **instance.adapter.inputs_at(point),
        output_attentions=True,
        output_hidden_states=True,
    )
    if not output.attentions or output.attentions[0] is None:
        raise ModelError(
            f"{type(model).__name__} returns no attention weights, which this method needs: use "
            f"{instance.adapter.instead} instead."
        )
    return output


def _joined(parts: Any) -> Tensor:
    return torch.cat([part.detach().cpu() for part in parts])


def eager(model: Any) -> Any:
    """Return a private copy of the model that runs eager attention.

    Raises:
        ModelError: The model has no attention of transformers.
    """
    if not hasattr(model, "set_attn_implementation"):
        raise ModelError(f"{type(model).__name__} has no attention of transformers to look into.")
    # No other implementation returns weights: fused kernels never have them in memory.
    return private_copy(model, "eager")
