"""Networks: pruning, the paper's export, its constants."""

import math

import networkx
import pytest
import torch
from support.random_networks import random_capacities

from attnflow import InputError, layered_network, paper_gamma, paper_network, pruned, to_networkx


def test_algorithm_1_numbers_and_connects_as_the_paper_does():
    network = paper_network(layered_network(torch.full((1, 2, 3, 3), 0.25)))

    graph = to_networkx(network)

    assert graph.number_of_nodes() == 3 * (2 + 1) + 2
    assert set(graph.successors(10)) == {7, 8, 9}
    assert set(graph.predecessors(0)) == {1, 2, 3}
    assert all({"capacity", "weight"} <= set(d) for *_, d in graph.edges(data=True))
    inner = [(a, b) for a, b in graph.edges if 0 < a < 10 and 0 < b < 10]
    assert all((a - 1) // 3 == (b - 1) // 3 + 1 for a, b in inner) and len(inner) == 18
    assert graph.edges[0, 10] == {"capacity": 2 * 9 * 0.25 + 6 * 3, "weight": -1.0}
    assert graph.edges[10, 7]["capacity"] == 3


def test_algorithm_2_is_algorithm_1_reversed():
    network = layered_network(random_capacities("sparse", layers=3, t=4))

    one, two = to_networkx(network), to_networkx(network, algorithm=2)

    assert networkx.utils.graphs_equal(two.reverse(), one)


def test_the_export_keeps_every_capacity():
    network = layered_network(random_capacities("uniform", batch=2, layers=2, t=3))

    graph = to_networkx(network, 1)

    assert graph.edges[1 + 6 + 2, 1 + 3 + 0]["capacity"] == network.capacities[1, 1, 2, 0]
    assert graph.nodes[1 + 3 + 2] == {"row": 1, "token": 2}


def test_pruning_keeps_exactly_the_edges_on_a_path():
    network = layered_network(random_capacities("sparse", layers=4, t=6, seed=5))

    kept = pruned(network).capacities[0] > 0

    graph = to_networkx(network)
    graph.remove_edge(0, graph.number_of_nodes() - 1)
    down = networkx.descendants(graph, graph.number_of_nodes() - 1)
    up = networkx.ancestors(graph, 0)
    for layer, query, key in (network.capacities[0] > 0).nonzero().tolist():
        on_path = 1 + (layer + 1) * 6 + query in down and 1 + layer * 6 + key in up
        assert kept[layer, query, key].item() == on_path
    assert 0 < kept.sum() < (network.capacities > 0).sum()


def test_the_papers_super_edges_cannot_bind():
    """Gradients exceed 1: t alone would cut the flow here."""
    network = paper_network(layered_network(torch.full((1, 1, 2, 2), 100.0)))

    assert network.super_capacity.item() >= network.capacities[0, 0].sum(0).max().item()
    attention = paper_network(layered_network(torch.full((1, 1, 4, 4), 0.25)))
    assert attention.super_capacity.item() == 4


def test_gamma_lifts_the_smallest_capacity_above_one():
    network = layered_network(torch.tensor([[[[3e-7, 0.0], [0.2, 1.0]]], [[[0.0] * 2] * 2]]))

    assert paper_gamma(network).tolist() == [pytest.approx(1e7), 1.0]
    assert math.isfinite(paper_gamma(network)[1])


@pytest.mark.parametrize("options", [{"algorithm": 3}, {"index": 1}, {"index": -1}])
def test_the_export_checks_its_arguments(options):
    with pytest.raises(InputError):
        to_networkx(layered_network(torch.ones(1, 1, 2, 2)), **options)


def test_networks_are_scaled_each_by_its_own_factor():
    network = paper_network(layered_network(random_capacities("uniform", batch=3, layers=2, t=3)))
    factor = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)

    scaled = network.scaled(factor)

    for i in range(3):
        assert torch.equal(scaled.capacities[i], network.capacities[i] * factor[i])
    assert torch.equal(scaled.super_capacity, network.super_capacity * factor)


def test_attention_keeps_the_papers_super_capacity():
    """A column that draws most of the attention exceeds t / 2 and still cannot bind."""
    attention = torch.full((1, 2, 6, 6), 0.02)
    attention[..., 0] = 0.9

    assert paper_network(layered_network(attention)).super_capacity.item() == 6
