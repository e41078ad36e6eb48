"""Run a model forward and backward, and reduce attention to one tensor per layer.

`af`, `gf` and `agf` are the information tensors of the paper, with gradients of the model as it is;
`cf` is the conservative tensor, with gradients of the frozen network (frozen.py):

    af    mean over heads of A
    gf    mean over heads of relu(G)                      G = d logit[target] / dA
    agf   mean over heads of relu(A * G)
    cf    relu(sum over heads of A * G_frozen)  +  on the diagonal, relu(<dy/dz_i, x_i>)

What is explained is a number for each example, read from the model's output: see `Asked`.

Source: Azarkhalili & Libbrecht, ACL 2025, arXiv 2502.15765, for af, gf and agf. Read next: run.py
for the passes, attention.py for how a layer is reduced, frozen.py for the frozen network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attnflow.capture.attention import accumulation_dtype
from attnflow.capture.merging import Segments
from attnflow.capture.objectives import Explained, Reading, class_logits, logit
from attnflow.capture.passes import Run
from attnflow.capture.position_ids import in_front, positioned
from attnflow.capture.recorder import Recorder
from attnflow.capture.stacking import (
    Merging,
    Stacks,
    carrying,
    check_calls,
    placed_nodes,
    rooms,
    stacks,
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
from attnflow.errors import InputError, ModelError


@dataclass(frozen=True)
class Asked:
    """Which number of a model's output to explain.

    Attributes:
        target: `(batch,)` integers, the class explained, -1 for the predicted one; None: all are.
        explained: The scalar whose gradient is taken, `(batch,)` from the logits and the target:
            one of `targets.EXPLAINED`, or another.
        read: The logits `(batch, classes)`, from what the model returned.
        position: `(batch,)` integers, the one node of the top row that the logits are read from,
            or `(batch, n)` where several are, of which some may be the same; None where the model
            itself decides what it reads.
    """

    target: Tensor | None = None
    explained: Explained = logit
    read: Reading = class_logits
    position: Tensor | None = None


@dataclass(frozen=True)
class Capture:
    """What one forward and backward pass told; detached, on the model's device.

    Floats are float32, or float64 where the model is float64.

    Nodes are tokens: t of them, or in an encoder-decoder the source's and then the prefix's. Where
    tokens are merged, nodes are segments.

    Attributes:
        capacities: (batch, layers, t, t), >= 0, as [b, l, query, key]; layer 0 is next to the
            inputs. 0 where there is no edge: rows and columns of padding, and masked edges.
        mask: (batch, t) bool, true at real tokens.
        logits: (batch, classes), of the model's output.
        target: (batch,) int64, the explained class of each example.
        sources: (batch, t) bool, nodes of the top row where a flow may begin.
        carried: (layers, t) bool, nodes that an encoder-decoder's layer carries past; else None.
        signed: `cf` only: (batch, layers, t, t), the edges' effects on what is explained, before
            relu; after `staged_capture` their means.
        residual: `cf` only: (batch, layers, t), the same of the residual connections.
    """

    capacities: Tensor
    mask: Tensor
    logits: Tensor
    target: Tensor
    sources: Tensor
    carried: Tensor | None = None
    signed: Tensor | None = None
    residual: Tensor | None = None

    @property
    def effects(self) -> tuple[Tensor, Tensor]:
        """`signed` and `residual`, which a capture of `cf` has."""
        if self.signed is None or self.residual is None:
            raise ModelError("only a capture of tensor='cf' has effects with their signs.")
        return self.signed, self.residual


@dataclass(frozen=True)
class Effects:
    """A `Capture` whose capacities are not yet made; attributes are those of `Capture`.

    `signed` are effects with their signs where there is a `residual`, and otherwise capacities.
    """

    signed: Tensor
    residual: Tensor | None
    mask: Tensor
    logits: Tensor
    target: Tensor
    sources: Tensor
    carried: Tensor | None

    @property
    def of_cf(self) -> tuple[Tensor, Tensor]:
        """`signed` and `residual` of a capture of `cf`."""
        if self.residual is None:
            raise ModelError("only a capture of tensor='cf' has effects with their signs.")
        return self.signed, self.residual

    def capture(self) -> Capture:
        """With capacities, the positive effects."""
        known: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.residual is None:
            return Capture(carrying(self.signed, self.carried), **(known | {"signed": None}))
        return Capture(capacities_of(self.signed, self.residual, self.carried), **known)


def capture(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    target: Tensor | None = None,
    *,
    tensor: str = "cf",
    explained: Explained = logit,
    read: Reading = class_logits,
    position: Tensor | None = None,
    segments: Segments | None = None,
) -> Capture:
    """One information tensor per layer, for a batch that a model has read.

    The model may be loaded with any attention back end. `af`, `gf` and `agf` work for every model
    whose attention runs through transformers' attention interface, and for known families; `cf`
    for the families in families.py. In a model with biases their shares are not captured by `cf`.

    Args:
        model: A transformers model in evaluation mode and full precision, on one device. With a
            single label, logit 0 is explained.
        inputs: What the tokenizer or image processor returned, padded on either side as long as the
            model does not read its decision there; moved to the model's device. Where padding
            stands in front, `position_ids` are added that count from each text's first token.
            May hold `inputs_embeds` or `pixel_values` instead of `input_ids`; an encoder-decoder
            needs `decoder_input_ids` beside them. Without a mask every token counts as real.
        target: As in `Asked`.
        tensor: "af", "gf", "agf" or "cf".
        explained: As in `Asked`.
        read: As in `Asked`.
        position: As in `Asked`.
        segments: Nodes to merge; none when None.

    Raises:
        InputError: An argument is not as described.
        ModelError: The model cannot be captured, or gave logits that are not finite.
    """
    asked = Asked(target, explained, read, position)
    return captures(model, inputs, [asked], tensor=tensor, segments=segments)[0]


def captures(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    asked: Sequence[Asked],
    *,
    tensor: str = "cf",
    segments: Segments | None = None,
) -> list[Capture]:
    """What several numbers of one forward pass rest on, with a backward pass for each.

    Args and errors are those of `capture`.
    """
    found = measured(model, inputs, asked, tensor=tensor, segments=segments)
    with torch.inference_mode(False):
        return [effects.capture() for effects in found]


def measured(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    asked: Sequence[Asked],
    *,
    tensor: str,
    segments: Segments | None,
) -> list[Effects]:
    """What `captures` makes capacities of. What the model kept for its backward pass is gone."""
    check_tensor(tensor)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    check_model(model)
    check_inputs(inputs, model)
    inputs = positioned(model, inputs)
    if tensor == "af" and in_front(inputs.get("attention_mask")) is not None:
        # Whether logits are read at padding shows in gradients alone.
        captures(model, inputs, asked, tensor="agf")
    device = next(model.parameters()).device
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(tensor != "af"),
        torch.autocast(device.type, enabled=False),
    ):
        inputs = {name: _own(value, device) for name, value in inputs.items()}
        shape, merging = stacks(model.config, inputs), None
        if segments is not None:
            if "pixel_values" in inputs:
                raise InputError("segments are of tokens, and an image has none; leave them out.")
            segments = check_segments(segments, _mask(inputs, ()), shape.source)
            merging = Merging(segments, shape)
        run = Run(model, inputs, Recorder(tensor, merging))
        return [_one(run, inputs, shape, one, last=one is asked[-1]) for one in asked]


def _own(value: Tensor, device: torch.device) -> Tensor:
    """The input on the model's device, and fit for autograd if it came from inference mode."""
    value = value.detach().to(device)
    return value.clone() if value.is_inference() else value


