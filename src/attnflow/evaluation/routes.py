"""Which attention edges carry a decision: knock out the best and watch it fall, or keep only those.

A route names a number for every attention edge `(layers, t, t)`. Residual connections stay whole.
An edge of `cf` from a token to itself carries attention and residual together; what the flow sends
there is shared between the two as their capacities are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attnflow.capture import only_edges
from attnflow.methods import Question, Scores
from attnflow.methods.attention import READ
from attnflow.methods.decomposition import edge_importance
from attnflow.methods.internals import forward, internals
from attnflow.methods.readings import walked
from attnflow.methods.tensors import TENSORS, Signed
from attnflow.solver import maximum_flow

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
AT_ONCE = 8


@dataclass(frozen=True)
class Surviving:
    """Probabilities of the explained class, `(shares,)` each."""

    whole: float
    knocked_out: Scores
    kept: Scores


def _random(question: Question) -> Tensor:
    t = len(question.ids)
    layers = question.classifier.model.config.num_hidden_layers
    drawn = np.random.default_rng(question.seed).random((layers, t, t))
    return torch.from_numpy(drawn)


def _patching(question: Question) -> Tensor:
    """Attribution patching: gradient times weight, summed over heads, with its sign."""
    found = internals(question)
    return (found.attention * found.gradient).sum(1).double()


def information_flow_routes(question: Question) -> Tensor:
    """The largest threshold at which an edge is still in the graph grown from the token read down.

    An edge enters if it weighs more than the threshold and its upper node is in: its rank is that
    of the weakest edge on the best way to it. Of a token's feed-forward and residual parts one has
    at least half, so that these never cut it off. Source: Ferrando & Voita (2024).
    """
    attention, residual = edge_importance(question)
    reached = torch.zeros(attention.shape[-1])
    reached[READ] = 1.0
    found = []
    for edges, kept in zip(attention.flip(0), residual.flip(0), strict=True):
        found.append(torch.minimum(edges, reached[:, None]))
        ways = torch.minimum(edges + kept.diag(), reached[:, None])
        reached = ways.amax(0)
    return torch.stack(found[::-1]).double()


def _capacity(tensor: str) -> Callable[[Question], Tensor]:
    return lambda question: TENSORS[tensor](question).attention.relu()


def _flow(tensor: str) -> Callable[[Question], Tensor]:
    def route(question: Question) -> Tensor:
        edges = TENSORS[tensor](question)
        flow = maximum_flow(edges.positive[None])
        flow.raise_for_status()
        return _of_attention(edges, flow.edges[0])

    return route


def _paths(tensor: str) -> Callable[[Question], Tensor]:
    """The weakest edge's flow on the best whole path through each edge: paths enter at once."""

    def route(question: Question) -> Tensor:
        edges = TENSORS[tensor](question)
        flow = maximum_flow(edges.positive[None])
        flow.raise_for_status()
        return _of_attention(edges, best_path_through(flow.edges[0]))

    return route


def best_path_through(flow: Tensor) -> Tensor:
    """`(layers, t, t)` for each edge the largest bottleneck of a path from top to input over it."""
    above = [flow[-1].sum(-1)]
    for layer in flow.flip(0):
        above.append(torch.minimum(above[-1][:, None], layer).amax(0))
    below = [flow[0].sum(0)]
    for layer in flow:
        below.append(torch.minimum(layer, below[-1][None]).amax(1))
    tops = torch.stack(above[:-1][::-1])[:, :, None]
    bottoms = torch.stack(below[:-1])[:, None]
    return torch.minimum(torch.minimum(flow, tops), bottoms)


def _walk(tensor: str) -> Callable[[Question], Tensor]:
    """What a random walk from the top sends along each edge: the flow's ablation."""

    def route(question: Question) -> Tensor:
        edges = TENSORS[tensor](question)
        return _of_attention(edges, walked(edges.positive)[1])

    return route


def _of_attention(edges: Signed, flow: Tensor) -> Tensor:
    attention, whole = edges.attention.relu(), edges.positive
    return flow * attention / whole.clamp(min=1e-300)


ROUTES: dict[str, Callable[[Question], Tensor]] = {
    "random": _random,
    "attention": lambda question: forward(question).mean_attention.double(),
    "patching": _patching,
    "information-flow-routes": information_flow_routes,
    **{
        f"{tensor} capacity": _capacity(tensor)
        for tensor in ("agf", "norm", "alti", "cf", "cf4", "bcf")
    },
    **{f"{tensor} walk": _walk(tensor) for tensor in ("alti", "cf", "bcf")},
    **{f"{tensor} paths": _paths(tensor) for tensor in ("cf", "bcf")},
    **{f"{tensor} flow": _flow(tensor) for tensor in ("af", "agf", "cf", "cf4", "bcf")},
}


def surviving(
    question: Question, edges: Tensor, shares: Sequence[float] = SHARES, *, seed: int = 0
) -> Surviving:
    """What is left of the prediction without the best edges, and with these alone.

    Args:
        question: Of one text.
        edges: `(layers, t, t)` a number for each attention edge, large for the first to go.
        shares: Of all attention edges, rounded up to whole ones.
        seed: Of the order of ties.
    """
    top = _tops(edges, shares, seed)
    kept = torch.cat([torch.ones_like(top[:1]), ~top, top])
    found = np.concatenate([_probabilities(question, part) for part in torch.split(kept, AT_ONCE)])
    knocked_out, alone = found[1:].reshape(2, len(shares))
    return Surviving(float(found[0]), knocked_out, alone)


def _tops(edges: Tensor, shares: Sequence[float], seed: int) -> Tensor:
    """`(shares, layers, t, t)` bool, the best edges at each share."""
    flat = edges.flatten().numpy()
    shuffled = np.random.default_rng(seed).permutation(len(flat))
    order = shuffled[np.argsort(-flat[shuffled], kind="stable")]
    top = torch.zeros(len(shares), len(flat), dtype=torch.bool)
    for row, share in enumerate(shares):
        top[row, order[: math.ceil(share * len(flat))]] = True
    return top.view(len(shares), *edges.shape)


def _probabilities(question: Question, kept: Tensor) -> Scores:
    model, device = question.classifier.model, question.classifier.device
    ids = torch.from_numpy(question.ids).to(device).expand(len(kept), -1)
    with torch.inference_mode(), only_edges(model, kept.to(device)):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    found: Scores = logits.double().softmax(-1)[:, question.target].cpu().numpy()
    return found
