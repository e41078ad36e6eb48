"""One forward pass of a model, and a backward pass for each number to explain.

All that a pass installs (attention function, hooks) is in a private copy of the model. Only the
embeddings and the blocks' outputs are differentiated, never a parameter. Read next: attention.py
for how a layer is reduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from inspect import signature

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnflow.capture.attention import (
    IMPLEMENTATION,
    accumulation_dtype,
    record_probabilities,
    recorded_softmax,
    recording,
)
from attnflow.capture.contexts import with_new_tensors_on
from attnflow.capture.decoder_inputs import add_deepstack, text_decoder
from attnflow.capture.families import (
    SOFTMAX,
    ResidualStream,
    attention_blocks,
    conservative_family,
    family_of,
    gated_mlps,
    gates,
    plus_one_experts,
    poolers,
    routers,
    show_weights,
    watch_residual_stream,
)
from attnflow.capture.frozen_backward import (
    frozen_network,
    halve_gradients,
    hold_plus_one_gates,
)
from attnflow.capture.half_precision import float32_activations
from attnflow.capture.input_names import DEEPSTACK
from attnflow.capture.model_errors import as_model_errors
from attnflow.capture.placement import device_of
from attnflow.capture.private_copy import private_copy
from attnflow.capture.recorder import Recorder
from attnflow.capture.stacking import expected_calls
from attnflow.capture.validation import check_pattern
from attnflow.errors import ModelError
from attnflow.forks import warn_of_one_thread

# Experts are multiplied one by one, in products that half_precision.py knows. A product of all at
# once, which transformers has too, lowers its inputs before any rule could see them, and knows no
# float64.
EXPERTS = "eager"


class ForwardPass:
    """One forward pass of a model, with its graph, from which backward passes start.

    Attributes:
        model: The model.
        output: The model's output.
        recorder: The layers of the last backward pass.
        leaves: Embeddings at which the backward passes end.
        stream: The residual stream, which `cf` multiplies with gradients.
        added: Features of images that early layers add to the residual stream, one by one.
    """

    def __init__(
        self, model: PreTrainedModel, inputs: dict[str, Tensor], recorder: Recorder
    ) -> None:
        """Run a private copy of the model forward.

        Raises:
            ModelError: The model does not take the inputs, or cannot be captured.
        """
        warn_of_one_thread()
        self.model, self.recorder = model, recorder
        self.leaves: list[Tensor] = []
        self.stream = ResidualStream()
        self.added: list[Tensor] = []
        # Not kept: its hooks hold this object, and what a cycle holds is freed late.
        copy = private_copy(model, self._attention, EXPERTS)
        with ExitStack() as stack:
            self._install(copy, stack, len(next(iter(inputs.values()))))
            inputs = self._watch_embeddings(copy, inputs)
            stack.enter_context(with_new_tensors_on(device_of(model)))
            stack.enter_context(as_model_errors(model))
            self.output = copy(**inputs, **pass_options(copy))
        self._check_layers()

    @property
    def _attention(self) -> str:
        """The attention function that the copy runs, "eager" if the model computes by itself."""
        family = family_of(self.model)
        return IMPLEMENTATION if family is None or family.probabilities is None else "eager"

    def backward(
        self, scalar: Tensor, outputs: Sequence[Tensor], *, last: bool = True
    ) -> list[Tensor] | None:
        """Let every layer record its part in a number; `af` was recorded in the forward pass.

        Args:
            scalar: The number, or one for each example.
            outputs: Zeros that the layers are written into, one view per attention call.
            last: True where no other backward pass follows; the graph is freed.

        Returns:
            For `cf`, `(batch, queries)` residual effects of each layer; None for other tensors.

        Raises:
            ModelError: The gradient does not reach all layers.
        """
        if self.recorder.tensor == "af":
            layers = (layer for layer in self.recorder.layers if layer is not None)
            for output, layer in zip(outputs, layers, strict=True):
                output.copy_(layer)
            return None
        self.recorder.begin(outputs)
        scalar = scalar.sum()  # examples do not see each other, so each gradient is its own
        wanted = [*self.leaves, *self.stream.outputs, *self.added]
        gradients: tuple[Tensor, ...] = ()
        if all(x.requires_grad for x in (scalar, *wanted)):
            # Unused ones come back as None: the error below says more than torch's own.
            gradients = torch.autograd.grad(
                scalar, wanted, allow_unused=True, retain_graph=not last
            )
        # None where the graph never arrived: an embedding, a block, or an attention call.
        results = (*gradients, *self.recorder.layers)
        if not gradients or any(x is None for x in results):
            raise ModelError(
                f"The gradient of {type(self.model).__name__} does not reach all of its layers; "
                "expected logits that depend on every attention layer. Is a part detached?"
            )
        if not self.recorder.frozen:
            return None
        dtype = accumulation_dtype(scalar.dtype)
        of_outputs = gradients[len(self.leaves) : len(wanted) - len(self.added)]
        pairs = zip(of_outputs, self.stream.residual_values, strict=True)
        residual = [(gradient.to(dtype) * x).sum(dim=-1) for gradient, x in pairs]
        self._count_added(residual, gradients[len(wanted) - len(self.added) :])
        residual = [x.to(outputs[0].device) for x in residual]  # of layers on several devices
        if not self.recorder.shares_pattern:
            return residual
        # A query stays with its token, like the residual stream.
        queries = self.recorder.query_effects
        return [
            x if q is None else x + q.to(x.device) for x, q in zip(residual, queries, strict=True)
        ]

    def _count_added(self, residual: list[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add the effects of added features to the residual edges of their tokens, in place.

        What is added above layer l is, below it, an edge from the token to itself in every layer.
        """
        for level, (features, gradient) in enumerate(zip(self.added, gradients, strict=True)):
            effect = (gradient.to(residual[0].dtype) * features.detach()).sum(dim=-1)
            for layer in residual[: level + 1]:
                layer += effect.to(layer.device)

    def _install(self, copy: PreTrainedModel, stack: ExitStack, batch: int) -> None:
        """Install recorded attention, and for `cf` the frozen network.

        What holds for this thread, and not for the private copy alone, lasts until `stack` closes.
        """
        family = family_of(copy)
        stack.enter_context(float32_activations(copy))
        if self.recorder.frozen:
            family = conservative_family(copy)
            check_pattern(self.recorder.rules, family, copy)
            self.stream = watch_residual_stream(copy, family)
            shared = self.recorder.rules.gates == "shared"
            if shared:
                halve_gradients(gated_mlps(copy, family))
            hold_plus_one_gates(plus_one_experts(copy, family), shared=shared)
            constant = [] if shared else gates(copy, family)
            held = frozen_network(copy, constant, poolers(copy, family), routers(copy, family))
            stack.enter_context(held)
        if family is None or family.probabilities is None:
            stack.enter_context(recording(self.recorder))
            return
        if family.probabilities == SOFTMAX:
            stack.enter_context(recorded_softmax(self.recorder, batch))
            return
        show_weights(copy, family)
        for block in attention_blocks(copy, family):
            probabilities = block.get_submodule(family.probabilities)
            probabilities.register_forward_hook(record_probabilities(self.recorder))

    def _watch_embeddings(
        self, copy: PreTrainedModel, inputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the inputs, and make the embeddings leaves at which backward passes end."""
        if DEEPSTACK in inputs:
            inputs = dict(inputs)
            self.added = add_deepstack(text_decoder(copy), inputs.pop(DEEPSTACK))
        if "inputs_embeds" in inputs:
            return {**inputs, "inputs_embeds": self._leaf(inputs["inputs_embeds"])}
        for embedder in embedders(copy):
            embedder.register_forward_hook(lambda m, args, out: self._leaf(out))
        return inputs

    def _leaf(self, embeddings: object) -> Tensor:
        if not isinstance(embeddings, Tensor):
            raise ModelError(
                f"{type(self.model).__name__} does not embed its input as one tensor of tokens. "
                "Models that merge patches from layer to layer (Swin) cannot be captured: expected "
                "one such as ViT, DeiT or DINOv2, which keeps its tokens."
            )
        # Detached, so that the backward pass ends here and not in the table of embeddings.
        leaf = embeddings.detach().requires_grad_(torch.is_grad_enabled())
        self.leaves.append(leaf)
        return leaf.clone()  # which the model may change in place

    def _check_layers(self) -> None:
        name, calls = type(self.model).__name__, len(self.recorder.layers)
        expected = expected_calls(self.model.config) or calls
        if calls == 0 or calls != expected:
            family = family_of(self.model)
            seen = "transformers' attention interface"
            if family is not None and family.probabilities is not None:
                seen = family.probabilities
            raise ModelError(
                f"{name} ran attention through {seen} {calls} times, expected once in each of its "
                f"{expected} layers. Layers without attention weights (linear attention, state "
                "space, Fourier mixing) cannot be captured, nor attention in sparse blocks, nor "
                "models without an entry that compute attention themselves; "
                "attnflow.find_family(model) states what is known of it."
            )
        streams, outputs = len(self.stream.streams), len(self.stream.outputs)
        if self.recorder.frozen and not calls == streams == outputs:
            raise ModelError(
                f"{name} ran {calls} attention calls, but its attention blocks took the residual "
                f"stream {streams} times and gave {outputs} outputs, so that it cannot be "
                "followed; use tensor='agf'."
            )


def pass_options(model: PreTrainedModel) -> dict[str, bool]:
    """Return options of the forward pass: no cache of keys and values, which nothing would read."""
    has_cache = "use_cache" in signature(model.forward).parameters
    return {"return_dict": True, **({"use_cache": False} if has_cache else {})}


def embedders(model: PreTrainedModel) -> list[nn.Module]:
    """Return the modules that embed inputs, each once: in an encoder-decoder of both stacks."""
    family = family_of(model)
    if family is not None and family.embeddings is not None:
        return [model.get_submodule(family.embeddings)]
    stacks = [model]
    if getattr(model.config, "is_encoder_decoder", False):
        stacks = [model.get_encoder(), model.get_decoder()]
    embedders = [_embedder(stack) for stack in stacks]
    return list({id(module): module for module in embedders}.values())


def _embedder(stack: nn.Module) -> nn.Module:
    """Return the module that embeds in this stack, from the first part that can name it."""
    for part in stack.modules():
        if isinstance(part, PreTrainedModel):
            try:
                embedder = part.get_input_embeddings()
            except NotImplementedError:  # CLIP's image classifier
                continue
            if isinstance(embedder, nn.Module):
                return embedder
    raise ModelError(
        f"{type(stack).__name__} does not state where its inputs are embedded as tokens, which "
        "convolutions and models that merge tokens do not keep."
    )
