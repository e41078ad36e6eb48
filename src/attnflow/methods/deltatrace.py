"""DeltaTrace: gradients whose every slope is a secant between the content and its masked form.

Content and reference run as one batch of two. Linear functions keep their gradient. Where a
function is not linear, the backward pass multiplies by a factor that turns the difference of its
inputs into that of its outputs exactly. So the scores add up to the difference of the explained
number, and a node that is the same in both has none. With d a difference and ~ the mean of two:

    f(x)         d f / d x
    a b, a @ b   ~a db + ~b da               attention's two products, gated MLPs, norms
    softmax      (diag l - l l' / sum l) dz  with l_i = d p_i / d ln p_i, a logarithmic mean
    logsumexp    l / sum l dz

Norms are taken apart into their sums, products and powers. Source: DeltaTrace (draft of 2026-09,
https://github.com/LceOmlet/DeltaTrace), "Two forward runs and one reverse pass" and "What attention
carries and selects". The reference there is EOS in place of tokens; here it is that of integrated
gradients. Scores that do not add up are refused, and so are mixtures of experts: a node may have
other experts in its masked form.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from attnflow.capture.families import family_of
from attnflow.capture.frozen_backward import ReplacedFunctions
from attnflow.capture.private_copy import private_copy
from attnflow.errors import ModelError
from attnflow.methods.adapter import Scores
from attnflow.methods.attention import as_scores
from attnflow.methods.instance import Instance

MISSED = 1e-2  # the largest part of the scores' sizes that their sum may miss


def deltatrace(instance: Instance) -> Scores:
    """Part of each node in the difference that masking all ordinary nodes makes.

    Raises:
        ModelError: The parts do not add up to it, as in models with functions unknown here; or the
            model is a mixture of experts.
    """
    adapter, model = instance.adapter, instance.adapter.model
    family = family_of(model)
    if family is not None and family.router is not None:
        raise ModelError(
            f"{type(model).__name__} chooses experts for each token, others for a masked one, so "
            "that there is no slope between the two: use integrated-gradients or net:flow instead."
        )
    points = torch.cat([instance.point, instance.baseline]).requires_grad_()
    with (
        torch.enable_grad(),
        ReplacedFunctions(_FUNCTIONS),
    ):
        # Eager attention, whose functions are torch's own.
        values = instance.value(adapter.on(private_copy(model, "eager")).logits(points))
        (slopes,) = torch.autograd.grad(values[0], points)
    points, values = points.detach(), values.detach()
    scores = as_scores(instance.per_node(slopes[:1] * (points[:1] - points[1:])).sum(-1))
    missed = abs(scores.sum() - float(values[0] - values[1]))
    if not missed <= MISSED * (abs(scores).sum() + 1e-6):
        raise ModelError(
            f"the scores should add up to {float(values[0] - values[1]):.3g} and "
            f"miss {missed:.2g} of it: {type(model).__name__} computes in a way that it does not "
            "know, or in half precision; use integrated-gradients or net:flow instead."
        )
    return scores


# Both contents have one multiplier: it stands in the first half of each gradient, and the second
# half is 0. Halves of the first axis, since models join the batch with heads or with tokens.


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    if len(x) % 2:
        raise ModelError(
            "this method cannot tell its two contents apart, since the model moves the batch away "
            "from the first axis: use integrated-gradients or net:flow instead."
        )
    content, reference = x.chunk(2)
    return content, reference


def _mean(x: Tensor) -> Tensor:
    content, reference = _halves(x)
    return (content + reference) / 2


def _difference(x: Tensor) -> Tensor:
    content, reference = _halves(x)
    return content - reference


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x])


class _Pointwise(Function):
    """A function of each number, whose slope is that of its secant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        value = function(x)
        ctx.save_for_backward(x, value)
        ctx.function = function
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, value = ctx.saved_tensors
        with torch.enable_grad():
            middle = _mean(x).requires_grad_()
            (tangent,) = torch.autograd.grad(ctx.function(middle).sum(), middle)
        dx = _difference(x)
        # The secant of close points is rounding, and the tangent between them as good.
        near = dx.abs() <= torch.finfo(x.dtype).eps ** (1 / 3) * middle.detach().abs()
        secant = _difference(value) / dx.masked_fill(near, 1.0)
        return gradient * _twice(torch.where(near, tangent, secant)), None


