"""Compiler options, buffers and the cut into pieces that the compiled passes share.

A piece is a run of rows of a block, a row being the edges that leave one node. The threads share
the pieces. The cut depends on the networks' sizes alone, so that an answer depends neither on the
number of threads nor on its batch mates.

numba keeps machine code next to the file of a function, and compiles again when that file changes,
not when another does. After a change to this folder or to `state`, remove its `__pycache__`.
"""

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.extending import intrinsic
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.state import Point

# Rows of a piece: enough edges to be worth a call, and few enough that threads end together.
ROWS_AT_ONCE = 64
# Sums over edges may be reordered, but nothing inside an edge: (y - y') + (c - c') must not become
# (y + c) - (y' + c'), which rounds the carried part of the potentials away.
LOOSE = {"contract", "nsz"}
per_edge = numba.njit(fastmath=LOOSE, error_model="numpy", forceinline=True, cache=True)
serial = numba.njit(fastmath=LOOSE | {"reassoc"}, error_model="numpy", nogil=True, cache=True)
small = numba.njit(error_model="numpy", forceinline=True, cache=True)
inlined = numba.njit(error_model="numpy", inline="always", cache=True)
exact = numba.njit(error_model="numpy", nogil=True, cache=True)  # as written: no sum is reordered


@intrinsic
def larger(_typing: Any, a: Any, b: Any) -> Any:
    """The larger number, in a form that is vectorised; `max` compiles to branches."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        double = ir.DoubleType()
        kind = ir.FunctionType(double, [double, double])
        function = builder.module.declare_intrinsic("llvm.maxnum", (double,), kind)
        return builder.call(function, args, fastmath=("nnan", "nsz"))

    return numba.types.float64(numba.types.float64, numba.types.float64), generate


@small
def add(to, values):
    """Add to an array. A loop, since numba compiles the text of an error for each slice it adds."""
    for i in range(len(to)):
        to[i] += values[i]


@small
def put(to, values):
    """Copy into an array, by a loop like that of `add`."""
    for i in range(len(to)):
        to[i] = values[i]


@small
def put_difference(to, a, b):
    """Put a - b into an array, by a loop like that of `add`."""
    for i in range(len(to)):
        to[i] = a[i] - b[i]


@per_edge
def edge_index(first, j):
    """Index of an edge, unsigned: a signed one might be negative, which stops vectorisation."""
    return np.uint64(first) + np.uint64(j)


class PassBuffers:
    """Arrays of a point for the compiled passes, and buffers for the sums of the pieces."""

    def __init__(self, point: Point, chain: Chain) -> None:
        arrays = (point.flow, point.slack, point.lower, point.upper)
        self.edges = tuple(x.numpy() for x in arrays)
        self.pieces, self.chain, self.batch = pieces_of(chain), chain, len(point.flow)
        self.count = self.batch * len(self.pieces)

    def sums(self, kinds: int) -> Any:
        """Zeros `(batch, pieces, kinds)`, for the numbers of each piece."""
        return np.zeros((self.batch, len(self.pieces), kinds))

    def heads(self, kinds: int) -> Any:
        """Zeros for sums at the heads of each piece, which other pieces may have too."""
        return np.zeros((self.batch, len(self.pieces), kinds, max(self.chain.widths)))

    def tails(self, kinds: int) -> Any:
        """Zeros `(batch, kinds, nodes)` for sums at tails, each of which lies in one piece."""
        return np.zeros((self.batch, kinds, self.chain.nodes))

    def gather(self, heads: Any) -> Tensor:
        """`(batch, kinds, nodes)` sums at heads over all pieces, in the order of the pieces."""
        out = self.tails(heads.shape[2])
        _gather(self.pieces, heads, out)
        return torch.from_numpy(out)

    def largest(self, sums: Any) -> Tensor:
        """Largest number of all pieces of each problem."""
        return torch.from_numpy(sums.max(1))

    def total(self, sums: Any) -> Tensor:
        """Sum of the numbers of all pieces of each problem."""
        return torch.from_numpy(sums.sum(1))


def stacked(*arrays: Tensor) -> Any:
    """`(batch, k, nodes)` of arrays of nodes, `(batch, k)` of one number a problem."""
    return torch.stack(arrays, 1).numpy()


def pieces_of(chain: Chain) -> Any:
    """`(pieces, 5)` int: first edge, tails, heads, first tail and first head of each piece."""
    pieces = [
        (
            chain.edge_starts[k] + row * heads,
            min(ROWS_AT_ONCE, tails - row),
            heads,
            chain.node_starts[k + 1] + row,
            chain.node_starts[k],
        )
        for k, (tails, heads) in enumerate(chain.shapes)
        for row in range(0, tails, ROWS_AT_ONCE)
    ]
    return np.array(pieces, dtype=np.int64)


@serial
def _gather(pieces, heads, out):
    for b in range(len(heads)):
        for piece in range(len(pieces)):
            _, _, n, _, head = pieces[piece]
            for kind in range(heads.shape[2]):
                for j in range(n):
                    out[b, kind, head + j] += heads[b, piece, kind, j]
