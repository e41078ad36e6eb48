"""Agreement with solvers that share nothing with ours."""

import numpy as np
import pytest
import torch
from support.random_networks import random_capacities
from support.reference_solvers import Program, clarabel, exact_maximum, newton

from attnflow import layered_network, maximum_flow, paper_network
from attnflow.solver.flow_game import coalition_values, shapley_values

SMALL = [
    ("uniform", 1, 4),
    ("attention", 3, 3),
    pytest.param("one live row, mild", 2, 4, marks=pytest.mark.slow),
    ("residual", 3, 3),
]


@pytest.mark.parametrize("family, layers, t", SMALL)
@pytest.mark.parametrize("gap", [1e-1, 1e-2])
@pytest.mark.parametrize("form", [lambda network: network, paper_network], ids=["ours", "paper"])
def test_edge_by_edge_with_a_dense_newton_method(family, layers, t, gap, form):
    network = form(layered_network(random_capacities(family, layers=layers, t=t)))
    flow = maximum_flow(network, gap=gap, tolerance=1e-10)

    program = Program(network, flow.mu.item())
    expected = program.dense(newton(program))

    np.testing.assert_allclose(flow.edges[0], expected, rtol=0, atol=1e-8 * flow.value.item())


@pytest.mark.parametrize(
    "family, layers, t", [*SMALL, ("exponential", 3, 12), ("attention", 6, 12)]
)
def test_cvxpy_with_clarabel_where_it_succeeds(family, layers, t):
    network = layered_network(random_capacities(family, layers=layers, t=t))
    flow = maximum_flow(network)

    program = Program(network, flow.mu.item())
    status, flows = clarabel(program, flow.value.item())
    if status != "optimal":
        pytest.skip(f"Clarabel: {status}")

    sinks = program.dense(flows)[0].sum(0)
    np.testing.assert_allclose(flow.sink[0], sinks, rtol=0, atol=2e-4 * flow.value.item())


@pytest.mark.parametrize("family", ["uniform", "25 decades", "small integers", "sparse", "causal"])
@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-6])
def test_the_value_is_within_its_gap_of_the_exact_maximum_flow(family, gap):
    for seed in range(5):
        capacities = random_capacities(family, layers=4, t=10, seed=seed)
        network = layered_network(capacities)
        flow = maximum_flow(network, gap=gap)
        exact, bound = exact_maximum(network), capacities.sum((2, 3)).min().item()

        assert flow.value.item() <= exact * (1 + 1e-9)
        assert flow.value.item() >= exact - gap * bound - 1e-9 * exact
        assert flow.upper_bound.item() >= exact * (1 - 1e-9)


def test_the_core_of_the_flow_game():
    """No set of tokens gets more than it could; all together get the maximum, to the gap."""
    network = layered_network(random_capacities("one live row", layers=3, t=6, seed=2))
    flow = maximum_flow(network, gap=1e-6)

    values = coalition_values(network)

    for members in range(1, 2**6):
        inside = [bool(members >> j & 1) for j in range(6)]
        assert flow.sink[0][inside].sum() <= values[members] * (1 + 1e-5)
    assert flow.value.item() == pytest.approx(values[-1].item(), rel=1e-5)


def test_coalition_values_are_exact_maximum_flows():
    network = layered_network(random_capacities("uniform", layers=2, t=4, seed=1))
    values = coalition_values(network)

    for members in range(1, 2**4):
        sinks = torch.tensor([bool(members >> j & 1) for j in range(4)])
        restricted = layered_network(network.capacities, None, sinks)
        assert values[members].item() == pytest.approx(exact_maximum(restricted), rel=1e-5)


def test_shapley_values_of_the_toy_are_not_its_attributions():
    capacities = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    capacities[0, 1, 0, 0] = 1
    capacities[0, 0, 0] = torch.tensor([1.0, 0.5])
    network = layered_network(capacities)

    shapley = shapley_values(network)
    flow = maximum_flow(network, gap=1e-6)

    assert shapley.tolist() == pytest.approx([3 / 4, 1 / 4], abs=1e-5)
    assert flow.sink[0].tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-5)
    assert shapley.sum().item() == pytest.approx(1, abs=1e-5)