class _Product(Function):
    """A product, of numbers or of matrices, of two factors that both differ."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, function: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.function = function
        return function(a, b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        # As gradients go through it, with each factor the mean of both contents.
        factors = [_twice(_mean(x)).requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            product = ctx.function(*factors)
        of_a, of_b = torch.autograd.grad(product, factors, gradient)
        return of_a, of_b, None


class _Softmax(Function):
    """softmax along an axis, or with `total` the logsumexp whose gradient it is."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, axis: int, total: bool) -> Tensor:
        log_p = scores.log_softmax(axis)
        ctx.save_for_backward(log_p)
        ctx.axis, ctx.total = axis, total
        return scores.logsumexp(axis, keepdim=True) if total else log_p.exp()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (log_p,) = ctx.saved_tensors
        p = log_p.exp()
        # Where both are 0 their logarithms may be infinite.
        d_log = torch.where(_mean(p) == 0, 0.0, _difference(log_p))
        near = d_log.abs() <= torch.finfo(p.dtype).eps ** (1 / 3)
        # Of close numbers the logarithmic mean is as good as their mean.
        weight = torch.where(near, _mean(p), _difference(p) / d_log.masked_fill(near, 1.0))
        weight = _twice(weight)
        share = weight / weight.sum(ctx.axis, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
        if ctx.total:
            return gradient * share, None, None
        mean = (gradient * share).sum(ctx.axis, keepdim=True)
        return weight * (gradient - mean), None, None


def _pointwise(function: Callable[..., Tensor], x: Any, *args: Any, **options: Any) -> Any:
    if not _differs(x) or any(map(_differs, args)):
        return function(x, *args, **options)
    options.pop("inplace", None)  # x itself is still needed
    return _Pointwise.apply(x, lambda of: function(of, *args, **options))  # type: ignore[no-untyped-call]


def _product(function: Callable[..., Tensor], a: Any, b: Any, **options: Any) -> Any:
    if not (_differs(a) and _differs(b)):
        return function(a, b, **options)
    return _Product.apply(a, b, function)  # type: ignore[no-untyped-call]


def _quotient(function: Callable[..., Tensor], a: Any, b: Any, **options: Any) -> Any:
    if not _differs(b):
        return function(a, b, **options)
    return _product(torch.mul, a, _pointwise(torch.reciprocal, b))


def _softmax(
    function: Callable[..., Tensor], scores: Any, dim: int = -1, *_: Any, **__: Any
) -> Any:
    # Not in float32, for which models ask: the scores of one in float64 would no longer add up.
    return _Softmax.apply(scores, dim, False)  # type: ignore[no-untyped-call]


def _log_softmax(function: Callable[..., Tensor], z: Any, dim: int = -1, *_: Any, **__: Any) -> Any:
    return z - _Softmax.apply(z, dim, True)  # type: ignore[no-untyped-call]


def _logsumexp(function: Callable[..., Tensor], z: Any, dim: int, keepdim: bool = False) -> Any:
    total = _Softmax.apply(z, dim, True)  # type: ignore[no-untyped-call]
    return total if keepdim else total.squeeze(dim)


def _layer_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Collection[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: bool,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    normed = _scaled(input - input.mean(axes, keepdim=True), axes, weight, eps)
    return normed if bias is None else normed + bias


def _rms_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Collection[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _scaled(input, tuple(range(-len(normalized_shape), 0)), weight, eps)


def _scaled(x: Tensor, axes: tuple[int, ...], weight: Tensor | None, eps: float) -> Tensor:
    square = _pointwise(torch.square, x).mean(axes, keepdim=True)
    normed: Tensor = _product(torch.mul, x, _pointwise(torch.rsqrt, square + eps))
    return normed if weight is None else normed * weight


def _cast(function: Callable[..., Tensor], x: Any, *args: Any, **options: Any) -> Any:
    """Norms of models go through float32: not those of a model in float64."""
    to_float = function is Tensor.float or torch.float32 in (*args, *options.values())
    if isinstance(x, Tensor) and x.dtype == torch.float64 and to_float:
        return x
    return function(x, *args, **options)


def _differs(x: Any) -> bool:
    """True of what depends on the content: parameters have no gradients here."""
    return isinstance(x, Tensor) and x.requires_grad


_MULTIPLY = (torch.mul, torch.multiply, Tensor.mul, Tensor.__mul__, Tensor.__rmul__)
_MATMUL = (torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm)
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((*_MULTIPLY, *_MATMUL), _product),
    **dict.fromkeys((torch.div, Tensor.div, Tensor.__truediv__), _quotient),
    **dict.fromkeys((torch.rsqrt, Tensor.rsqrt, torch.sqrt, Tensor.sqrt), _pointwise),
    **dict.fromkeys((torch.square, Tensor.square, torch.pow, Tensor.pow), _pointwise),
    **dict.fromkeys((Tensor.__pow__, torch.reciprocal, Tensor.reciprocal), _pointwise),
    **dict.fromkeys((torch.exp, Tensor.exp, torch.erf, Tensor.erf), _pointwise),
    **dict.fromkeys((torch.tanh, Tensor.tanh, F.tanh), _pointwise),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, F.sigmoid), _pointwise),
    **dict.fromkeys((torch.relu, Tensor.relu, F.relu, F.relu6, F.leaky_relu), _pointwise),
    **dict.fromkeys((F.gelu, F.silu, F.mish, F.elu, F.hardswish, F.softplus), _pointwise),
    **dict.fromkeys((F.softmax, torch.softmax, Tensor.softmax), _softmax),
    **dict.fromkeys((F.log_softmax, torch.log_softmax, Tensor.log_softmax), _log_softmax),
    **dict.fromkeys((torch.logsumexp, Tensor.logsumexp), _logsumexp),
    **dict.fromkeys((F.layer_norm, torch.layer_norm), _layer_norm),
    **dict.fromkeys((F.rms_norm, torch.rms_norm), _rms_norm),
    **dict.fromkeys((Tensor.to, Tensor.float), _cast),
}
