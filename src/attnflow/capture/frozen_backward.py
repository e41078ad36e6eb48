"""The frozen network: a backward pass that holds constant all that makes the model non-linear.

Normalisation scales, the slope of each activation through the origin (gelu(x) = x * [gelu(x) / x]),
activated gates and the weights of experts are constants; attention weights are frozen in
attention.py. What remains is linear, so gradient times value is a contribution, and contributions
add up along the residual stream: they are conserved at every node, up to biases. The forward values
do not change.

The model's code is not touched. A `TorchFunctionMode` replaces functions (layer_norm, rsqrt, gelu,
tanh, ...) during the forward pass, in its thread. Hooks replace the outputs of activation modules,
which also covers those that compose several functions (gelu_new, quick_gelu, ...). Both leave alone
what other threads run.

    layer norm   y = (x - mean) * [1 / sqrt(var + eps)] * weight + bias       [...] held constant
    activation   y = x * [f(x) / x], at x = 0 the limit from the right
    gated MLP    y = W_o([f(gate)] * (W x)), otherwise the contribution would count twice
    sigmoid      y = [sigmoid(gate)] * x, of attention's output too
    GPT-OSS      y = W_o([f(gate)] * (W x) + f(gate)), f with a slope through the origin
    experts      y = sum of [weight] * expert(x) over those that the router chose

Source: the freezing of attribution graphs, ALTI and DecompX, for gradients. Read next: families.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import TorchFunctionMode
from transformers.activations import ACT2FN

from attnflow.errors import ModelError

# An activation's slope f(x) / x at 0, where 0 / 0 has no value, is that at this magnitude.
# It is far above 1e-38, where float32 ends, so that it is computed without underflow.
_NEAR_ZERO = 1e-30

_ACTIVATION_MODULES = (
    "torch.nn.modules.activation",
    "transformers.activations",
    "timm.layers.activations",
)

# torch keeps these with the activations; both call functions that are known here.
_NO_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax)

# Pointwise activations with f(0) = 0, which alone have a slope through the origin. By class name,
# since no version of transformers has them all.
_ACTIVATIONS = frozenset(
    """
    AccurateGELUActivation ClippedGELUActivation FastGELUActivation GELUActivation GELUTanh
    LinearActivation MishActivation NewGELUActivation PytorchGELUTanh QuickGELUActivation
    ReLUSquaredActivation SiLUActivation ELU GELU Hardswish LeakyReLU Mish ReLU ReLU6 SiLU Tanh
    BloomGelu QuickGELU Swish HardSwish HardMish XIELUActivation
    """.split()
)


@contextmanager
def frozen_network(
    model: nn.Module,
    gates: Collection[nn.Module] = (),
    poolers: Collection[Any] = (),
    routers: Collection[nn.Module] = (),
) -> Iterator[None]:
    """Build the frozen network's graph in forward passes of `model` inside this context.

    Args:
        model: A private copy, which keeps the hooks.
        gates: Activation modules of gated MLPs, whose outputs are held constant as a whole.
        poolers: Modules that make their activation at each call, where no hook could be (`Family`).
        routers: Modules that weigh experts; their weights are held constant.

    Raises:
        ModelError: An activation module that cannot be frozen was called.
    """
    constant = {id(gate) for gate in gates}
    for module in model.modules():
        if id(module) in constant:
            module.register_forward_hook(_detached)
        elif is_activation(module):
            module.register_forward_hook(_held_activation)
    for pooler in poolers:
        _hold_pooler(pooler)
    for router in routers:
        router.register_forward_hook(_all_detached)
    with ReplacedFunctions(_FUNCTIONS):
        yield


def is_activation(module: nn.Module) -> bool:
    """Return whether a module is an activation of torch, transformers or a model."""
    kind = type(module)
    if kind in _NO_ACTIVATIONS:
        return False
    return kind.__module__ in _ACTIVATION_MODULES or kind.__name__ in _ACTIVATIONS


def _detached(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.detach()


def _all_detached(
    module: nn.Module, args: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    return tuple(output.detach() for output in outputs)


def _held_activation(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Return the output of an activation module with its slope held constant; a forward hook."""
    if _is_held(args[0], output):
        return output
    name = type(module).__name__
    if name not in _ACTIVATIONS:
        raise ModelError(
            f"The activation {name} has no slope through the origin that could be held constant, "
            "so tensor='net' cannot be computed, nor 'cf' unless it is the gate of an MLP; use "
            "tensor='agf'."
        )
    return _held(args[0], output.detach(), module.forward)


