"""The passes of an iteration, compiled: see `passes` for what they compute.

Of every pass there are three parts: the function that `passes` has too, a loop that deals the
pieces to the threads, and a function that goes through the edges of one piece. Arrays are cut into
one-dimensional slices before that: only then does the compiler see that rows lie in one piece.
"""

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.compiled.edges import Work, edge, larger, parallel, per_edge, serial, stacked
from attnflow.solver.edge_passes import move_potentials
from attnflow.solver.state import Ahead, Linearised, Point, Step


def linearise(point: Point, mu: Tensor, chain: Chain) -> Linearised:
    """As `passes.linearise`: a step that goes nowhere."""
    none, nowhere = torch.zeros_like(mu), chain.new_nodes(point.potential)
    still = Step(mu, nowhere, nowhere, none, none, none, none)
    here = stacked(point.potential, point.carry, nowhere, nowhere)
    return _advance(point, still, here, chain, torch.empty_like(point.flow))


def advance(point: Point, step: Step, chain: Chain, weight: Tensor) -> Linearised:
    """As `passes.advance`."""
    before = stacked(point.potential, point.carry, step.affine, step.direction)
    move_potentials(point, step)
    return _advance(point, step, before, chain, weight)


def _advance(point: Point, step: Step, before: Any, chain: Chain, weight: Tensor) -> Linearised:
    """`before` `(batch, 4, nodes)`: potentials, carry and the two directions at the old point."""
    work = Work(point, chain)
    sums, enter, leave = work.sums(3), work.heads(4), work.tails(4)
    after = stacked(point.potential, point.carry)
    numbers = stacked(step.mu, step.target, step.theta, step.primal, step.dual)
    _advance_pieces(
        work.pieces, work.edges, weight.numpy(), before, after, numbers, sums, enter, leave
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
    work = Work(point, chain)
    sums, enter, leave = work.sums(5), work.heads(1), work.tails(1)
    nodes = stacked(point.potential, point.carry, affine)
    _look_ahead_pieces(work.pieces, work.edges, nodes, mu.numpy(), sums, enter, leave)
    correction = (work.gather(enter) - torch.from_numpy(leave))[:, 0]
    primal, dual = work.largest(sums[..., :2]).unbind(1)
    primal_slope, dual_slope, bend = work.total(sums[..., 2:]).unbind(1)
    return Ahead(primal, dual, primal_slope, dual_slope, bend, correction)


def try_corrections(
    point: Point, step: Step, correction: Tensor, thetas: Tensor, chain: Chain
) -> tuple[Tensor, Tensor]:
    """As `passes.try_corrections`, for five weights."""
    work = Work(point, chain)
    sums = work.sums(2 * len(thetas))
    nodes = stacked(point.potential, point.carry, step.affine, step.direction, correction)
    numbers = stacked(step.mu, step.target)
    _try_pieces(work.pieces, work.edges, nodes, numbers, tuple(thetas.tolist()), sums)
    largest = work.largest(sums)
    return largest[:, : len(thetas)], largest[:, len(thetas) :]


@per_edge
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


@per_edge
def _drop(tail, head, tail_carry, head_carry):
    return (tail - head) + (tail_carry - head_carry)


@per_edge
def _newton(low, high, z, v, per_f, per_s, w, drop, step_drop):
    """Steps of flow and multipliers of the direction towards f z = low and s v = high."""
    df = w * (low * per_f - high * per_s + drop + step_drop)
    return df, (low - z * df) * per_f - z, (high + v * df) * per_s - v


@parallel
def _advance_pieces(pieces, edges, weight, before, after, numbers, sums, enter, leave):
    flow, slack, lower, upper = edges
    for at in numba.prange(len(flow) * len(pieces)):
        b, piece = np.int64(at) // len(pieces), np.int64(at) % len(pieces)
        start, rows, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + rows * n), slice(tail, tail + rows), slice(head, head + n)
        old, new, to = before[b], after[b], enter[b, piece]
        advance_piece(
            (flow[b, e], slack[b, e], lower[b, e], upper[b, e]), weight[b, e],
            (old[0, t], old[1, t], old[2, t], old[3, t], new[0, t], new[1, t]),
            (old[0, h], old[1, h], old[2, h], old[3, h], new[0, h], new[1, h]),
            numbers[b], sums[b, piece],
            (to[0], to[1], to[2], to[3]),
            (leave[b, 0, t], leave[b, 1, t], leave[b, 2, t], leave[b, 3, t]),
        )  # fmt: skip


