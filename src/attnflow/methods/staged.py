"""Any method in the stages of removal of `bcf`, to see what the stages add by themselves.

A token's score is the mean of its scores over the stages in which it is present. The next stage
masks the share of the tokens with the largest means so far. Source: ours, as for
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
    """Return the method, asked again and again with its most important tokens masked.

    Args:
        method: Scores `(t,)` of an instance.
        removed: Shares of the ordinary tokens that are masked in each stage but the first.
    """

    def scores(instance: Instance) -> Scores:
        # Nodes that look the same when masked can never be removed, nor count as a share.
        removable = torch.from_numpy(instance.removable)[None]
        total, stages = np.array(method(instance), dtype=np.float64), np.ones(instance.nodes)
        for share in removed:
            means = torch.from_numpy(total / stages)[None]
            present = ~largest(means, removable, share)[0].numpy()
            total += np.where(present, method(instance.mask(~present)), 0.0)
            stages += present
        return total / stages

    return scores
