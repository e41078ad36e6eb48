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
from attnflow.methods.instance import Instance


def in_stages(
    method: Callable[[Instance], Scores], removed: Sequence[float] = REMOVED
) -> Callable[[Instance], Scores]:
    """The method, asked again without what it found most important.

    Args:
        method: Scores `(t,)` of an instance.
        removed: Shares of the ordinary tokens that are masked in each stage but the first.
    """

    def scores(instance: Instance) -> Scores:
        removable = torch.from_numpy(instance.removable)[None]
        total, stages = np.array(method(instance), dtype=np.float64), np.ones(instance.nodes)
        for share in removed:
            means = torch.from_numpy(total / stages)[None]
            there = ~largest(means, removable, share)[0].numpy()
            total += np.where(there, method(instance.without(~there)), 0.0)
            stages += there
        found: Scores = total / stages
        return found

    return scores
