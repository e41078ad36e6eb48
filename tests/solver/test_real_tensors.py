"""The solver on the tensors it is made for: those of the embedded model, 1 to 512 tokens long."""

import pytest
import torch
from support.reference_solvers import exact_maximum

from attnflow import Explainer, layered_network, maximum_flow
from attnflow.capture import TENSORS, capture

TEXT = (
    "I went in expecting very little, and for the first twenty minutes the film seemed happy to "
    "prove me right: the jokes are tired, the lighting is flat, and nobody can act. Then something "
    "odd happens. The story slows down, a clumsy comedy becomes a tender portrait of two brothers "
    "who never learned to talk, and the last shot is not easily forgotten. "
)


def captured(explainer: Explainer, t: int, tensor: str) -> torch.Tensor:
    """`(1, layers, t, t)` capacities of the first `t` tokens of a long text, special ones incl."""
    inputs = explainer.tokenizer(6 * TEXT, truncation=True, max_length=512, return_tensors="pt")
    kept = {name: torch.cat([x[:, : t - 1], x[:, -1:]], 1) for name, x in inputs.items()}
    return capture(explainer.model, kept, tensor=tensor).capacities


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("t", [1, 2, 3, 16, 64, pytest.param(128, marks=pytest.mark.slow)])
def test_at_most_forty_factorisations_and_the_promised_gap(embedded, tensor, t):
    capacities = captured(embedded, t, tensor).double()
    network = layered_network(capacities)
    exact, bound = exact_maximum(network), capacities.sum((2, 3)).amin(1).item()
    for gap in (1e-1, 1e-2, 1e-4, 1e-6):
        flow = maximum_flow(network, gap=gap)

        flow.raise_for_status()
        assert flow.iterations.item() <= 40
        assert flow.conservation.item() <= 1e-8 and flow.centrality.item() <= 1e-6
        assert exact - gap * bound <= flow.value.item() + 1e-9 * exact
        assert flow.value.item() <= exact * (1 + 1e-9) <= flow.upper_bound.item() * (1 + 2e-9)


@pytest.mark.slow
@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("t", [256, 512])
def test_at_most_forty_factorisations_on_long_texts(embedded, tensor, t):
    flow = maximum_flow(captured(embedded, t, tensor))

    flow.raise_for_status()
    assert flow.iterations.item() <= 40
    assert flow.conservation.item() <= 1e-8 and flow.centrality.item() <= 1e-6
