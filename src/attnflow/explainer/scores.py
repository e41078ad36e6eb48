"""Scores of tokens and the certificate, read off a solved flow.

"input" scores a token by its outflow from the input row, as the paper does. "throughput" is its
mean flow over all L + 1 rows: with residual edges a token's rows are its own residual stream.
Either way all scores add up to the value of the flow.
"""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.attribution.data import Certificate, CertificateStatus
from attnflow.solver import Flow


def token_scores(flow: Flow[Tensor], row: int, readout: str) -> NDArray[np.float64]:
    """`(t,)` scores, >= 0 in units of flow, of problem `row` of the batch."""
    if readout == "input":
        return as_array(flow.sink[row])
    return as_array(flow.throughput(row))


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The tensor as float64 of numpy."""
    return tensor.detach().cpu().to(torch.float64).numpy()


def certificate(flow: Flow[Tensor], row: int) -> Certificate:
    """The certificate of problem `row` of the batch."""
    return Certificate(
        value=float(flow.value[row]),
        upper_bound=float(flow.upper_bound[row]),
        mu=float(flow.mu[row]),
        conservation=float(flow.conservation[row]),
        centrality=float(torch.maximum(flow.centrality[row], flow.stationarity[row])),
        iterations=int(flow.iterations[row]),
        status=cast(CertificateStatus, flow.status[row].name.lower()),
    )
