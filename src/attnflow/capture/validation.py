"""Checks of the arguments of `capture`: errors state what was expected, what came, what to do.

Arguments raise InputError, models ModelError. Nothing here changes an argument. Read next:
capture.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnflow.capture.families import Family
from attnflow.capture.merging import Segments
from attnflow.capture.placement import check_devices
from attnflow.capture.recorder import ProductRules
from attnflow.capture.refusals import unfit
from attnflow.capture.timm_models import timm_unfit
from attnflow.capture.weights import check_quantised
from attnflow.errors import InputError, ModelError, shown

CaptureTensor = Literal["af", "gf", "agf", "cf"]
TENSORS: tuple[str, ...] = get_args(CaptureTensor)


def check_tensor(tensor: str) -> None:
    """Raise unless the information tensor is one of `TENSORS`."""
    if tensor not in TENSORS:
        raise InputError(
            f"tensor must be one of {', '.join(map(repr, TENSORS))}, not {shown(tensor)}."
        )


def check_pattern(rules: ProductRules, family: Family, model: PreTrainedModel) -> None:
    """Raise where the pattern is to be shared and only its probabilities are seen."""
    if rules.pattern == "shared" and family.probabilities is not None:
        raise InputError(
            f"{type(model).__name__} computes its own attention, so that its queries and keys are "
            "not seen and cannot have a share of the pattern: give pattern='frozen' (--pattern "
            "frozen)."
        )


def check_model(model: PreTrainedModel) -> None:
    """Raise unless the model can be explained as far as it shows before it runs.

    It must be in evaluation mode, its inputs texts or images, its layers all with attention
    weights, and gradients must pass through its weights.
    """
    check_class(model)
    name = type(model).__name__
    reason = unfit(model.config, getattr(model, "main_input_name", ""))
    if getattr(model.config, "model_type", "") == "timm_wrapper":
        reason = timm_unfit(model.timm_model)
    if reason is not None:
        raise ModelError(f"{name} cannot be explained: {reason}")
    if any(module.training for module in model.modules()):
        raise ModelError(f"{name} is in training mode, so dropout is active; call model.eval().")
    check_weights(model)


def check_class(model: object) -> None:
    """Raise unless the model is one of transformers."""
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ModelError(
            f"model must be a transformers model with a config, not {type(model).__name__}; load "
            "it with AutoModelForSequenceClassification.from_pretrained."
        )


def check_weights(model: PreTrainedModel) -> None:
    """Raise unless a pass finds the model's weights, and gradients pass through them."""
    check_devices(model)
    check_quantised(model)
    if any(w.is_inference() for w in (*model.parameters(), *model.buffers())):
        raise ModelError(
            f"{type(model).__name__} was built inside torch.inference_mode(), so that nothing can "
            "be differentiated through it; build it outside."
        )


def check_inputs(inputs: Mapping[str, Tensor], model: PreTrainedModel) -> None:
    """Raise unless the inputs are tensors as a tokenizer or an image processor returns them."""
    if not isinstance(inputs, Mapping):
        raise InputError(
            f"inputs must be a mapping from names to tensors, not {type(inputs).__name__}; pass "
            "what the tokenizer returned, or {'input_ids': ..., 'attention_mask': ...}."
        )
    wrong = [key for key, value in inputs.items() if not isinstance(value, Tensor)]
    if wrong:
        raise InputError(
            f"inputs[{wrong[0]!r}] must be a tensor, not {type(inputs[wrong[0]]).__name__}; "
            "call the tokenizer with return_tensors='pt'."
        )
    if "labels" in inputs:
        raise InputError("inputs must not hold 'labels'; give the explained class as target.")
    main = [name for name in _INPUTS if name in inputs]
    if len(main) != 1:
        raise InputError(
            f"inputs must hold either {' or '.join(map(repr, _INPUTS))}; "
            f"it holds {', '.join(map(repr, inputs)) or 'nothing'}."
        )
    shape = _checked_shape(inputs, main[0])
    _check_mask(inputs, "attention_mask", shape)
    if getattr(model.config, "is_encoder_decoder", False):
        if "decoder_input_ids" not in inputs:
            raise InputError(
                f"inputs of {type(model).__name__}, an encoder-decoder, must hold "
                "'decoder_input_ids': the start token and the text written so far."
            )
        _check_mask(inputs, "decoder_attention_mask", _checked_shape(inputs, "decoder_input_ids"))


