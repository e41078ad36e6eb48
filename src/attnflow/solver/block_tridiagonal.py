"""Cholesky factorisation of the weighted Laplacian of layered networks.

Ordered by rows of nodes the matrix is block tridiagonal: the diagonal blocks D_k are diagonal, and
row k meets row k + 1 only through -W_k, the weights of one layer of edges. Eliminating from the
bottom,

    S_0 = D_0,    S_{k+1} = D_{k+1} - W_k S_k^{-1} W_k',

takes three dense calls a layer, O(L t^3) in all. Each S_k is the Laplacian of a smaller network
with a conductance e_k from every node to ground, so its diagonal is computed as a sum of what is
not negative, never as a difference: e_{k+1} = W_k S_k^{-1} e_k. That keeps every node accurate
relative to its own weight, however many decades the weights span.

Knows nothing of flows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factor:
    """`lower[k]` is the Cholesky factor of S_k, and `coupling[k]` its inverse times W_k'."""

    lower: list[Tensor]
    coupling: list[Tensor]
    failed: Tensor

    def solve(self, right: Tensor) -> Tensor:
        """The solution for right-hand sides `(batch, nodes, k)`, nodes from the bottom row up."""
        t = self.coupling[0].shape[1]
        blocks = list(torch.split(right, [t] * len(self.coupling) + [1], dim=1))
        for k, coupling in enumerate(self.coupling):
            blocks[k] = _lower_solve(self.lower[k], blocks[k])
            blocks[k + 1] = blocks[k + 1] + coupling.mT @ blocks[k]
        blocks[-1] = blocks[-1] / self.lower[-1] ** 2
        for k in reversed(range(len(self.coupling))):
            above = blocks[k] + self.coupling[k] @ blocks[k + 1]
            blocks[k] = _upper_solve(self.lower[k], above)
        return torch.cat(blocks, 1)


def factor(layers: Tensor, source: Tensor, sink: Tensor, back: Tensor) -> Factor:
    """Factor the grounded Laplacian of edge weights.

    Args:
        layers: `(batch, L, t, t)` weights >= 0; query, then key.
        source, sink: `(batch, t)` weights of the super-edges.
        back: `(batch,)` weight of the return edge, from the super-source to ground.

    Returns:
        The factor; `failed` is true where a block was not positive definite to float64. Nodes
        without edges get a unit diagonal, and so a zero solution for a zero right-hand side.
    """
    above = [*(w.sum(1) for w in layers.unbind(1)), source]
    upward = [*layers.unbind(1), source[:, None, :]]
    ground = sink[..., None]
    lower = [_positive(ground[..., 0] + above[0]).sqrt()]
    failed = torch.zeros_like(back, dtype=torch.bool)
    coupling = []
    for k, weights in enumerate(upward):
        coupling.append(_lower_solve(lower[k], weights.mT))
        ground = coupling[k].mT @ _lower_solve(lower[k], ground)
        if k + 1 < len(upward):
            block = _schur(coupling[k], ground[..., 0] + above[k + 1])
            cholesky, info = torch.linalg.cholesky_ex(block)
            lower.append(cholesky)
            failed = failed | (info > 0)
    lower.append((ground + back[:, None, None]).sqrt())
    return Factor(lower, coupling, failed)


def _schur(coupling: Tensor, outward: Tensor) -> Tensor:
    """S_{k+1} from its off-diagonals and what each node sends outward, by sums alone."""
    inward = (coupling.mT @ coupling).clamp_(min=0)
    inward.diagonal(dim1=1, dim2=2).zero_()
    diagonal = _positive(inward.sum(2) + outward)
    return torch.diag_embed(diagonal) - inward


def _positive(diagonal: Tensor) -> Tensor:
    return torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal))


def _lower_solve(lower: Tensor, right: Tensor) -> Tensor:
    if lower.ndim == 2:
        return right / lower[..., None]
    solution: Tensor = torch.linalg.solve_triangular(lower, right, upper=False)
    return solution


def _upper_solve(lower: Tensor, right: Tensor) -> Tensor:
    if lower.ndim == 2:
        return right / lower[..., None]
    solution: Tensor = torch.linalg.solve_triangular(lower.mT, right, upper=True)
    return solution
