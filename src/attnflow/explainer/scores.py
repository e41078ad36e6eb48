"""Scores of tokens and the certificate, read off a solved flow.

"input" scores a token by its outflow from the input row, as the paper does. "throughput" is its
mean flow over all L + 1 rows: with residual edges a token's rows are its own residual stream.
Either way all scores add up to the value of the flow.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.attribution.data import Certificate, CertificateStatus
from attnflow.solver import Flow


def stage_scores(flow: Flow[Tensor], rows: Sequence[int], readout: str) -> Tensor:
    """`(stages, nodes)` scores, >= 0 in units of flow, of the problems of one request."""
    if readout == "input":
        return flow.sink[list(rows)].cpu()
    return torch.stack([flow.throughput(row) for row in rows]).cpu()


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
