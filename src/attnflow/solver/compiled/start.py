"""The passes of the start, compiled; `edge_passes` states what they compute."""

import math

import numpy as np
import torch
from torch import Tensor

from attnflow.solver.chain import Chain
from attnflow.solver.compiled.edges import PassBuffers, edge_index, exact, per_edge, serial
from attnflow.solver.compiled.row_names import WIDTH
from attnflow.solver.compiled.threads import share, threads
from attnflow.solver.edge_passes import FINEST, REACH, Turns
from attnflow.solver.state import Point

EDGES_FOR_A_TURN = 2**15  # of a row, whose balance takes a quarter of a millisecond
NODES_AT_ONCE = 16  # two cache lines of edges from each tail


def balance_rows(
    u: Tensor, chain: Chain, potential: Tensor, mu: Tensor, turns: Turns, halvings: int
) -> None:
    """Balance rows of the potentials, in place, as `edge_passes.balance_rows`."""
    starts = [*chain.edge_starts[:-1], 0]
    rows = np.array(list(zip(chain.widths, chain.node_starts, starts, strict=False)))
    settings = (potential.numpy(), mu.numpy(), halvings)
    # Threads that share a network meet after every row, which costs a tenth of a millisecond; where
    # each has its own, they meet once.
    if len(u) >= threads() or max(map(math.prod, chain.shapes)) < EDGES_FOR_A_TURN:
        share(_balance_networks, len(u), u.numpy(), rows, np.array(turns), *settings)
        return
    for row, end in turns:
        groups = len(u) * _groups(rows, row)
        share(_balance_groups, groups, u.numpy(), rows, row, end, *settings)


def centred_point(u: Tensor, potential: Tensor, mu: Tensor, chain: Chain) -> Point:
    """The centred point of these potentials, as `edge_passes.centred_point`."""
    flow, slack, lower, upper = (torch.empty_like(u) for _ in range(4))
    point = Point(flow, slack, lower, upper, potential, torch.zeros_like(potential))
    buffers = PassBuffers(point, chain)
    share(
        _centre_pieces, buffers.count, buffers.pieces, u.numpy(), potential.numpy(), mu.numpy(),
        buffers.edges,
    )  # fmt: skip
    return point


def gather_bins(u: Tensor, chain: Chain, bins: int) -> tuple[Tensor, Tensor]:
    """Histograms of the capacities, as `edge_passes.gather_bins`."""
    totals, counts = np.zeros((2, len(u), len(chain.shapes) - 1, bins))
    limits = 10 ** (-np.arange(1, bins) / 2)
    starts = np.array(chain.edge_starts)
    blocks = counts.shape[0] * counts.shape[1]
    share(_gather_bins, blocks, starts, u.numpy(), limits, totals, counts)
    return torch.from_numpy(totals), torch.from_numpy(counts)


@per_edge
def _centred_flow(u, drop, mu):
    """Flow and slack of an edge, as `edge_passes.centred_flow`."""
    along = abs(drop * u)
    far = along + np.sqrt(along * along + 4 * mu * mu)
    larger, smaller = u * far / (far + 2 * mu), u * (2 * mu) / (far + 2 * mu)
    return (larger, smaller) if drop > 0 else (smaller, larger)


@exact
def _balance_networks(first, stop, u, rows, turns, potential, mu, halvings):
    """Make all turns of each network."""
    for b in range(first, stop):
        for turn in range(len(turns)):
            row, end = turns[turn]
            groups = _groups(rows, row)
            _balance_groups(
                b * groups, (b + 1) * groups, u, rows, row, end, potential, mu, halvings
            )


@exact
def _balance_groups(first, stop, u, rows, row, end, potential, mu, halvings):
    """Make one turn of some groups of nodes, counted through all networks."""
    groups = _groups(rows, row)
    for at in range(first, stop):
        b, node = at // groups, at % groups * NODES_AT_ONCE
        _balance_nodes(u[b], rows, row, end, node, potential[b], mu[b], halvings)


@exact
def _groups(rows, row):
    """Number of groups of nodes in a row."""
    return (rows[row, WIDTH] + NODES_AT_ONCE - 1) // NODES_AT_ONCE


@serial
def _balance_nodes(u, rows, row, end, first, y, mu, halvings):
    """Balance a few nodes of a row; `rows` has each row's width, first node and first inward edge.

    Several nodes together read the edges that enter them in runs, not one number a row.
    """
    heads, head, out = rows[row - 1]
    n, node, into = rows[row]
    tails, tail, _ = rows[row + 1]
    last = min(first + NODES_AT_ONCE, n)
    _balance_piece(
        u[out + first * heads : out + last * heads], u[into + first : into + n * tails], n,
        y[head : head + heads], y[node + first : node + last], y[tail : tail + tails],
        mu, halvings, end,
    )  # fmt: skip


@serial
def _balance_piece(out, into, stride, below, here, above, mu, halvings, end):
    """Halve the brackets of some nodes of a row of `stride` nodes, as `edge_passes` does.

    The edges that enter them from one tail lie `stride` after those from the tail before.
    """
    n, width = len(here), REACH
    middle, trial = np.zeros(n), np.empty(n)
    leaving, entering = np.empty(n), np.empty(n)
    for _ in range(halvings):
        for i in range(n):
            trial[i] = here[i] + FINEST * np.sinh(middle[i])
        _sum_leaving(out, trial, below, mu, leaving)
        _sum_entering(into, stride, above, trial, mu, entering)
        width /= 2
        for i in range(n):
            middle[i] += -width if leaving[i] > entering[i] else width
    for i in range(n):
        if leaving[i] > 0:
            here[i] += FINEST * np.sinh(middle[i] + end * width)


@serial
def _sum_leaving(u, tails, heads, mu, leaving):
    n = len(heads)
    for i in range(len(tails)):
        tail, total = tails[i], 0.0
        for j in range(n):
            total += _centred_flow(u[edge_index(i * n, j)], tail - heads[j], mu)[0]
        leaving[i] = total


@serial
def _sum_entering(u, stride, tails, heads, mu, entering):
    entering[:] = 0.0
    for i in range(len(tails)):
        tail = tails[i]
        for j in range(len(heads)):
            entering[j] += _centred_flow(u[edge_index(i * stride, j)], tail - heads[j], mu)[0]


@exact
def _centre_pieces(first, stop, pieces, u, potential, mu, edges):
    flow, slack, lower, upper = edges
    for at in range(first, stop):
        b, piece = at // len(pieces), at % len(pieces)
        start, rows, n, tail, head = pieces[piece]
        e = slice(start, start + rows * n)
        _centre_piece(
            u[b, e], potential[b, tail : tail + rows], potential[b, head : head + n], mu[b],
            (flow[b, e], slack[b, e], lower[b, e], upper[b, e]),
        )  # fmt: skip


@serial
def _centre_piece(u, tails, heads, mu, edges):
    flow, slack, lower, upper = edges
    n = len(heads)
    for i in range(len(tails)):
        tail = tails[i]
        for j in range(n):
            e = edge_index(i * n, j)
            capacity = u[e]
            f, s = _centred_flow(capacity, tail - heads[j], mu)
            flow[e], slack[e] = f, s
            lower[e] = mu / f if capacity > 0 else 0.0
            upper[e] = mu / s if capacity > 0 else 0.0


@exact
def _gather_bins(first, stop, starts, u, limits, totals, counts):
    blocks = totals.shape[1]
    for at in range(first, stop):
        b, k = at // blocks, at % blocks
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
