"""The passes over the edges in fused form, compiled for the processor at hand by numba.

Same functions as `passes`, which says what they compute; here an edge is read once a pass, and
everything that needs it is done while it is in a register. That is some twenty times faster, and
less easy to read, which is why nothing else in the solver is written this way.

Edges go row by row: a row is the edges that leave one node. `_Work` cuts the rows into pieces,
which the threads share; the cut depends on the networks' sizes alone, so that an answer does not
depend on the number of threads or on its batch mates.
"""

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.extending import intrinsic
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.compiled_elimination import factor as factor
from attnflow.solver.iterate import Ahead, Linearised, Point, Step
from attnflow.solver.passes import FINEST, REACH, move_potentials

ROWS_AT_ONCE = 64
NODES_AT_ONCE = 16
# No NaN is looked for (`interior_point` looks at what comes out), and sums over edges may be
# reordered, but nothing inside an edge: differences of potentials must be taken as they stand.
LOOSE = {"contract", "nsz", "nnan"}
_edge = numba.njit(fastmath=LOOSE, error_model="numpy", forceinline=True, cache=True)
_row = numba.njit(fastmath=LOOSE | {"reassoc"}, error_model="numpy", nogil=True, cache=True)
_over_rows = numba.njit(error_model="numpy", nogil=True, cache=True, parallel=True)


