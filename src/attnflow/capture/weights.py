"""Types of a model's weights: floats of four sizes, or quantised by a backend of transformers."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from attnflow.errors import ModelError

HALF = (torch.bfloat16, torch.float16)
FLOATS = (torch.float32, torch.float64, *HALF)


def has_half_precision(model: nn.Module) -> bool:
    """Return whether some of a model's weights are in half precision."""
    return any(parameter.dtype in HALF for parameter in model.parameters())


def overflow_hint(model: nn.Module) -> str:
    """Return the likely reason of numbers that are not finite, and what to do; "" if none."""
    if all(parameter.dtype != torch.float16 for parameter in model.parameters()):
        return ""
    return "float16 may have overflowed: load the model with dtype='bfloat16' (--dtype bfloat16)"


def is_plain(weight: Tensor) -> bool:
    """Return whether a weight is a tensor of floats, and no backend's own kind of tensor."""
    return type(weight) in (Tensor, nn.Parameter) and weight.dtype in FLOATS


def pass_dtype(model: nn.Module) -> torch.dtype:
    """Return the type in which a pass computes: float64 for such a model, else float32."""
    doubles = any(parameter.dtype == torch.float64 for parameter in model.parameters())
    return torch.float64 if doubles else torch.float32


def precision_of(model: Any) -> str:
    """Return the type of a model's weights in words: "bfloat16", or "bitsandbytes, 4 bits"."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and not all(map(is_plain, model.parameters())):
        config = quantizer.quantization_config
        bits = next((n for n in (4, 8) if getattr(config, f"load_in_{n}bit", False)), None)
        bits = getattr(config, "bits", None) if bits is None else bits
        method = _method(quantizer)
        return method if bits is None else f"{method}, {bits} bits"
    numbers: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        numbers[parameter.dtype] += parameter.numel()
    (most, _), *_ = numbers.most_common(1)
    return str(most).removeprefix("torch.")


def check_quantised(model: Any) -> None:
    """Check that gradients pass through a model's weights where they are quantised.

    Raises:
        ModelError: Their backend hands none on, or nothing is known of it.
    """
    # torch's own quantised modules hide their weights.
    is_torchs = any(".quantized" in type(m).__module__ for m in model.modules())
    if not is_torchs and all(map(is_plain, model.parameters())):
        return
    name, quantizer = type(model).__name__, getattr(model, "hf_quantizer", None)
    if quantizer is None or is_torchs:
        raise ModelError(
            f"{name} has quantised weights that no backend of transformers has loaded, so that "
            "nothing is known of their gradients; load the model that it was made from."
        )
    # The backend's own word: layers that can be trained around hand gradients on.
    if not quantizer.is_trainable:
        raise ModelError(
            f"{name} has weights quantised by {_method(quantizer)}, which hands no gradients on "
            "to the inputs of its layers; load the model that it was made from, or with weights "
            "of 8 bits."
        )


def _method(quantizer: Any) -> str:
    method = quantizer.quantization_config.quant_method
    return str(getattr(method, "value", method))
