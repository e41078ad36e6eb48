"""Any method in the stages of removal that `bcf` is made of: what the stages add by themselves.

A token's score is the mean of its scores over the stages in which it is there; the next stage goes
without the share of the tokens that have the largest means so far. Source: ours, as for
`capture.staged_capture`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from attnflow.capture import REMOVED, largest
from attnflow.methods.adapter import Scores
from attnflow.methods.question import Question


def in_stages(
    method: Callable[[Question], Scores], removed: Sequence[float] = REMOVED
) -> Callable[[Question], Scores]:
    """The method, asked again without what it found most important.

    Args:
        method: Scores `(t,)` of a question.
        removed: Shares of the ordinary tokens that are masked in each stage but the first.
    """

    def scores(question: Question) -> Scores:
        removable = torch.from_numpy(question.removable)[None]
        total, stages = np.array(method(question), dtype=np.float64), np.ones(question.nodes)
        for share in removed:
            means = torch.from_numpy(total / stages)[None]
            there = ~largest(means, removable, share)[0].numpy()
            total += np.where(there, method(question.without(~there)), 0.0)
            stages += there
        found: Scores = total / stages
        return found

    return scores
