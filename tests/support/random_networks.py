"""Random networks, easy and hard, each family one line, drawn by a seeded generator.

Those of `attnflow bench`, of any size and on any device, are in attnflow.cli.bench.synthetic.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Family = Callable[[Tensor, Generator], Tensor]


def _permutations(u: Tensor, generator: Generator) -> Tensor:
    """Single paths: one edge into and out of every node."""
    order = torch.rand(u.shape[:-1], generator=generator, dtype=u.dtype).argsort(-1)
    return u * torch.eye(u.shape[-1], dtype=u.dtype)[order]


def _halves(u: Tensor, _: Generator) -> Tensor:
    """Two parts that never meet."""
    t = u.shape[-1]
    part = torch.arange(t) < t // 2
    return u * (part[:, None] == part[None, :])


def _one_row(decades: int) -> Family:
    """A classifier's tensor: one live row at the top."""

    def family(u: Tensor, _: Generator) -> Tensor:
        u = 10 ** (-decades * u)
        u[:, -1, 1:] = 0
        return u

    return family


def _softmax(scale: float) -> Family:
    def family(u: Tensor, generator: Generator) -> Tensor:
        scores = torch.randn(u.shape, generator=generator, dtype=u.dtype)
        return torch.softmax(scale * scores, -1)

    return family


def _balanced_rows(u: Tensor, generator: Generator) -> Tensor:
    rows = torch.rand((*u.shape[:3], 1), generator=generator, dtype=u.dtype)
    columns = torch.rand((*u.shape[:2], 1, u.shape[3]), generator=generator, dtype=u.dtype)
    return u * 10 ** (-8 * rows) * 10 ** (-8 * columns)


FAMILIES: dict[str, Family] = {
    "uniform": lambda u, g: u,
    "exponential": lambda u, g: -torch.log(u.clamp(min=1e-300)),
    "25 decades": lambda u, g: 10 ** (-25 * u),
    "sparse": lambda u, g: u * (torch.rand(u.shape, generator=g) < 2 / u.shape[-1]),
    "ties": lambda u, g: torch.ones_like(u),
    "small integers": lambda u, g: (3 * u).floor(),
    "one live row": _one_row(12),
    "one live row, mild": _one_row(3),
    "attention": _softmax(3.0),
    "sharp attention": _softmax(15.0),
    "single paths": _permutations,
    "two parts": _halves,
    "scaled layers": lambda u, g: u * 10 ** torch.linspace(-9, 9, u.shape[1])[:, None, None],
    "scaled rows": _balanced_rows,
    "causal": lambda u, g: torch.tril(u),
    "residual": lambda u, g: 0.01 * u + torch.eye(u.shape[-1], dtype=u.dtype),
}


def random_capacities(
    family: str, *, batch: int = 1, layers: int = 3, t: int = 5, seed: int = 0
) -> Tensor:
    """`(batch, layers, t, t)` float64 capacities of a family."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(batch, layers, t, t, generator=generator, dtype=torch.float64)
    return FAMILIES[family](u, generator)
