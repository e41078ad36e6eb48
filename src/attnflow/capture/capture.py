"""Run a classifier forward and backward once, and reduce attention to one tensor per layer.

`af`, `gf` and `agf` are the information tensors of the paper, with gradients of the model as it is;
`cf` is the conservative tensor, with gradients of the frozen network (frozen.py):

    af    mean over heads of A
    gf    mean over heads of relu(G)                      G = d logit[target] / dA
    agf   mean over heads of relu(A * G)
    cf    relu(sum over heads of A * G_frozen)  +  on the diagonal, relu(<dy/dz_i, x_i>)

Everything that is lent to the model meanwhile (attention function, hooks, requires_grad) is taken
back at the end, also after an exception. Only the embeddings and the blocks' outputs are
differentiated, never a parameter.

Source: Azarkhalili & Libbrecht, ACL 2025, arXiv 2502.15765, for af, gf and agf. Read next:
attention.py for how a layer is reduced, frozen.py for the frozen network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attnflow.capture.attention import Recorder, accumulation_dtype, recording, tap
from attnflow.capture.checks import (
    check_inputs,
    check_logits,
    check_model,
    check_padding,
    check_target,
    check_tensor,
)
from attnflow.capture.families import (
    ResidualStream,
    attention_blocks,
    conservative_family,
    family_of,
    gates,
    watch_residual_stream,
)
from attnflow.capture.frozen import frozen_network
from attnflow.errors import ModelError
from attnflow.targets import Explained, logit


@dataclass(frozen=True)
class Capture:
    """What one forward and backward pass told; detached, on the model's device.

    Floats are float32, or float64 where the model is float64.

    Attributes:
        capacities: (batch, layers, t, t), >= 0, as [b, l, query, key]; layer 0 is next to the
            inputs. 0 where there is no edge: rows and columns of padding, and masked edges.
        mask: (batch, t) bool, true at real tokens.
        logits: (batch, classes), the model's output.
        target: (batch,) int64, the explained class of each example.
        signed: `cf` only: (batch, layers, t, t), the edges' effects on what is explained, before
            relu; after `staged_capture` their means.
        residual: `cf` only: (batch, layers, t), the same of the residual connections.
    """

    capacities: Tensor
    mask: Tensor
    logits: Tensor
    target: Tensor
    signed: Tensor | None = None
    residual: Tensor | None = None

    @property
    def effects(self) -> tuple[Tensor, Tensor]:
        """`signed` and `residual`, which a capture of `cf` has."""
        if self.signed is None or self.residual is None:
            raise ModelError("only a capture of tensor='cf' has effects with their signs.")
        return self.signed, self.residual


def capture(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    target: Tensor | None = None,
    *,
    tensor: str = "cf",
    explained: Explained = logit,
) -> Capture:
    """One information tensor per layer, for a batch of texts that a classifier has read.

    The model may be loaded with any attention back end. `af`, `gf` and `agf` work for every model
    whose self-attention runs through transformers' attention interface, and for DeBERTa-v2; `cf`
    for the families in families.py. In a model with biases their shares are not captured by `cf`.

    Args:
        model: A transformers model for sequence classification, in evaluation mode and full
            precision, on one device. With a single label, logit 0 is explained.
        inputs: What the tokenizer returned, padded on either side as long as the model does not
            read its decision there; moved to the model's device. May hold `inputs_embeds` instead
            of `input_ids`. Without `attention_mask` every token counts as real.
        target: (batch,) integers, the class to explain; the predicted one if None.
        tensor: "af", "gf", "agf" or "cf".
        explained: The scalar whose gradient is taken, `(batch,)` from the logits and the target:
            the logit, or another of `targets.EXPLAINED`.

    Raises:
        InputError: An argument is not as described.
        ModelError: The model cannot be captured, or gave logits that are not finite.
    """
    check_tensor(tensor)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    check_model(model)
    batch, t = check_inputs(inputs)
    device = next(model.parameters()).device
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(tensor != "af"),
        torch.autocast(device.type, enabled=False),
    ):
        inputs = {name: _own(value, device) for name, value in inputs.items()}
        run = _Run(model, inputs, Recorder(tensor))
        logits = check_logits(run.forward(), type(model).__name__, batch)
        target = check_target(target, logits)
        residual = run.backward(logits, explained(logits, target))
        mask = inputs.get("attention_mask", torch.ones(batch, t, device=device)) != 0
        layers = _stacked(run.recorder, model, t)
        if tensor != "af":
            check_padding(layers, mask, type(model).__name__)
        return _assembled(layers, residual, mask, logits.detach(), target)


def _own(value: Tensor, device: torch.device) -> Tensor:
    """The input on the model's device, and fit for autograd if it came from inference mode."""
    value = value.detach().to(device)
    return value.clone() if value.is_inference() else value