@serial
def advance_piece(edges, weight, tails, heads, numbers, sums, enter, leave):
    flow, slack, lower, upper = edges
    tail_0, tail_1, tail_2, tail_3, tail_4, tail_5 = tails
    potential, carry, affine, direction, new_potential, new_carry = heads
    mu, target, theta, primal, dual = numbers
    to_balance, to_pull, to_push, to_total = enter
    centrality = stationarity = products = 0.0
    n = len(potential)
    for i in range(len(tail_0)):
        y, c, dy, dz, new_y, new_c = (
            tail_0[i],
            tail_1[i],
            tail_2[i],
            tail_3[i],
            tail_4[i],
            tail_5[i],
        )
        balance = pull = push = total = 0.0
        for j in range(n):
            e = edge(i * n, j)
            live, f, s, z, v, per_f, per_s, w = _opened(flow[e], slack[e], lower[e], upper[e])
            drop = _drop(y, potential[j], c, carry[j])
            df, dl, du = _newton(mu, mu, z, v, per_f, per_s, w, drop, dy - affine[j])
            low, high = target - theta * df * dl, target + theta * df * du
            df, dl, du = _newton(low, high, z, v, per_f, per_s, w, drop, dz - direction[j])
            flow[e] = live * (f + primal * df)
            slack[e] = live * (s - primal * df)
            lower[e] = live * (z + dual * dl)
            upper[e] = live * (v + dual * du)
        for j in range(n):  # a loop of its own: both together do not fit the registers
            e = edge(i * n, j)
            live, f, s, z, v, per_f, per_s, w = _opened(flow[e], slack[e], lower[e], upper[e])
            drop = _drop(new_y, new_potential[j], new_c, new_carry[j])
            off = larger(abs(f * z - mu), abs(s * v - mu))
            centrality = larger(centrality, live * off)
            stationarity = larger(stationarity, live * abs(z - v + drop) / (z + v))
            products += live * (f * z + s * v)
            x, p, q = live * f, w * drop, w * (per_f - per_s)
            weight[e] = w
            to_balance[j] += x
            to_pull[j] += p
            to_push[j] += q
            to_total[j] += w
            balance += x
            pull += p
            push += q
            total += w
        leave[0][i], leave[1][i], leave[2][i], leave[3][i] = balance, pull, push, total
    sums[0], sums[1], sums[2] = centrality, stationarity, products


@parallel
def _look_ahead_pieces(pieces, edges, nodes, mu, sums, enter, leave):
    flow, slack, lower, upper = edges
    for at in numba.prange(len(flow) * len(pieces)):
        b, piece = np.int64(at) // len(pieces), np.int64(at) % len(pieces)
        start, rows, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + rows * n), slice(tail, tail + rows), slice(head, head + n)
        look_ahead_piece(
            (flow[b, e], slack[b, e], lower[b, e], upper[b, e]),
            (nodes[b, 0, t], nodes[b, 1, t], nodes[b, 2, t]),
            (nodes[b, 0, h], nodes[b, 1, h], nodes[b, 2, h]),
            mu[b], sums[b, piece], enter[b, piece, 0], leave[b, 0, t],
        )  # fmt: skip


