"""Which implementation of the passes to use on a device."""

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from attnflow.solver import passes
from attnflow.solver.chain import Chain
from attnflow.solver.iterate import Ahead, Linearised, Point, Step

EDGES_FOR_A_THREAD = 2**16


class Factored(Protocol):
    """A factored Laplacian, as `block_tridiagonal.Factor`."""

    @property
    def failed(self) -> Tensor: ...

    def solve(self, right: Tensor) -> Tensor: ...


class Kernels(Protocol):
    """The passes, as `passes` defines them, and the factorisation of `block_tridiagonal`."""

    def factor(self, weight: Tensor, inward: Tensor, outward: Tensor, chain: Chain) -> Factored: ...

    def linearise(self, point: Point, mu: Tensor, chain: Chain) -> Linearised: ...
    def look_ahead(self, point: Point, affine: Tensor, mu: Tensor, chain: Chain) -> Ahead: ...
    def try_corrections(
        self, point: Point, step: Step, correction: Tensor, thetas: Tensor, chain: Chain
    ) -> tuple[Tensor, Tensor]: ...
    def advance(self, point: Point, step: Step, chain: Chain, weight: Tensor) -> Linearised: ...
    def centre(self, u: Tensor, potential: Tensor, mu: Tensor, chain: Chain) -> Point: ...
    def gather_bins(self, u: Tensor, chain: Chain, bins: int) -> tuple[Tensor, Tensor]: ...
    def balance(
        self,
        u: Tensor,
        chain: Chain,
        row: int,
        potential: Tensor,
        mu: Tensor,
        halvings: int,
        end: int,
    ) -> None: ...


def kernels_for(device: torch.device, edges: int) -> Kernels:
    """The compiled passes on a processor with numba, the plain ones elsewhere.

    Threads wait for each other by spinning, which gains nothing for small networks and loses much
    where another program needs the processor: each must have work worth waiting for.

    Args:
        device: Where the networks lie.
        edges: Of all of them together.
    """
    if device.type != "cpu" or importlib.util.find_spec("numba") is None:
        return passes
    from attnflow.solver import compiled

    compiled.use_threads(max(1, min(torch.get_num_threads(), edges // EDGES_FOR_A_THREAD)))
    return compiled
