"""The loop of `primal_dual` compiled, each network by one thread from its first point to its last.

Between the passes over a short text's edges there is more to do in Python than in the passes; here
nothing is. It is the loop of `primal_dual` with the `step` of `interior_point`, which explain what
is decided and why, in scalars and in rows named by `row_names`. The passes and the factorisation
are those that `iteration` and `elimination` give to batches.
"""

import numpy as np
import torch
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.compiled.edges import add, exact, inlined, pieces_of, put, put_difference
from attnflow.solver.compiled.elimination import factor_one, layout, solve_one
from attnflow.solver.compiled.iteration import advance_piece, predict_piece, try_piece
from attnflow.solver.compiled.row_names import (
    AFFINE,
    BALANCE,
    BILINEAR,
    CARRY,
    CENTRALITY,
    CORRECTION,
    DIRECTION,
    DUAL,
    DUAL_RATE,
    DUAL_SLOPE,
    INWARD,
    OUTWARD,
    POTENTIAL,
    PRIMAL,
    PRIMAL_RATE,
    PRIMAL_SLOPE,
    PRODUCTS,
    PULL,
    PUSH,
    STATIONARITY,
    TOTAL,
)
from attnflow.solver.compiled.threads import share, threads
from attnflow.solver.state import (
    CORRECTOR_WEIGHTS,
    TO_BOUNDARY,
    Outcome,
    Point,
    Problem,
    StoppingCriteria,
)

THETAS = np.array(CORRECTOR_WEIGHTS)
CONVERGED, LIMIT, STUCK, BLOCKED = (int(outcome) for outcome in Outcome)
EDGES_AT_ONCE = 2**20  # in one call, which no keyboard can interrupt


