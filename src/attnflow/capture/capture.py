"""Run a model forward and backward, and reduce attention to one tensor per layer.

`af`, `gf` and `agf` are the information tensors of the paper, with gradients of the model as it is.
`cf` is the conservative tensor, with gradients of the frozen network (frozen_backward.py):

    af    mean over heads of A
    gf    mean over heads of relu(G)                      G = d logit[target] / dA
    agf   mean over heads of relu(A * G)
    cf    relu(sum over heads of A * G_frozen)  +  on the diagonal, relu(<dy/dz_i, x_i>)

The explained number is one scalar for each example, read from the model's output: see `Objective`.

Source: Azarkhalili & Libbrecht, ACL 2025, arXiv 2502.15765, for af, gf and agf. Read next:
passes.py for the passes, attention.py for how a layer is reduced, frozen_backward.py for the
frozen network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from inspect import signature

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attnflow.capture.attention import accumulation_dtype
from attnflow.capture.contexts import plain_torch
from attnflow.capture.input_names import MASK_OF_IDS
from attnflow.capture.merging import Segments
from attnflow.capture.objectives import LogitsAt, Objective
from attnflow.capture.passes import ForwardPass
from attnflow.capture.placement import device_of
from attnflow.capture.position_ids import left_padding, with_position_ids
from attnflow.capture.recorder import FROZEN, ProductRules, Recorder
from attnflow.capture.stacking import (
    Merging,
    StackLayout,
    check_calls,
    output_views,
    place_nodes,
    stack_layout,
    with_passthrough,
)
from attnflow.capture.validation import (
    check_inputs,
    check_logits,
    check_model,
    check_padding,
    check_position,
    check_segments,
    check_target,
    check_tensor,
)
from attnflow.capture.weights import overflow_hint
from attnflow.errors import InputError, ModelError


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Effects recorded by one backward pass, before negative ones are clipped.

    Tensors are detached, on the model's device, and float32, or float64 where the model is float64.
    Nodes are tokens: t of them, or in an encoder-decoder the source's and then the prefix's. Where
    tokens are merged, nodes are segments.

    Attributes:
        signed: `(batch, layers, t, t)`, as [b, l, query, key], the edges' effects on the explained
            number for `cf`; after `staged_capture` their means. Other tensors have no effects with
            signs: until they are clipped, their capacities stand here, and None in a `Capture`.
        residual: `(batch, layers, t)`, the same of the residual connections; None but for `cf`.
        mask: `(batch, t)` bool, true at real tokens.
        logits: `(batch, classes)`, read off the model's output.
        target: `(batch,)` int64, the explained class of each example.
        sources: `(batch, t)` bool, nodes of the top row where a flow may begin.
        passthrough: `(layers, t)` bool, nodes that a layer of an encoder-decoder leaves as they
            are; None in a model of one stack.
        explained: `(batch,)`, the explained number itself.
    """

    signed: Tensor | None = None
    residual: Tensor | None = None
    mask: Tensor
    logits: Tensor
    target: Tensor
    sources: Tensor
    passthrough: Tensor | None = None
    explained: Tensor

    @property
    def effects(self) -> tuple[Tensor, Tensor]:
        """`signed` and `residual` of `cf`.

        Raises:
            ModelError: Another tensor was captured.
        """
        if self.signed is None or self.residual is None:
            raise ModelError("only a capture of tensor='cf' has effects with their signs.")
        return self.signed, self.residual

    @property
    def of_inputs(self) -> Tensor:
        """`(batch, t)` signed effects of the input nodes, those of all edges up from each.

        Raises:
            ModelError: Another tensor than `cf` was captured.
        """
        signed, residual = self.effects
        return signed[:, 0].sum(1) + residual[:, 0]


@dataclass(frozen=True, kw_only=True)
class Capture(Effects):
    """Effects of one forward and backward pass, with the capacities of a flow.

    Attributes:
        capacities: `(batch, layers, t, t)`, >= 0, as [b, l, query, key]; layer 0 is next to the
            inputs. 0 where there is no edge: rows and columns of padding, and masked edges.
        contributions: `(batch, t)` signed effects of the input nodes, those of all edges up from
            each; None where effects have no signs. Up to biases they add up to `explained`, unless
            the pattern is shared (`ProductRules`).
    """

    capacities: Tensor
    contributions: Tensor | None

    def without_capacities(self) -> Effects:
        """Return what was recorded besides the capacities, which are most of the memory."""
        return Effects(**{f.name: getattr(self, f.name) for f in fields(Effects)})


def captured(effects: Effects, capacities: Tensor, contributions: Tensor | None) -> Capture:
    """Return effects together with the capacities and contributions made of them."""
    shared = {f.name: getattr(effects, f.name) for f in fields(effects)}
    return Capture(capacities=capacities, contributions=contributions, **shared)


