"""The compiled passes against the plain ones, which are written as the formulas are."""

import copy
import importlib
import subprocess
import sys
import time
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from attnflow.solver import edge_passes, state
from attnflow.solver.chain import Chain
from attnflow.solver.state import Point, Step

numba = pytest.importorskip("numba")
compiled = pytest.importorskip("attnflow.solver.compiled")

CHAINS = [
    Chain((1, 5, 3, 4, 1, 1, 1)),
    Chain((1, 1, 1, 1, 1)),
    Chain((1, 70, 130, 2, 1, 1)),
]
THETAS = torch.tensor([1, 0.5, 0.25, 0.1, 0], dtype=torch.float64)


def random(shape, seed, decades=0):
    generator = torch.Generator().manual_seed(seed)
    return 10 ** (-decades * torch.rand(shape, generator=generator, dtype=torch.float64))


def random_point(chain: Chain, batch: int = 3) -> Point:
    """Numbers over six decades, and a third of the edges missing."""
    shape = (batch, chain.edges)
    live = torch.rand(shape, generator=torch.Generator().manual_seed(9)) > 1 / 3
    edges = [random(shape, seed, 6) * live for seed in range(4)]
    nodes = (batch, chain.nodes)
    return Point(*edges, random(nodes, 4, 3), 1e-17 * random(nodes, 5, 3))


def random_step(chain: Chain, batch: int = 3) -> Step:
    """Lengths so short that no flow turns negative."""
    nodes = [1e-3 * random((batch, chain.nodes), seed, 2) for seed in (6, 7)]
    mu, target, theta = (random(batch, seed, 2) for seed in (10, 11, 12))
    return Step(
        1e-3 * mu, *nodes, 2e-3 * target, theta, *(1e-13 * random(batch, s) for s in (1, 2))
    )


def assert_same(one, other):
    for field in fields(one):
        assert_close(getattr(one, field.name), getattr(other, field.name))


def assert_close(one: Tensor, other: Tensor):
    """Equality to rounding, relative to the largest number of the problem."""
    scale = one.abs().flatten(1).amax(1) if one.ndim > 1 else one.abs()
    error = (one - other).abs()
    worst = error.flatten(1).amax(1) if one.ndim > 1 else error
    assert (worst <= 1e-12 * scale).all()


@pytest.mark.parametrize("chain", CHAINS)
def test_linearise(chain):
    point, mu = random_point(chain), random(3, 0, 2)

    assert_same(edge_passes.linearise(point, mu, chain), compiled.linearise(point, mu, chain))


@pytest.mark.parametrize("chain", CHAINS)
def test_look_ahead(chain):
    point, step = random_point(chain), random_step(chain)

    plain = edge_passes.predict(point, step.affine, step.mu, chain)

    assert_same(plain, compiled.predict(point, step.affine, step.mu, chain))


@pytest.mark.parametrize("chain", CHAINS)
def test_try_corrections(chain):
    point, step = random_point(chain), random_step(chain)
    correction = 1e-3 * random((3, chain.nodes), 8, 2)

    plain = edge_passes.try_corrections(point, step, correction, THETAS, chain)

    for one, other in zip(
        plain, compiled.try_corrections(point, step, correction, THETAS, chain), strict=True
    ):
        assert_close(one, other)


@pytest.mark.parametrize("chain", CHAINS)
def test_advance(chain):
    point, step = random_point(chain), random_step(chain)
    twin, start = copy.deepcopy(point), copy.deepcopy(point)

    plain = edge_passes.advance(point, step, chain, torch.empty_like(point.flow))

    assert_same(plain, compiled.advance(twin, step, chain, torch.empty_like(point.flow)))
    assert_same(point, twin)
    assert not torch.equal(point.lower, start.lower)


@pytest.mark.parametrize("end", [-1, 0, 1])
@pytest.mark.parametrize("chain", CHAINS)
def test_balance(chain, end):
    u = random_point(chain).flow
    potential, mu = random((3, chain.nodes), 3, 1), 1e-3 * random(3, 4, 2)
    for row in range(1, len(chain.widths) - 2):
        plain, fused = potential.clone(), potential.clone()

        edge_passes.balance_rows(u, chain, plain, mu, [(row, end)], 30)
        compiled.balance_rows(u, chain, fused, mu, [(row, end)], 30)

        torch.testing.assert_close(plain, fused, rtol=1e-6, atol=1e-12)
        assert not torch.equal(plain, potential)


def test_missing_edges_take_no_part():
    """Their weight is 0, and they stay at 0 in a step."""
    chain = CHAINS[0]
    point, step = random_point(chain), random_step(chain)
    dead = point.flow == 0

    for module in (edge_passes, compiled):
        moved = copy.deepcopy(point)
        assert (
            module.advance(moved, step, chain, torch.empty_like(moved.flow)).weight[dead] == 0
        ).all()
        assert (moved.flow[dead] == 0).all() and (moved.upper[dead] == 0).all()
    assert dead.any()


def test_a_carried_part_of_the_potentials_counts():
    """The drop is that of both parts, though their sum would round the second away."""
    chain = Chain((1, 2, 1, 1))
    point, mu = random_point(chain, 1), torch.ones(1, dtype=torch.float64)
    point.potential.fill_(1.0)

    for module in (edge_passes, compiled):
        point.carry.fill_(0)
        without = module.linearise(point, mu, chain).pull.clone()
        point.carry[:, 1] = 1e-20
        assert (without == 0).all()
        assert (module.linearise(point, mu, chain).pull != 0).any()


