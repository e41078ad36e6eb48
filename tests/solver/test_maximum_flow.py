"""Properties of the barrier flow that need no second solver."""

import math

import numpy as np
import pytest
import torch
from support.random_networks import FAMILIES, random_capacities

from attnflow import Flow, InputError, Status, UnsolvedError, layered_network, maximum_flow
from attnflow.solver import backend, batching, edge_passes, memory, primal_dual
from attnflow.solver.flow import Method
from attnflow.solver.network import paper_gamma, paper_network

TOY = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]], dtype=torch.float64)


def assert_certified(flow: Flow, capacities: torch.Tensor) -> None:
    """Feasible, interior, central, and below its own bound."""
    assert all(status.is_certified for status in flow.status)
    edges, live = flow.edges, flow.edges > 0
    assert (edges >= 0).all() and (edges[live] < capacities[live]).all()
    above = torch.cat([edges.sum(2), flow.source[:, None]], 1)
    below = torch.cat([flow.sink[:, None], edges.sum(3)], 1)
    scale = flow.value.clamp(min=1e-300)
    assert ((above - below).abs().amax((1, 2)) <= 1e-8 * scale).all()
    assert ((flow.sink.sum(1) - flow.value).abs() <= 1e-8 * scale).all()
    assert (flow.conservation <= 1e-8).all()
    assert (flow.centrality <= 1e-6).all() and (flow.stationarity <= 1e-6).all()
    assert (flow.value <= flow.upper_bound * (1 + 1e-12)).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers, t", [(1, 1), (1, 6), (4, 1), (3, 2), (6, 9), (2, 33)])
@pytest.mark.parametrize("gap", [0.5, 1e-2, 1e-5])
def test_every_family_gets_a_certificate_and_the_promised_gap(family, layers, t, gap):
    capacities = random_capacities(family, batch=3, layers=layers, t=t, seed=layers + t)

    flow = maximum_flow(capacities, gap=gap)

    assert_certified(flow, capacities)
    bound = capacities.sum((2, 3)).amin(1)
    assert (flow.upper_bound - flow.value <= gap * bound * (1 + 1e-9)).all()


@pytest.mark.slow
def test_a_thousand_random_networks_are_solved_within_budget():
    """Budget: 30 factorisations each, 15 for nine in ten; sizes, families and gaps at random."""
    generator = np.random.default_rng(0)
    iterations = []
    for seed in range(50):
        family = generator.choice(list(FAMILIES))
        layers, t = int(generator.integers(1, 13)), int(generator.integers(1, 25))
        capacities = random_capacities(family, batch=20, layers=layers, t=t, seed=seed)
        flow = maximum_flow(capacities, gap=10.0 ** -generator.uniform(0.5, 6))
        assert_certified(flow, capacities)
        iterations += flow.iterations.tolist()
    assert len(iterations) == 1000
    assert max(iterations) <= 30
    assert np.quantile(iterations, 0.9) <= 15


def test_the_start_keeps_uncapacitated_edges_finite():
    """Many decades meet the sinks at once where there is but one layer."""
    capacities = random_capacities("one live row", batch=50, layers=1, t=40, seed=1)

    flow = maximum_flow(capacities, gap=0.1)

    assert_certified(flow, capacities)
    assert flow.iterations.max() <= 15


def test_toy_of_two_inputs():
    """A top edge of 1 feeds inputs of capacity 1 and 1/2: the barrier's limit is (2/3, 1/3)."""
    flow = maximum_flow(TOY, gap=1e-9)

    assert flow.sink[0].tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-8)


@pytest.mark.parametrize("factor", [1e-9, 0.3, 1e12])
def test_homogeneity(factor):
    """x(g u, g mu) = g x(u, mu); a relative gap scales by itself."""
    capacities = random_capacities("one live row", layers=4, t=7)
    mu = 1e-6

    absolute = maximum_flow(capacities, mu=mu)
    scaled = maximum_flow(factor * capacities, mu=factor * mu)
    relative = maximum_flow(factor * capacities).sink / maximum_flow(capacities).sink

    torch.testing.assert_close(scaled.edges, factor * absolute.edges, rtol=1e-8, atol=0)
    torch.testing.assert_close(relative, torch.full_like(relative, factor), rtol=1e-8, atol=0)