# Inputs that carry the example, with the axes of their shape.
_INPUTS = {
    "input_ids": "(batch, t)",
    "inputs_embeds": "(batch, t, width)",
    "pixel_values": "(batch, channels, height, width)",
}


def _checked_shape(inputs: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    shape, axes = tuple(inputs[name].shape), _INPUTS[name.removeprefix("decoder_")]
    if len(shape) != axes.count(",") + 1 or 0 in shape:
        raise InputError(f"inputs[{name!r}] must have shape {axes}, none 0; it has {shape}.")
    return shape[:2]


def _check_mask(inputs: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> None:
    mask = inputs.get(name)
    if mask is None:
        return
    if tuple(mask.shape) != shape:
        raise InputError(
            f"inputs[{name!r}] must have shape (batch, t) = {shape}, 1 at real tokens; "
            f"it has {tuple(mask.shape)}."
        )
    empty = (~mask.bool().any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise InputError(f"inputs[{name!r}] has no real token in row {empty[0]}; drop empty texts.")


def check_logits(logits: object, name: str, batch: int, hint: str = "") -> Tensor:
    """Return the logits; raise unless they are finite and of shape `(batch, classes)`.

    Args:
        logits: What the model gave.
        name: The class of the model, for errors.
        batch: Number of examples.
        hint: The likely reason of numbers that are not finite, and what to do; none when empty.

    Raises:
        ModelError: They are not.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != batch:
        came = f"logits of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else "none"
        raise ModelError(
            f"{name} gives no logits of shape (batch, classes), but {came}: expected a model for "
            "sequence classification (AutoModelForSequenceClassification), or another way to "
            "read its output (Objective.read, such as objectives.logits_at for a language model)."
        )
    if not logits.isfinite().all():
        row = int((~logits.isfinite().all(dim=1)).nonzero()[0])
        raise ModelError(
            f"{name} gave logits that are not finite for example {row}: "
            f"{_beginning(logits[row])}; {hint or 'check its weights and inputs'}."
        )
    return logits


def _beginning(logits: Tensor) -> str:
    """The first few logits: a vocabulary has a hundred thousand."""
    more = f" and {len(logits) - 5} more" if len(logits) > 5 else ""
    return f"{logits[:5].tolist()}{more}"


def check_target(target: Tensor | None, logits: Tensor) -> Tensor:
    """`(batch,)` int64, the explained class of each example; the predicted one for None or -1.

    Lower numbers are the ranks below it: -2 is the second most probable class.
    """
    if target is None:
        return logits.argmax(dim=1)
    batch, classes = logits.shape
    came = f"{target.dtype} {tuple(target.shape)}" if isinstance(target, Tensor) else repr(target)
    # No bool: a mask given by mistake would explain classes 0 and 1.
    whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    if not isinstance(target, Tensor) or target.dtype not in whole or target.shape != (batch,):
        raise InputError(
            f"target must be an integer tensor of shape (batch,) = ({batch},), not {came}; "
            "give one class index per example, or None for the predicted class."
        )
    if target.min() < -classes or target.max() >= classes:
        raise InputError(
            f"target must lie in 0..{classes - 1}, the classes of the model, or be -1 for the "
            f"predicted one, down to -{classes} for the least probable; it holds "
            f"{target.tolist()}. Give the index of a class, not its label."
        )
    # A copy, which the caller's later writes do not reach.
    target = target.to(device=logits.device, dtype=torch.int64, copy=True)
    if int(target.min()) >= -1:
        return target.where(target >= 0, logits.argmax(dim=1))
    # Stable, so that of equal logits the first class is the predicted one, as argmax has it.
    order = logits.argsort(dim=1, descending=True, stable=True)
    ranked = order.gather(1, (-1 - target).clamp(min=0)[:, None])[:, 0]
    return target.where(target >= 0, ranked)


def check_position(position: Tensor, mask: Tensor) -> Tensor:
    """`(batch, n)` int64, nodes that the logits are read from, at real tokens of `mask`."""
    batch, t = mask.shape
    rows = position[:, None] if position.ndim == 1 else position
    if rows.ndim != 2 or len(rows) != batch or rows.min() < 0 or rows.max() >= t:
        raise InputError(
            f"position must be (batch,) = ({batch},) or (batch, n) integers in 0..{t - 1}, tokens "
            f"of each example; got {position.tolist()}."
        )
    position = rows.to(mask.device)
    if not mask.gather(1, position).all():
        raise InputError(f"position must be at real tokens, not at padding; got {position}.")
    return position


def check_padding(layers: Tensor, mask: Tensor, name: str) -> None:
    """Raise if a padding query carries gradient.

    The mask keeps padding from being a key; the model itself decides which positions it reads.

    Args:
        layers: `(batch, layers, t, t)` of a tensor that depends on gradients.
        mask: `(batch, t)` bool, true at real tokens.
        name: Of the model.
    """
    if mask.all():
        return
    # Layer by layer, since the comparison of all at once is a quarter as large as they are.
    is_read = torch.stack([(layer != 0).any(dim=-1) & ~mask for layer in layers.unbind(1)])
    padding = is_read.any(dim=0).nonzero()
    if len(padding):
        example, position = padding[0].tolist()
        raise InputError(
            f"The logits of {name} depend on position {position} of example {example}, which "
            "inputs['attention_mask'] calls padding, so its answer is not about the text; pad on "
            "the other side (tokenizer.padding_side)."
        )


def check_segments(segments: Segments, mask: Tensor, source: int) -> Segments:
    """Return the segments on the device of `mask`; raise unless they fit its nodes.

    Args:
        segments: Segments, each on one side of an encoder-decoder and without both tokens and
            padding.
        mask: `(batch, t)` bool, true at real tokens.
        source: Number of source tokens, the first nodes; 0 in a model of one stack.
    """
    of_node = segments.of_node.to(mask.device)
    if of_node.shape != mask.shape or of_node.dtype != torch.int64:
        raise InputError(
            f"segments must give an int64 for each of {tuple(mask.shape)} nodes (batch, t); got "
            f"{tuple(of_node.shape)} and {of_node.dtype}."
        )
    segments = Segments(of_node, segments.count, segments.source)
    sides = [
        (of_node[:, :source], 0, segments.source),
        (of_node[:, source:], segments.source, segments.count),
    ]
    if any((side < low).any() or (side >= high).any() for side, low, high in sides):
        raise InputError(
            f"segments must number those of {source} source tokens 0..{segments.source - 1} and "
            f"all others {segments.source}..{segments.count - 1}."
        )
    if (segments.touched(mask) & segments.touched(~mask)).any():
        raise InputError("a segment holds padding and tokens; expected padding by itself.")
    return segments


def check_baseline(baseline: object, example: Tensor) -> None:
    """Raise unless the baseline has the shape of the example that it replaces."""
    if not isinstance(baseline, Tensor) or baseline.shape != example.shape:
        came = tuple(baseline.shape) if isinstance(baseline, Tensor) else type(baseline).__name__
        raise InputError(
            f"baseline must be a tensor of shape {tuple(example.shape)}, like what it replaces, "
            f"got {came}."
        )


def check_removed(removed: Sequence[float]) -> None:
    """Raise unless the shares of tokens removed in the stages are inside (0, 1)."""
    if not all(0 < share < 1 for share in removed):
        raise InputError(f"removed must be shares inside (0, 1), got {shown(removed)}.")