@serial
def look_ahead_piece(edges, tails, heads, mu, sums, enter, leave):
    flow, slack, lower, upper = edges
    tail_0, tail_1, tail_2 = tails
    potential, carry, affine = heads
    primal = dual = primal_slope = dual_slope = bend = 0.0
    n = len(potential)
    for i in range(len(tail_0)):
        y, c, dy, leaving = tail_0[i], tail_1[i], tail_2[i], 0.0
        for j in range(n):
            e = edge(i * n, j)
            live, f, s, z, v, per_f, per_s, w = _opened(flow[e], slack[e], lower[e], upper[e])
            drop = _drop(y, potential[j], c, carry[j])
            df, dz, dv = _newton(mu, mu, z, v, per_f, per_s, w, drop, dy - affine[j])
            primal = larger(primal, larger(-df * per_f, df * per_s))
            inverse = -live / (z * v)
            dual = larger(dual, larger(dz * v * inverse, dv * z * inverse))
            primal_slope += df * (z - v)
            dual_slope += live * (f * dz + s * dv)
            bend += df * (dz - dv)
            force = -w * df * (dz * per_f + dv * per_s)
            enter[j] += force
            leaving += force
        leave[i] = leaving
    sums[0], sums[1], sums[2], sums[3], sums[4] = primal, dual, primal_slope, dual_slope, bend


@parallel
def _try_pieces(pieces, edges, nodes, numbers, thetas, sums):
    flow, slack, lower, upper = edges
    for at in numba.prange(len(flow) * len(pieces)):
        b, piece = np.int64(at) // len(pieces), np.int64(at) % len(pieces)
        start, rows, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + rows * n), slice(tail, tail + rows), slice(head, head + n)
        y = nodes[b]
        try_piece(
            (flow[b, e], slack[b, e], lower[b, e], upper[b, e]),
            (y[0, t], y[1, t], y[2, t], y[3, t], y[4, t]),
            (y[0, h], y[1, h], y[2, h], y[3, h], y[4, h]),
            numbers[b, 0], numbers[b, 1], thetas, sums[b, piece],
        )  # fmt: skip


@serial
def try_piece(edges, tails, heads, mu, target, thetas, sums):
    flow, slack, lower, upper = edges
    tail_0, tail_1, tail_2, tail_3, tail_4 = tails
    potential, carry, affine, direction, corrected = heads
    t0, t1, t2, t3, t4 = thetas
    p0 = p1 = p2 = p3 = p4 = d0 = d1 = d2 = d3 = d4 = 0.0
    n = len(potential)
    for i in range(len(tail_0)):
        y, c, dy, plain, extra = tail_0[i], tail_1[i], tail_2[i], tail_3[i], tail_4[i]
        for j in range(n):
            e = edge(i * n, j)
            live, f, s, z, v, per_f, per_s, w = _opened(flow[e], slack[e], lower[e], upper[e])
            drop = _drop(y, potential[j], c, carry[j])
            df, dz, dv = _newton(mu, mu, z, v, per_f, per_s, w, drop, dy - affine[j])
            low, high = -df * dz, df * dv
            base = w * (target * (per_f - per_s) + drop + (plain - direction[j]))
            more = w * (low * per_f - high * per_s + (extra - corrected[j]))
            inverse = live / (z * v)
            per_fz, per_sv = per_f * v * inverse, per_s * z * inverse
            z0 = live - (target - z * base) * per_fz
            z1 = -(low - z * more) * per_fz
            v0 = live - (target + v * base) * per_sv
            v1 = -(high + v * more) * per_sv
            f0, f1, s0, s1 = -base * per_f, -more * per_f, base * per_s, more * per_s
            p0 = larger(p0, larger(f0 + t0 * f1, s0 + t0 * s1))
            p1 = larger(p1, larger(f0 + t1 * f1, s0 + t1 * s1))
            p2 = larger(p2, larger(f0 + t2 * f1, s0 + t2 * s1))
            p3 = larger(p3, larger(f0 + t3 * f1, s0 + t3 * s1))
            p4 = larger(p4, larger(f0 + t4 * f1, s0 + t4 * s1))
            d0 = larger(d0, larger(z0 + t0 * z1, v0 + t0 * v1))
            d1 = larger(d1, larger(z0 + t1 * z1, v0 + t1 * v1))
            d2 = larger(d2, larger(z0 + t2 * z1, v0 + t2 * v1))
            d3 = larger(d3, larger(z0 + t3 * z1, v0 + t3 * v1))
            d4 = larger(d4, larger(z0 + t4 * z1, v0 + t4 * v1))
    sums[0], sums[1], sums[2], sums[3], sums[4] = p0, p1, p2, p3, p4
    sums[5], sums[6], sums[7], sums[8], sums[9] = d0, d1, d2, d3, d4