class _Run:
    """One forward and one backward pass; holds what the first leaves for the second."""

    def __init__(
        self, model: PreTrainedModel, inputs: dict[str, Tensor], recorder: Recorder
    ) -> None:
        self.model, self.inputs, self.recorder = model, inputs, recorder
        self.embeddings: list[Tensor] = []
        self.stream = ResidualStream()

    def forward(self) -> Any:
        """The model's logits, whatever they are, with everything put back as it was."""
        with ExitStack() as stack:
            stack.enter_context(_without_parameter_gradients(self.model))
            self._lend(stack)
            inputs = self._watch_embeddings(stack)
            output = self.model(**inputs, return_dict=True)
        self._check_layers()
        return getattr(output, "logits", None)

    def backward(self, logits: Tensor, explained: Tensor) -> Tensor | None:
        """Let every layer record; returns the residual effects (batch, layers, t) of `cf`."""
        if self.recorder.tensor == "af":
            return None
        explained = explained.sum()  # examples do not see each other
        wanted = [*self.embeddings, *self.stream.outputs]
        gradients: tuple[Tensor, ...] = ()
        if all(x.requires_grad for x in (explained, *wanted)):
            gradients = torch.autograd.grad(explained, wanted, allow_unused=True)
        found = (*gradients, *self.recorder.layers)
        if not gradients or any(x is None for x in found):
            raise ModelError(
                f"The gradient of {type(self.model).__name__} does not reach all of its layers; "
                "expected logits that depend on every attention layer. Is a part detached?"
            )
        if not self.recorder.frozen:
            return None
        dtype = accumulation_dtype(logits.dtype)
        pairs = zip(gradients[len(self.embeddings) :], self.stream.streams, strict=True)
        return torch.stack([(g.to(dtype) * x).sum(dim=-1) for g, x in pairs], dim=1)

    def _lend(self, stack: ExitStack) -> None:
        """Our attention, and for `cf` the frozen functions, for as long as `stack` is open."""
        family = family_of(self.model)
        if self.recorder.frozen:
            family = conservative_family(self.model)
            self.stream = watch_residual_stream(self.model, family, stack)
            stack.enter_context(frozen_network(gates(self.model, family)))
        if family is None or family.probabilities is None:
            stack.enter_context(recording(self.model, self.recorder))
            return
        for block in attention_blocks(self.model, family):
            probabilities = block.get_submodule(family.probabilities)
            stack.enter_context(probabilities.register_forward_hook(tap(self.recorder)))

    def _watch_embeddings(self, stack: ExitStack) -> dict[str, Tensor]:
        """Make the token embeddings leaves of the graph, so that the backward has an end."""
        if "inputs_embeds" in self.inputs:
            leaf = self._leaf(self.inputs["inputs_embeds"])
            return {**self.inputs, "inputs_embeds": leaf}
        table = self.model.get_input_embeddings()
        stack.enter_context(table.register_forward_hook(lambda m, args, out: self._leaf(out)))
        return self.inputs

    def _leaf(self, embeddings: Tensor) -> Tensor:
        leaf = embeddings.detach().requires_grad_(torch.is_grad_enabled())
        self.embeddings.append(leaf)
        return leaf

    def _check_layers(self) -> None:
        config, name = self.model.config, type(self.model).__name__
        found = len(self.recorder.layers)
        expected = getattr(config, "num_hidden_layers", found)
        expected *= getattr(config, "inner_group_num", 1)  # ALBERT counts groups of layers
        if found == 0 or found != expected:
            raise ModelError(
                f"{name} ran attention through transformers' attention interface {found} times, "
                f"expected once in each of its {expected} layers. Layers without attention weights "
                "(linear attention, state space, Fourier mixing) cannot be captured, nor models "
                "that compute attention themselves, other than DeBERTa-v2."
            )
        if self.recorder.frozen and not found == len(self.stream.streams) == len(
            self.stream.outputs
        ):
            raise ModelError(
                f"{name} ran {found} attention calls but {len(self.stream.streams)} attention "
                "blocks, so its residual stream cannot be followed; use tensor='agf'."
            )


@contextmanager
def _without_parameter_gradients(model: PreTrainedModel) -> Iterator[None]:
    """Leave the parameters out of the graph, which saves the memory that their gradients need."""
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _stacked(recorder: Recorder, model: PreTrainedModel, t: int) -> Tensor:
    layers = [layer for layer in recorder.layers if layer is not None]
    if any(layer.shape[-1] != t for layer in layers):
        raise ModelError(
            f"{type(model).__name__} attends over {layers[0].shape[-1]} positions, but the inputs "
            f"have {t} tokens; expected one position per token."
        )
    return torch.stack(layers, dim=1).detach()


def _assembled(
    layers: Tensor, residual: Tensor | None, mask: Tensor, logits: Tensor, target: Tensor
) -> Capture:
    """Capacities from what was recorded, with padding removed."""
    edges = mask[:, None, :, None] & mask[:, None, None, :]
    layers = layers.where(edges, 0.0)
    logits = logits.to(accumulation_dtype(logits.dtype))
    if residual is None:
        return Capture(layers, mask, logits, target)
    residual = residual.detach().where(mask[:, None, :], 0.0)
    capacities = layers.relu() + torch.diag_embed(residual.relu())
    return Capture(capacities, mask, logits, target, signed=layers, residual=residual)
