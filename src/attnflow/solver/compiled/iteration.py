"""The passes of an iteration, compiled; `edge_passes` states their formulas and symbols.

Every pass has three parts. They are the function that `edge_passes` has too, a loop that deals the
pieces to the threads, and a function that goes through the edges of one piece. The last is shared
with the compiled loop of `primal_dual`. Arrays are cut into one-dimensional slices before that:
only then does the compiler see that rows are contiguous.
"""

from typing import Any

import torch
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.compiled.edges import (
    PassBuffers,
    edge_index,
    exact,
    larger,
    per_edge,
    serial,
    stacked,
)
from attnflow.solver.compiled.row_names import (
    AFFINE,
    BALANCE,
    BILINEAR,
    CARRY,
    CENTRALITY,
    CORRECTION,
    DIRECTION,
    DUAL_RATE,
    DUAL_SLOPE,
    POTENTIAL,
    PRIMAL_RATE,
    PRIMAL_SLOPE,
    PRODUCTS,
    PULL,
    PUSH,
    STATIONARITY,
    TOTAL,
)
from attnflow.solver.compiled.threads import share
from attnflow.solver.edge_passes import move_potentials
from attnflow.solver.state import Linearisation, Point, Prediction, Step


def linearise(point: Point, mu: Tensor, chain: Chain) -> Linearisation:
    """Linearise, as `edge_passes.linearise`: by a step of no length."""
    none, nowhere = torch.zeros_like(mu), chain.new_nodes(point.potential)
    still = Step(mu, nowhere, nowhere, none, none, none, none)
    before = stacked(point.potential, point.carry, nowhere, nowhere)
    return _advance(point, still, before, chain, torch.empty_like(point.flow))


def advance(point: Point, step: Step, chain: Chain, weight: Tensor) -> Linearisation:
    """Move the point, in place, and linearise there, as `edge_passes.advance`."""
    before = stacked(point.potential, point.carry, step.affine, step.direction)
    move_potentials(point, step)
    return _advance(point, step, before, chain, weight)


def _advance(point: Point, step: Step, before: Any, chain: Chain, weight: Tensor) -> Linearisation:
    """Advance, given `(batch, 4, nodes)` rows POTENTIAL to DIRECTION at the old point."""
    buffers = PassBuffers(point, chain)
    sums, enter, leave = buffers.sums(3), buffers.heads(4), buffers.tails(4)
    after = stacked(point.potential, point.carry)
    numbers = stacked(step.mu, step.target, step.theta, step.primal_length, step.dual_length)
    share(
        _advance_pieces, buffers.count, buffers.pieces, buffers.edges, weight.numpy(), before,
        after, numbers, sums, enter, leave,
    )  # fmt: skip
    entering, leaving = buffers.gather(enter), torch.from_numpy(leave)
    net, largest = entering - leaving, buffers.largest(sums)
    return Linearisation(
        weight=weight,
        balance=net[:, BALANCE],
        pull=net[:, PULL],
        push=net[:, PUSH],
        inward=entering[:, TOTAL],
        outward=leaving[:, TOTAL],
        products=buffers.total(sums[..., PRODUCTS:])[:, 0],
        centrality=largest[:, CENTRALITY] / step.mu,
        stationarity=largest[:, STATIONARITY],
    )


def predict(point: Point, affine: Tensor, mu: Tensor, chain: Chain) -> Prediction:
    """Predict what the full affine step would do, as `edge_passes.predict`."""
    buffers = PassBuffers(point, chain)
    sums, enter, leave = buffers.sums(5), buffers.heads(1), buffers.tails(1)
    nodes = stacked(point.potential, point.carry, affine)
    share(
        _predict_pieces, buffers.count, buffers.pieces, buffers.edges, nodes, mu.numpy(), sums,
        enter, leave,
    )  # fmt: skip
    largest, total = buffers.largest(sums), buffers.total(sums)
    return Prediction(
        primal_rate=largest[:, PRIMAL_RATE],
        dual_rate=largest[:, DUAL_RATE],
        primal_slope=total[:, PRIMAL_SLOPE],
        dual_slope=total[:, DUAL_SLOPE],
        bilinear=total[:, BILINEAR],
        correction=(buffers.gather(enter) - torch.from_numpy(leave))[:, 0],
    )


def try_corrections(
    point: Point, step: Step, correction: Tensor, thetas: Tensor, chain: Chain
) -> tuple[Tensor, Tensor]:
    """Find rates for five weights, as `edge_passes.try_corrections`."""
    buffers = PassBuffers(point, chain)
    sums = buffers.sums(2 * len(thetas))
    nodes = stacked(point.potential, point.carry, step.affine, step.direction, correction)
    mu, target = step.mu.numpy(), step.target.numpy()
    weights = tuple(thetas.tolist())
    share(
        _try_pieces, buffers.count, buffers.pieces, buffers.edges, nodes, mu, target, weights, sums
    )
    rates = buffers.largest(sums)
    return rates[:, : len(thetas)], rates[:, len(thetas) :]