def test_gamma_only_rescales_mu():
    network = paper_network(layered_network(random_capacities("attention", layers=3, t=6)))
    gamma = paper_gamma(network).item()

    plain = maximum_flow(network, mu=1e-4)
    scaled = maximum_flow(network.scaled(gamma), mu=gamma * 1e-4)

    assert gamma * network.capacities.min().item() >= 1
    torch.testing.assert_close(scaled.edges, gamma * plain.edges, rtol=1e-8, atol=0)


def test_reversal_gives_the_same_flow_on_every_edge():
    """Algorithm 2 of the paper is Algorithm 1 with every edge reversed."""
    capacities = random_capacities("25 decades", layers=4, t=6)
    sources, sinks = torch.arange(6) < 4, torch.arange(6) > 0

    forward = maximum_flow(capacities, sources, sinks)
    backward = maximum_flow(capacities.flip(1).mT.contiguous(), sinks, sources)

    torch.testing.assert_close(backward.edges.flip(1).mT, forward.edges, rtol=1e-7, atol=1e-16)


def test_permuting_tokens_permutes_the_flow():
    capacities = random_capacities("attention", layers=3, t=8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))

    flow = maximum_flow(capacities)
    permuted = maximum_flow(capacities[:, :, order][..., order])

    torch.testing.assert_close(permuted.sink, flow.sink[:, order], rtol=1e-9, atol=0)


def test_equal_tokens_get_equal_shares():
    capacities = random_capacities("exponential", layers=3, t=6)
    capacities[:, 0, :, 4] = capacities[:, 0, :, 1]

    flow = maximum_flow(capacities)

    assert flow.sink[0, 4].item() == pytest.approx(flow.sink[0, 1].item(), rel=1e-9)
    assert flow.sink[0, 4].item() != pytest.approx(flow.sink[0, 0].item(), rel=1e-3)


def test_a_token_without_incoming_capacity_gets_exactly_nothing():
    capacities = random_capacities("uniform", layers=3, t=6)
    capacities[:, 0, :, 2] = 0

    assert maximum_flow(capacities).sink[0, 2].item() == 0


def test_edges_that_lead_nowhere_carry_nothing_and_change_nothing():
    capacities = random_capacities("uniform", layers=3, t=6)
    capacities[:, 0, 3] = 0
    without = capacities.clone()
    without[:, 1, :, 3] = 0

    flow, clean = maximum_flow(capacities), maximum_flow(without)

    assert (flow.edges[:, 1, :, 3] == 0).all()
    torch.testing.assert_close(flow.edges, clean.edges, rtol=0, atol=0)


@pytest.mark.parametrize("start", [1.0, 1e3, 1e5])
def test_the_optimum_does_not_depend_on_the_start(monkeypatch, start):
    capacities = random_capacities("one live row", batch=4, layers=5, t=9)
    usual = maximum_flow(capacities, tolerance=1e-11)

    monkeypatch.setattr(primal_dual, "NEAR", start)
    other = maximum_flow(capacities, tolerance=1e-11)

    assert (usual.iterations != other.iterations).any()
    torch.testing.assert_close(other.edges, usual.edges, rtol=1e-8, atol=1e-18)


def test_batch_mates_and_padding_change_nothing():
    sizes = [1, 3, 8, 13]
    alone = [random_capacities("attention", layers=3, t=t, seed=t) for t in sizes]
    batch = torch.zeros(len(sizes), 3, 13, 13, dtype=torch.float64)
    for row, capacities in enumerate(alone):
        t = capacities.shape[-1]
        batch[row, :, :t, :t] = capacities[0]

    together = maximum_flow(batch)

    for row, capacities in enumerate(alone):
        single, t = maximum_flow(capacities), capacities.shape[-1]
        assert single.iterations.item() == together.iterations[row].item()
        torch.testing.assert_close(
            together.edges[row, :, :t, :t], single.edges[0], rtol=1e-9, atol=0
        )
        assert together.sink[row, t:].abs().sum() == 0


def test_a_network_that_cannot_be_solved_ends_alike_alone_and_in_a_batch():
    """Two hundred decades. Rounding decided whether the limit was float64's or of iterations."""
    generator = np.random.default_rng(3)
    unsolved = 0
    for _ in range(20):
        layers, t = int(generator.integers(1, 12)), int(generator.integers(4, 16))
        sizes = generator.integers(max(1, t - 4), t + 1, 6).tolist()
        batch = torch.zeros(6, layers, t, t, dtype=torch.float64)
        for row, size in enumerate(sizes):
            u = 10 ** (-200 * generator.random((layers, size, size)))
            batch[row, :, :size, :size] = torch.from_numpy(u)

        together = maximum_flow(batch)

        for row, size in enumerate(sizes):
            alone = maximum_flow(batch[row : row + 1, :, :size, :size])
            assert together.status[row] == alone.status[0]
            if not alone.status[0].is_certified:
                unsolved += 1
                assert torch.equal(together.edges[row, :, :size, :size], alone.edges[0])
                assert together.iterations[row] == alone.iterations[0]
    assert unsolved >= 10


