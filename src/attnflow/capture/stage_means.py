"""Means over stages of removal, and scores with signs: what stages say of a token together.

All arguments are `(stages, ..., t)`; read next: staged.py.
"""

import torch
from torch import Tensor


def mean_present(values: Tensor, present: Tensor) -> Tensor:
    """`(..., t)` mean over the stages in which a token is present; 0 where it is in none.

    Args:
        values: Numbers of each stage.
        present: Bool, true where the stage has the token.
    """
    # A removed token has nothing in its stage, which says nothing of its worth: it would otherwise
    # lose rank for having been the first to be removed.
    return values.where(present, 0.0).sum(0) / present.sum(0).clamp(min=1)


def signed_scores(flow: Tensor, contributions: Tensor) -> Tensor:
    """Flow where a token speaks for the decision, and its contribution where it speaks against.

    A stage's flow is scaled to the sum of the positive contributions of the nodes that have some,
    so that both are in the units of the explained number. A token that is worth less than nothing
    has no flow: nothing enters its node.

    Args:
        flow: Scores of each stage, >= 0.
        contributions: Signed effects of each stage's input nodes.
    """
    # Without nodes that speak for it and have no flow, such as a first token that was excluded.
    positive = contributions.clamp(min=0).where(flow > 0, 0.0).sum(-1, keepdim=True)
    total = flow.sum(-1, keepdim=True)
    return torch.where(
        contributions < 0, contributions, flow * (positive / total.where(total > 0, 1.0))
    )
