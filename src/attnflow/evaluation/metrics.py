"""Faithfulness metrics, as pure functions of log-probabilities.

`whole` is log p(x) of the explained class, `(n,)`; `removed` `(n, steps)` is log p with the top
share of each step removed, `kept` with nothing else kept. Probabilities are of the class that is
explained, from log-softmax in float64: differences are signed, but for `absolute_aopc`.

    aopc               mean over steps of p(x) - p(removed)             higher is better
    log_odds           mean over steps of log p(removed) - log p(x)     lower
    sufficiency        mean over steps of p(x) - p(kept)                lower
    deletion_auc       mean over steps of p(removed)                    lower
    insertion_auc      mean over steps of p(kept)                       higher
    absolute_aopc      mean over steps of |p(x) - p(removed)|           as AttCAT's code has it

Comprehensiveness is the name that ERASER gives to `aopc`; its shares are 1, 5, 10, 20 and 50 %.
Log-odds is the lineage's name for a log ratio of probabilities; `logit_drop` is the difference
of log-odds proper. `absolute_aopc` counts a rise of the probability like a fall, which flatters
poor methods; it is here to compare with numbers of that lineage.

Sources: Samek et al. (2017); Chen, Zheng & Ji (2020); DeYoung et al. (2020); Petsiuk et al. (2018).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def aopc(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean drop of the probability; comprehensiveness."""
    found: Values = np.exp(whole) - np.exp(removed).mean(1)
    return found


def log_odds(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean log ratio of the probabilities."""
    found: Values = removed.mean(1) - whole
    return found


def logit_drop(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean drop of log p / (1 - p)."""
    found: Values = _logit(whole) - _logit(removed).mean(1)
    return found


def sufficiency(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean drop of the probability when only the top is kept."""
    found: Values = np.exp(whole) - np.exp(kept).mean(1)
    return found


def deletion_auc(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean probability along the removal."""
    found: Values = np.exp(removed).mean(1)
    return found


def insertion_auc(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean probability along the insertion."""
    found: Values = np.exp(kept).mean(1)
    return found


def absolute_aopc(whole: Values, removed: Values, kept: Values) -> Values:
    """`(n,)` mean size of the probability's change."""
    found: Values = np.abs(np.exp(whole)[:, None] - np.exp(removed)).mean(1)
    return found


def _logit(log_p: Values) -> Values:
    """log p / (1 - p), without cancellation at either end."""
    found: Values = log_p - np.log(-np.expm1(np.minimum(log_p, -1e-300)))
    return found


METRICS: dict[str, Callable[[Values, Values, Values], Values]] = {
    "aopc": aopc,
    "log_odds": log_odds,
    "logit_drop": logit_drop,
    "sufficiency": sufficiency,
    "deletion_auc": deletion_auc,
    "insertion_auc": insertion_auc,
    "absolute_aopc": absolute_aopc,
}
OF_KEPT = frozenset({"sufficiency", "insertion_auc"})
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
