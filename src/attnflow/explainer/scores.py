"""From a solved flow to the numbers of an attribution: scores of tokens, and the certificate.

"input" scores a token by its outflow from the input row, as the paper does. "throughput" is its
mean flow over all L + 1 rows: with residual edges a token's rows are its own residual stream.
Either way all scores add up to the value of the flow.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.attribution.attribution import Certificate
from attnflow.solver import Flow

READOUTS = ("input", "throughput")


def scores(flow: Flow[Tensor], row: int, readout: str) -> NDArray[np.float64]:
    """`(t,)` scores, >= 0 in units of flow, of problem `row` of the batch."""
    if readout == "input":
        return array(flow.sink[row])
    return array(flow.throughput(row))


def array(tensor: Tensor) -> NDArray[Any]:
    """The tensor as float64 on the CPU."""
    return tensor.detach().cpu().to(torch.float64).numpy()


def certificate(flow: Flow[Tensor], row: int) -> Certificate:
    """Why the flow of problem `row` can be believed."""
    return Certificate(
        value=float(flow.value[row]),
        upper_bound=float(flow.upper_bound[row]),
        mu=float(flow.mu[row]),
        conservation=float(flow.conservation[row]),
        centrality=float(torch.maximum(flow.centrality[row], flow.stationarity[row])),
        iterations=int(flow.iterations[row]),
        status=flow.status[row].name.lower(),
    )
