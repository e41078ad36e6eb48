"""Metrics that cost more than a few removals, chosen by name in `Protocol.extras`.

Each turns a method's scores for an instance into a number, or into one for each operator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnflow.capture import whole_units
from attnflow.errors import InputError
from attnflow.evaluation.metrics import METRICS
from attnflow.evaluation.naopc import aopc_limits, normalised
from attnflow.evaluation.operators import OPERATORS
from attnflow.evaluation.ranking import Ranking, unit_masks
from attnflow.evaluation.soft_metrics import infidelity, max_sensitivity, soft_scores
from attnflow.evaluation.statistics import rank_correlation
from attnflow.methods import Instance, Method, Nodes, Scores
from attnflow.methods.adapter import log_odds_of


@dataclass(frozen=True, eq=False)
class Curves:
    """Log-probabilities along a ranking, `(units + 1,)` each.

    Attributes:
        removed: With the first 0, 1, .. units removed.
        kept: With the first 0, 1, .. units kept alone.
    """

    removed: Scores
    kept: Scores


@dataclass(frozen=True)
class MetricInput:
    """A method's scores for an instance, their ranking, and how the protocol judges it.

    Attributes:
        instance, method, scores: The method's scores `(t,)` for the instance.
        ranking: Units by these scores.
        operators, bfloat16, granularity: As in `Protocol`.
    """

    instance: Instance
    method: Method
    scores: Scores
    ranking: Ranking
    operators: tuple[str, ...]
    bfloat16: bool
    granularity: str

    @cached_property
    def curves(self) -> dict[str, Curves]:
        """The curves of each operator."""
        # Computed once: `steps` and `naopc` read them, and they take two passes for each unit.
        counts = range(len(self.ranking.unit_masks) + 1)
        removed = [self.ranking.first(n) for n in counts] + [self.ranking.rest(n) for n in counts]
        curves = {}
        for operator in self.operators:
            variants = [OPERATORS[operator](self.instance, nodes) for nodes in removed]
            log_p = self.instance.log_probability(variants, bfloat16=self.bfloat16)
            curves[operator] = Curves(log_p[: len(counts)], log_p[len(counts) :])
        return curves


@dataclass(frozen=True)
class AopcLimits:
    """The limits of AOPC over all orders of an instance's units: the same for every method."""

    operator: str
    granularity: str

    def __call__(self, instance: Instance) -> tuple[float, float]:
        return aopc_limits(instance, unit_masks(instance, self.granularity), self.operator)


def _all_steps(metric_input: MetricInput) -> dict[str, float]:
    """AOPC, log-odds, deletion and insertion AUC, removing one unit at a time to the last."""
    values = {}
    for operator, curves in metric_input.curves.items():
        # Step 0 removes nothing, and keeps nothing.
        whole, removed, kept = curves.removed[:1], curves.removed[None, 1:], curves.kept[None, 1:]
        for name in STEPPED:
            values[f"{name}_steps {operator}"] = float(METRICS[name](whole, removed, kept)[0])
    return values


def _normalised_aopc(metric_input: MetricInput) -> dict[str, float]:
    """AOPC over all steps between the limits of the text, for each operator."""
    values = {}
    for operator, curves in metric_input.curves.items():
        limits = metric_input.instance.cached(AopcLimits(operator, metric_input.granularity))
        p = np.exp(curves.removed)
        values[f"naopc {operator}"] = normalised(float(p[0] - p[1:].mean()), limits)
    return values


def _soft(metric_input: MetricInput) -> dict[str, float]:
    scores = soft_scores(metric_input.instance, metric_input.scores)
    return {
        "soft_sufficiency": scores.sufficiency,
        "soft_comprehensiveness": scores.comprehensiveness,
    }


def _infidelity(metric_input: MetricInput) -> dict[str, float]:
    return {"infidelity": infidelity(metric_input.instance, metric_input.scores)}


def _max_sensitivity(metric_input: MetricInput) -> dict[str, float]:
    return {"max_sensitivity": max_sensitivity(metric_input.instance, metric_input.method)}