def capture(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    objective: Objective | None = None,
    *,
    tensor: str = "cf",
    rules: ProductRules = FROZEN,
    segments: Segments | None = None,
) -> Capture:
    """Return one information tensor per layer, for a batch of inputs.

    The model may be loaded with any attention back end. `af`, `gf` and `agf` work for every model
    whose attention runs through transformers' attention interface, and for known families; `cf`
    for the families in families.py. In a model with biases their shares are not captured by `cf`.

    Args:
        model: A transformers model in evaluation mode. With a single label, logit 0 is
            explained.
        inputs: Output of the tokenizer or image processor, padded on either side as long as the
            model does not read its decision there; moved to the model's device. Where padding
            stands in front, `position_ids` are added that count from each text's first token.
            May hold `inputs_embeds` or `pixel_values` instead of `input_ids`; an encoder-decoder
            needs `decoder_input_ids` besides. Without a mask every token counts as real.
        objective: The explained number; the logit of the predicted class when None.
        tensor: "af", "gf", "agf" or "cf".
        segments: Nodes to merge; none when None.

    Raises:
        InputError: An argument is not as described.
        ModelError: The model cannot be captured, or gave logits that are not finite.
    """
    objectives = [objective or Objective()]
    return captures(model, inputs, objectives, tensor=tensor, rules=rules, segments=segments)[0]


def captures(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    objectives: Sequence[Objective],
    *,
    tensor: str = "cf",
    rules: ProductRules = FROZEN,
    segments: Segments | None = None,
) -> list[Capture]:
    """Return a capture for each objective: one forward pass, and a backward pass for each.

    Args and errors are those of `capture`.
    """
    recorded = record(model, inputs, objectives, tensor=tensor, rules=rules, segments=segments)
    with plain_torch():
        return [clip(effects) for effects in recorded]


def record(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    objectives: Sequence[Objective],
    *,
    tensor: str,
    rules: ProductRules = FROZEN,
    segments: Segments | None,
) -> list[Effects]:
    """Return the effects of each objective, from which `captures` makes capacities.

    The activations that the model held for its backward passes are freed on return.
    """
    check_tensor(tensor)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    check_model(model)
    check_inputs(inputs, model)
    inputs = with_position_ids(model, inputs)
    if tensor == "af" and left_padding(inputs.get("attention_mask")) is not None:
        # Whether logits are read at padding shows in gradients alone, which `af` has none of.
        captures(model, inputs, objectives, tensor="agf")
    device = device_of(model)
    with (
        plain_torch(),
        torch.set_grad_enabled(tensor != "af"),
        torch.autocast(device.type, enabled=False),  # which gives no exact gradients
    ):
        inputs = {name: _on_device(value, device) for name, value in inputs.items()}
        layout, merging = stack_layout(model.config, inputs), None
        if segments is not None:
            if "pixel_values" in inputs:
                raise InputError("segments are of tokens, and an image has none; leave them out.")
            segments = check_segments(segments, _mask(inputs, ()), layout.source)
            merging = Merging(segments, layout)
        option, objectives = _only_logits_read(model, inputs, objectives)
        forward = ForwardPass(model, {**inputs, **option}, Recorder(tensor, merging, rules))
        return [
            _backward_pass(forward, inputs, layout, objective, last=i == len(objectives) - 1)
            for i, objective in enumerate(objectives)
        ]


def knows_kept_logits(model: PreTrainedModel) -> bool:
    """Return whether a model can be asked for logits at some positions alone."""
    return "logits_to_keep" in signature(model.forward).parameters


def _only_logits_read(
    model: PreTrainedModel, inputs: dict[str, Tensor], objectives: Sequence[Objective]
) -> tuple[dict[str, Tensor], Sequence[Objective]]:
    """Return the option by which a model computes the logits that are read, and no others.

    A vocabulary at every token is large. The objectives returned read the output of that option;
    there is none for models that do not know it, and for objectives that read elsewhere.
    """
    readers = [objective.read for objective in objectives]
    at = [reader.positions.flatten() for reader in readers if isinstance(reader, LogitsAt)]
    reads_elsewhere = len(at) < len(readers) or "pixel_values" in inputs
    if reads_elsewhere or not knows_kept_logits(model):
        return {}, objectives
    device, t = device_of(model), _mask(inputs, ()).shape[1]
    kept = torch.unique(torch.cat(at).to(device))
    if kept[0] < 0 or kept[-1] >= t:
        return {}, objectives  # refused where positions are checked
    readers = [reader.among(kept) for reader in readers if isinstance(reader, LogitsAt)]
    pairs = zip(objectives, readers, strict=True)
    return {"logits_to_keep": kept}, [replace(objective, read=read) for objective, read in pairs]


