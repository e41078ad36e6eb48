"""Methods that run the model on masked contents: occlusion, LIME, KernelSHAP, partition SHAP.

Features are the ordinary nodes; a missing one is [MASK], or a grey patch, and the others stay. The
explained number is the probability of the class. Surrogates get twenty contents a node, and 500 at
least.
Sources: Zeiler & Fergus (2014), Ribeiro et al. (2016), Lundberg & Lee (2017); captum and shap.
"""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.errors import needs
from attnflow.methods.adapter import Scores, log_odds_of
from attnflow.methods.instance import Instance

SAMPLES_A_NODE, LEAST_SAMPLES = 20, 500
AT_ONCE = 256
KERNEL_WIDTH = 0.75  # of LIME's kernel, in shares of missing tokens


def occlusion(instance: Instance) -> Scores:
    """p(x) - p(x without the token)."""
    n = int(instance.ordinary.sum())
    present = np.concatenate([np.ones((1, n), bool), ~np.eye(n, dtype=bool)])
    probabilities = _probabilities(instance, present)
    return _on_ordinary(instance, probabilities[0] - probabilities[1:])


def leave_one_out(instance: Instance) -> Scores:
    """Fall of the log-odds where a node alone is deleted."""
    nodes = np.flatnonzero(instance.ordinary)
    adapter, content = instance.adapter, instance.content
    without = [adapter.deleted_variant(content, np.arange(instance.nodes) == i) for i in nodes]
    log_p = instance.log_probability([adapter.whole_variant(content), *without])
    odds = log_odds_of(log_p)
    scores = np.zeros(instance.nodes)
    scores[nodes] = odds[0] - odds[1:]
    return scores


def lime(instance: Instance) -> Scores:
    """Weights of a ridge regression on masked texts, of which near ones weigh more (captum)."""
    captum, models = _captum()
    method = captum.Lime(
        _forward(instance),
        interpretable_model=models.SkLearnRidge(alpha=1.0),
        similarity_func=_similarity,
        perturb_func=_some_missing,
    )
    return _surrogate(instance, method)


def kernel_shap(instance: Instance) -> Scores:
    """Shapley values of the probability, by weighted regression (captum)."""
    captum, _ = _captum()
    return _surrogate(instance, captum.KernelShap(_forward(instance)))


def partition_shap(instance: Instance) -> Scores:
    """Owen values of the probability on a binary tree of neighbouring tokens (shap)."""
    shap = _shap()
    n = int(instance.ordinary.sum())
    if n == 1:  # there is no tree over one leaf, and its Shapley value is the whole difference
        return occlusion(instance)
    explainer = shap.PartitionExplainer(
        lambda present: _probabilities(instance, present.astype(bool)), _Neighbours(n)
    )
    # shap draws from numpy's global state.
    np.random.seed(instance.seed % 2**32)
    attributions = explainer(
        np.ones((1, n)), max_evals=_samples(instance), fixed_context=1, silent=True
    )
    return _on_ordinary(instance, attributions.values[0])


class _Neighbours:
    """shap's masker of `n` tokens in a row: a text is the row of its presences."""

    def __init__(self, n: int) -> None:
        self.n, self.shape, self.clustering = n, (1, n), _tree(n)

    def __call__(self, present: NDArray[np.bool_], _: Any) -> tuple[NDArray[np.bool_]]:
        return (present.reshape(1, self.n),)

    def mask_shapes(self, _: Any) -> list[tuple[int]]:
        return [(self.n,)]


def _tree(n: int) -> NDArray[np.float64]:
    """Balanced binary tree over `n` leaves in SciPy's linkage form."""
    links: list[list[float]] = []

    def join(first: int, last: int) -> tuple[int, int]:
        if last - first == 1:
            return first, 1
        middle = (first + last + 1) // 2
        (a, size_a), (b, size_b) = join(first, middle), join(middle, last)
        links.append([a, b, size_a + size_b, size_a + size_b])
        return n + len(links) - 1, size_a + size_b

    join(0, n)
    return np.array(links)


def _surrogate(instance: Instance, method: Any) -> Scores:
    torch.manual_seed(instance.seed)  # captum draws from torch's global state
    n = int(instance.ordinary.sum())
    attributions = method.attribute(
        torch.ones(1, n),
        baselines=torch.zeros(1, n),
        n_samples=_samples(instance),
        perturbations_per_eval=AT_ONCE,
    )
    return _on_ordinary(instance, attributions[0].double().numpy())


def _samples(instance: Instance) -> int:
    return max(LEAST_SAMPLES, SAMPLES_A_NODE * int(instance.ordinary.sum()))


def _forward(instance: Instance) -> Any:
    def probability(present: Tensor) -> Tensor:
        return torch.from_numpy(_probabilities(instance, present.numpy() > 0.5))

    return probability


def _some_missing(_: Tensor, **options: Any) -> Tensor:
    """`(1, n)` presences, the number of missing tokens drawn first, as LIME does for texts."""
    n = int(options["num_interp_features"])
    missing = torch.randperm(n)[: int(torch.randint(1, n + 1, ()))]
    return torch.ones(1, n).index_fill(1, missing, 0.0)


def _similarity(original: Tensor, perturbed: Tensor, *_: Any, **__: Any) -> float:
    missing = float((original != perturbed).float().mean())
    return float(np.exp(-((missing / KERNEL_WIDTH) ** 2)))


def _probabilities(instance: Instance, present: NDArray[np.bool_]) -> Scores:
    whole = np.ones((len(present), instance.nodes), bool)
    whole[:, instance.ordinary] = present
    return instance.probability(whole)


def _on_ordinary(instance: Instance, values: Any) -> Scores:
    """`(t,)` scores: the values at ordinary nodes, in order, and 0 elsewhere."""
    scores = np.zeros(instance.nodes)
    scores[instance.ordinary] = values
    return scores


def _shap() -> Any:
    with needs("partition_shap is shap's"), warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of its colour maps
        import shap
    return shap


def _captum() -> tuple[Any, Any]:
    with needs("this method is captum's"):
        from captum import attr
        from captum._utils.models import linear_model
    return attr, linear_model