@per_edge
def _opened(flow, slack, lower, upper):
    """An edge's numbers and their reciprocals: live, f, s, z, v, 1/f, 1/s, w.

    An edge that does not exist has 1 for f, s, z and v, and 0 for live and w. So no branch stops
    the compiler from doing several edges at once. One division serves 1/f, 1/s and w: divisions are
    what the passes wait for.
    """
    live = flow > 0
    f, s = flow if live else 1.0, slack if live else 1.0
    z, v = lower if live else 1.0, upper if live else 1.0
    # z/f + v/s = stiffness / area
    area, stiffness = f * s, z * s + v * f
    inverse = 1 / (area * stiffness)
    per_f, per_s, w = s * stiffness * inverse, f * stiffness * inverse, area * area * inverse
    return 1.0 if live else 0.0, f, s, z, v, per_f, per_s, w if live else 0.0


@per_edge
def _drop(tail, head, tail_carry, head_carry):
    """Drop of both parts of the potentials; each part's difference first, see `LOOSE`."""
    return (tail - head) + (tail_carry - head_carry)


@per_edge
def _newton(low, high, z, v, per_f, per_s, w, drop, step_drop):
    """Steps df, dz and dv of the direction towards f z = low and s v = high."""
    df = w * (low * per_f - high * per_s + drop + step_drop)
    return df, (low - z * df) * per_f - z, (high + v * df) * per_s - v


@exact
def _advance_pieces(first, stop, pieces, edges, weight, before, after, numbers, sums, enter, leave):
    flow, slack, lower, upper = edges
    for at in range(first, stop):
        b, piece = at // len(pieces), at % len(pieces)
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        old, new, to = before[b], after[b], enter[b, piece]
        advance_piece(
            (flow[b, e], slack[b, e], lower[b, e], upper[b, e]), weight[b, e],
            (old[POTENTIAL, t], old[CARRY, t], old[AFFINE, t], old[DIRECTION, t],
             new[POTENTIAL, t], new[CARRY, t]),
            (old[POTENTIAL, h], old[CARRY, h], old[AFFINE, h], old[DIRECTION, h],
             new[POTENTIAL, h], new[CARRY, h]),
            numbers[b], sums[b, piece],
            (to[BALANCE], to[PULL], to[PUSH], to[TOTAL]),
            (leave[b, BALANCE, t], leave[b, PULL, t], leave[b, PUSH, t], leave[b, TOTAL, t]),
        )  # fmt: skip


@serial
def advance_piece(edges, weight, tails, heads, numbers, sums, enter, leave):
    """Move the edges of a piece, and linearise at the new point.

    `tails` and `heads` hold, for the nodes at either end, potentials, carry, affine and corrected
    direction at the old point, and potentials and carry at the new one. `enter` and `leave` take
    the sums of `Linearisation` at heads and tails, `sums` its numbers.
    """
    flow, slack, lower, upper = edges
    tail_y, tail_carry, tail_affine, tail_direction, tail_new_y, tail_new_carry = tails
    head_y, head_carry, head_affine, head_direction, head_new_y, head_new_carry = heads
    mu, target, theta, primal, dual = numbers
    enter_balance, enter_pull, enter_push, enter_total = enter
    leave_balance, leave_pull, leave_push, leave_total = leave
    centrality = stationarity = products = 0.0
    n = len(head_y)
    for i in range(len(tail_y)):
        y, carry, affine, direction = tail_y[i], tail_carry[i], tail_affine[i], tail_direction[i]
        new_y, new_carry = tail_new_y[i], tail_new_carry[i]
        balance = pull = push = total = 0.0
        for j in range(n):
            e = edge_index(i * n, j)
            live, f, s, z, v, per_f, per_s, w = _opened(flow[e], slack[e], lower[e], upper[e])
            drop = _drop(y, head_y[j], carry, head_carry[j])
            df, dz, dv = _newton(mu, mu, z, v, per_f, per_s, w, drop, affine - head_affine[j])
            low, high = target - theta * df * dz, target + theta * df * dv
            step_drop = direction - head_direction[j]
            df, dz, dv = _newton(low, high, z, v, per_f, per_s, w, drop, step_drop)
            flow[e] = live * (f + primal * df)
            slack[e] = live * (s - primal * df)
            lower[e] = live * (z + dual * dz)
            upper[e] = live * (v + dual * dv)
        for j in range(n):  # a loop of its own: both together do not fit the registers
            e = edge_index(i * n, j)
            live, f, s, z, v, per_f, per_s, w = _opened(flow[e], slack[e], lower[e], upper[e])
            drop = _drop(new_y, head_new_y[j], new_carry, head_new_carry[j])
            off = larger(abs(f * z - mu), abs(s * v - mu))
            centrality = larger(centrality, live * off)
            stationarity = larger(stationarity, live * abs(z - v + drop) / (z + v))
            products += live * (f * z + s * v)
            x, p, q = live * f, w * drop, w * (per_f - per_s)
            weight[e] = w
            enter_balance[j] += x
            enter_pull[j] += p
            enter_push[j] += q
            enter_total[j] += w
            balance += x
            pull += p
            push += q
            total += w
        leave_balance[i], leave_pull[i], leave_push[i], leave_total[i] = balance, pull, push, total
    sums[CENTRALITY], sums[STATIONARITY], sums[PRODUCTS] = centrality, stationarity, products


