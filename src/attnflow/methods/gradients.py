"""Gradient methods on word embeddings or pixels, most of them captum's.

The path of integrated gradients begins at the content with every ordinary node masked; noise is
small compared with the embeddings or pixels. A node's score is the sum over its coordinates.
Sources: Simonyan et al. (2014), Sundararajan et al. (2017), Smilkov et al. (2017), Shrikumar et
al. (2017); Kokhlikyan et al. (2020) for captum; Liu et al. (ACL 2026,
arXiv 2601.16407) for the temperature scope.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from attnflow.capture.private_copy import private_copy
from attnflow.errors import needs
from attnflow.methods.adapter import Scores
from attnflow.methods.attention import as_scores, readout_row
from attnflow.methods.instance import Instance

STEPS = 50  # of integrated gradients, captum's default
DRAWS, NOISE = 25, 0.15  # of SmoothGrad; noise in standard deviations of the embeddings or pixels
AT_ONCE = 10  # points of a path in one pass


def gradient(instance: Instance) -> Scores:
    """Euclidean length of the gradient."""
    attributions = _captum().Saliency(_value(instance)).attribute(_point(instance), abs=False)
    return as_scores(instance.per_node(attributions).norm(dim=-1))


def gradient_x_input(instance: Instance) -> Scores:
    """Gradient times embedding or pixels."""
    method = _captum().InputXGradient(_value(instance))
    return _summed(instance, method.attribute(_point(instance)))


def integrated_gradients(instance: Instance) -> Scores:
    """Mean gradient at fifty points from the masked content to the whole one, times the way."""
    method = _captum().IntegratedGradients(_value(instance), multiply_by_inputs=True)
    attributions = method.attribute(
        _point(instance),
        baselines=instance.baseline,
        n_steps=STEPS,
        internal_batch_size=AT_ONCE,
    )
    return _summed(instance, attributions)


def smoothgrad(instance: Instance) -> Scores:
    """Euclidean length of the mean gradient of 25 noisy inputs."""
    captum = _captum()
    torch.manual_seed(instance.seed)  # captum draws from torch's global state
    attributions = captum.NoiseTunnel(captum.Saliency(_value(instance))).attribute(
        _point(instance),
        nt_samples=DRAWS,
        nt_samples_batch_size=AT_ONCE // 2,
        stdevs=NOISE * float(instance.point.std()),
        abs=False,
    )
    return as_scores(instance.per_node(attributions).norm(dim=-1))


def deeplift(instance: Instance) -> Scores:
    """DeepLift against the masked text: the rescale rule at activations, gradients elsewhere.

    captum has no rule for products, softmax and layer norms, so it is not complete here.
    """
    # captum runs content and baseline as one batch, through hooks on the modules of the model.
    method = _captum().DeepLift(_Value(instance))
    with warnings.catch_warnings(), _rescaled_activations(instance.adapter.model):
        warnings.filterwarnings("ignore", message="(?s).*hooks and attributes")  # which it removes
        attributions = method.attribute(_point(instance), baselines=instance.baseline)
    return _summed(instance, attributions)


def temperature_scope(instance: Instance) -> Scores:
    """Euclidean length of the gradient of |y|, the length of the last hidden state that is read.

    That length is the inverse of the temperature of a language model's next token: the scope asks
    what makes the model sure, whatever token is explained. Source: the temperature scope among the
    Jacobian scopes |v dy/dx| of Liu et al., with v = y / |y|.
    """
    row, point = readout_row(instance), _point(instance)
    with torch.enable_grad():
        inputs = instance.adapter.inputs_at(point)
        output = instance.adapter.model(**inputs, output_hidden_states=True)
        length = output.hidden_states[-1][0, row].norm()
        (slope,) = torch.autograd.grad(length, point)
    return as_scores(instance.per_node(slope).norm(dim=-1))


def _summed(instance: Instance, attributions: Tensor) -> Scores:
    """The sum over the coordinates of each node."""
    return as_scores(instance.per_node(attributions).sum(-1))


def _point(instance: Instance) -> Tensor:
    return instance.point.requires_grad_()


def _value(instance: Instance) -> Callable[[Tensor], Tensor]:
    return lambda points: instance.value(instance.adapter.logits(points))


class _Value(nn.Module):
    """The explained number as a module that takes points, which DeepLift needs."""

    def __init__(self, instance: Instance) -> None:
        super().__init__()
        # captum's hooks are in a copy, since others may run the model meanwhile.
        self.model = private_copy(instance.adapter.model)
        self.instance = replace(instance, adapter=instance.adapter.on(self.model))

    def forward(self, points: Tensor) -> Tensor:
        return _value(self.instance)(points)


@contextmanager
def _rescaled_activations(model: Any) -> Iterator[None]:
    """Add the activations of transformers to those that captum's DeepLift knows, for a while."""
    from captum.attr._core import deep_lift

    rules = deep_lift.SUPPORTED_NON_LINEAR
    kinds = {type(m) for m in model.modules() if type(m).__name__.endswith("Activation")}
    unknown = kinds - set(rules)
    rules.update(dict.fromkeys(unknown, deep_lift.nonlinear))
    try:
        yield
    finally:
        for kind in unknown:
            del rules[kind]


def _captum() -> Any:
    with needs("this method is captum's"):
        from captum import attr
    return attr
