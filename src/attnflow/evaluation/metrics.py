"""Faithfulness metrics, as pure functions of log-probabilities.

All have the same arguments, log-probabilities of the explained class by log-softmax in float64:

    whole     `(n,)`        of the whole content
    removed   `(n, steps)`  with the top share of each step removed
    kept      `(n, steps)`  with the top share of each step kept alone

Differences are signed, except in `absolute_aopc`.

    aopc               mean over steps of p(x) - p(removed)             higher is better
    log_odds           mean over steps of log p(removed) - log p(x)     lower
    sufficiency        mean over steps of p(x) - p(kept)                lower
    deletion_auc       mean over steps of p(removed)                    lower
    insertion_auc      mean over steps of p(kept)                       higher
    absolute_aopc      mean over steps of |p(x) - p(removed)|           as AttCAT's code has it
    logit_drop         mean over steps of lo(x) - lo(removed), lo = log p / (1 - p)      higher
    area_between       mean over steps of lo(kept) - lo(removed)                         higher

Comprehensiveness is the name that ERASER gives to `aopc`; its shares are 1, 5, 10, 20 and 50 %.
What AttCAT and its successors call log-odds is a log ratio of probabilities; `logit_drop` is the
difference of log-odds proper. `absolute_aopc` counts a rise of the probability like a fall, which
flatters poor methods; it is here to compare with the numbers of those papers.

Sources: Samek et al. (2017); Chen, Zheng & Ji (2020); DeYoung et al. (2020); Petsiuk et al. (2018).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from attnflow.methods.adapter import log_odds_of

Values = NDArray[np.float64]


def aopc(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean drop of the probability, -1 to 1, also called comprehensiveness."""
    return np.exp(whole) - np.exp(removed).mean(1)


def log_odds(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean log ratio of the probabilities."""
    return removed.mean(1) - whole


def logit_drop(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean drop of log p / (1 - p)."""
    return log_odds_of(whole) - log_odds_of(removed).mean(1)


def sufficiency(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean drop of the probability when only the top is kept, -1 to 1."""
    return np.exp(whole) - np.exp(kept).mean(1)


def deletion_auc(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean probability along the removal, 0 to 1."""
    return np.exp(removed).mean(1)


def insertion_auc(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean probability along the insertion, 0 to 1."""
    return np.exp(kept).mean(1)


def absolute_aopc(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean absolute change of the probability, 0 to 1."""
    return np.abs(np.exp(whole)[:, None] - np.exp(removed)).mean(1)


def area_between(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean log-odds of what is kept less those of what is left without it.

    The area between the curves of removing the least important first and the most important first.
    """
    return log_odds_of(kept).mean(1) - log_odds_of(removed).mean(1)


METRICS: dict[str, Callable[[Values, Values, Values], Values]] = {
    "aopc": aopc,
    "log_odds": log_odds,
    "logit_drop": logit_drop,
    "area_between": area_between,
    "sufficiency": sufficiency,
    "deletion_auc": deletion_auc,
    "insertion_auc": insertion_auc,
    "absolute_aopc": absolute_aopc,
}
OF_KEPT = frozenset({"sufficiency", "insertion_auc", "area_between"})
LOWER_IS_BETTER = frozenset(
    {
        "log_odds",
        "log_odds_median",
        "log_odds_trimmed",
        "log_odds_steps",
        "sufficiency",
        "deletion_auc",
        "deletion_auc_steps",
        "infidelity",
        "max_sensitivity",
    }
)
