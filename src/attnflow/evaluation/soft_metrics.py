"""Metrics without a cut-off: soft sufficiency, soft comprehensiveness, infidelity, max-sensitivity.

Soft metrics keep every coordinate of a token's embedding with a probability p. For sufficiency p is
the token's importance, for comprehensiveness 1 minus that (Zhao & Aletras 2023). Importance is the
rank divided by the number of tokens, so that only the order of scores counts.

Infidelity is the error with which scores predict the change of the probability when some tokens are
masked (Yeh et al. 2019; captum). It is taken after the best scaling, which may turn their sign.
Max-sensitivity is the largest relative change of the scores when the embeddings move a little (the
same paper).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnflow.capture.private_copy import private_copy
from attnflow.errors import needs
from attnflow.methods import Instance, Method, Scores

DRAWS = 8  # random embeddings for each soft metric
MASKINGS = 100  # random maskings for infidelity
RADIUS = 0.02  # of the moves for max-sensitivity, in units of the embeddings' standard deviation
MOVES = 5


@dataclass(frozen=True)
class SoftScores:
    """Normalised soft metrics, both clipped to [0, 1] and better when higher."""

    sufficiency: float
    comprehensiveness: float


def soft_scores(instance: Instance, scores: Scores) -> SoftScores:
    """Compute normalised soft sufficiency and comprehensiveness of `(t,)` scores."""
    with needs("soft metrics need SciPy"):
        from scipy.stats import rankdata
    ordinary = instance.ordinary
    importance = np.ones(len(scores))
    importance[ordinary] = rankdata(scores[ordinary]) / ordinary.sum()
    whole = _probability(instance, np.ones((1, len(scores))))[0]
    nothing = _probability(instance, np.where(ordinary, 0.0, 1.0)[None])[0]
    empty = 1 - max(0.0, whole - nothing)  # sufficiency of a text without any token
    # At least as probable without any token: there is nothing to normalise by.
    if 1 - empty < 1e-9:
        return SoftScores(0.0, 0.0)
    kept = _probability(instance, np.repeat(importance[None], DRAWS, 0))
    complement = np.where(ordinary, 1 - importance, 1.0)
    left = _probability(instance, np.repeat(complement[None], DRAWS, 0))
    sufficient = 1 - np.maximum(0, whole - kept)
    comprehensive = np.maximum(0, whole - left)
    return SoftScores(
        float(((sufficient - empty) / (1 - empty)).clip(0, 1).mean()),
        float((comprehensive / (1 - empty)).clip(0, 1).mean()),
    )


def _probability(instance: Instance, keep: Scores) -> Scores:
    """`(n,)` probability of the class, each coordinate of a token kept with `(n, t)` chance."""
    generator = torch.Generator().manual_seed(instance.seed)
    embeddings = instance.point
    chance = torch.from_numpy(keep)[..., None].expand(-1, -1, embeddings.shape[-1])
    mask = torch.bernoulli(chance, generator=generator).to(embeddings)
    with torch.inference_mode():
        logits = instance.adapter.logits(embeddings * mask)
    return logits.double().softmax(-1)[:, instance.target].cpu().numpy()


def infidelity(instance: Instance, scores: Scores) -> float:
    """Compute the mean squared error of the predicted change, >= 0, better when lower."""
    metrics = _captum_metrics()
    n = int(instance.ordinary.sum())
    generator = torch.Generator().manual_seed(instance.seed)

    def some_masked(presence: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.rand(len(presence), 1, generator=generator)
        masked = (torch.rand(presence.shape, generator=generator) < share).to(presence)
        return masked, presence - masked

    def probability(presence: Tensor) -> Tensor:
        present = np.ones((len(presence), instance.nodes), bool)
        present[:, instance.ordinary] = presence.numpy() > 0.5
        return torch.from_numpy(instance.probability(present))

    error = metrics.infidelity(
        probability,
        some_masked,
        torch.ones(1, n, dtype=torch.float64),
        torch.from_numpy(scores[instance.ordinary])[None],
        n_perturb_samples=MASKINGS,
        max_examples_per_batch=MASKINGS,
        normalize=True,
    )
    return float(error)


def max_sensitivity(instance: Instance, method: Method) -> float:
    """Compute the largest relative change of the scores, in Euclidean norm, under small moves."""
    scores = method.scores(instance.with_empty_cache())
    spread = float(instance.point.std())
    norm = max(float(np.linalg.norm(scores)), 1e-300)
    largest = 0.0
    for draw in range(MOVES):
        moved = method.scores(perturbed(instance, RADIUS * spread, instance.seed + draw))
        largest = max(largest, float(np.linalg.norm(moved - scores)) / norm)
    return largest


def perturbed(instance: Instance, radius: float, seed: int) -> Instance:
    """Return the instance with a model that moves every word embedding by uniform noise.

    The noise lies within the radius, and is the same for the same token.
    """
    model = private_copy(instance.adapter.model)
    table = model.get_input_embeddings()
    generator = torch.Generator().manual_seed(seed)
    noise = radius * (2 * torch.rand(table.weight.shape, generator=generator) - 1)
    noise = noise.to(table.weight)

    def move(_: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output + noise[args[0]]

    table.register_forward_hook(move)
    return replace(instance, adapter=instance.adapter.on(model))


def _captum_metrics() -> Any:
    with needs("infidelity and sensitivity are captum's"):
        from captum import metrics
    return metrics
