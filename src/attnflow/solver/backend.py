"""Choice of the passes, and of the loop around them, by device and by size."""

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from attnflow.solver import edge_passes
from attnflow.solver.chain import Chain
from attnflow.solver.state import (
    Linearisation,
    Point,
    Prediction,
    Problem,
    Step,
    StoppingCriteria,
)

# Threads wait for each other by spinning, which gains nothing for small networks and loses much
# where another program needs the processor. So each thread must have at least that many edges:
EDGES_FOR_A_THREAD = 2**16  # where threads meet after every pass
EDGES_FOR_A_LOOP = 2**12  # where they meet once


class Factored(Protocol):
    """A factored Laplacian, as `block_tridiagonal.Factor`."""

    @property
    def failed(self) -> Tensor: ...

    def solve(self, right: Tensor) -> Tensor: ...


class Kernels(Protocol):
    """The passes, as `edge_passes` defines them, and the factorisation of `block_tridiagonal`."""

    def factor(self, weight: Tensor, inward: Tensor, outward: Tensor, chain: Chain) -> Factored: ...

    def linearise(self, point: Point, mu: Tensor, chain: Chain) -> Linearisation: ...
    def predict(self, point: Point, affine: Tensor, mu: Tensor, chain: Chain) -> Prediction: ...
    def try_corrections(
        self, point: Point, step: Step, correction: Tensor, thetas: Tensor, chain: Chain
    ) -> tuple[Tensor, Tensor]: ...
    def advance(self, point: Point, step: Step, chain: Chain, weight: Tensor) -> Linearisation: ...
    def centred_point(self, u: Tensor, potential: Tensor, mu: Tensor, chain: Chain) -> Point: ...
    def gather_bins(self, u: Tensor, chain: Chain, bins: int) -> tuple[Tensor, Tensor]: ...
    def balance_rows(
        self,
        u: Tensor,
        chain: Chain,
        potential: Tensor,
        mu: Tensor,
        turns: edge_passes.Turns,
        halvings: int,
    ) -> None: ...


class Loop(Protocol):
    """The whole iteration, as `compiled.iterate` defines it."""

    def __call__(
        self,
        point: Point,
        problem: Problem,
        chain: Chain,
        iterations: Tensor,
        stopping: StoppingCriteria,
    ) -> Tensor: ...


def kernels_for(device: torch.device, batch: int, chain: Chain) -> tuple[Kernels, Loop | None]:
    """The passes for `batch` networks of this size, and the compiled loop where that is faster.

    The passes are compiled on a processor with numba, and plain elsewhere. The compiled loop gives
    each network one thread. It is used where networks are too small to be shared by threads, or
    where there are at least as many networks as threads.
    """
    if not can_compile(device):
        return edge_passes, None
    from attnflow.solver import compiled

    threads, edges = torch.get_num_threads(), batch * chain.edges
    # Only then can two threads share one network, which a loop for each network cannot do.
    if batch < threads and chain.edges >= 2 * EDGES_FOR_A_THREAD:
        compiled.use_threads(max(1, min(threads, edges // EDGES_FOR_A_THREAD)))
        return compiled, None
    compiled.use_threads(max(1, min(threads, batch, edges // EDGES_FOR_A_LOOP)))
    return compiled, compiled.iterate


def can_compile(device: torch.device) -> bool:
    """Return whether there are compiled passes for a device: a processor, with numba."""
    return device.type == "cpu" and importlib.util.find_spec("numba") is not None