def _one(
    run: Run, inputs: dict[str, Tensor], shape: Stacks, asked: Asked, *, last: bool
) -> Effects:
    """The backward pass of one number, and what it left, with padding removed."""
    name, recorder = type(run.model).__name__, run.recorder
    mask = _mask(inputs, recorder.shapes)
    calls, t = len(recorder.shapes), mask.shape[1]
    check_calls(recorder.shapes, shape, t, name)
    sources = mask
    if asked.position is not None:
        position = check_position(asked.position, mask)
        sources = torch.zeros_like(mask).scatter(1, position, True)
    logits = check_logits(asked.read(run.output), name, len(mask))
    target = check_target(asked.target, logits)
    merging, of_nodes = recorder.merging, shape
    if merging is not None:
        mask, sources = (merging.segments.touched(nodes) for nodes in (mask, sources))
        shape = merging.merged
    dtype, nodes = accumulation_dtype(logits.dtype), mask.shape[1]
    layers = torch.zeros(len(mask), calls, nodes, nodes, dtype=dtype, device=mask.device)
    residual = None
    effects = run.backward(asked.explained(logits, target), rooms(layers, shape), last=last)
    if effects is not None:
        residual = placed_nodes(effects, of_nodes, t).detach()
        residual = residual if merging is None else merging.segments.summed(residual)
    if recorder.tensor != "af":
        check_padding(layers, mask, name)
    carried = shape.carried(calls, nodes).to(mask.device) if shape.source else None
    read = logits.detach().to(dtype)
    return _without_padding(Effects(layers, residual, mask, read, target, sources, carried))


def _mask(inputs: dict[str, Tensor], shapes: Sequence[tuple[int, int, int]]) -> Tensor:
    """`(batch, t)` bool, real tokens: the source's, then those of an encoder-decoder's prefix."""
    if "pixel_values" in inputs:
        batch, t, _ = shapes[0]
        return torch.ones(batch, t, dtype=torch.bool, device=inputs["pixel_values"].device)
    masks = []
    for side in ("", "decoder_"):
        given = inputs.get(f"{side}input_ids", inputs.get(f"{side}inputs_embeds"))
        if given is not None:
            ones = torch.ones(given.shape[:2], device=given.device)
            masks.append(inputs.get(f"{side}attention_mask", ones) != 0)
    return torch.cat(masks, dim=1)


def _without_padding(found: Effects) -> Effects:
    """The same with 0 at padding, and with what an encoder-decoder carries; in place."""
    layers, residual, carried = found.signed, found.residual, found.carried
    layers.masked_fill_(~found.mask[:, None, :, None], 0).masked_fill_(
        ~found.mask[:, None, None, :], 0
    )
    if residual is not None:
        residual = residual.where(found.mask[:, None, :], 0.0)
    if residual is not None and carried is not None:
        whole = carrying(layers + torch.diag_embed(residual), carried)
        residual = residual.where(~carried, whole.diagonal(dim1=2, dim2=3))
    return replace(found, residual=residual)


def capacities_of(signed: Tensor, residual: Tensor, carried: Tensor | None) -> Tensor:
    """`(batch, layers, t, t)` capacities of signed effects: the positive ones."""
    capacities = signed.relu()
    capacities.diagonal(dim1=2, dim2=3).add_(residual.relu())
    return carrying(capacities, carried)
