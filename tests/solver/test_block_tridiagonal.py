"""The block factorisation against a dense solve, and its accuracy over many decades."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnflow.solver import edge_passes
from attnflow.solver.chain import Chain

compiled = pytest.importorskip("attnflow.solver.compiled")
FACTORS = [edge_passes.factor, compiled.factor]


def incidence(chain: Chain) -> torch.Tensor:
    """`(edges, nodes)`: 1 at the head of each edge, -1 at its tail."""
    rows = []
    for block, (tails, heads) in enumerate(chain.shapes):
        head, tail = chain.node_starts[block], chain.node_starts[block + 1]
        for i in range(tails):
            for j in range(heads):
                row = torch.zeros(chain.nodes, dtype=torch.float64)
                row[head + j], row[tail + i] = 1, -1
                rows.append(row)
    return torch.stack(rows)


def factored(factor, chain: Chain, weights: torch.Tensor):
    b = incidence(chain)
    inward, outward = weights @ b.clamp(min=0), weights @ (-b).clamp(min=0)
    return factor(weights, inward, outward, chain)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    "tokens",
    [(1, 1), (4, 4), (5, 2, 7, 1), (3, 30, 3), (20, 60, 1), (9, 150, 8), (3, 320, 5), (2, 321, 1)],
)
def test_solves_as_a_dense_solver_does(factor, tokens):
    chain = Chain((1, *tokens, 1, 1))
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(2, chain.edges, generator=generator, dtype=torch.float64) + 0.1
    right = torch.randn(2, chain.nodes, 2, generator=generator, dtype=torch.float64)

    solution = factored(factor, chain, weights).solve(right)

    b = incidence(chain)[:, 1:-1]
    for problem in range(2):
        laplacian = b.T @ (weights[problem][:, None] * b)
        expected = torch.linalg.solve(laplacian, right[problem, 1:-1])
        torch.testing.assert_close(solution[problem, 1:-1], expected, rtol=1e-10, atol=1e-12)
    assert (solution[:, [0, -1]] == 0).all()


@pytest.mark.parametrize("factor", FACTORS)
def test_nodes_without_edges_get_nothing(factor):
    """They stand among the others, as the padding of a group does."""
    chain = Chain((1, 5, 7, 3, 1, 1))
    weights = torch.ones(1, chain.edges, dtype=torch.float64)
    dead = [1, 4, 7, 10]  # nodes
    weights[:, (incidence(chain)[:, dead] != 0).any(1)] = 0
    right = torch.randn(1, chain.nodes, 1, generator=torch.Generator().manual_seed(0)).double()
    right[:, dead] = 0

    solved = factored(factor, chain, weights)
    solution = solved.solve(right)

    b = incidence(chain)[:, 1:-1]
    residual = (weights * (solution[:, 1:-1, 0] @ b.T)) @ b - right[:, 1:-1, 0]
    assert not solved.failed.any()
    assert (solution[:, dead] == 0).all() and residual.abs().max() < 1e-12


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("edge", [0, 5, 15])
@pytest.mark.parametrize("factor", FACTORS)
def test_a_weight_that_is_no_number_is_said(factor, edge, bad):
    chain = Chain((1, 3, 3, 1, 1))
    weights = torch.ones(1, chain.edges, dtype=torch.float64)
    weights[0, edge] = bad
    blocks, none = chain.blocks(weights), torch.zeros(1, 1, dtype=torch.float64)
    inward = torch.cat([*(w.sum(1) for w in blocks), none], 1)
    outward = torch.cat([none, *(w.sum(2) for w in blocks)], 1)

    assert factor(weights, inward, outward, chain).failed.all()


@pytest.mark.parametrize("factor", FACTORS)
def test_every_node_is_accurate_relative_to_its_own_weight(factor):
    """Weights over fifty decades: the residual is small at each node, not only overall."""
    chain = Chain((1, 6, 6, 4, 6, 6, 1, 1))
    generator = torch.Generator().manual_seed(0)
    decades = torch.rand(1, chain.edges, generator=generator, dtype=torch.float64)
    weights, b = 10 ** (-50 * decades), incidence(chain)[:, 1:-1]
    right = torch.zeros(1, chain.nodes, dtype=torch.float64)
    right[:, 1:-1] = (weights * 0.3) @ b

    solved = factored(factor, chain, weights)
    solution = solved.solve(right[..., None])[:, 1:-1, 0]

    residual = right[:, 1:-1] - (weights * (solution @ b.T)) @ b
    throughput = weights @ b.abs()
    assert not solved.failed.any()
    assert (residual.abs() / (throughput * solution.abs().amax())).max() < 1e-12


@pytest.mark.parametrize("factor", FACTORS)
def test_a_system_that_cannot_be_factored_is_reported_and_harms_no_other(factor):
    chain = Chain((1, 3, 3, 1, 1))
    weights = torch.ones(2, chain.edges, dtype=torch.float64)
    weights[1, 5] = torch.nan

    solved = factored(factor, chain, weights)

    assert solved.failed.tolist() == [False, True]
    right = torch.ones(2, chain.nodes, 1, dtype=torch.float64)
    assert torch.isfinite(solved.solve(right)[0]).all()


@pytest.fixture
def code_of_avx2(request):
    """Folder that keeps the compiled code from one run to the next, for as long as it is valid."""
    sources = sorted(Path(compiled.__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    return request.config.cache.mkdir(f"avx2-{digest[:16]}")


@pytest.mark.slow
def test_processors_with_shorter_registers_find_the_same(code_of_avx2):
    """Half as many rows are then eliminated at a time."""
    script = """
import torch
from numba.core import codegen
codegen.get_host_cpu_features = lambda: "+avx2"
from attnflow.solver import compiled, edge_passes
from attnflow.solver.chain import Chain
from attnflow.solver.compiled import products
assert products.HEIGHT == 4
chain = Chain((1, 9, 150, 12, 1, 1))
generator = torch.Generator().manual_seed(0)
weights = torch.rand(2, chain.edges, generator=generator, dtype=torch.float64)
right = torch.randn(2, chain.nodes, 2, generator=generator, dtype=torch.float64)
blocks = chain.blocks(weights)
inward = torch.cat([*(w.sum(1) for w in blocks), torch.zeros(2, 1)], 1)
outward = torch.cat([torch.zeros(2, 1), *(w.sum(2) for w in blocks)], 1)
both = [k.factor(weights, inward, outward, chain).solve(right) for k in (edge_passes, compiled)]
torch.testing.assert_close(*both, rtol=1e-10, atol=1e-12)
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(code_of_avx2)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
