"""Metrics that cost more than a few removals, asked for by name: `Protocol.extras`.

Each is a number, or one for each operator, of a method's answer to a question.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attnflow.evaluation.limits import aopc_limits, normalised
from attnflow.evaluation.ranking import members, ranking
from attnflow.evaluation.removal import OPERATORS
from attnflow.evaluation.soft import infidelity, max_sensitivity, soft
from attnflow.methods import Method, Question, Scores


@dataclass(frozen=True)
class Asked:
    """A method's scores for a question, and how its ranking is judged."""

    question: Question
    method: Method
    scores: Scores
    operators: tuple[str, ...]
    granularity: str
    seed: int


def _normalised_aopc(asked: Asked) -> dict[str, float]:
    """AOPC over all steps between the limits of the text, for each operator."""
    question = asked.question
    units = members(question, asked.granularity)
    order = ranking(asked.scores, units, np.random.default_rng([asked.seed, question.seed]))
    found = {}
    for operator in asked.operators:
        limits = question.once(
            f"limits {operator} {asked.granularity}",
            lambda name=operator: aopc_limits(question, units, name),  # type: ignore[misc]
        )
        removed = [order.first(count) for count in range(len(units) + 1)]
        variants = [OPERATORS[operator](question, one) for one in removed]
        log_p = question.classifier.log_probabilities(variants)[:, question.target]
        p = np.exp(log_p)
        found[f"naopc {operator}"] = normalised(float(p[0] - p[1:].mean()), limits)
    return found


def _soft(asked: Asked) -> dict[str, float]:
    found = soft(asked.question, asked.scores)
    return {
        "soft_sufficiency": found.sufficiency,
        "soft_comprehensiveness": found.comprehensiveness,
    }


EXTRAS: dict[str, Callable[[Asked], dict[str, float]]] = {
    "naopc": _normalised_aopc,
    "soft": _soft,
    "infidelity": lambda asked: {"infidelity": infidelity(asked.question, asked.scores)},
    "sensitivity": lambda asked: {"max_sensitivity": max_sensitivity(asked.question, asked.method)},
}
