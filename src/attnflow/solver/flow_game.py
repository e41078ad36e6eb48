"""The flow game on small inputs: the flow each set of tokens could receive, and Shapley values.

v(S) is the maximum flow when only the tokens of S drain into the super-target. Attributions by
maximum flow lie in the core of this game, read as one of costs. That is, no set gets more than
v(S), and all together get v of all, up to the gap. They are the Shapley values of the additive game
that the fixed flow induces (Ethayarajh & Jurafsky 2021). They are not in general the Shapley values
of v, which this file computes to show the difference. Neither is a Shapley value of the model.
"""

from dataclasses import replace
from math import factorial

import torch
from torch import Tensor

from attnflow.errors import InputError
from attnflow.solver import maximum_flow
from attnflow.solver.network import LayeredNetwork, check_network

MOST_PLAYERS = 12  # 4,096 networks in one batch


def coalition_values(network: LayeredNetwork, *, gap: float = 1e-6) -> Tensor:
    """`(2**t,)` float64 v of each set of inputs; bit j of the index is set if token j is in it.

    Args:
        network: One network (batch of 1) with at most 12 tokens.
        gap: Accuracy of each value, as in `maximum_flow`.

    Raises:
        InputError: More than one network, or more tokens than that; or it is none.
        UnsolvedError: A value could not be certified.
    """
    check_network(network)
    batch, _, t, _ = network.capacities.shape
    if batch != 1:
        raise InputError(f"network must be one network, got a batch of {batch}.")
    if t > MOST_PLAYERS:
        raise InputError(
            f"the flow game of {t} tokens has 2**{t} sets; at most {MOST_PLAYERS} tokens are "
            "supported."
        )
    sets = torch.arange(2**t, device=network.capacities.device)
    member = (sets[:, None] >> torch.arange(t, device=sets.device)) & 1
    games = replace(
        network,
        capacities=network.capacities.expand(len(sets), -1, -1, -1),
        sources=network.sources.expand(len(sets), -1),
        sinks=network.sinks & member.bool(),
        super_capacity=network.super_capacity.expand(len(sets)),
        return_capacity=network.return_capacity.expand(len(sets)),
    )
    flow = maximum_flow(games, gap=gap)
    flow.raise_for_status()
    return flow.value


def shapley_values(network: LayeredNetwork, *, gap: float = 1e-6) -> Tensor:
    """`(t,)` float64 Shapley values of the flow game; arguments as in `coalition_values`."""
    values = coalition_values(network, gap=gap)
    t = network.capacities.shape[-1]
    sets = torch.arange(len(values), device=values.device)
    size = sum((sets >> j) & 1 for j in range(t))
    weights = [factorial(s) * factorial(t - s - 1) / factorial(t) for s in range(t)] + [0.0]
    weight = torch.tensor(weights, dtype=values.dtype, device=values.device)[size]
    shares = []
    for token in range(t):
        without = sets[(sets >> token) & 1 == 0]
        gain = values[without | (1 << token)] - values[without]
        shares.append((weight[without] * gain).sum())
    return torch.stack(shares)