@dataclass(frozen=True)
class RandomHalves:
    """Log-odds of an instance without random halves of its units: the same for every method."""

    operator: str
    granularity: str
    bfloat16: bool

    def removed(self, instance: Instance) -> list[Nodes]:
        """Return the nodes of each half, drawn by the instance's own seed."""
        masks = unit_masks(instance, self.granularity)
        rng = np.random.default_rng([instance.seed, SUBSETS])
        halves = [rng.permutation(len(masks))[len(masks) // 2 :] for _ in range(SUBSETS)]
        return [np.array(masks[half].any(axis=0)) for half in halves]

    def __call__(self, instance: Instance) -> Scores:
        variants = [OPERATORS[self.operator](instance, nodes) for nodes in self.removed(instance)]
        return log_odds_of(instance.log_probability(variants, bfloat16=self.bfloat16))


def _subset_correlation(metric_input: MetricInput) -> dict[str, float]:
    """Rank correlation of summed scores and log-odds over random halves of the units (LDS)."""
    instance, values = metric_input.instance, {}
    for operator in metric_input.operators:
        halves = RandomHalves(operator, metric_input.granularity, metric_input.bfloat16)
        ordinary = [instance.ordinary & ~nodes for nodes in halves.removed(instance)]
        kept = np.array([metric_input.scores[nodes].sum() for nodes in ordinary])
        values[f"lds {operator}"] = rank_correlation(kept, instance.cached(halves))
    return values


def evidence_metrics(instance: Instance, scores: Scores) -> dict[str, float]:
    """Rank of the evidence, its share of positive scores, and its part in the top tenth."""
    if instance.evidence is None:
        raise InputError(
            "extras 'evidence' needs examples with a span, the characters that the answer rests "
            "on; see benchmarks/known_answers.py for such a file."
        )
    # Every token counts, the one that is read too: an answer may rest on the last word.
    nodes = ~np.array(instance.content.special)
    order = np.argsort(-np.where(nodes, scores, -np.inf), kind="stable")
    rank = 1 + int(np.argmax(instance.evidence[order]))
    positive = np.where(nodes, scores.clip(min=0), 0.0)
    total = max(positive.sum(), 1e-300)  # nothing positive: no share
    return {
        "hit": float(rank == 1),
        "reciprocal_rank": 1 / rank,
        "recovery": float(instance.evidence[order[: whole_units(0.1, int(nodes.sum()))]].sum())
        / max(int(instance.evidence.sum()), 1),
        "evidence_share": float(positive[instance.evidence].sum() / total),
        "first_share": float(positive[int(np.argmax(nodes))] / total),
    }


def sentence_metrics(instance: Instance, scores: Scores) -> dict[str, float]:
    """Rank of the sentence that holds the evidence, by positive scores, and its share of them.

    The sentences are compared with each other alone: what stands in none of them, as the question,
    does not count. Of equal sentences the one that holds the evidence comes last.
    """
    if instance.evidence is None or instance.sentences is None:
        raise InputError(
            "extras 'sentences' needs examples with sentences, of which one holds the span; see "
            "benchmarks/known_answers.py for such a file."
        )
    positive = np.where(np.array(instance.content.special), 0.0, scores.clip(min=0))
    sums = instance.sentences @ positive
    holder = int((instance.sentences & instance.evidence).sum(1).argmax())
    rank = int((sums >= sums[holder]).sum())
    return {
        "sentence_hit": float(rank == 1),
        "sentence_reciprocal_rank": 1 / rank,
        "sentence_share": float(sums[holder] / max(sums.sum(), 1e-300)),
    }


def _evidence(metric_input: MetricInput) -> dict[str, float]:
    return evidence_metrics(metric_input.instance, metric_input.scores)


def _sentences(metric_input: MetricInput) -> dict[str, float]:
    return sentence_metrics(metric_input.instance, metric_input.scores)


SUBSETS = 32  # random halves; half of the units each, since any score correlates with their number
STEPPED = ("aopc", "log_odds", "deletion_auc", "insertion_auc")
EXTRAS: dict[str, Callable[[MetricInput], dict[str, float]]] = {
    "steps": _all_steps,
    "naopc": _normalised_aopc,
    "soft": _soft,
    "infidelity": _infidelity,
    "sensitivity": _max_sensitivity,
    "lds": _subset_correlation,
    "evidence": _evidence,
    "sentences": _sentences,
}
# The others change word embeddings.
EXTRAS_OF_ANY = ("steps", "naopc", "infidelity", "lds", "evidence", "sentences")