@pytest.fixture(scope="module")
def threads_after_a_flow():
    """Threads of torch after a flow, by those before it.

    Each is found in a process in which numba has not started: when it starts its threads, it may
    change those of torch. The processes are copies of one that has imported torch.
    """
    code = """
import os, torch, attnflow
for threads in (1, 2):
    if os.fork() == 0:
        torch.set_num_threads(threads)
        attnflow.maximum_flow(torch.ones(1, 2, 3, 3))
        print(threads, torch.get_num_threads(), flush=True)
        os._exit(0)
    os.wait()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    return dict(map(int, line.split()) for line in done.stdout.splitlines())


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_the_callers(threads_after_a_flow, threads):
    assert threads_after_a_flow[threads] == threads


def test_the_number_of_threads_changes_no_bit():
    chain = CHAINS[2]
    point, mu, before = random_point(chain), random(3, 0, 2), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            compiled.use_threads(threads)
            here = compiled.linearise(point, mu, chain)
            potential = point.potential.clone()
            compiled.balance_rows(point.flow, chain, potential, mu, [(2, 0)], 10)
            newton = compiled.factor(here.weight, here.inward, here.outward, chain)
            solution = newton.solve(torch.stack([here.balance, here.push], 2))
            found.append([*vars(here).values(), potential, solution])
    finally:
        compiled.use_threads(before)

    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def test_the_plain_passes_do_not_depend_on_how_edges_are_cut(monkeypatch):
    chain = CHAINS[0]
    point, step = random_point(chain), random_step(chain)
    together = edge_passes.predict(point, step.affine, step.mu, chain)

    monkeypatch.setattr(state, "EDGES_IN_CACHE", 1)

    assert [len(chunk) for chunk in chain.chunks(1)] == [1] * len(chain.shapes)
    assert chain.chunks(10**9) == [range(len(chain.shapes))]
    assert_same(together, edge_passes.predict(point, step.affine, step.mu, chain))


@pytest.mark.parametrize("chain", CHAINS)
def test_centre(chain):
    u, mu = random_point(chain).flow, 1e-3 * random(3, 4, 2)
    potential = random((3, chain.nodes), 3, 1)

    plain = edge_passes.centred_point(u, potential, mu, chain)

    assert_same(plain, compiled.centred_point(u, potential, mu, chain))
    live = u > 0
    assert (((plain.flow * plain.lower / mu[:, None])[live] - 1).abs() < 1e-14).all()
    assert ((plain.flow + plain.slack - u).abs() <= 1e-15 * u).all()


@pytest.mark.parametrize("chain", CHAINS)
def test_gather_bins(chain):
    u = random_point(chain).flow

    totals, counts = edge_passes.gather_bins(u, chain, 8)
    others = compiled.gather_bins(u, chain, 8)

    assert_close(totals, others[0])
    assert torch.equal(counts, others[1])
    for k, block in enumerate(chain.blocks(u)[:-1]):
        assert torch.equal(counts[:, k].sum(1), (block > 0).sum((1, 2)).double())
        torch.testing.assert_close(totals[:, k].sum(1), block.sum((1, 2)))


def test_compiling_is_announced(monkeypatch):
    heard = []
    monkeypatch.setattr(numba.core.event, "register", lambda kind, own: heard.append((kind, own)))
    importlib.reload(compiled)
    ((kind, own),) = heard
    assert kind == "numba:compile" and isinstance(own, compiled.compile_notice.Announcer)


def test_compiling_is_announced_once_and_only_of_ours(caplog):
    announcer = compiled.compile_notice.Announcer()

    def compiled_by(module):
        function = eval("lambda x: x + 1")
        function.__module__ = module
        numba.njit(function)(1)
        return [record.message for record in caplog.records]

    with numba.core.event.install_listener("numba:compile", announcer):
        assert compiled_by("another.program") == compiled_by(None) == []
        first = compiled_by("attnflow.solver.compiled.iteration")
        assert any("about a minute, once" in message for message in first)
        assert compiled_by("attnflow.solver.compiled.start") == first


def test_each_part_is_computed_once_where_no_thread_can_be_started(monkeypatch):
    """The pool keeps what it was given before a thread failed to start, for a later one."""
    from attnflow.solver.compiled import threads

    class Pool:
        def __init__(self):
            self.given = []

        def submit(self, work):
            self.given.append(work)
            if len(self.given) == 2:
                self.given.pop(0)()  # another thread is free, and takes the first part
            raise RuntimeError("can't start new thread")

    pool, counts, before = Pool(), [0, 0, 0], threads.threads()
    monkeypatch.setattr(threads, "_threads_of_process", lambda: pool)

    def work(first, stop):
        for i in range(first, stop):
            counts[i] += 1

    threads.use_threads(3)
    try:
        threads.share(work, 3)
        for later in pool.given:
            later()
    finally:
        threads.use_threads(before)
    assert counts == [1, 1, 1]


def test_interrupts_do_not_leave_a_thread_at_work(monkeypatch):
    """One interrupt while this thread works, and one while it waits for the other."""
    from attnflow.solver.compiled import threads

    wait, interrupts, done = threads.wait, [KeyboardInterrupt()], []

    def interrupted(running):
        if interrupts:
            raise interrupts.pop()
        return wait(running)

    monkeypatch.setattr(threads, "wait", interrupted)

    def work(first, stop):
        if first == 0:
            raise KeyboardInterrupt
        time.sleep(0.2)
        done.append(first)

    before = threads.threads()
    threads.use_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.share(work, 2)
    finally:
        threads.use_threads(before)
    assert done == [1]
