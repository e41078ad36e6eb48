"""The factorisation of `block_tridiagonal`, compiled.

The Laplacian is a network of conductances. Eliminating a node of total conductance d leaves
c_i c_j / d between any two of its neighbours i and j: its star becomes a mesh. What is left is
again a network of conductances, so everything here is a sum of what is not negative. No difference
is taken, and nothing can fail but by leaving the range of float64. A row of Cholesky's factor is
c / sqrt(d). The ground counts as a neighbour that is never eliminated.

Of each row of nodes the *front* holds its conductances, and later its part of the factor. Its
columns are of three kinds: the row itself, the row above, and the ground. It lies in memory as
panels of `PANEL` columns, so that `add_products`, which does nearly all of the arithmetic, reads in
one piece.

LAPACK's Cholesky factorisation of a few hundred columns runs at a tenth of the speed of its
products of matrices. Threads that share one matrix are faster with it from `WIDEST` on, to which
`factor` then leaves the chain. `factor_one`, for one network and one thread, keeps pace with it at
any width.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnflow.solver import block_tridiagonal
from attnflow.solver.chain import Chain
from attnflow.solver.compiled.edges import add, exact, put, serial
from attnflow.solver.compiled.products import HEIGHT, PANEL, add_products
from attnflow.solver.compiled.row_names import PADDED_WIDTH, WIDTH
from attnflow.solver.compiled.threads import share

WIDEST = 320  # columns; from there on several threads are faster with LAPACK
BLOCK = 128  # rows eliminated before the others are updated; what the second-level cache holds
TILE = PANEL * PANEL


@dataclass(frozen=True)
class FrontalFactor:
    """A factored Laplacian, as `block_tridiagonal.Factor`.

    Attributes:
        rows: The `layout`.
        fronts: `(batch, size)` fronts of all rows.
        pivots: `(batch, nodes)` 1 / sqrt(d) of each node.
    """

    rows: Any
    fronts: Any
    pivots: Any

    @property
    def failed(self) -> Tensor:
        """`(batch,)` bool, true where numbers left the range of float64."""
        return torch.from_numpy(~((self.pivots > 0) & np.isfinite(self.pivots)).all(1))

    def solve(self, right: Tensor) -> Tensor:
        """The solution for `(batch, nodes, k)` right-hand sides; 0 at the grounded ends."""
        solution = right.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        count = solution.shape[0] * solution.shape[1]
        share(_solve_all, count, self.rows, self.fronts, self.pivots, solution.numpy())
        return solution.transpose(1, 2)


def factor(
    weight: Tensor, inward: Tensor, outward: Tensor, chain: Chain
) -> FrontalFactor | block_tridiagonal.Factor:
    """Factor the Laplacian of flat weights, as `block_tridiagonal.factor`."""
    if max(chain.widths) > WIDEST:
        return block_tridiagonal.factor(chain.blocks(weight), inward, outward, chain)
    rows, size = layout(chain)
    fronts = np.empty((len(weight), size))
    pivots = np.ones((len(weight), chain.nodes))
    entering, leaving = inward.contiguous().numpy(), outward.contiguous().numpy()
    share(_factor_all, len(weight), rows, weight.numpy(), entering, leaving, fronts, pivots)
    return FrontalFactor(rows, fronts, pivots)


def layout(chain: Chain) -> tuple[Any, int]:
    """A table of the inner rows, and the size of all fronts with two spare tiles at the end.

    Columns, named by `row_names`: the nodes of a row, their number filled up to whole panels, the
    panels of its front, and the start of the front. The last two are the first node, and the first
    edge of the block that enters the row.
    """
    rows, start = [], 0
    for k, width in enumerate(chain.widths[1:-1], 1):
        height = -(-width // PANEL) * PANEL
        above = -(-chain.widths[k + 1] // PANEL) if k < len(chain.widths) - 2 else 0
        panels = height // PANEL + above + 1  # one more for the ground
        rows.append((width, height, panels, start, chain.node_starts[k], chain.edge_starts[k]))
        start += panels * height * PANEL
    return np.array(rows, dtype=np.int64), start + 2 * TILE


@exact
def _factor_all(first, stop, rows, weight, inward, outward, fronts, pivots):
    for b in range(first, stop):
        factor_one(rows, weight[b], inward[b], outward[b], fronts[b], pivots[b])


@serial
def factor_one(rows, weight, inward, outward, front, pivots):
    """Factor one network's Laplacian, filling its `front` and `pivots`."""
    last = len(rows) - 1
    for k in range(len(rows)):
        width, height, panels, start, node, edge = rows[k]
        ground = start + (panels - 1) * height * PANEL
        front[start : start + panels * height * PANEL] = 0.0
        for i in range(width):
            if k == 0:
                front[ground + i * PANEL] += outward[node + i]
            if k == last:
                front[ground + i * PANEL] += inward[node + i]
        if k < last:
            above = rows[k + 1, WIDTH]
            for j in range(0, above, PANEL):
                to = start + (height + j) * height
                _transpose(weight[edge + j * width :], front[to:], width, min(PANEL, above - j))
        if k > 0:
            _mesh(front, rows[k - 1], start, height, ground)
        _eliminate(front, start, height, panels, pivots[node : node + width])


