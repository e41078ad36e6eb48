"""Scores of tokens and the certificate, read off a solved flow.

"input" scores a token by its outflow from the input row, as the paper does. "throughput" is its
mean flow over all L + 1 rows: with residual edges a token's rows are its own residual stream.
Either way all scores add up to the value of the flow.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.attribution.data import Certificate, CertificateStatus
from attnflow.solver import Flow


def stage_scores(flow: Flow[Tensor], rows: Sequence[int], readout: str) -> NDArray[np.float64]:
    """`(stages, t)` scores, >= 0 in units of flow, of the problems of one request."""
    if readout == "input":
        return as_array(flow.sink[list(rows)])
    return np.stack([as_array(flow.throughput(row)) for row in rows])


def mean_present(values: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(t,)` mean of `(stages, t)` values over the stages in which a token is present.

    0 for a token that none has, padding.
    """
    count = present.sum(0)
    return np.where(present, values, 0.0).sum(0) / np.maximum(count, 1)


def signed_scores(
    scores: NDArray[np.float64], contributions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`(stages, t)` flow where a token speaks for the decision, its contribution where against.

    A stage's flow is scaled to the sum of its positive contributions, so that both are in the units
    of the explained number. A token whose contribution is negative has no flow of its own: nothing
    enters a node that is worth less than nothing.
    """
    positive = contributions.clip(min=0).sum(1, keepdims=True)
    total = scores.sum(1, keepdims=True)
    scaled = scores * (positive / np.where(total > 0, total, 1.0))
    return np.where(contributions < 0, contributions, scaled)


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The tensor as float64 of numpy."""
    return tensor.detach().cpu().to(torch.float64).numpy()


def certificate(flow: Flow[Tensor], rows: Sequence[int]) -> Certificate:
    """The certificate of the problems of one request: of their mean flow where there are several.

    Means of values and bounds, since a mean of flows is at most the mean of their bounds; the worst
    of everything else.
    """
    some = list(rows)
    error = torch.maximum(flow.centrality[some], flow.stationarity[some])
    return Certificate(
        value=float(flow.value[some].mean()),
        upper_bound=float(flow.upper_bound[some].mean()),
        mu=float(flow.mu[some].max()),
        conservation=float(flow.conservation[some].max()),
        centrality=float(error.max()),
        iterations=int(flow.iterations[some].sum()),
        status=_status([flow.status[row].name.lower() for row in some]),
    )


def _status(names: Sequence[str]) -> CertificateStatus:
    """The worst of the stages': "empty" only where all of them are."""
    worst = max(names, key=("empty", "solved", "iteration_limit", "numerical_limit").index)
    return cast(CertificateStatus, worst)
