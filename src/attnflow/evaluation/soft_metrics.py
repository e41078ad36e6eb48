"""Metrics that do not cut: soft sufficiency and comprehensiveness, infidelity, max-sensitivity.

Soft metrics keep every coordinate of a token's embedding with a probability: its importance for
sufficiency, what is left to 1 for comprehensiveness (Zhao & Aletras 2023). Importance is the rank
over the number of tokens, so that only the order of scores counts.

Infidelity asks whether scores predict the change of the probability when some tokens are masked,
after the best scaling, which may turn their sign (Yeh et al. 2019; captum). Max-sensitivity is the
largest change of the scores, relative to them, when the embeddings move a little (the same).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnflow.errors import needs
from attnflow.methods import Instance, Method, Scores

DRAWS = 8  # of the soft metrics
PERTURBATIONS = 100  # of infidelity
RADIUS, SHAKES = 0.02, 5  # of max-sensitivity; the radius in units of the embeddings' spread


@dataclass(frozen=True)
class SoftScores:
    """Normalised, both clipped to [0, 1] and better when higher."""

    sufficiency: float
    comprehensiveness: float


def soft_scores(instance: Instance, scores: Scores) -> SoftScores:
    """Soft normalised sufficiency and comprehensiveness of `(t,)` scores."""
    ordinary = instance.ordinary
    importance = np.ones(len(scores))
    importance[ordinary] = _ranks(scores[ordinary]) / ordinary.sum()
    whole = _probability(instance, np.ones((1, len(scores))))[0]
    nothing = _probability(instance, np.where(ordinary, 0.0, 1.0)[None])[0]
    least = 1 - max(0.0, whole - nothing)  # what an empty text is worth
    if 1 - least < 1e-9:
        return SoftScores(0.0, 0.0)
    kept = _probability(instance, np.repeat(importance[None], DRAWS, 0))
    against = np.where(ordinary, 1 - importance, 1.0)
    left = _probability(instance, np.repeat(against[None], DRAWS, 0))
    sufficient = 1 - np.maximum(0, whole - kept)
    comprehensive = np.maximum(0, whole - left)
    return SoftScores(
        float(((sufficient - least) / (1 - least)).clip(0, 1).mean()),
        float((comprehensive / (1 - least)).clip(0, 1).mean()),
    )


def _ranks(values: Scores) -> Scores:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: Scores = (counts.cumsum() - (counts - 1) / 2)[inverse]
    return found


def _probability(instance: Instance, keep: Scores) -> Scores:
    """`(n,)` of the class, each coordinate of a token kept with `(n, t)` probability."""
    generator = torch.Generator().manual_seed(instance.seed)
    embeddings = instance.point
    chance = torch.from_numpy(keep)[..., None].expand(-1, -1, embeddings.shape[-1])
    drawn = torch.bernoulli(chance, generator=generator).to(embeddings)
    with torch.inference_mode():
        logits = instance.adapter.logits(embeddings * drawn)
    found: Scores = logits.double().softmax(-1)[:, instance.target].cpu().numpy()
    return found


def infidelity(instance: Instance, scores: Scores) -> float:
    """Mean squared error of the predicted change of the probability, >= 0, better when lower."""
    metrics = _captum_metrics()
    n = int(instance.ordinary.sum())
    generator = torch.Generator().manual_seed(instance.seed)

    def some_masked(presence: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.rand(len(presence), 1, generator=generator)
        gone = (torch.rand(presence.shape, generator=generator) < share).to(presence)
        return gone, presence - gone

    def probability(presence: Tensor) -> Tensor:
        whole = np.ones((len(presence), instance.nodes), bool)
        whole[:, instance.ordinary] = presence.numpy() > 0.5
        return torch.from_numpy(instance.probability(whole))

    found = metrics.infidelity(
        probability,
        some_masked,
        torch.ones(1, n, dtype=torch.float64),
        torch.from_numpy(scores[instance.ordinary])[None],
        n_perturb_samples=PERTURBATIONS,
        max_examples_per_batch=PERTURBATIONS,
        normalize=True,
    )
    return float(found)


def max_sensitivity(instance: Instance, method: Method) -> float:
    """Largest relative change of the scores, in Euclidean length, under small moves."""
    own = method.scores(instance.with_empty_cache())
    spread = float(instance.point.std())
    size = max(float(np.linalg.norm(own)), 1e-300)
    worst = 0.0
    for draw in range(SHAKES):
        with perturbed_embeddings(instance, RADIUS * spread, instance.seed + draw):
            moved = method.scores(instance.with_empty_cache())
        worst = max(worst, float(np.linalg.norm(moved - own)) / size)
    return worst


@contextmanager
def perturbed_embeddings(instance: Instance, radius: float, seed: int) -> Iterator[None]:
    """Move every word embedding by uniform noise within the radius, the same for the same token."""
    table = instance.adapter.model.get_input_embeddings()
    generator = torch.Generator().manual_seed(seed)
    noise = radius * (2 * torch.rand(table.weight.shape, generator=generator) - 1)
    noise = noise.to(table.weight)

    def move(_: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output + noise[args[0]]

    handle = table.register_forward_hook(move)
    try:
        yield
    finally:
        handle.remove()


def _captum_metrics() -> Any:
    with needs("infidelity and sensitivity are captum's"):
        from captum import metrics
    return metrics