@intrinsic
def _max(_typing: Any, a: Any, b: Any) -> Any:
    """The larger number, in the form that the compiler can do for several lanes at once."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        double = ir.DoubleType()
        kind = ir.FunctionType(double, [double, double])
        function = builder.module.declare_intrinsic("llvm.maxnum", (double,), kind)
        return builder.call(function, args, fastmath=("nnan", "nsz"))

    return numba.types.float64(numba.types.float64, numba.types.float64), generate


def use_threads(number: int) -> None:
    """Share the rows among so many threads, or as many as there are."""
    numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != number:  # numba starts its own, and may share a pool with torch
        torch.set_num_threads(number)


def linearise(point: Point, mu: Tensor, chain: Chain) -> Linearised:
    """As `passes.linearise`."""
    nodes = chain.new_nodes(point.potential)
    none = torch.zeros_like(mu)
    step = Step(mu, nodes, nodes, mu, none, none, none)
    return _advance(point, step, chain, torch.empty_like(point.flow), moving=False)


def advance(point: Point, step: Step, chain: Chain, weight: Tensor) -> Linearised:
    """As `passes.advance`."""
    return _advance(point, step, chain, weight, moving=True)


def _advance(point: Point, step: Step, chain: Chain, weight: Tensor, *, moving: bool) -> Linearised:
    work = _Work(point, chain)
    sums, enter, leave = work.sums(3), work.heads(4), work.tails(4)
    before = _stacked(point.potential, point.carry, step.affine, step.direction)
    if moving:
        move_potentials(point, step)
    after = _stacked(point.potential, point.carry)
    numbers = _stacked(step.mu, step.target, step.theta, step.primal, step.dual)
    _advance_rows(
        moving, work.pieces, work.edges, weight.numpy(), before, after, numbers, sums, enter, leave
    )
    entering, leaving = work.gather(enter), torch.from_numpy(leave)
    balance, pull, push = (entering - leaving)[:, :3].unbind(1)
    largest, total = work.largest(sums[..., :2]), work.total(sums[..., 2:])
    return Linearised(
        weight,
        balance,
        pull,
        push,
        entering[:, 3],
        leaving[:, 3],
        total[:, 0],
        largest[:, 0] / step.mu,
        largest[:, 1],
    )


def look_ahead(point: Point, affine: Tensor, mu: Tensor, chain: Chain) -> Ahead:
    """As `passes.look_ahead`."""
    work = _Work(point, chain)
    sums, enter, leave = work.sums(5), work.heads(1), work.tails(1)
    nodes = _stacked(point.potential, point.carry, affine)
    _look_ahead_rows(work.pieces, work.edges, nodes, mu.numpy(), sums, enter, leave)
    correction = (work.gather(enter) - torch.from_numpy(leave))[:, 0]
    primal, dual = work.largest(sums[..., :2]).unbind(1)
    primal_slope, dual_slope, bend = work.total(sums[..., 2:]).unbind(1)
    return Ahead(primal, dual, primal_slope, dual_slope, bend, correction)


def try_corrections(
    point: Point, step: Step, correction: Tensor, thetas: Tensor, chain: Chain
) -> tuple[Tensor, Tensor]:
    """As `passes.try_corrections`."""
    work = _Work(point, chain)
    sums = work.sums(2 * len(thetas))
    nodes = _stacked(point.potential, point.carry, step.affine, step.direction, correction)
    numbers = _stacked(step.mu, step.target)
    _try_rows(work.pieces, work.edges, nodes, numbers, tuple(thetas.tolist()), sums)
    largest = work.largest(sums)
    return largest[:, : len(thetas)], largest[:, len(thetas) :]


def balance(
    u: Tensor, chain: Chain, row: int, potential: Tensor, mu: Tensor, halvings: int, end: int
) -> None:
    """As `passes.balance`."""
    out, into = (chain.blocks(u)[k].numpy() for k in (row - 1, row))
    below, here, above = (y.numpy() for y in chain.rows(potential)[row - 1 : row + 2])
    _balance_nodes(out, into, below, here, above, mu.numpy(), halvings, end)


def centre(u: Tensor, potential: Tensor, mu: Tensor, chain: Chain) -> Point:
    """As `passes.centre`."""
    flow, slack, lower, upper = (torch.empty_like(u) for _ in range(4))
    point = Point(flow, slack, lower, upper, potential, torch.zeros_like(potential))
    work = _Work(point, chain)
    _centre_rows(work.pieces, u.numpy(), potential.numpy(), mu.numpy(), work.edges)
    return point


def gather_bins(u: Tensor, chain: Chain, bins: int) -> tuple[Tensor, Tensor]:
    """As `passes.gather_bins`."""
    totals, counts = np.zeros((2, len(u), len(chain.shapes) - 1, bins))
    limits = 10 ** (-np.arange(1, bins) / 2)
    _gather_bins(np.array(chain.edge_starts), u.numpy(), limits, totals, counts)
    return torch.from_numpy(totals), torch.from_numpy(counts)


class _Work:
    """Arrays of a point for the compiled loops, and room for what the pieces find.

    A row of `pieces` is: the first edge, the first and the last row plus 1, the first node of the
    tails and of the heads, and the number of heads.
    """

    def __init__(self, point: Point, chain: Chain) -> None:
        arrays = (point.flow, point.slack, point.lower, point.upper)
        self.edges = tuple(x.numpy() for x in arrays)
        self.pieces, self.chain, self.batch = _pieces(chain), chain, len(point.flow)

    def sums(self, kinds: int) -> Any:
        return np.zeros((self.batch, len(self.pieces), kinds))

    def heads(self, kinds: int) -> Any:
        return np.zeros((self.batch, len(self.pieces), kinds, max(self.chain.widths)))

    def tails(self, kinds: int) -> Any:
        return np.zeros((self.batch, kinds, self.chain.nodes))

    def gather(self, heads: Any) -> Tensor:
        """What all pieces sent to each node, `(batch, k, nodes)`."""
        out = self.tails(heads.shape[2])
        _gather(self.pieces, heads, out)
        return torch.from_numpy(out)

    def largest(self, found: Any) -> Tensor:
        return torch.from_numpy(found.max(1))

    def total(self, found: Any) -> Tensor:
        return torch.from_numpy(found.sum(1))


def _stacked(*arrays: Tensor) -> Any:
    """`(batch, k, nodes)` of arrays of nodes, `(batch, k)` of one number a problem."""
    return torch.stack(arrays, 1).numpy()


def _pieces(chain: Chain) -> Any:
    found = [
        (chain.edge_starts[k], row, min(row + ROWS_AT_ONCE, tails), *chain.node_starts[k : k + 2])
        for k, (tails, _) in enumerate(chain.shapes)
        for row in range(0, tails, ROWS_AT_ONCE)
    ]
    heads = [n for tails, n in chain.shapes for _ in range(0, tails, ROWS_AT_ONCE)]
    return np.column_stack([np.array(found, dtype=np.int64), np.array(heads, dtype=np.int64)])


@_edge
def _opened(flow, slack, lower, upper):
    """An edge's numbers with 1 for those of an edge that does not exist, and what follows.

    One division serves 1/f, 1/s and w: divisions are what the passes wait for.
    """
    live = flow > 0
    f, s = flow if live else 1.0, slack if live else 1.0
    z, v = lower if live else 1.0, upper if live else 1.0
    room, stiffness = f * s, z * s + v * f
    inverse = 1 / (room * stiffness)
    per_f, per_s, w = s * stiffness * inverse, f * stiffness * inverse, room * room * inverse
    return 1.0 if live else 0.0, f, s, z, v, per_f, per_s, w if live else 0.0


@_edge
def _drop(tail, head, tail_carry, head_carry):
    return (tail - head) + (tail_carry - head_carry)


@_edge
def _newton(low, high, z, v, per_f, per_s, w, drop, step_drop):
    """Steps of flow and multipliers of the direction towards f z = low and s v = high."""
    df = w * (low * per_f - high * per_s + drop + step_drop)
    return df, (low - z * df) * per_f - z, (high + v * df) * per_s - v


@_over_rows
def _advance_rows(moving, pieces, edges, weight, before, after, numbers, sums, enter, leave):
    flow, slack, lower, upper = edges
    for at in numba.prange(len(flow) * len(pieces)):
        b, piece = np.int64(at) // len(pieces), np.int64(at) % len(pieces)
        start, first, last, head, tail, n = pieces[piece]
        old, new = before[b], after[b]
        h = slice(head, head + n)
        old_heads = (old[0, h], old[1, h], old[2, h], old[3, h])
        new_heads = (new[0, h], new[1, h])
        for i in range(first, last):
            e = slice(start + i * n, start + i * n + n)
            row = (flow[b, e], slack[b, e], lower[b, e], upper[b, e])
            if moving:
                _move_row(row, old[:, tail + i], old_heads, numbers[b], n)
            centrality, stationarity, products, balance, pull, push, total = _linearise_row(
                row, weight[b, e], new[:, tail + i], new_heads, numbers[b, 0],
                enter[b, piece], n,
            )  # fmt: skip
            found = sums[b, piece]
            found[0], found[1] = max(found[0], centrality), max(found[1], stationarity)
            found[2] += products
            leave[b, 0, tail + i], leave[b, 1, tail + i] = balance, pull
            leave[b, 2, tail + i], leave[b, 3, tail + i] = push, total


@_row
def _move_row(row, tail, head, numbers, n):
    flow, slack, lower, upper = row
    mu, target, theta, primal, dual = numbers
    potential, carry, affine, direction = head
    for j in range(n):
        live, f, s, z, v, per_f, per_s, w = _opened(flow[j], slack[j], lower[j], upper[j])
        drop = _drop(tail[0], potential[j], tail[1], carry[j])
        df, dz, dv = _newton(mu, mu, z, v, per_f, per_s, w, drop, tail[2] - affine[j])
        low, high = target - theta * df * dz, target + theta * df * dv
        df, dz, dv = _newton(low, high, z, v, per_f, per_s, w, drop, tail[3] - direction[j])
        flow[j] = live * (f + primal * df)
        slack[j] = live * (s - primal * df)
        lower[j] = live * (z + dual * dz)
        upper[j] = live * (v + dual * dv)


@_row
def _linearise_row(row, weight, tail, head, mu, enter, n):
    flow, slack, lower, upper = row
    potential, carry = head
    to_balance, to_pull, to_push, to_total = enter[0], enter[1], enter[2], enter[3]
    centrality = stationarity = products = balance = pull = push = total = 0.0
    for j in range(n):
        live, f, s, z, v, per_f, per_s, w = _opened(flow[j], slack[j], lower[j], upper[j])
        weight[j] = w
        drop = _drop(tail[0], potential[j], tail[1], carry[j])
        centrality = _max(centrality, live * _max(abs(f * z - mu), abs(s * v - mu)))
        stationarity = _max(stationarity, live * abs(z - v + drop) / (z + v))
        products += live * (f * z + s * v)
        x, p, q = live * f, w * drop, w * (per_f - per_s)
        to_balance[j] += x
        to_pull[j] += p
        to_push[j] += q
        to_total[j] += w
        balance += x
        pull += p
        push += q
        total += w
    return centrality, stationarity, products, balance, pull, push, total


@_over_rows
def _look_ahead_rows(pieces, edges, nodes, mu, sums, enter, leave):
    flow, slack, lower, upper = edges
    for at in numba.prange(len(flow) * len(pieces)):
        b, piece = np.int64(at) // len(pieces), np.int64(at) % len(pieces)
        start, first, last, head, tail, n = pieces[piece]
        h = slice(head, head + n)
        heads = (nodes[b, 0, h], nodes[b, 1, h], nodes[b, 2, h])
        for i in range(first, last):
            e = slice(start + i * n, start + i * n + n)
            row = (flow[b, e], slack[b, e], lower[b, e], upper[b, e])
            primal, dual, primal_slope, dual_slope, bend, leaving = _look_ahead_row(
                row, nodes[b, :, tail + i], heads, mu[b],
                enter[b, piece, 0], n,
            )  # fmt: skip
            found = sums[b, piece]
            found[0], found[1] = max(found[0], primal), max(found[1], dual)
            found[2] += primal_slope
            found[3] += dual_slope
            found[4] += bend
            leave[b, 0, tail + i] = leaving


@_row
def _look_ahead_row(row, tail, head, mu, enter, n):
    flow, slack, lower, upper = row
    potential, carry, affine = head
    primal = dual = primal_slope = dual_slope = bend = leaving = 0.0
    for j in range(n):
        live, f, s, z, v, per_f, per_s, w = _opened(flow[j], slack[j], lower[j], upper[j])
        drop = _drop(tail[0], potential[j], tail[1], carry[j])
        df, dz, dv = _newton(mu, mu, z, v, per_f, per_s, w, drop, tail[2] - affine[j])
        primal = _max(primal, _max(-df * per_f, df * per_s))
        inverse = -live / (z * v)
        dual = _max(dual, _max(dz * v * inverse, dv * z * inverse))
        primal_slope += df * (z - v)
        dual_slope += live * (f * dz + s * dv)
        bend += df * (dz - dv)
        force = -w * df * (dz * per_f + dv * per_s)
        enter[j] += force
        leaving += force
    return primal, dual, primal_slope, dual_slope, bend, leaving


@_over_rows
def _try_rows(pieces, edges, nodes, numbers, thetas, sums):
    flow, slack, lower, upper = edges
    k = len(thetas)
    for at in numba.prange(len(flow) * len(pieces)):
        b, piece = np.int64(at) // len(pieces), np.int64(at) % len(pieces)
        start, first, last, head, tail, n = pieces[piece]
        found = sums[b, piece]
        h = slice(head, head + n)
        heads = (
            nodes[b, 0, h], nodes[b, 1, h], nodes[b, 2, h], nodes[b, 3, h], nodes[b, 4, h]
        )  # fmt: skip
        for i in range(first, last):
            e = slice(start + i * n, start + i * n + n)
            row = (flow[b, e], slack[b, e], lower[b, e], upper[b, e])
            used = _try_row(
                row, nodes[b, :, tail + i], heads,
                numbers[b, 0], numbers[b, 1], thetas, n,
            )  # fmt: skip
            for c in range(2 * k):
                found[c] = max(found[c], used[c])


@_row
def _try_row(row, tail, head, mu, target, thetas, n):
    flow, slack, lower, upper = row
    potential, carry, affine, direction, corrected = head
    t0, t1, t2, t3, t4 = thetas
    p0 = p1 = p2 = p3 = p4 = d0 = d1 = d2 = d3 = d4 = 0.0
    for j in range(n):
        live, f, s, z, v, per_f, per_s, w = _opened(flow[j], slack[j], lower[j], upper[j])
        drop = _drop(tail[0], potential[j], tail[1], carry[j])
        df, dz, dv = _newton(mu, mu, z, v, per_f, per_s, w, drop, tail[2] - affine[j])
        low, high = -df * dz, df * dv
        base = w * (target * (per_f - per_s) + drop + (tail[3] - direction[j]))
        more = w * (low * per_f - high * per_s + (tail[4] - corrected[j]))
        inverse = live / (z * v)
        per_fz, per_sv = per_f * v * inverse, per_s * z * inverse
        z0 = live - (target - z * base) * per_fz
        z1 = -(low - z * more) * per_fz
        v0 = live - (target + v * base) * per_sv
        v1 = -(high + v * more) * per_sv
        f0, f1, s0, s1 = -base * per_f, -more * per_f, base * per_s, more * per_s
        p0, d0 = (
            _max(p0, _max(f0 + t0 * f1, s0 + t0 * s1)),
            _max(d0, _max(z0 + t0 * z1, v0 + t0 * v1)),
        )
        p1, d1 = (
            _max(p1, _max(f0 + t1 * f1, s0 + t1 * s1)),
            _max(d1, _max(z0 + t1 * z1, v0 + t1 * v1)),
        )
        p2, d2 = (
            _max(p2, _max(f0 + t2 * f1, s0 + t2 * s1)),
            _max(d2, _max(z0 + t2 * z1, v0 + t2 * v1)),
        )
        p3, d3 = (
            _max(p3, _max(f0 + t3 * f1, s0 + t3 * s1)),
            _max(d3, _max(z0 + t3 * z1, v0 + t3 * v1)),
        )
        p4, d4 = (
            _max(p4, _max(f0 + t4 * f1, s0 + t4 * s1)),
            _max(d4, _max(z0 + t4 * z1, v0 + t4 * v1)),
        )
    return p0, p1, p2, p3, p4, d0, d1, d2, d3, d4


@_row
def _gather(pieces, heads, out):
    for b in range(len(heads)):
        for piece in range(len(pieces)):
            head, n = pieces[piece, 3], pieces[piece, 5]
            for kind in range(heads.shape[2]):
                for j in range(n):
                    out[b, kind, head + j] += heads[b, piece, kind, j]


@_over_rows
def _balance_nodes(out, into, below, here, above, mu, halvings, end):
    batch, n = here.shape
    pieces = (n + NODES_AT_ONCE - 1) // NODES_AT_ONCE
    for at in numba.prange(batch * pieces):
        b, first = np.int64(at) // pieces, np.int64(at) % pieces * NODES_AT_ONCE
        last = min(first + NODES_AT_ONCE, n)
        _balance_piece(
            out[b, first:last], into[b, :, first:last], below[b], here[b, first:last], above[b],
            mu[b], halvings, end,
        )  # fmt: skip


@_row
def _balance_piece(out, into, below, here, above, mu, halvings, end):
    n, width = len(here), REACH
    middle, trial = np.zeros(n), np.empty(n)
    leaving, entering = np.empty(n), np.empty(n)
    for _ in range(halvings):
        for i in range(n):
            trial[i] = here[i] + FINEST * np.sinh(middle[i])
            leaving[i], entering[i] = _leaving(out[i], trial[i], below, mu), 0.0
        for i in range(len(above)):
            _enter(into[i], above[i], trial, mu, entering)
        width /= 2
        for i in range(n):
            middle[i] += -width if leaving[i] > entering[i] else width
    for i in range(n):
        if leaving[i] > 0:
            here[i] += FINEST * np.sinh(middle[i] + end * width)


@_edge
def _centred_flow(u, drop, mu):
    along = abs(drop * u)
    far = along + np.sqrt(along * along + 4 * mu * mu)
    return u * (far if drop > 0 else 2 * mu) / (far + 2 * mu)


@_row
def _leaving(u, tail, head, mu):
    total = 0.0
    for j in range(len(u)):
        total += _centred_flow(u[j], tail - head[j], mu)
    return total


@_row
def _enter(u, tail, head, mu, entering):
    for j in range(len(u)):
        entering[j] += _centred_flow(u[j], tail - head[j], mu)


@_over_rows
def _centre_rows(pieces, u, potential, mu, edges):
    flow, slack, lower, upper = edges
    for at in numba.prange(len(u) * len(pieces)):
        b, piece = np.int64(at) // len(pieces), np.int64(at) % len(pieces)
        start, first, last, head, tail, n = pieces[piece]
        for i in range(first, last):
            e = slice(start + i * n, start + i * n + n)
            row = (flow[b, e], slack[b, e], lower[b, e], upper[b, e])
            heads = potential[b, head : head + n]
            _centre_row(u[b, e], potential[b, tail + i], heads, mu[b], row)


@_row
def _centre_row(u, tail, head, mu, row):
    flow, slack, lower, upper = row
    for j in range(len(u)):
        drop = tail - head[j]
        along = abs(drop * u[j])
        far = along + np.sqrt(along * along + 4 * mu * mu)
        larger, smaller = u[j] * far / (far + 2 * mu), u[j] * (2 * mu) / (far + 2 * mu)
        f, s = (larger, smaller) if drop > 0 else (smaller, larger)
        flow[j], slack[j] = f, s
        lower[j], upper[j] = mu / f if u[j] > 0 else 0.0, mu / s if u[j] > 0 else 0.0


@_over_rows
def _gather_bins(starts, u, limits, totals, counts):
    blocks = totals.shape[1]
    for at in numba.prange(len(u) * blocks):
        b, k = np.int64(at) // blocks, np.int64(at) % blocks
        block = u[b, starts[k] : starts[k + 1]]
        largest = 0.0
        for j in range(len(block)):
            largest = max(largest, block[j])
        for j in range(len(block)):
            if block[j] > 0:
                index = 0
                for c in range(len(limits)):
                    index += block[j] <= largest * limits[c]
                totals[b, k, index] += block[j]
                counts[b, k, index] += 1
