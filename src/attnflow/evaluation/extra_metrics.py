"""Metrics that cost more than a few removals, asked for by name: `Protocol.extras`.

Each is a number, or one for each operator, of a method's answer to an instance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnflow.evaluation.metrics import METRICS
from attnflow.evaluation.naopc import aopc_limits, normalised
from attnflow.evaluation.operators import OPERATORS
from attnflow.evaluation.ranking import Ranking, unit_masks
from attnflow.evaluation.soft_metrics import infidelity, max_sensitivity, soft_scores
from attnflow.methods import Instance, Method, Scores


@dataclass(frozen=True)
class MetricInput:
    """A method's scores for an instance, the ranking they make, and how that is judged."""

    instance: Instance
    method: Method
    scores: Scores
    ranking: Ranking
    operators: tuple[str, ...]
    bfloat16: bool
    granularity: str

    @cached_property
    def curves(self) -> dict[str, tuple[Scores, Scores]]:
        """For each operator `(units + 1,)` log-probabilities with the first 0, 1, .. units removed,
        and with only these left.
        """
        counts = range(len(self.ranking.unit_masks) + 1)
        removed = [self.ranking.first(n) for n in counts] + [self.ranking.rest(n) for n in counts]
        found = {}
        for operator in self.operators:
            variants = [OPERATORS[operator](self.instance, one) for one in removed]
            log_p = self.instance.log_probability(variants, bfloat16=self.bfloat16)
            found[operator] = (log_p[: len(counts)], log_p[len(counts) :])
        return found


@dataclass(frozen=True)
class AopcLimits:
    """The limits of AOPC over all orders of an instance's units: the same for every method."""

    operator: str
    granularity: str

    def __call__(self, instance: Instance) -> tuple[float, float]:
        return aopc_limits(instance, unit_masks(instance, self.granularity), self.operator)


def _all_steps(asked: MetricInput) -> dict[str, float]:
    """AOPC, log-odds, deletion and insertion AUC, one unit after the other to the last."""
    found = {}
    for operator, (removed, kept) in asked.curves.items():
        one = removed[:1], removed[None, 1:], kept[None, 1:]
        for name in STEPPED:
            found[f"{name}_steps {operator}"] = float(METRICS[name](*one)[0])
    return found


def _normalised_aopc(asked: MetricInput) -> dict[str, float]:
    """AOPC over all steps between the limits of the text, for each operator."""
    found = {}
    for operator, (removed, _) in asked.curves.items():
        limits = asked.instance.cached(AopcLimits(operator, asked.granularity))
        p = np.exp(removed)
        found[f"naopc {operator}"] = normalised(float(p[0] - p[1:].mean()), limits)
    return found


def _soft(asked: MetricInput) -> dict[str, float]:
    found = soft_scores(asked.instance, asked.scores)
    return {
        "soft_sufficiency": found.sufficiency,
        "soft_comprehensiveness": found.comprehensiveness,
    }


STEPPED = ("aopc", "log_odds", "deletion_auc", "insertion_auc")
EXTRAS: dict[str, Callable[[MetricInput], dict[str, float]]] = {
    "steps": _all_steps,
    "naopc": _normalised_aopc,
    "soft": _soft,
    "infidelity": lambda asked: {"infidelity": infidelity(asked.instance, asked.scores)},
    "sensitivity": lambda asked: {"max_sensitivity": max_sensitivity(asked.instance, asked.method)},
}
EXTRAS_OF_ANY = ("steps", "naopc", "infidelity")  # the others move word embeddings
