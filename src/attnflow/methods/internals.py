"""Attention weights of every head, hidden states, and the gradients of both, of one question.

Published methods want them whole; `capture` never holds them, so this runs the model's eager
attention instead. Read next: `attention`, `decomposition`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnflow.errors import ModelError
from attnflow.methods.question import Question


@dataclass(frozen=True)
class Internals:
    """All detached.

    Attributes:
        attention: `(layers, heads, t, t)`, as [l, h, query, key]; rows sum to 1.
        gradient: The same shape, of the explained logit.
        hidden: `(layers + 1, t, d)`, the inputs of the blocks, and the last output.
        hidden_gradient: The same shape.
    """

    attention: Tensor
    gradient: Tensor
    hidden: Tensor
    hidden_gradient: Tensor

    @property
    def mean_attention(self) -> Tensor:
        """`(layers, t, t)` mean over heads."""
        return self.attention.mean(1)


def internals(question: Question) -> Internals:
    """Run the model once forward and once backward."""
    return question.once("internals", lambda: _internals(question))


def _internals(question: Question) -> Internals:
    classifier = question.classifier
    with eager(classifier.model), torch.enable_grad():
        embeddings = classifier.embeddings(question.ids).requires_grad_()
        output = classifier.model(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.int64),
            output_attentions=True,
            output_hidden_states=True,
        )
        if not output.attentions or output.attentions[0] is None:
            raise ModelError(
                f"{type(classifier.model).__name__} returns no attention weights, which this "
                "method needs."
            )
        wanted = (*output.attentions, *output.hidden_states)
        logit = output.logits[0, question.target]
        gradients = torch.autograd.grad(logit, wanted, allow_unused=False)
    layers = len(output.attentions)
    return Internals(
        attention=_joined(output.attentions),
        gradient=_joined(gradients[:layers]),
        hidden=_joined(output.hidden_states),
        hidden_gradient=_joined(gradients[layers:]),
    )


def _joined(parts: Any) -> Tensor:
    return torch.cat([part.detach() for part in parts])


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """Eager attention, and what the model had before afterwards."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