@serial
def _transpose(rows, panel, width, count):
    """Copy `count` rows of edges into the columns of a panel.

    The full panel has a loop of its own, whose length the compiler knows.
    """
    if count == PANEL:
        for i in range(width):
            for c in range(PANEL):
                panel[i * PANEL + c] = rows[c * width + i]
    else:
        for i in range(width):
            for c in range(count):
                panel[i * PANEL + c] = rows[c * width + i]


@serial
def _mesh(front, below, start, height, ground):
    """Add what the elimination of the row below leaves between this row's nodes and the ground."""
    _, lower_height, lower_panels, lower_start, _, _ = below
    left = lower_start + lower_height * lower_height
    from_ground = lower_start + (lower_panels - 1) * lower_height * PANEL
    for block in range(0, lower_height, BLOCK):
        count, skip = min(BLOCK, lower_height - block), block * PANEL
        for row in range(0, height, HEIGHT):
            panel = row // PANEL
            first = left + panel * lower_height * PANEL + skip + row % PANEL
            for p in range(panel, height // PANEL):
                second = left + p * lower_height * PANEL + skip
                add_products(front, first, second, start + (p * height + row) * PANEL, count)
            add_products(front, first, from_ground + skip, ground + row * PANEL, count)


@serial
def _eliminate(front, start, height, panels, pivots):
    """Eliminate a row of nodes, `HEIGHT` at a time.

    Each strip first takes what the strips before it in its block leave. Later blocks take what a
    whole block leaves in one go, while that is in the cache.
    """
    for block in range(0, height, BLOCK):
        stop = min(block + BLOCK, height)
        for row in range(block, height, HEIGHT):
            first = start + ((row // PANEL) * height + block) * PANEL + row % PANEL
            count = min(row, stop) - block
            for p in range(row // PANEL, panels):
                second = start + (p * height + block) * PANEL
                add_products(front, first, second, start + (p * height + row) * PANEL, count)
            if row < stop:
                _eliminate_strip(front, start, height, panels, row, pivots)


@serial
def _eliminate_strip(front, start, height, panels, row, pivots):
    """Eliminate the nodes row .. row + HEIGHT, after all nodes before them.

    Within the strip it goes node by node. What that does to the strip's own columns is gathered in
    `change`, a triangular tile, and applied to all later columns as one product.
    """
    panel, inside = row // PANEL, row % PANEL
    strip = start + (panel * height + row) * PANEL
    spare = len(front) - TILE
    later = _sums_beyond(front, start, height, panels, row)
    change = front[spare - TILE : spare]
    change[:] = 0.0
    for r in range(HEIGHT):
        at = strip + r * PANEL + inside
        # The conductance to all nodes that are left, a sum of numbers >= 0.
        total = later[r]
        for c in range(r + 1, HEIGHT):
            total += front[at + c]
        # A node without edges, or one that fills up a panel, has nothing to share.
        pivot = 1.0 if total == 0.0 else 1 / np.sqrt(total)
        if row + r < len(pivots):
            pivots[row + r] = pivot
        later[r] *= pivot
        front[at : at + r + 1] = 0.0
        for c in range(r + 1, HEIGHT):
            front[at + c] *= pivot
        for k in range(r):
            change[k * PANEL + r] *= pivot
        change[r * PANEL + r] = pivot
        for below in range(r + 1, HEIGHT):
            share = front[at + below]
            later[below] += share * later[r]
            for k in range(r + 1):
                change[k * PANEL + below] += share * change[k * PANEL + r]
            for c in range(below + 1, HEIGHT):
                front[strip + below * PANEL + inside + c] += share * front[at + c]
    # The strip's own panel has later columns too where a strip is half a panel high.
    for p in range(panel + (inside + HEIGHT == PANEL), panels):
        first = inside + HEIGHT if p == panel else 0
        to = start + (p * height + row) * PANEL
        for r in range(HEIGHT):
            for c in range(PANEL):
                front[spare + r * PANEL + c] = front[to + r * PANEL + c] if c >= first else 0.0
                front[to + r * PANEL + c] *= c < first
        add_products(front, spare - TILE, spare, to, HEIGHT)


@serial
def _sums_beyond(front, start, height, panels, row):
    """`(HEIGHT,)` conductance of each node of a strip to the nodes after it and to the ground."""
    panel = row // PANEL
    tile, sums = np.zeros((HEIGHT, PANEL)), np.zeros(HEIGHT)
    for p in range(panel + 1, panels):
        at = start + (p * height + row) * PANEL
        for r in range(HEIGHT):
            for c in range(PANEL):
                tile[r, c] += front[at + r * PANEL + c]
    strip = start + (panel * height + row) * PANEL
    for r in range(HEIGHT):
        for c in range(PANEL):
            sums[r] += tile[r, c]
        for c in range(row % PANEL + HEIGHT, PANEL):
            sums[r] += front[strip + r * PANEL + c]
    return sums


@exact
def _solve_all(first, stop, rows, fronts, pivots, right):
    kinds = right.shape[1]
    for at in range(first, stop):
        b = at // kinds
        solve_one(rows, fronts[b], pivots[b], right[b, at % kinds])


@serial
def solve_one(rows, front, pivots, x):
    """Solve for one right-hand side, in place.

    Forwards through the rows each node shares what it has among the nodes after it; backwards each
    collects from them.
    """
    x[0] = x[-1] = 0.0
    widest = 0
    for k in range(len(rows)):
        widest = max(widest, rows[k, PADDED_WIDTH])
    sent = np.zeros((len(rows) + 1, widest))
    for k in range(len(rows)):
        width, height, panels, start, node, _ = rows[k]
        values, above = sent[k], sent[k + 1]
        add(values[:width], x[node : node + width])
        for p in range(panels - 1):
            first, at = p * PANEL, start + p * height * PANEL
            count = min(first, height)
            to = values[first:] if first < height else above[first - height :]
            _share(front[at : at + count * PANEL], values[:count], to)
            if first < height:
                _forward(front[at + first * PANEL :], values[first:], pivots[node + first :])
    for k in range(len(rows) - 1, -1, -1):
        width, height, panels, start, node, _ = rows[k]
        values, above = sent[k], sent[k + 1]
        for p in range(panels - 2, -1, -1):
            first, at = p * PANEL, start + p * height * PANEL
            if first < height:
                _backward(front[at + first * PANEL :], values[first:], pivots[node + first :])
            source = values[first:] if first < height else above[first - height :]
            _collect(front[at : at + min(first, height) * PANEL], source, values)
        put(x[node : node + width], values[:width])


@serial
def _share(panel, values, to):
    """to[c] += sum_i panel[i, c] values[i]; written out, since eight sums stay in registers so."""
    t0, t1, t2, t3, t4, t5, t6, t7 = to[0], to[1], to[2], to[3], to[4], to[5], to[6], to[7]
    for i in range(len(values)):
        x, at = values[i], i * PANEL
        t0 += panel[at] * x
        t1 += panel[at + 1] * x
        t2 += panel[at + 2] * x
        t3 += panel[at + 3] * x
        t4 += panel[at + 4] * x
        t5 += panel[at + 5] * x
        t6 += panel[at + 6] * x
        t7 += panel[at + 7] * x
    to[0], to[1], to[2], to[3], to[4], to[5], to[6], to[7] = t0, t1, t2, t3, t4, t5, t6, t7


@serial
def _collect(panel, values, to):
    """to[i] += sum_c panel[i, c] values[c]."""
    for i in range(len(panel) // PANEL):
        total = 0.0
        for c in range(PANEL):
            total += panel[i * PANEL + c] * values[c]
        to[i] += total


@serial
def _forward(tile, values, pivots):
    """Forward substitution within one panel."""
    for r in range(min(PANEL, len(pivots))):
        values[r] *= pivots[r]
        for c in range(r + 1, PANEL):
            values[c] += tile[r * PANEL + c] * values[r]


@serial
def _backward(tile, values, pivots):
    """Back substitution within one panel."""
    for r in range(min(PANEL, len(pivots)) - 1, -1, -1):
        for c in range(r + 1, PANEL):
            values[r] += tile[r * PANEL + c] * values[c]
        values[r] *= pivots[r]
