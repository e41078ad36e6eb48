"""The factorisation of narrow chains in fused form, compiled for the processor at hand by numba.

For rows of a few dozen nodes the dense calls of `block_tridiagonal` cost more than their
arithmetic. This is the same elimination, which that module explains, as loops over one problem at
a time; every inner loop is a dot product or a sum of rows that lie in one piece. Wider chains are
passed on.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from attnflow.solver import block_tridiagonal
from attnflow.solver.chain import Chain

NARROW = 40

_loop = numba.njit(
    fastmath={"contract", "nsz", "nnan", "reassoc"}, error_model="numpy", nogil=True, cache=True
)
_over_problems = numba.njit(error_model="numpy", nogil=True, cache=True, parallel=True)


@dataclass(frozen=True)
class NarrowFactor:
    """As `block_tridiagonal.Factor`, in flat arrays.

    `coupling` `(batch, edges)` holds (L_k^{-1} W_k')' in place of W_k; `lower` the Cholesky factors
    L_k of the inner rows, one after the other.
    """

    chain: Chain
    lower: Any
    coupling: Any
    failed: Tensor

    def solve(self, right: Tensor) -> Tensor:
        """The solution for `(batch, nodes, k)` right-hand sides; 0 at the grounded ends."""
        solution = right.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        _solve_all(_sizes(self.chain), self.lower, self.coupling, solution.numpy())
        return solution.transpose(1, 2)


def factor(
    weight: Tensor, inward: Tensor, outward: Tensor, chain: Chain
) -> NarrowFactor | block_tridiagonal.Factor:
    """As `block_tridiagonal.factor`."""
    if max(chain.widths) > NARROW:
        return block_tridiagonal.factor(chain.blocks(weight), inward, outward, chain)
    lower = np.zeros((len(weight), sum(width * width for width in chain.widths[1:-1])))
    coupling = np.empty((len(weight), chain.edges))
    failed = np.zeros(len(weight), dtype=np.bool_)
    _factor_all(
        _sizes(chain), weight.numpy(), inward.numpy(), outward.numpy(), lower, coupling, failed
    )
    return NarrowFactor(chain, lower, coupling, torch.from_numpy(failed))


def _sizes(chain: Chain) -> Any:
    """Of each row: its width, its first node, and the first edge of the block that enters it."""
    starts = [*chain.edge_starts, 0][: len(chain.widths)]
    return np.array([*zip(chain.widths, chain.node_starts, starts, strict=False)], dtype=np.int64)


@_over_problems
def _factor_all(sizes, weight, inward, outward, lower, coupling, failed):
    for b in numba.prange(len(weight)):
        failed[b] = _factor(sizes, weight[b], inward[b], outward[b], lower[b], coupling[b])


@_loop
def _factor(sizes, weight, inward, outward, lower, coupling):
    widest = sizes[:, 0].max()
    ground, above, reduced = np.empty(widest), np.empty(widest), np.empty(widest)
    n, node = sizes[1, 0], sizes[1, 1]
    ground[:n] = outward[node : node + n]
    at = 0
    for i in range(n):
        lower[i * n + i] = _positive(ground[i] + inward[node + i])
    for k in range(1, len(sizes) - 1):
        n = sizes[k, 0]
        triangle = lower[at : at + n * n].reshape(n, n)
        if not _cholesky(triangle):
            return True
        at += n * n
        if k == len(sizes) - 2:
            return False
        q, node, start = sizes[k + 1, 0], sizes[k + 1, 1], sizes[k, 2]
        edges = slice(start, start + q * n)
        rows = coupling[edges].reshape(q, n)
        rows[:] = weight[edges].reshape(q, n)
        reduced[:n] = ground[:n]
        _lower_solve(triangle, reduced)
        block = lower[at : at + q * q].reshape(q, q)
        for i in range(q):
            _lower_solve(triangle, rows[i])
            above[i] = max(_dot(rows[i], reduced, n), 0.0)
            block[i, i] += above[i] + inward[node + i]
            for j in range(i):
                conductance = max(_dot(rows[i], rows[j], n), 0.0)
                block[i, j] = -conductance
                block[i, i] += conductance
                block[j, j] += conductance
        for i in range(q):
            block[i, i] = _positive(block[i, i])
        ground, above = above, ground
    return False


@_loop
def _positive(diagonal):
    return diagonal if diagonal > 0 else 1.0


@_loop
def _cholesky(block):
    """In place, in the lower triangle; false where the block is not positive definite."""
    for i in range(len(block)):
        for j in range(i):
            block[i, j] = (block[i, j] - _dot(block[i], block[j], j)) / block[j, j]
        pivot = block[i, i] - _dot(block[i], block[i], i)
        if not pivot > 0:
            return False
        block[i, i] = np.sqrt(pivot)
    return True


@_loop
def _lower_solve(lower, x):
    for i in range(len(lower)):
        x[i] = (x[i] - _dot(lower[i], x, i)) / lower[i, i]


@_loop
def _dot(a, b, n):
    total = 0.0
    for j in range(n):
        total += a[j] * b[j]
    return total


@_over_problems
def _solve_all(sizes, lower, coupling, solution):
    kinds = solution.shape[1]
    for at in numba.prange(len(solution) * kinds):
        b = np.int64(at) // kinds
        _solve(sizes, lower[b], coupling[b], solution[b, np.int64(at) % kinds])


@_loop
def _solve(sizes, lower, coupling, x):
    x[0] = x[-1] = 0.0
    at, last = 0, len(sizes) - 2
    for k in range(1, last + 1):
        n, node, start = sizes[k]
        here = x[node : node + n]
        _lower_solve(lower[at : at + n * n].reshape(n, n), here)
        at += n * n
        if k < last:
            for i in range(sizes[k + 1, 0]):
                x[node + n + i] += _dot(coupling[start + i * n : start + i * n + n], here, n)
    for k in range(last, 0, -1):
        n, node, start = sizes[k]
        here = x[node : node + n]
        at -= n * n
        if k < last:
            for i in range(sizes[k + 1, 0]):
                for j in range(n):
                    here[j] += coupling[start + i * n + j] * x[node + n + i]
        for i in range(n - 1, -1, -1):
            here[i] /= lower[at + i * n + i]
            for j in range(i):
                here[j] -= lower[at + i * n + j] * here[i]