def test_a_batch_too_large_for_memory_is_solved_in_parts(monkeypatch):
    capacities = random_capacities("uniform", batch=7, layers=2, t=4)
    whole = maximum_flow(capacities)

    monkeypatch.setattr(batching, "EDGES_AT_ONCE", 100)
    parts = maximum_flow(capacities)

    torch.testing.assert_close(parts.edges, whole.edges, rtol=1e-9, atol=0)
    assert parts.status == whole.status


@pytest.mark.parametrize("family", FAMILIES)
def test_the_dual_method_gives_the_same_flow_in_less_memory(family):
    capacities = random_capacities(family, batch=2, layers=4, t=9)

    for gap in (1e-1, 1e-2, 1e-5):
        usual = maximum_flow(capacities, gap=gap, tolerance=1e-11)
        lean = maximum_flow(capacities, gap=gap, tolerance=1e-11, max_memory=1)

        assert_certified(lean, capacities)
        torch.testing.assert_close(lean.sink, usual.sink, rtol=1e-7, atol=1e-15)
        assert set(lean.method) == {Method.DUAL}
        assert set(usual.method) == {Method.PRIMAL_DUAL}


@pytest.mark.parametrize("networks", [1, 1.5, 3, 9.2])
def test_a_group_that_does_not_fit_is_split_before_the_method_changes(networks):
    capacities = random_capacities("uniform", batch=10, layers=3, t=8)
    budget = networks * memory.primal_dual_bytes(3 * 8 * 8 + 17)

    assert maximum_flow(capacities, max_memory=budget).method == (Method.PRIMAL_DUAL,) * 10


def test_a_network_blocked_near_the_optimum_starts_anew(monkeypatch):
    """The same flow, and every factorisation is counted."""
    capacities = random_capacities("25 decades", batch=3, layers=4, t=9)
    usual = maximum_flow(capacities)
    monkeypatch.setattr(primal_dual, "BLOCKED", 2.0)
    monkeypatch.setattr(primal_dual, "TRIAL", 1)

    anew = maximum_flow(capacities)

    assert_certified(anew, capacities)
    torch.testing.assert_close(anew.edges, usual.edges, rtol=1e-7, atol=1e-12)
    monkeypatch.setattr(primal_dual, "NEAR", primal_dual.FAR)
    monkeypatch.setattr(primal_dual, "TRIAL", 0)
    assert (maximum_flow(capacities).iterations + 1 == anew.iterations).all()


def test_the_dual_method_says_when_it_runs_out_of_iterations():
    capacities = random_capacities("one live row", layers=5, t=8)

    flow = maximum_flow(capacities, max_memory=1, max_iterations=3)

    assert flow.status == (Status.ITERATION_LIMIT,)
    assert torch.isfinite(flow.edges).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_and_compiled_passes_give_the_same_flow(monkeypatch, family):
    pytest.importorskip("numba")
    capacities = random_capacities(family, batch=2, layers=4, t=9)
    fused = maximum_flow(capacities)

    monkeypatch.setattr(
        primal_dual, "kernels_for", lambda device, batch, chain: (edge_passes, None)
    )
    plain = maximum_flow(capacities)

    assert_certified(plain, capacities)
    assert (plain.iterations == fused.iterations).all()
    torch.testing.assert_close(plain.edges, fused.edges, rtol=1e-8, atol=1e-18)