def _on_device(value: Tensor, device: torch.device) -> Tensor:
    """Return the input on the model's device, fit for autograd if it is an inference tensor."""
    value = value.detach().to(device)
    return value.clone() if value.is_inference() else value


def _backward_pass(
    forward: ForwardPass,
    inputs: dict[str, Tensor],
    layout: StackLayout,
    objective: Objective,
    *,
    last: bool,
) -> Effects:
    """Return the effects on one objective, 0 at padding."""
    name, recorder = type(forward.model).__name__, forward.recorder
    mask = _mask(inputs, recorder.shapes)
    calls, t = len(recorder.shapes), mask.shape[1]
    check_calls(recorder.shapes, layout, t, name)
    sources = mask
    if objective.position is not None:
        position = check_position(objective.position, mask)
        sources = torch.zeros_like(mask).scatter(1, position, True)
    logits = check_logits(
        objective.read(forward.output), name, len(mask), overflow_hint(forward.model)
    )
    target = check_target(objective.target, logits)
    merging, token_layout = recorder.merging, layout
    if merging is not None:
        mask, sources = (merging.segments.touched(nodes) for nodes in (mask, sources))
        layout = merging.merged
    dtype, nodes = accumulation_dtype(logits.dtype), mask.shape[1]
    layers = torch.zeros(len(mask), calls, nodes, nodes, dtype=dtype, device=mask.device)
    scalar = objective.scalar(logits, target)
    residual = None
    by_call = forward.backward(scalar, output_views(layers, layout), last=last)
    if by_call is not None:
        residual = place_nodes(by_call, token_layout, t).detach()
        residual = residual if merging is None else merging.segments.summed(residual)
    if recorder.tensor != "af":
        check_padding(layers, mask, name)
    effects = Effects(
        signed=_zero_padding(layers, mask),
        residual=None if residual is None else residual.where(mask[:, None, :], 0.0),
        mask=mask,
        logits=logits.detach().to(dtype),
        target=target,
        sources=sources,
        explained=scalar.detach().to(dtype).expand(len(mask)),
        passthrough=layout.passthrough(calls, nodes).to(mask.device) if layout.source else None,
    )
    return effects if residual is None else _with_passed_effects(effects)


def _mask(inputs: dict[str, Tensor], shapes: Sequence[tuple[int, int, int]]) -> Tensor:
    """`(batch, t)` bool, real tokens: the source's, then those of an encoder-decoder's prefix."""
    if "pixel_values" in inputs:
        # The first call of attention shows how many tokens the model makes of an image.
        batch, t, _ = shapes[0]
        return torch.ones(batch, t, dtype=torch.bool, device=inputs["pixel_values"].device)
    masks = []
    for ids_name, mask_name in MASK_OF_IDS.items():
        tokens = inputs.get(ids_name, inputs.get(ids_name.replace("input_ids", "inputs_embeds")))
        if tokens is not None:
            ones = torch.ones(tokens.shape[:2], device=tokens.device)
            masks.append(inputs.get(mask_name, ones) != 0)
    return torch.cat(masks, dim=1)


def _zero_padding(layers: Tensor, mask: Tensor) -> Tensor:
    """Return the layers with 0 in rows and columns of padding; in place, to save a copy."""
    return layers.masked_fill_(~mask[:, None, :, None], 0).masked_fill_(~mask[:, None, None, :], 0)


def _with_passed_effects(effects: Effects) -> Effects:
    """Return effects whose residual also holds the passthrough of an encoder-decoder's layers."""
    if effects.passthrough is None:
        return effects
    signed, residual = effects.effects
    whole = with_passthrough(signed + torch.diag_embed(residual), effects.passthrough)
    passed = residual.where(~effects.passthrough, whole.diagonal(dim1=2, dim2=3))
    return replace(effects, residual=passed)


def clip(effects: Effects) -> Capture:
    """Return the capture whose capacities are the positive effects."""
    if effects.residual is None and effects.signed is not None:
        # A tensor without signs was clipped head by head as it was recorded.
        layers = with_passthrough(effects.signed, effects.passthrough)
        return captured(replace(effects, signed=None), layers, None)
    # Attention and residual effects are clipped apart: they are two edges between the same nodes,
    # and must not cancel.
    signed, residual = effects.effects
    capacities = signed.relu()
    capacities.diagonal(dim1=2, dim2=3).add_(residual.relu())
    layers = with_passthrough(capacities, effects.passthrough)
    return captured(effects, layers, effects.of_inputs)
