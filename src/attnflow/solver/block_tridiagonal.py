"""Cholesky factorisation of the weighted Laplacian of layered networks.

Ordered by rows of nodes the matrix is block tridiagonal. The diagonal blocks D_k are diagonal, and
row k meets row k + 1 only through -W_k, the weights of the block of edges between them. The two end
rows of the chain are grounded. Eliminating from the bottom,

    S_1 = D_1,    S_{k+1} = D_{k+1} - W_k S_k^{-1} W_k',

takes three dense calls a layer, O(L t^3) in all. Each S_k is the Laplacian of a smaller network
with a conductance e_k from every node to ground. So its diagonal is computed as a sum of what is
not negative, never as a difference: e_{k+1} = W_k S_k^{-1} e_k. That keeps every node accurate
relative to its own weight, however many decades the weights chunk.

Knows nothing of flows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from attnflow.solver.chain import Chain


@dataclass(frozen=True)
class Factor:
    """The factored Laplacian of a batch.

    Attributes:
        chain: The networks' sizes.
        lower: Cholesky factor of each S_k; of the first, which is diagonal, the diagonal alone.
        coupling: Inverse of `lower[k]` times W_k'.
        failed: `(batch,)` bool, true where a block was not positive definite to float64.
    """

    chain: Chain
    lower: list[Tensor]
    coupling: list[Tensor]
    failed: Tensor

    def solve(self, right: Tensor) -> Tensor:
        """The solution for `(batch, nodes, k)` right-hand sides; 0 at the grounded ends."""
        below, *inner, above = torch.split(right, list(self.chain.widths), dim=1)
        for k, lower in enumerate(self.lower):
            inner[k] = _lower_solve(lower, inner[k])
            if k + 1 < len(inner):
                inner[k + 1] = torch.baddbmm(inner[k + 1], self.coupling[k].mT, inner[k])
        for k in reversed(range(len(inner))):
            if k + 1 < len(inner):
                inner[k] = torch.baddbmm(inner[k], self.coupling[k], inner[k + 1])
            inner[k] = _upper_solve(self.lower[k], inner[k])
        return torch.cat([torch.zeros_like(below), *inner, torch.zeros_like(above)], 1)


def factor(weights: Iterable[Tensor], inward: Tensor, outward: Tensor, chain: Chain) -> Factor:
    """Factor the grounded Laplacian of edge weights.

    Args:
        weights: `(batch, tails, heads)` >= 0 of each block, from the bottom; read once, so that
            they may be computed on the way.
        inward, outward: `(batch, nodes)` total weight of the edges that enter and leave a node.
        chain: The networks' sizes.

    Returns:
        The factor. Nodes without edges get a unit diagonal, and so a zero solution for a zero
        right-hand side.
    """
    entering = chain.rows(inward)
    ground = chain.rows(outward)[1][..., None]
    # The row next to the target meets no row below: its S is diagonal, and costs nothing.
    lower = [_positive(ground[..., 0] + entering[1]).sqrt()]
    failed = ~torch.isfinite(lower[0]).all(1)
    coupling = []
    # The first and the last block of edges end in grounded rows, and so only add to diagonals.
    for k, weight in enumerate(islice(weights, 1, len(chain.shapes) - 1), 1):
        coupling.append(_lower_solve(lower[-1], weight.mT))
        ground = coupling[-1].mT @ _lower_solve(lower[-1], ground)
        block = _schur(coupling[-1], ground[..., 0] + entering[k + 1])
        # Without an exception: a failure concerns one problem of the batch, and is reported for it.
        cholesky, info = torch.linalg.cholesky_ex(block)
        lower.append(cholesky)
        failed |= (info > 0) | ~torch.isfinite(cholesky.diagonal(dim1=1, dim2=2)).all(1)
    return Factor(chain, lower, coupling, failed)


def _schur(coupling: Tensor, outward: Tensor) -> Tensor:
    """`(batch, n, n)` S_{k+1}; `outward` `(batch, n)` is each node's conductance to other rows."""
    # A sum of products of numbers >= 0, but for rounding in the triangular solves.
    inward = (coupling.mT @ coupling).clamp_(min=0)
    # Left out, since D - W S^-1 W' would be a difference of nearly equal numbers here.
    inward.diagonal(dim1=1, dim2=2).zero_()
    diagonal = _positive(inward.sum(2) + outward)
    inward.neg_().diagonal(dim1=1, dim2=2).copy_(diagonal)
    return inward


def _positive(diagonal: Tensor) -> Tensor:
    """The diagonal with 1 for nodes without edges."""
    return torch.where(diagonal == 0, 1.0, diagonal)


def _lower_solve(lower: Tensor, right: Tensor) -> Tensor:
    if lower.ndim == 2:
        return right / lower[..., None]
    return torch.linalg.solve_triangular(lower, right, upper=False)


def _upper_solve(lower: Tensor, right: Tensor) -> Tensor:
    if lower.ndim == 2:
        return right / lower[..., None]
    return torch.linalg.solve_triangular(lower.mT, right, upper=True)
