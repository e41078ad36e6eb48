"""Which implementation of the passes, and of the loop around them, to use on a device."""

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from attnflow.solver import edge_passes
from attnflow.solver.chain import Chain
from attnflow.solver.state import Ahead, Linearised, Point, Problem, Step

EDGES_FOR_A_THREAD = 2**16  # where threads meet after every pass
EDGES_FOR_A_LOOP = 2**12  # where they meet once


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
        potential: Tensor,
        mu: Tensor,
        turns: edge_passes.Turns,
        halvings: int,
    ) -> None: ...


class Loop(Protocol):
    """As `compiled.iterate`, which says what it takes and returns."""

    def __call__(
        self,
        point: Point,
        problem: Problem,
        chain: Chain,
        spent: Tensor,
        *,
        aim: float,
        most: int,
        blocked: float,
        trial: int,
    ) -> Tensor: ...


def kernels_for(device: torch.device, batch: int, chain: Chain) -> tuple[Kernels, Loop | None]:
    """The passes to use for so many networks, and the loop, if a compiled one is the faster way.

    The passes are compiled on a processor with numba, and plain elsewhere. The compiled loop gives
    each network one thread: it is used where networks are too small to be shared by threads, or
    where there are at least as many as threads.

    Threads wait for each other by spinning, which gains nothing for small networks and loses much
    where another program needs the processor: each must have work worth waiting for.
    """
    if not can_compile(device):
        return edge_passes, None
    from attnflow.solver import compiled

    threads, edges = torch.get_num_threads(), batch * chain.edges
    if batch < threads and chain.edges >= 2 * EDGES_FOR_A_THREAD:
        compiled.use_threads(max(1, min(threads, edges // EDGES_FOR_A_THREAD)))
        return compiled, None
    compiled.use_threads(max(1, min(threads, batch, edges // EDGES_FOR_A_LOOP)))
    return compiled, compiled.iterate


def can_compile(device: torch.device) -> bool:
    """Whether there are compiled passes for a device: a processor, with numba."""
    return device.type == "cpu" and importlib.util.find_spec("numba") is not None
