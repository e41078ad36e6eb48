"""Numbers that no network should have are refused in words, or get a right answer; never NaN."""

import inspect
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from support.hostile_values import faults
from torch import Tensor

from attnflow import paper_gamma, paper_network, pruned, shapley_values, to_networkx
from attnflow.errors import InputError
from attnflow.solver import edge_passes, maximum_flow
from attnflow.solver.certificate import upper_bound
from attnflow.solver.flow import Status
from attnflow.solver.interior_point import first_point
from attnflow.solver.network import LayeredNetwork, layered_network
from attnflow.solver.presolve import live_nodes, presolve

pytestmark = pytest.mark.attack

U = torch.rand(1, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def assert_finite(flow):
    for part in fields(flow):
        value = getattr(flow, part.name)
        assert not isinstance(value, Tensor) or value.isfinite().all(), part.name


@pytest.mark.parametrize("size", [1e306, 1e307, 1.7e308])
def test_a_total_that_overflows_is_refused(size):
    with pytest.raises(InputError, match="add up to more than"):
        maximum_flow(torch.full((1, 3, 40, 40), size, dtype=torch.float64))


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_the_largest_and_least_capacities_are_solved(size):
    flow = maximum_flow(U * size)
    assert flow.status == (Status.SOLVED,)
    torch.testing.assert_close(flow.value / size, maximum_flow(U).value)


def by_hand(**changed):
    network = layered_network(U)
    return LayeredNetwork(**{f.name: getattr(network, f.name) for f in fields(network)} | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(capacities=U.clone().fill_(math.nan)), "capacities must be finite"),
        (dict(capacities=-U), "capacities must be >= 0"),
        (dict(capacities=U.float()), "must be float64"),
        (dict(capacities=U[0]), "4 axes"),
        (dict(capacities=U.tolist()), "must be a torch tensor, got list"),
        (dict(sources=torch.ones(1, 6).long()), "sources of a LayeredNetwork must be torch.bool"),
        (dict(sinks=torch.ones(6, dtype=torch.bool)), r"of shape \(1, 6\)"),
        (dict(super_capacity=torch.tensor([math.nan]).double()), "super_capacity must be > 0"),
        (dict(return_capacity=torch.tensor([0.0]).double()), "return_capacity must be > 0"),
    ],
)
def test_a_network_by_hand_is_checked(changed, message):
    with pytest.raises(InputError, match=message):
        by_hand(**changed)


@pytest.mark.parametrize("factor", [-1, 0, math.nan, math.inf, "x", 10**400])
def test_a_factor_that_is_none_is_refused(factor):
    with pytest.raises(InputError, match="factor must be") as refusal:
        layered_network(U).scaled(factor)
    assert len(str(refusal.value)) < 200


def test_a_factor_that_overflows_is_refused():
    with pytest.raises(InputError, match="capacities"):
        layered_network(U).scaled(1.7e308)