def test_networks_step_alike_each_by_a_thread_and_all_together(monkeypatch):
    """Steps of a loop for each network or a pass over all of them, however a loop ends."""
    pytest.importorskip("numba")
    from attnflow.solver import compiled

    capacities = torch.cat([random_capacities(f, batch=4, layers=4, t=9) for f in FAMILIES])
    mild = random_capacities("uniform", batch=3, layers=3, t=5)
    ends = set()
    for given, settings in (
        (capacities, {}),
        (capacities, {"max_iterations": 3}),
        (capacities, {"gap": 1e-5}),
        (mild, {"mu": 1e-150}),
    ):
        monkeypatch.setattr(primal_dual, "kernels_for", lambda *_: (compiled, compiled.iterate))
        each = maximum_flow(given, **settings)
        monkeypatch.setattr(primal_dual, "kernels_for", lambda *_: (compiled, None))
        together = maximum_flow(given, **settings)

        ends |= {*each.status, *together.status}
        if "mu" in settings:  # what is left is rounding, which says which limit comes first
            assert Status.SOLVED not in (*each.status, *together.status)
        else:
            assert each.status == together.status
            assert (each.iterations == together.iterations).all()
            torch.testing.assert_close(each.edges, together.edges, rtol=1e-7, atol=1e-18)
    assert ends == {Status.SOLVED, Status.ITERATION_LIMIT, Status.NUMERICAL_LIMIT}


@pytest.mark.parametrize("t", [9, 70])
def test_threads_and_batch_mates_change_no_bit(t):
    pytest.importorskip("numba")
    capacities = random_capacities("uniform", batch=5, layers=4, t=t)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(maximum_flow(capacities).edges)
            found.append(torch.cat([maximum_flow(one[None]).edges for one in capacities]))
    finally:
        torch.set_num_threads(before)

    for other in found[1:]:
        assert torch.equal(found[0], other)


def test_a_network_shared_by_threads_has_the_answer_of_one_in_a_batch(monkeypatch):
    """Alone and wide it is solved pass by pass, with LAPACK; in a batch by the compiled loop."""
    pytest.importorskip("numba")
    monkeypatch.setattr(backend, "EDGES_FOR_A_THREAD", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for t in (20, 330):
        capacities = random_capacities("attention", batch=2, layers=2, t=t)
        together = maximum_flow(capacities)
        for row, alone in enumerate(maximum_flow(one[None]) for one in capacities):
            assert alone.iterations[0] == together.iterations[row]
            scale = together.value[row]
            assert (alone.edges[0] - together.edges[row]).abs().max() <= 1e-9 * scale


def test_networks_of_unlike_size_are_solved_apart():
    live = torch.zeros(5, 4, 300, dtype=torch.bool)
    for index, t in enumerate((8, 300, 0, 10, 290)):
        live[index, :, :t] = True

    found = [sorted(members.tolist()) for members in batching.groups(live, math.inf)]

    assert found == [[1, 4], [0, 3]]


def test_an_empty_network_is_zero_and_says_so():
    capacities = random_capacities("uniform", batch=3, layers=3, t=4)
    capacities[1] = 0
    capacities[2, 1] = 0

    flow = maximum_flow(capacities)

    assert flow.status == (Status.SOLVED, Status.EMPTY, Status.EMPTY)
    assert flow.edges[1:].abs().sum() == 0 and flow.value[1:].tolist() == [0, 0]
    assert flow.gap[1:].tolist() == [0, 0]
    assert "no path" in flow.status[1].value
    flow.raise_for_status()


def test_numpy_in_numpy_out():
    capacities = random_capacities("uniform", layers=2, t=4)

    flow = maximum_flow(capacities.float().numpy())

    assert isinstance(flow.edges, np.ndarray) and flow.edges.dtype == np.float64
    expected = maximum_flow(capacities.float()).edges
    np.testing.assert_allclose(flow.edges, expected.numpy(), rtol=1e-12)


def test_masks_choose_sources_and_sinks():
    capacities = random_capacities("uniform", layers=2, t=4)
    sources = torch.tensor([True, False, False, True])
    sinks = torch.tensor([False, True, True, True])

    flow = maximum_flow(capacities, sources, sinks)

    assert (flow.source[0] > 0).tolist() == sources.tolist()
    assert (flow.sink[0] > 0).tolist() == sinks.tolist()


def test_running_out_of_iterations_is_a_status_not_an_exception():
    capacities = random_capacities("one live row", batch=3, layers=5, t=8)
    capacities[1] = 0

    flow = maximum_flow(capacities, max_iterations=2)

    assert flow.status == (Status.ITERATION_LIMIT, Status.EMPTY, Status.ITERATION_LIMIT)
    assert torch.isfinite(flow.edges).all()
    with pytest.raises(UnsolvedError, match="2 of 3 flows not solved. network 0: the iteration"):
        flow.raise_for_status()


def test_a_network_beyond_float64_gets_a_status_and_no_nan():
    """A mu hundreds of decades below the capacities."""
    flow = maximum_flow(random_capacities("uniform", layers=3, t=5), mu=1e-250)

    assert not flow.status[0].is_certified
    assert torch.isfinite(flow.edges).all() and torch.isfinite(flow.value).all()
    with pytest.raises(UnsolvedError):
        flow.raise_for_status()


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e200])
def test_units_do_not_matter(size):
    capacities = random_capacities("attention", layers=3, t=5)

    flow = maximum_flow(size * capacities)

    assert flow.status == (Status.SOLVED,)
    expected = maximum_flow(capacities).sink
    torch.testing.assert_close(flow.sink / size, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "bad, message",
    [
        (torch.ones(2, 3, 3), r"capacities must have 4 axes .* got 3: .*capacities\[None\]"),
        (torch.ones(1, 1, 1, 3, 3), "must have 4 axes"),
        (torch.ones(1, 2, 3, 4), "square"),
        (torch.ones(1, 0, 3, 3), "empty"),
        (torch.full((1, 1, 2, 2), math.nan), "finite, got nan at"),
        (torch.full((1, 1, 2, 2), math.inf), "finite, got inf at"),
        (-torch.ones(1, 1, 2, 2), "must be >= 0, got -1.0 at"),
        (torch.ones(1, 1, 2, 2, dtype=torch.complex64), "real"),
        (np.array([[[["a"]]]]), "real numbers"),
        ([[[[1.0]]]], "torch tensor or numpy array"),
    ],
)
def test_capacities_are_checked_on_entry(bad, message):
    with pytest.raises(InputError, match=message):
        maximum_flow(bad)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gap": 0}, r"gap must lie inside \(0, 1\), got 0"),
        ({"gap": 1.0}, "gap must lie inside"),
        ({"gap": math.nan}, "gap must lie inside"),
        ({"tolerance": 0.0}, "tolerance must lie inside"),
        ({"mu": 0}, "mu must be finite and > 0, got 0"),
        ({"mu": -1.0}, "mu must be finite"),
        ({"mu": math.nan}, "mu must be finite"),
        ({"mu": torch.ones(3)}, "mu must be one number"),
        ({"max_iterations": 0}, "max_iterations must be"),
        ({"max_memory": 0}, "max_memory must be a number of bytes"),
        ({"sources": torch.ones(5, dtype=torch.bool)}, r"sources must have shape \(3,\)"),
        ({"sinks": torch.ones(3)}, "sinks must be a boolean mask"),
    ],
)
def test_options_are_checked_on_entry(options, message):
    with pytest.raises(InputError, match=message):
        maximum_flow(torch.ones(1, 2, 3, 3), **options)