def _hold_pooler(pooler: Any) -> None:
    """Hold the slope of the activation between a pooler's `dense` and its output."""
    activation, inputs = ACT2FN[pooler.config.pooler_hidden_act], []
    pooler.dense.register_forward_hook(lambda m, args, output: inputs.append(output))
    pooler.register_forward_hook(
        lambda m, args, output: _held_activation(activation, (inputs.pop(),), output)
    )


class _Slope(Function):
    """Pass on `value`; the backward pass is that of `slope * x` with a constant slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None


def _is_held(x: Tensor, output: Tensor) -> bool:
    """Return whether an output has a constant slope in x already: its module calls one function."""
    node, before = output.grad_fn, x.grad_fn
    if node is None or before is None or node.name() != f"{_Slope.__name__}Backward":
        return False
    return node.next_functions[0][0] is before


def _held(x: Tensor, value: Tensor, function: Callable[..., Tensor]) -> Tensor:
    """Return `value` = function(x) with its slope through the origin held constant."""
    with torch.no_grad():
        # Of a tensor on the processor, so that a GPU need not be waited for.
        near = torch.full((), _NEAR_ZERO, dtype=x.dtype)
        limit = float(function(near) / near)
        # In place: a mask would cost several times as much as the activation itself.
        slope = (value / x).nan_to_num_(nan=limit)
    return _Slope.apply(x, value, slope)  # type: ignore[no-untyped-call]


def _activation(function: Callable[..., Tensor], x: Tensor, *args: Any, **options: Any) -> Tensor:
    options.pop("inplace", None)  # x itself is still needed
    with torch.no_grad():
        value = function(x, *args, **options)
    return _held(x, value, lambda near: function(near, *args, **options))


def _clamp(
    function: Callable[..., Tensor],
    input: Tensor,
    min: Any = None,
    max: Any = None,
) -> Tensor:
    """Clamp to a range around 0, through which there is a slope; other ranges are left alone."""
    if not (_is_range_around_zero(min, max) and input.requires_grad):
        return function(input, min, max)
    with torch.no_grad():
        value = torch.clamp(input, min, max)
        slope = (value / input).nan_to_num_(nan=1.0)
    in_place = function is Tensor.clamp_
    return input.mul_(slope) if in_place else _Slope.apply(input, value, slope)  # type: ignore[no-untyped-call]


def _is_range_around_zero(least: Any, most: Any) -> bool:
    ends = (-1.0 if least is None else least, 1.0 if most is None else most)
    return all(isinstance(end, int | float) for end in ends) and ends[0] < 0 < ends[1]


def _constant(function: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
    return function(*args, **options).detach()


def _softmax(function: Callable[..., Tensor], input: Tensor, *args: Any, **options: Any) -> Tensor:
    """Hold the weights of experts constant.

    Weights of attention, of (batch, heads, query, key), are recorded where they run through a
    module, and end the backward pass there.
    """
    value = function(input, *args, **options)
    return value if input.ndim == 4 else value.detach()


def _power(
    function: Callable[..., Tensor], base: Any, exponent: Any, *args: Any, **options: Any
) -> Tensor:
    """Hold a scale constant, a negative power; other powers are left alone."""
    is_scale = isinstance(exponent, int | float) and exponent < 0
    value = function(base, exponent, *args, **options)
    return value.detach() if is_scale else value


def _layer_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Collection[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: bool,
) -> Tensor:
    weight, bias = (None if x is None else x.to(input.dtype) for x in (weight, bias))
    normalized: Tensor = _LayerNorm.apply(input, normalized_shape, weight, bias, eps)  # type: ignore[no-untyped-call]
    return normalized


class _LayerNorm(Function):
    """A layer norm whose scale is constant; its mean is linear and is differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shape: Collection[int],
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        normalized, _, scale = torch.native_layer_norm(x, list(shape), weight, bias, eps)
        ctx.save_for_backward(weight, scale)
        ctx.axes = tuple(range(-len(shape), 0))
        return normalized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        weight, scale = ctx.saved_tensors
        gradient = gradient if weight is None else gradient * weight
        return (gradient - gradient.mean(ctx.axes, keepdim=True)) * scale, None, None, None, None