@pytest.mark.parametrize(
    "made",
    [
        lambda: U.to_sparse(),
        lambda: U[0, 0].to_sparse_csr(),
        lambda: U.to("meta"),
        lambda: torch.nested.nested_tensor([U[0], U[0]]),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested")
def test_tensors_without_dense_numbers_are_refused(made):
    with pytest.raises(InputError, match="dense tensor with numbers"):
        maximum_flow(made())


@pytest.mark.parametrize(
    "mask",
    [
        "abc",
        ["a"] * 6,
        [[True], [True, False]],
        {"a": 1},
        np.array([object()] * 6),
        torch.ones(6, dtype=torch.bool, device="meta"),
        object(),
        [10**400] * 6,
    ],
)
@pytest.mark.parametrize("name", ["sources", "sinks"])
def test_masks_that_are_none_are_refused(name, mask):
    with pytest.raises(InputError, match=f"{name} must be") as refusal:
        maximum_flow(U, **{name: mask})
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    "options",
    [
        dict(mu=10**400),
        dict(mu=torch.ones((), device="meta")),
        dict(mu=math.nan),
        dict(mu="1"),
        dict(mu=1e80),
        dict(mu=1e300),
        dict(gap=10**400),
        dict(gap=0),
        dict(gap="1"),
        dict(max_iterations=10**30),
        dict(max_iterations=10**400),
        dict(max_iterations=True),
        dict(max_memory="8GB"),
        dict(max_memory=[1]),
        dict(max_memory=math.nan),
        dict(tolerance=10**400),
    ],
)
def test_options_that_are_none_are_refused(options):
    (name,) = options
    with pytest.raises(InputError, match=name) as refusal:
        maximum_flow(U, **options)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("gap", [5e-324, 1e-300, 1e-100, 1e-15])
def test_a_gap_beyond_float64_gives_no_number_that_is_none(gap):
    flow = maximum_flow(U, gap=gap)
    assert_finite(flow)
    assert flow.status != (Status.EMPTY,) and 0 < flow.value <= flow.upper_bound


@pytest.mark.parametrize("exponent", [-323, -300, -100, *range(-48, 40, 8), 39])
@pytest.mark.parametrize("method", ["primal-dual", "dual"])
def test_weights_of_every_size_give_numbers(exponent, method):
    memory = None if method == "primal-dual" else 1
    flow = maximum_flow(U, mu=10.0**exponent, max_memory=memory)
    assert_finite(flow)
    assert flow.status != (Status.EMPTY,)


def test_a_weight_with_a_graph_is_taken_as_a_number():
    weight = torch.tensor(1e-3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(maximum_flow(U, mu=weight).value, maximum_flow(U, mu=1e-3).value)


@pytest.mark.parametrize(
    ("number", "message"),
    [(math.nan, "must be finite"), (-1.0, "must be >= 0"), (1.7e308, "add up to more than")],
)
def test_capacities_that_change_after_the_network_was_made_are_checked(number, message):
    """All of them: no path would be left, and the flow 0 look certified."""
    network = layered_network(U)
    network.capacities.fill_(number)

    with pytest.raises(InputError, match=message):
        maximum_flow(network)


@pytest.mark.parametrize("factor", [1e-200, 1e-308])
def test_a_factor_that_leaves_no_capacity_is_refused(factor):
    with pytest.raises(InputError, match="factor must leave the sum of each row"):
        layered_network(U * 1e-200).scaled(factor)


@pytest.mark.parametrize("factor", [torch.ones(3), torch.ones(1, 1), torch.ones(1) * 1j])
def test_factors_of_another_shape_or_kind_are_refused(factor):
    with pytest.raises(InputError, match="factor must be"):
        layered_network(U).scaled(factor)


@pytest.mark.parametrize("name", ["capacities", "super_capacity"])
def test_a_network_by_hand_has_no_graph(name):
    part = getattr(layered_network(U), name).clone().requires_grad_()

    with pytest.raises(InputError, match=f"{name} must not require a gradient"):
        by_hand(**{name: part})


def test_a_complex_weight_is_refused():
    with pytest.raises(InputError, match="mu must be real"):
        maximum_flow(U, mu=torch.ones(1, dtype=torch.complex64))


def test_memory_of_any_size_is_taken():
    assert maximum_flow(U, max_memory=10**400).status == (Status.SOLVED,)


def test_a_potential_that_is_no_number_proves_no_bound():
    """Its edges would be left out of the cut, and the bound lie below the flow."""
    network = layered_network(U)
    group = presolve(network, live_nodes(network), torch.tensor([0]), gap=1e-2, mu=None)
    point = first_point(group.problem, group.chain, edge_passes, 0.1)
    assert upper_bound(point, group.problem, group.chain) < 1 + 1e-12
    point.potential[:, 4] = math.nan

    assert upper_bound(point, group.problem, group.chain).tolist() == [1.0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", inspect.signature(maximum_flow).parameters)
def test_every_argument_of_a_flow(keyword):
    assert faults(lambda **given: maximum_flow(**{"capacities": U} | given), keyword) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", ("capacities", "sources", "sinks"))
def test_every_argument_of_a_network(keyword):
    assert faults(lambda **given: layered_network(**{"capacities": U} | given), keyword) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", (paper_gamma, paper_network, pruned, to_networkx))
def test_functions_of_networks(function):
    assert faults(function, "network") == []


@pytest.mark.filterwarnings("ignore")
def test_other_arguments_of_functions_of_networks():
    network = layered_network(U[:, :2, :3, :3])

    assert faults(lambda **given: shapley_values(**{"network": network} | given), "network") == []
    assert faults(lambda gap: shapley_values(network, gap=gap), "gap") == []
    assert faults(lambda index: to_networkx(network, index), "index") == []
    assert faults(lambda algorithm: to_networkx(network, algorithm=algorithm), "algorithm") == []


def test_integers_of_numpy_are_integers():
    network = layered_network(U[:, :2, :3, :3])
    graph = to_networkx(network, np.int64(0), algorithm=np.int64(2))
    assert graph.number_of_edges() == to_networkx(network, 0, algorithm=2).number_of_edges()


def test_a_factor_under_which_a_row_vanishes_is_refused():
    u = U[:, :3].clone()
    u[:, 1] *= 1e-300
    with pytest.raises(InputError, match="sum of each row"):
        layered_network(u).scaled(1e-30)


def test_a_low_limit_of_iterations_names_itself():
    flow = maximum_flow(U.expand(8, -1, -1, -1), max_iterations=2)
    assert set(flow.status) == {Status.ITERATION_LIMIT} and int(flow.iterations.max()) == 2