def iterate(
    point: Point,
    problem: Problem,
    chain: Chain,
    iterations: Tensor,
    stopping: StoppingCriteria,
) -> Tensor:
    """Step until every network has ended, in place.

    Args:
        point: The first points.
        problem: The problems.
        chain: Their sizes.
        iterations: `(batch,)` int, factorisations, to which those of the loop are added.
        stopping: When to end.

    Returns:
        `(batch,)` int, the `Outcome` of each.
    """
    rows, size = layout(chain)
    outcome = torch.empty_like(iterations)
    # Contiguous rows of each network, as the passes want them; copied back at the end.
    potentials = np.stack([point.potential.numpy(), point.carry.numpy()], 1)
    edges = tuple(x.numpy() for x in (point.flow, point.slack, point.lower, point.upper))
    mu, m = problem.mu.numpy(), problem.m.numpy()
    limits = (
        stopping.residual,
        stopping.max_iterations,
        stopping.trial_steps,
        stopping.shortest_step,
    )
    pieces, networks = pieces_of(chain), len(potentials)
    several = max(threads(), EDGES_AT_ONCE // chain.edges)
    for first in range(0, networks, several):
        at = slice(first, first + several)
        share(
            _iterate_all, len(mu[at]), pieces, rows, size, tuple(x[at] for x in edges),
            potentials[at], mu[at], m[at], limits, iterations.numpy()[at], outcome.numpy()[at],
        )  # fmt: skip
    point.potential.copy_(torch.from_numpy(potentials[:, POTENTIAL]))
    point.carry.copy_(torch.from_numpy(potentials[:, CARRY]))
    return outcome


@exact
def _iterate_all(
    first, stop, pieces, rows, size, edges, potentials, mu, m, limits, iterations, outcome
):
    flow, slack, lower, upper = edges
    for b in range(first, stop):
        iterations[b], outcome[b] = _iterate(
            pieces, rows, size, (flow[b], slack[b], lower[b], upper[b]), potentials[b],
            mu[b], m[b], limits, iterations[b],
        )  # fmt: skip


@inlined
def _iterate(pieces, rows, size, edges, y, mu, m, limits, iterations):
    """Iterate one network; `y` holds the rows POTENTIAL and CARRY.

    Returns the factorisations used and the outcome.
    """
    residual, max_iterations, trial_steps, shortest_step = limits
    count = y.shape[1]
    weight, front = np.empty(len(edges[0])), np.empty(size)
    # `node_sums` and `numbers` are the two halves of a `Linearisation`.
    pivots, node_sums = np.ones(count), np.empty((5, count))
    before = np.zeros((4, count))
    put(before[POTENTIAL], y[POTENTIAL])
    put(before[CARRY], y[CARRY])
    nowhere = (mu, 0.0, 0.0, 0.0, 0.0)
    numbers = _advance(pieces, edges, weight, before, y, nowhere, node_sums)
    while True:
        value = edges[0][-1]  # flow of the return edge
        if _is_below(node_sums[BALANCE], value, numbers, mu, residual):
            return iterations, CONVERGED
        if iterations >= max_iterations:
            return iterations, LIMIT
        length, numbers = _step(
            pieces, rows, edges, weight, front, pivots, y, node_sums, numbers, mu, m
        )
        iterations += 1
        if length < shortest_step and iterations <= trial_steps:
            return iterations, BLOCKED
        if length < 0:
            return iterations, STUCK


@exact
def _worse(a, b):
    """The larger number, and NaN if one of them is, as torch and numpy have it."""
    return a if a >= b or a != a else b


@exact
def _is_below(balance, value, numbers, mu, residual):
    """Return whether every residual is below the limit, as `certificate.below`; false for NaN."""
    for i in range(1, len(balance) - 1):
        if not abs(balance[i]) / value <= residual:
            return False
    return numbers[CENTRALITY] / mu <= residual and numbers[STATIONARITY] <= residual


@inlined
def _step(pieces, rows, edges, weight, front, pivots, y, node_sums, numbers, mu, m):
    """Take a step, as `interior_point.step`.

    Returns its length, -1 where the network cannot move, and the new numbers of the linearisation;
    `node_sums` and `weight` are overwritten.
    """
    factor_one(rows, weight, node_sums[INWARD], node_sums[OUTWARD], front, pivots)
    pull, push = node_sums[BALANCE] + node_sums[PULL], node_sums[PUSH].copy()
    solve_one(rows, front, pivots, pull)
    solve_one(rows, front, pivots, push)
    nodes = np.empty((5, y.shape[1]))
    put(nodes[POTENTIAL], y[POTENTIAL])
    put(nodes[CARRY], y[CARRY])
    put(nodes[AFFINE], pull + mu * push)
    prediction, correction = _predict(pieces, edges, nodes, mu)
    target = _target(numbers[PRODUCTS], prediction, mu, m)
    solve_one(rows, front, pivots, correction)
    put(nodes[DIRECTION], pull + target * push)
    put(nodes[CORRECTION], correction)
    rates = _try(pieces, edges, nodes, mu, target)
    best, primal, dual = _best_weight(rates)
    theta = THETAS[best]
    add(nodes[DIRECTION], theta * correction)
    are_finite = np.isfinite(target) and not np.isnan(rates).any() and _are_finite(nodes[AFFINE])
    if not (are_finite and _are_finite(nodes[DIRECTION]) and _are_pivots(pivots)):
        return -1.0, numbers
    _move(y, dual, nodes[DIRECTION])
    plan = (mu, target, theta, primal, dual)
    return min(primal, dual), _advance(pieces, edges, weight, nodes, y, plan, node_sums)


@exact
def _best_weight(rates):
    """The index of the weight whose step is longest, and the step's primal and dual length."""
    best, primal, dual = 0, 0.0, 0.0
    for k in range(len(THETAS)):
        a = TO_BOUNDARY / _worse(rates[PRIMAL, k], TO_BOUNDARY)
        b = TO_BOUNDARY / _worse(rates[DUAL, k], TO_BOUNDARY)
        if k == 0 or min(a, b) > min(primal, dual):
            best, primal, dual = k, a, b
    return best, primal, dual


@exact
def _target(products, prediction, mu, m):
    """Aim of every product, as `interior_point._target`."""
    primal_rate, dual_rate = prediction[PRIMAL_RATE], prediction[DUAL_RATE]
    primal, dual = 1 / _worse(primal_rate, 1.0), 1 / _worse(dual_rate, 1.0)
    if primal_rate <= 1 and dual_rate <= 1:
        return mu
    reached = products + primal * prediction[PRIMAL_SLOPE] + dual * prediction[DUAL_SLOPE]
    share = _worse(reached + primal * dual * prediction[BILINEAR], 0.0) / products
    return _worse(mu, share * share * share * (products / (2 * m)))


@exact
def _are_finite(values):
    for x in values:
        if not np.isfinite(x):
            return False
    return True


@exact
def _are_pivots(pivots):
    for x in pivots:
        if not (x > 0 and np.isfinite(x)):
            return False
    return True


@exact
def _move(y, length, direction):
    """Move the potentials, as `edge_passes.move_potentials`."""
    for i in range(y.shape[1]):
        a, b = y[POTENTIAL, i], length * direction[i]
        total = a + b
        b_rounded = total - a
        y[POTENTIAL, i] = total
        y[CARRY, i] += (a - (total - b_rounded)) + (b - b_rounded)


@exact
def _advance(pieces, edges, weight, before, after, plan, node_sums):
    """Move the edges and linearise: fill `node_sums` and `weight`, return the numbers.

    `before` holds the rows POTENTIAL to DIRECTION at the old point, `after` POTENTIAL and CARRY at
    the new one. `plan` is mu, target, theta, primal and dual length.
    """
    flow, slack, lower, upper = edges
    count = before.shape[1]
    enter, leave, sums = np.zeros((4, count)), np.zeros((4, count)), np.empty(3)
    centrality = stationarity = products = 0.0
    for piece in range(len(pieces)):
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        # Summed apart and added once a piece, in the same order as `PassBuffers.gather`.
        to = np.zeros((4, n))
        advance_piece(
            (flow[e], slack[e], lower[e], upper[e]), weight[e],
            (before[POTENTIAL, t], before[CARRY, t], before[AFFINE, t], before[DIRECTION, t],
             after[POTENTIAL, t], after[CARRY, t]),
            (before[POTENTIAL, h], before[CARRY, h], before[AFFINE, h], before[DIRECTION, h],
             after[POTENTIAL, h], after[CARRY, h]),
            plan, sums, (to[BALANCE], to[PULL], to[PUSH], to[TOTAL]),
            (leave[BALANCE, t], leave[PULL, t], leave[PUSH, t], leave[TOTAL, t]),
        )  # fmt: skip
        for row in (BALANCE, PULL, PUSH, TOTAL):
            add(enter[row, h], to[row])
        centrality = _worse(centrality, sums[CENTRALITY])
        stationarity = _worse(stationarity, sums[STATIONARITY])
        products += sums[PRODUCTS]
    for row in (BALANCE, PULL, PUSH):
        put_difference(node_sums[row], enter[row], leave[row])
    put(node_sums[INWARD], enter[TOTAL])
    put(node_sums[OUTWARD], leave[TOTAL])
    return centrality, stationarity, products


@exact
def _predict(pieces, edges, nodes, mu):
    """The numbers of a `Prediction`, and its correction; `nodes` has rows up to AFFINE."""
    flow, slack, lower, upper = edges
    enter, leave = np.zeros(nodes.shape[1]), np.zeros(nodes.shape[1])
    prediction, sums = np.zeros(5), np.empty(5)
    for piece in range(len(pieces)):
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        to = np.zeros(n)
        predict_piece(
            (flow[e], slack[e], lower[e], upper[e]),
            (nodes[POTENTIAL, t], nodes[CARRY, t], nodes[AFFINE, t]),
            (nodes[POTENTIAL, h], nodes[CARRY, h], nodes[AFFINE, h]),
            mu, sums, to, leave[t],
        )  # fmt: skip
        add(enter[h], to)
        for row in (PRIMAL_RATE, DUAL_RATE):
            prediction[row] = _worse(prediction[row], sums[row])
        for row in (PRIMAL_SLOPE, DUAL_SLOPE, BILINEAR):
            prediction[row] += sums[row]
    return prediction, enter - leave


@exact
def _try(pieces, edges, nodes, mu, target):
    """`(2, 5)` the largest rates, PRIMAL and DUAL, for each of five weights."""
    flow, slack, lower, upper = edges
    thetas = (THETAS[0], THETAS[1], THETAS[2], THETAS[3], THETAS[4])
    rates, sums = np.zeros((2, 5)), np.empty(10)
    y = nodes
    for piece in range(len(pieces)):
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        try_piece(
            (flow[e], slack[e], lower[e], upper[e]),
            (y[POTENTIAL, t], y[CARRY, t], y[AFFINE, t], y[DIRECTION, t], y[CORRECTION, t]),
            (y[POTENTIAL, h], y[CARRY, h], y[AFFINE, h], y[DIRECTION, h], y[CORRECTION, h]),
            mu, target, thetas, sums,
        )  # fmt: skip
        for k in range(5):
            rates[PRIMAL, k] = _worse(rates[PRIMAL, k], sums[k])
            rates[DUAL, k] = _worse(rates[DUAL, k], sums[5 + k])
    return rates
