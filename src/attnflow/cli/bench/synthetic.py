"""Random capacities like those of attention, of any size; needs no model.

Networks that are hard to solve, for tests, are drawn by `tests/support/random_networks.py`.
"""

import torch
from torch import Tensor


def attention_capacities(
    shape: tuple[int, int, int, int],
    *,
    one_live_row: bool = True,
    causal: bool = False,
    device: str = "cpu",
) -> Tensor:
    """`(batch, layers, t, t)` float32 like attention: softmax of three times normal numbers.

    Args:
        shape: batch, layers, t, t.
        one_live_row: Only the last row of the top layer, as where a model decides.
        causal: No edge to a later position.
        device: Where they are made, layer by layer, for they may nearly fill it.
    """
    generator = torch.Generator(device).manual_seed(0)
    capacities = torch.empty(shape, device=device)
    for layer in range(shape[1]):
        scores = capacities[:, layer].normal_(std=3, generator=generator)
        if causal:
            later = torch.ones(shape[2:], dtype=torch.bool, device=device).triu(1)
            scores.masked_fill_(later, -torch.inf)
        capacities[:, layer] = scores.softmax(-1)
    if one_live_row:
        capacities[:, -1, :-1] = 0
    return capacities
