"""Gradient methods, all of captum, on word embeddings, with settings fit for text.

The path of integrated gradients begins at the text with every ordinary token masked; noise is
small beside the embeddings. What captum returns for each coordinate is summed over a token's.
Sources: Simonyan et al. (2014), Sundararajan et al. (2017), Smilkov et al. (2017), Shrikumar et
al. (2017); Kokhlikyan et al. (2020) for captum.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from attnflow.errors import MissingExtraError
from attnflow.methods.attention import as_scores
from attnflow.methods.question import Question, Scores

STEPS = 50  # of integrated gradients
DRAWS, NOISE = 25, 0.15  # of SmoothGrad; in standard deviations of the text's embeddings
AT_ONCE = 10  # points of a path in one pass


def gradient(question: Question) -> Scores:
    """Euclidean length of the gradient of the logit."""
    embeddings = _embeddings(question)
    found = (
        _captum()
        .Saliency(_logits(question))
        .attribute(embeddings, target=question.target, abs=False)
    )
    return as_scores(found[0].norm(dim=-1))


def gradient_x_input(question: Question) -> Scores:
    """Gradient times embedding."""
    return _attributed(question, _captum().InputXGradient(_logits(question)))


def integrated_gradients(question: Question) -> Scores:
    """Fifty points from the masked text to the text."""
    method = _captum().IntegratedGradients(_logits(question), multiply_by_inputs=True)
    return _attributed(
        question, method, baselines=_baseline(question), n_steps=STEPS, internal_batch_size=AT_ONCE
    )


def smoothgrad(question: Question) -> Scores:
    """Gradient times embedding, mean of 25 noisy inputs."""
    captum = _captum()
    torch.manual_seed(question.seed)
    return _attributed(
        question,
        captum.NoiseTunnel(captum.InputXGradient(_logits(question))),
        nt_samples=DRAWS,
        nt_samples_batch_size=AT_ONCE // 2,
        stdevs=NOISE * float(_embeddings(question).detach().std()),
    )


def deeplift(question: Question) -> Scores:
    """DeepLift against the masked text; products and softmax keep their gradients."""
    method = _captum().DeepLift(_Logits(question))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*hooks and attributes")  # which it removes
        return _attributed(question, method, baselines=_baseline(question))


def _attributed(question: Question, method: Any, **options: Any) -> Scores:
    found = method.attribute(_embeddings(question), target=question.target, **options)
    return as_scores(found[0].sum(-1))


def _embeddings(question: Question) -> Tensor:
    return question.classifier.embeddings(question.ids).requires_grad_()


def _baseline(question: Question) -> Tensor:
    return question.classifier.embeddings(question.neutral_ids)


def _logits(question: Question) -> Any:
    return question.classifier.logits


class _Logits(nn.Module):
    """The classifier as a module that takes embeddings, as DeepLift wants it."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.model, self._logits = question.classifier.model, question.classifier.logits

    def forward(self, embeddings: Tensor) -> Tensor:
        return self._logits(embeddings)


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise MissingExtraError(
            "this method is captum's: pip install 'attnflow[evaluation]'."
        ) from error
    return attr