@exact
def _predict_pieces(first, stop, pieces, edges, nodes, mu, sums, enter, leave):
    flow, slack, lower, upper = edges
    for at in range(first, stop):
        b, piece = at // len(pieces), at % len(pieces)
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        predict_piece(
            (flow[b, e], slack[b, e], lower[b, e], upper[b, e]),
            (nodes[b, POTENTIAL, t], nodes[b, CARRY, t], nodes[b, AFFINE, t]),
            (nodes[b, POTENTIAL, h], nodes[b, CARRY, h], nodes[b, AFFINE, h]),
            mu[b], sums[b, piece], enter[b, piece, 0], leave[b, 0, t],
        )  # fmt: skip


@serial
def predict_piece(edges, tails, heads, mu, sums, enter, leave):
    """Look at the full affine step of the edges of a piece.

    `tails` and `heads` hold potentials, carry and affine direction. `enter` and `leave` take the
    force of the second-order terms, `sums` the numbers of `Prediction`.
    """
    flow, slack, lower, upper = edges
    tail_y, tail_carry, tail_affine = tails
    head_y, head_carry, head_affine = heads
    primal_rate = dual_rate = primal_slope = dual_slope = bilinear = 0.0
    n = len(head_y)
    for i in range(len(tail_y)):
        y, carry, affine, leaving = tail_y[i], tail_carry[i], tail_affine[i], 0.0
        for j in range(n):
            e = edge_index(i * n, j)
            live, f, s, z, v, per_f, per_s, w = _opened(flow[e], slack[e], lower[e], upper[e])
            drop = _drop(y, head_y[j], carry, head_carry[j])
            df, dz, dv = _newton(mu, mu, z, v, per_f, per_s, w, drop, affine - head_affine[j])
            primal_rate = larger(primal_rate, larger(-df * per_f, df * per_s))
            inverse = -live / (z * v)
            dual_rate = larger(dual_rate, larger(dz * v * inverse, dv * z * inverse))
            primal_slope += df * (z - v)
            dual_slope += live * (f * dz + s * dv)
            bilinear += df * (dz - dv)
            force = -w * df * (dz * per_f + dv * per_s)
            enter[j] += force
            leaving += force
        leave[i] = leaving
    sums[PRIMAL_RATE], sums[DUAL_RATE] = primal_rate, dual_rate
    sums[PRIMAL_SLOPE], sums[DUAL_SLOPE], sums[BILINEAR] = primal_slope, dual_slope, bilinear


@exact
def _try_pieces(first, stop, pieces, edges, nodes, mu, target, thetas, sums):
    flow, slack, lower, upper = edges
    for at in range(first, stop):
        b, piece = at // len(pieces), at % len(pieces)
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        y = nodes[b]
        try_piece(
            (flow[b, e], slack[b, e], lower[b, e], upper[b, e]),
            (y[POTENTIAL, t], y[CARRY, t], y[AFFINE, t], y[DIRECTION, t],
             y[CORRECTION, t]),
            (y[POTENTIAL, h], y[CARRY, h], y[AFFINE, h], y[DIRECTION, h],
             y[CORRECTION, h]),
            mu[b], target[b], thetas, sums[b, piece],
        )  # fmt: skip


@serial
def try_piece(edges, tails, heads, mu, target, thetas, sums):
    """Find the rates of a piece's edges with each of five weights of the second-order term.

    `tails` and `heads` hold potentials, carry, affine, uncorrected direction and correction.
    `sums` takes the five largest primal rates, then the five largest dual ones. Each rate is
    affine in the weight: f0 + t f1 of the flow, and so on. Five of them are written out, since a
    loop over weights inside that over edges would not be vectorised.
    """
    flow, slack, lower, upper = edges
    tail_y, tail_carry, tail_affine, tail_direction, tail_correction = tails
    head_y, head_carry, head_affine, head_direction, head_correction = heads
    t0, t1, t2, t3, t4 = thetas
    p0 = p1 = p2 = p3 = p4 = d0 = d1 = d2 = d3 = d4 = 0.0
    n = len(head_y)
    for i in range(len(tail_y)):
        y, carry, affine = tail_y[i], tail_carry[i], tail_affine[i]
        direction, correction = tail_direction[i], tail_correction[i]
        for j in range(n):
            e = edge_index(i * n, j)
            live, f, s, z, v, per_f, per_s, w = _opened(flow[e], slack[e], lower[e], upper[e])
            drop = _drop(y, head_y[j], carry, head_carry[j])
            df, dz, dv = _newton(mu, mu, z, v, per_f, per_s, w, drop, affine - head_affine[j])
            low, high = -df * dz, df * dv
            base = w * (target * (per_f - per_s) + drop + (direction - head_direction[j]))
            more = w * (low * per_f - high * per_s + (correction - head_correction[j]))
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
