"""The block factorisation against a dense solve, and its accuracy over many decades."""

import pytest
import torch
from families import random_capacities

from attnflow.solver.block_tridiagonal import factor
from attnflow.solver.edges import Layout


def dense_laplacian(layout: Layout, weights: torch.Tensor) -> torch.Tensor:
    """B' W B column by column, from the maps between edges and nodes."""
    unit = torch.eye(layout.nodes, dtype=torch.float64)
    return torch.stack([layout.imbalance(weights * layout.tension(y[None]))[0] for y in unit], 1)


@pytest.mark.parametrize("layers, t", [(1, 1), (1, 4), (3, 1), (4, 5)])
def test_solves_as_a_dense_solver_does(layers, t):
    layout = Layout(layers, t)
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(1, layout.edges, generator=generator, dtype=torch.float64) + 0.1
    right = torch.randn(1, layout.nodes, 2, generator=generator, dtype=torch.float64)

    solution = factor(*layout.split(weights)).solve(right)

    expected = torch.linalg.solve(dense_laplacian(layout, weights), right[0])
    torch.testing.assert_close(solution[0], expected, rtol=1e-10, atol=1e-12)


def test_every_node_is_accurate_relative_to_its_own_weight():
    """Weights over fifty decades: the residual is small at each node, not only overall."""
    layout = Layout(4, 6)
    weights = random_capacities("uniform", layers=1, t=13).flatten()[: layout.edges][None]
    weights = 10 ** (-50 * weights)

    factored = factor(*layout.split(weights))
    right = layout.imbalance(weights * 0.3)
    solution = factored.solve(right[..., None])[..., 0]

    residual = right - layout.imbalance(weights * layout.tension(solution))
    throughput = layout.imbalance(weights * 0).new_zeros(right.shape)
    layers, source, sink, back = layout.split(weights)
    throughput = torch.cat(
        [
            torch.cat([layers.sum(2), source[:, None]], 1).flatten(1)
            + torch.cat([sink[:, None], layers.sum(3)], 1).flatten(1),
            (source.sum(1) + back)[:, None],
        ],
        1,
    )
    size = throughput * solution.abs().amax()
    assert not factored.failed.any()
    assert (residual.abs() / size).max() < 1e-12


def test_tension_and_imbalance_are_transposes():
    layout = Layout(3, 4)
    generator = torch.Generator().manual_seed(1)
    edges = torch.randn(2, layout.edges, generator=generator, dtype=torch.float64)
    nodes = torch.randn(2, layout.nodes, generator=generator, dtype=torch.float64)

    left = (layout.tension(nodes) * edges).sum(1)
    right = (nodes * layout.imbalance(edges)).sum(1)

    torch.testing.assert_close(left, right)
    assert not torch.allclose(left, torch.zeros_like(left))