def test_a_network_brings_its_own_masks():
    network = layered_network(torch.ones(1, 1, 2, 2))

    with pytest.raises(InputError, match="its own sources"):
        maximum_flow(network, torch.ones(2, dtype=torch.bool))


def test_a_drifted_slack_is_no_certificate():
    """Far below the precision of float64 next to the capacities, s is no longer u - f."""
    flow = maximum_flow(random_capacities("uniform", batch=4, layers=3, t=6), mu=1e-16)

    assert (flow.interiority > 1e-3).any()
    for status, drift in zip(flow.status, flow.interiority.tolist(), strict=True):
        assert not (status is Status.SOLVED and drift > 1e-3)


def test_the_callers_tensor_is_copied():
    capacities = torch.ones(1, 2, 2, 2, dtype=torch.float64)
    network = layered_network(capacities)

    capacities[0, 0, 0, 0] = -5

    assert (network.capacities == 1).all()


def test_any_real_dtype_is_taken():
    for dtype in (">f8", "longdouble", "float16", "int64", "bool"):
        assert maximum_flow(np.ones((1, 1, 2, 2), dtype=dtype)).status == (Status.SOLVED,)


def test_throughput_is_the_mean_over_the_rows_of_what_enters_their_nodes():
    capacities = random_capacities("uniform", batch=2, layers=3, t=4, seed=5)
    flow = maximum_flow(capacities)
    for network in range(2):
        rows = [flow.edges[network, layer].sum(0) for layer in range(3)] + [flow.source[network]]
        expected = torch.stack(rows).mean(0)
        torch.testing.assert_close(flow.throughput(network), expected)
        assert flow.throughput(network).sum() == pytest.approx(flow.value[network].item())
    arrays = maximum_flow(capacities.numpy())
    np.testing.assert_allclose(arrays.throughput(1), flow.throughput(1).numpy())
