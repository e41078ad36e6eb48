"""The loop of `primal_dual` compiled, each network by one thread from its first point to its last.

Between the passes over a short text's edges there is more to do in Python than in the passes; here
nothing is. It is the loop of `primal_dual` with the `step` of `interior_point`, in scalars, and
says no more about them than where it stands; the passes and the factorisation are those that
`iteration` and `elimination` give to batches.
"""

import numba
import numpy as np
import torch
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.compiled.edges import exact, parallel, pieces_of
from attnflow.solver.compiled.elimination import factor_one, layout, solve_one
from attnflow.solver.compiled.iteration import advance_piece, look_ahead_piece, try_piece
from attnflow.solver.state import CORRECTOR_WEIGHTS, TO_BOUNDARY, Outcome, Point, Problem

THETAS = np.array(CORRECTOR_WEIGHTS)
CONVERGED, LIMIT, STUCK, BLOCKED = (int(outcome) for outcome in Outcome)
EDGES_AT_ONCE = 2**20  # in one call, which no keyboard can interrupt


def iterate(
    point: Point,
    problem: Problem,
    chain: Chain,
    spent: Tensor,
    *,
    aim: float,
    most: int,
    blocked: float,
    trial: int,
) -> Tensor:
    """Step until every network has ended, in place.

    Args:
        point: The first points.
        problem: The problems.
        chain: Their sizes.
        spent: `(batch,)` int, factorisations, to which those of the loop are added.
        aim: Largest residual of a solved problem.
        most: Factorisations.
        blocked: A step shorter than that among the first `trial` ends the loop.

    Returns:
        `(batch,)` int, the `Outcome` of each.
    """
    rows, size = layout(chain)
    outcome = torch.empty_like(spent)
    nodes = np.stack([point.potential.numpy(), point.carry.numpy()], 1)
    edges = tuple(x.numpy() for x in (point.flow, point.slack, point.lower, point.upper))
    numbers = np.stack([problem.mu.numpy(), problem.m.numpy()], 1)
    pieces, limits = pieces_of(chain), (aim, most, blocked, trial)
    several = max(numba.get_num_threads(), EDGES_AT_ONCE // chain.edges)
    for first in range(0, len(nodes), several):
        at = slice(first, first + several)
        _iterate_all(
            pieces, rows, size, tuple(x[at] for x in edges), nodes[at], numbers[at], limits,
            spent.numpy()[at], outcome.numpy()[at],
        )  # fmt: skip
    point.potential.copy_(torch.from_numpy(nodes[:, 0]))
    point.carry.copy_(torch.from_numpy(nodes[:, 1]))
    return outcome


@parallel
def _iterate_all(pieces, rows, size, edges, nodes, numbers, limits, spent, outcome):
    flow, slack, lower, upper = edges
    for b in numba.prange(len(flow)):
        spent[b], outcome[b] = _iterate(
            pieces, rows, size, (flow[b], slack[b], lower[b], upper[b]), nodes[b],
            numbers[b, 0], numbers[b, 1], limits, spent[b],
        )  # fmt: skip


@exact
def _iterate(pieces, rows, size, edges, y, mu, m, limits, spent):
    aim, most, blocked, trial = limits
    count = y.shape[1]
    weight, front = np.empty(len(edges[0])), np.empty(size)
    pivots, here = np.ones(count), np.empty((5, count))
    still = np.zeros((4, count))
    still[:2] = y
    measured = _advance(pieces, edges, weight, still, y, (mu, 0.0, 0.0, 0.0, 0.0), here)
    while True:
        if _is_below(here[0], edges[0][-1], measured, mu, aim):
            return spent, CONVERGED
        if spent >= most:
            return spent, LIMIT
        length, measured = _step(
            pieces, rows, edges, weight, front, pivots, y, here, measured, mu, m
        )
        spent += 1
        if length < blocked and spent <= trial:
            return spent, BLOCKED
        if length < 0:
            return spent, STUCK


@exact
def _worse(a, b):
    """The larger number, and NaN if one of them is, as torch and numpy have it."""
    return a if a >= b or a != a else b


@exact
def _is_below(balance, value, measured, mu, aim):
    for i in range(1, len(balance) - 1):
        if not abs(balance[i]) / value <= aim:
            return False
    return measured[0] / mu <= aim and measured[1] <= aim


@exact
def _step(pieces, rows, edges, weight, front, pivots, y, here, measured, mu, m):
    """As `interior_point.step`; the length is -1 where the network cannot move."""
    count = y.shape[1]
    factor_one(rows, weight, here[3], here[4], front, pivots)
    pull, push = here[0] + here[1], here[2].copy()
    solve_one(rows, front, pivots, pull)
    solve_one(rows, front, pivots, push)
    nodes = np.empty((5, count))
    nodes[:2] = y
    nodes[2] = pull + mu * push
    found, correction = _look_ahead(pieces, edges, nodes, mu)
    target = _target(measured[2], found, mu, m)
    solve_one(rows, front, pivots, correction)
    nodes[3], nodes[4] = pull + target * push, correction
    used = _try(pieces, edges, nodes, mu, target)
    best, primal, dual = 0, 0.0, 0.0
    for k in range(len(THETAS)):
        a = TO_BOUNDARY / _worse(used[0, k], TO_BOUNDARY)
        b = TO_BOUNDARY / _worse(used[1, k], TO_BOUNDARY)
        if k == 0 or min(a, b) > min(primal, dual):
            best, primal, dual = k, a, b
    nodes[3] += THETAS[best] * correction
    sound = np.isfinite(target) and not np.isnan(used).any() and _are_finite(nodes[2])
    if not (sound and _are_finite(nodes[3]) and _are_pivots(pivots)):
        return -1.0, measured
    _move(y, dual, nodes[3])
    numbers = (mu, target, THETAS[best], primal, dual)
    return min(primal, dual), _advance(pieces, edges, weight, nodes[:4], y, numbers, here)


@exact
def _target(products, found, mu, m):
    """As `interior_point._target`."""
    primal, dual = 1 / _worse(found[0], 1.0), 1 / _worse(found[1], 1.0)
    if found[0] <= 1 and found[1] <= 1:
        return mu
    reached = products + primal * found[2] + dual * found[3] + primal * dual * found[4]
    share = _worse(reached, 0.0) / products
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
    """As `passes.move_potentials`."""
    for i in range(y.shape[1]):
        a, b = y[0, i], length * direction[i]
        total = a + b
        seen = total - a
        y[0, i] = total
        y[1, i] += (a - (total - seen)) + (b - seen)


@exact
def _advance(pieces, edges, weight, old, new, numbers, here):
    """Fills `here` with what `Linearised` has of nodes; centrality, stationarity and products."""
    flow, slack, lower, upper = edges
    count = old.shape[1]
    enter, leave, sums = np.zeros((4, count)), np.zeros((4, count)), np.empty(3)
    centrality = stationarity = products = 0.0
    for piece in range(len(pieces)):
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        to = np.zeros((4, n))
        advance_piece(
            (flow[e], slack[e], lower[e], upper[e]), weight[e],
            (old[0, t], old[1, t], old[2, t], old[3, t], new[0, t], new[1, t]),
            (old[0, h], old[1, h], old[2, h], old[3, h], new[0, h], new[1, h]),
            numbers, sums, (to[0], to[1], to[2], to[3]),
            (leave[0, t], leave[1, t], leave[2, t], leave[3, t]),
        )  # fmt: skip
        enter[:, h] += to
        centrality, stationarity = _worse(centrality, sums[0]), _worse(stationarity, sums[1])
        products += sums[2]
    here[:3] = enter[:3] - leave[:3]
    here[3], here[4] = enter[3], leave[3]
    return centrality, stationarity, products


@exact
def _look_ahead(pieces, edges, nodes, mu):
    """Of `Ahead` the numbers, and the correction."""
    flow, slack, lower, upper = edges
    enter, leave = np.zeros(nodes.shape[1]), np.zeros(nodes.shape[1])
    found, sums = np.zeros(5), np.empty(5)
    for piece in range(len(pieces)):
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        to = np.zeros(n)
        look_ahead_piece(
            (flow[e], slack[e], lower[e], upper[e]), (nodes[0, t], nodes[1, t], nodes[2, t]),
            (nodes[0, h], nodes[1, h], nodes[2, h]), mu, sums, to, leave[t],
        )  # fmt: skip
        enter[h] += to
        for k in range(2):
            found[k] = _worse(found[k], sums[k])
        for k in range(2, 5):
            found[k] += sums[k]
    return found, enter - leave


@exact
def _try(pieces, edges, nodes, mu, target):
    """`(2, 5)` the largest parts used up, primal and dual, for each of five weights."""
    flow, slack, lower, upper = edges
    thetas = (THETAS[0], THETAS[1], THETAS[2], THETAS[3], THETAS[4])
    found, sums = np.zeros((2, 5)), np.empty(10)
    y = nodes
    for piece in range(len(pieces)):
        start, tails, n, tail, head = pieces[piece]
        e, t, h = slice(start, start + tails * n), slice(tail, tail + tails), slice(head, head + n)
        try_piece(
            (flow[e], slack[e], lower[e], upper[e]),
            (y[0, t], y[1, t], y[2, t], y[3, t], y[4, t]),
            (y[0, h], y[1, h], y[2, h], y[3, h], y[4, h]), mu, target, thetas, sums,
        )  # fmt: skip
        for k in range(5):
            found[0, k] = _worse(found[0, k], sums[k])
            found[1, k] = _worse(found[1, k], sums[5 + k])
    return found