def _rms_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Collection[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    mean_square = input.detach().square().mean(axes, keepdim=True)
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(input * (mean_square + eps).rsqrt(), weight, None)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


SOFTMAX_FUNCTIONS = (F.softmax, torch.softmax, Tensor.softmax)

_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    # Norms that are written in Python: the scale is a root, or the inverse of one.
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    **dict.fromkeys((torch.rsqrt, Tensor.rsqrt, torch.sqrt, Tensor.sqrt), _constant),
    # Weights: of experts, of a gate, and of an activation that is written as x * sigmoid(x).
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, F.sigmoid, F.softplus), _constant),
    # Of a GELU that is written as x * (1 + erf(x / root of 2)) / 2.
    **dict.fromkeys((torch.erf, Tensor.erf, torch.special.erf), _constant),
    **dict.fromkeys(SOFTMAX_FUNCTIONS, _softmax),
    **dict.fromkeys((torch.pow, Tensor.pow, Tensor.__pow__), _power),
    **dict.fromkeys((torch.clamp, Tensor.clamp, Tensor.clamp_), _clamp),
    **dict.fromkeys((torch.tanh, Tensor.tanh, F.tanh), _activation),
    **dict.fromkeys((torch.relu, Tensor.relu, F.relu, F.relu6), _activation),
    **dict.fromkeys((F.gelu, F.silu, F.mish, F.elu, F.leaky_relu, F.hardswish), _activation),
}


def halve_gradients(modules: Collection[nn.Module]) -> None:
    """Halve the gradients that reach these modules' outputs; modules of a private copy.

    A gated MLP is a product, act(gate) * up, on its only way from input to output. So half of the
    gradient at its output is half for each of the two factors. Experts, which are weighed by
    constants, are one too.
    """
    for module in modules:
        module.register_forward_hook(lambda m, args, output: _halve_gradient(output))


def hold_plus_one_gates(modules: Collection[Any], *, shared: bool) -> None:
    """Replace the gate of GPT-OSS's experts, (up + 1) * glu; modules of a private copy.

    Of its two terms, up * glu is a gated MLP's. The other is glu alone, an activation of the gate
    whose slope through the origin is constant.

    Args:
        modules: The experts, whose method `_apply_gate` it is.
        shared: True where both factors of up * glu have half of its gradient; else glu is constant.
    """
    for module in modules:
        module._apply_gate = partial(_plus_one_gate, module.alpha, module.limit, shared)


def _plus_one_gate(alpha: float, limit: float, shared: bool, gate_up: Tensor) -> Tensor:
    def unit(x: Tensor) -> Tensor:
        x = x.clamp(max=limit)
        return x * (x * alpha).sigmoid()

    gate, up = gate_up[..., ::2], gate_up[..., 1::2].clamp(min=-limit, max=limit)
    glu = _activation(unit, gate)
    product = up * (glu if shared else glu.detach())
    if shared:
        _halve_gradient(product)
    return product + glu


def _halve_gradient(value: Tensor) -> None:
    # Not by a function of its own, to whose output Llama 4 could not add in place.
    if value.requires_grad:
        value.register_hook(lambda gradient: gradient / 2)  # type: ignore[no-untyped-call]


class ReplacedFunctions(TorchFunctionMode):
    """Replaces calls of functions while the mode is on.

    Attributes:
        rules: By the function that is called, what is called instead, with the function first.
    """

    def __init__(self, rules: Mapping[Any, Callable[..., Any]]) -> None:
        super().__init__()
        self.rules = rules

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        rule = self.rules.get(func)
        if rule is None:
            return func(*args, **(kwargs or {}))
        return rule(func, *args, **(kwargs or {}))
