"""Any method in the stages of removal that `bcf` is made of: what the stages add by themselves.

A token's score is the mean of its scores over the stages in which it is there; the next stage goes
without the share of the tokens that have the largest means so far. Source: ours, as for
`capture.staged_capture`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from attnflow.capture import REMOVED
from attnflow.methods.question import Question, Scores


def in_stages(
    method: Callable[[Question], Scores], removed: Sequence[float] = REMOVED
) -> Callable[[Question], Scores]:
    """The method, asked again without what it found most important.

    Args:
        method: Scores `(t,)` of a question.
        removed: Shares of the ordinary tokens that are masked in each stage but the first.
    """

    def scores(question: Question) -> Scores:
        total, stages = np.array(method(question), dtype=np.float64), np.ones(len(question.ids))
        for share in removed:
            there = ~_first(total / stages, question, share)
            ids = np.where(there, question.ids, question.neutral_ids)
            text = replace(
                question.text, inputs={**question.text.inputs, "input_ids": ids.tolist()}
            )
            total += np.where(there, method(replace(question, text=text)), 0.0)
            stages += there
        found: Scores = total / stages
        return found

    return scores


def _first(scores: Scores, question: Question, share: float) -> np.ndarray:
    """`(t,)` bool, the share of the ordinary tokens with the largest scores."""
    order = np.argsort(-np.where(question.ordinary, scores, -np.inf), kind="stable")
    gone = np.zeros(len(scores), bool)
    gone[order[: math.ceil(share * question.ordinary.sum())]] = True
    return gone
