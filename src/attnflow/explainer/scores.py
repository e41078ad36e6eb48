"""Scores of tokens and the certificate, read off a solved flow.

"input" scores a token by its outflow from the input row, as the paper does. "throughput" is its
mean flow over all L + 1 rows: with residual edges a token's rows are its own residual stream.
Either way the scores of one stage add up to the value of its flow.
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


def stage_edges(edges: Tensor, present: Tensor) -> Tensor:
    """`(layers, nodes, nodes)` one flow of all stages, which ends at the mean scores of the tokens.

    A score is a mean over the stages that have its token, so that tokens have weights of their own,
    and the mean of the stages' flows ends elsewhere. So each stage's flow is split by the token at
    which it ends, every node dividing what arrives in proportion, and each part has the weight of
    its token. Every part is a flow, and so is their sum.

    Args:
        edges: `(stages, layers, nodes, nodes)` flows, layer 0 next to the tokens; query, then key.
        present: `(stages, nodes)` bool, nodes that a stage has not removed.
    """
    total = torch.zeros_like(edges[0])
    # Weight of what arrives at a node: of a token its own, above the mean of where it flows to.
    weight = present.to(edges) / present.sum(0).clamp(min=1).to(edges)
    for layer in range(edges.shape[1]):
        weighted = edges[:, layer] * weight[:, None, :]
        total[layer] = weighted.sum(0)
        leaves = edges[:, layer].sum(-1)
        weight = weighted.sum(-1) / leaves.where(leaves > 0, 1.0)
    return total


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
