"""Models in half precision: their weights stay, and all else is computed in float32.

A product with a weight runs in the weight's own type, bfloat16 or float16, as fast as the hardware
multiplies it. What it gives is float32 from then on: the residual stream, norms, softmax,
activations and their slopes, and the gradients of all of them. So a contribution, which is a
product of an activation and a gradient, is never rounded to half precision before it is summed.

float16 ends at 65,504. Each row of values and gradients enters a product divided by a power of two,
so that its numbers are 1 at most, and comes out multiplied by it. A sum that overflows even so is
refused with the logits, which are then not finite.

The model's code is not touched: functions are replaced in the thread of the pass, as in
frozen_backward.py.

Source: ours; docs/families.md has the measured errors.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from attnflow.capture.frozen_backward import ReplacedFunctions
from attnflow.capture.weights import FLOATS, HALF, has_half_precision, is_plain

_active: ContextVar[bool] = ContextVar("_active", default=False)


_exact: ContextVar[bool] = ContextVar("_exact", default=False)


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute products with weights in half precision in float32, one weight at a time.

    For checks that no rounding may hide in; it costs the time of a float32 model, and little more
    memory than that of the weights.
    """
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


@contextmanager
def float32_activations(model: nn.Module) -> Iterator[None]:
    """Compute forward passes inside this context as the module docstring states.

    Nothing changes for a model without weights in half precision.
    """
    if _active.get() or not has_half_precision(model):
        yield
        return
    token = _active.set(True)
    try:
        with ReplacedFunctions(_FUNCTIONS):
            yield
    finally:
        _active.reset(token)


def _linear(
    function: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    if weight.dtype not in HALF:
        return function(input, weight, bias)
    if not is_plain(weight):  # quantised, with a product of its own
        return function(input.to(weight.dtype), weight, bias).float()
    product: Tensor = _Product.apply(input, weight, function)  # type: ignore[no-untyped-call]
    return product if bias is None else product + bias


def _addmm(
    function: Callable[..., Tensor], input: Tensor, mat1: Tensor, mat2: Tensor, **options: Any
) -> Tensor:
    """GPT-2's linear module, whose weight is transposed."""
    if mat2.dtype not in HALF or options:
        return _in_float32(function, input, mat1, mat2, **options)
    return _linear(F.linear, mat1, mat2.T, input)


class _Product(Function):
    """`input @ weight.T` in the type of the weight, or exactly; in and out in float32."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, function: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.dtype, ctx.is_exact = input.dtype, _exact.get()
        if ctx.is_exact:
            return function(input, weight.float())
        lowered, scale = _lowered(input, weight.dtype)
        return _raised(function(lowered, weight), scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        if ctx.is_exact:
            return (gradient @ weight.float()).to(ctx.dtype), None, None
        lowered, scale = _lowered(gradient, weight.dtype)
        return _raised(lowered @ weight, scale).to(ctx.dtype), None, None


def _lowered(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Return numbers in half precision, and the power of two by which they were divided."""
    if dtype == torch.bfloat16:  # which reaches as far as float32
        return x.to(dtype), None
    if not x.numel():
        return x.to(dtype), None
    # Each row by itself: no row's precision depends on another's.
    _, exponent = torch.frexp(x.detach().abs().amax(-1, keepdim=True))
    scale = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
    return (x / scale).to(dtype), scale


def _raised(x: Tensor, scale: Tensor | None) -> Tensor:
    return x.float() if scale is None else x.float().mul_(scale)


def _to(function: Callable[..., Tensor], input: Tensor, *args: Any, **options: Any) -> Tensor:
    """Leave activations in float32 where a model lowers them to the type of a weight.

    The backward pass of such a cast would lower the gradient, and nothing would scale it.
    """
    asked = [x for x in (*args, *options.values()) if isinstance(x, torch.dtype | Tensor)]
    lowers = any((x if isinstance(x, torch.dtype) else x.dtype) in HALF for x in asked)
    if not lowers or input.dtype not in FLOATS or input.dtype in HALF:
        return function(input, *args, **options)
    args = tuple(_raise(x) for x in args)
    return function(input, *args, **{name: _raise(x) for name, x in options.items()})


def _lowering(function: Callable[..., Tensor], input: Tensor, *args: Any) -> Tensor:
    """Leave activations in float32, of `Tensor.half` and `Tensor.bfloat16`."""
    return function(input, *args) if input.dtype in HALF else input


def _embedding(function: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
    vectors = function(*args, **options)
    return vectors.float() if vectors.dtype in HALF else vectors


def _in_float32(function: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
    """Call a function with all that is in half precision in float32."""
    args = tuple(_raise(x) for x in args)
    return function(*args, **{name: _raise(x) for name, x in options.items()})


def _raise(x: Any) -> Any:
    if isinstance(x, torch.dtype):
        return torch.float32 if x in HALF else x
    return x.float() if isinstance(x, Tensor) and x.dtype in HALF else x


_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    F.linear: _linear,
    **dict.fromkeys((Tensor.to, Tensor.type_as), _to),
    **dict.fromkeys((Tensor.half, Tensor.bfloat16), _lowering),
    torch.addmm: _addmm,
    **dict.fromkeys((F.embedding, torch.embedding), _embedding),
    **dict.fromkeys(
        (
            *(F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm, F.group_norm),
            *(F.batch_norm, F.conv1d, F.conv2d, F.conv3d, torch.baddbmm),
            *(torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__),
            *(torch.bmm, Tensor.bmm, torch.mm, Tensor.mm, torch.einsum),
        ),
        _in_float32,
    ),
}
