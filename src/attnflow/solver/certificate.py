"""The certificate of a flow: residuals of the optimality conditions, and a cut from above.

Conservation, stationarity and centrality together say that the flow is the barrier's optimum,
which is unique. The bound says how far that is from the true maximum flow. For potentials p from 1
at the source to 0 at the target, no flow exceeds sum_e u_e max(0, p_tail - p_head). That is the
capacity of the cut {p > c} averaged over c. Any potentials prove a bound; those of the optimum
prove a tight one.

Measured in plain float64, whatever computed the flow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attnflow.solver import edge_passes
from attnflow.solver.chain import Chain
from attnflow.solver.state import EDGES_IN_CACHE, UNBOUNDED, Linearisation, Point, Problem


class PointEdges(Protocol):
    """A point, however it keeps its edges: stored, or computed for each chunk of blocks."""

    potential: Tensor
    carry: Tensor

    def chunks(self, chain: Chain) -> Iterator[tuple[range, tuple[Tensor, ...]]]: ...


@dataclass(frozen=True)
class Residuals:
    """Distances of a point from the optimum, `(batch,)` each, as defined in `Flow`."""

    conservation: Tensor
    stationarity: Tensor
    centrality: Tensor
    interiority: Tensor

    def below(self, tolerance: float) -> Tensor:
        """`(batch,)` bool, true where all but interiority are below the tolerance."""
        worst = torch.stack([self.conservation, self.stationarity, self.centrality])
        return worst.amax(0) <= tolerance


def below(linearisation: Linearisation, point: Point, tolerance: float) -> Tensor:
    """`Residuals.below`, from sums that the last pass left, without another pass."""
    conservation = linearisation.balance[:, 1:-1].abs().amax(1) / point.flow[:, -1]
    worst = torch.stack([conservation, linearisation.stationarity, linearisation.centrality])
    return worst.amax(0) <= tolerance


def residuals(point: PointEdges, problem: Problem, chain: Chain) -> Residuals:
    """Measure how far a point is from the barrier's optimum."""
    balance = chain.new_nodes(point.potential)
    worst = problem.mu.new_zeros(3, len(problem.mu))
    mu = problem.mu[:, None]
    for chunk, (flow, slack, lower, upper) in point.chunks(chain):
        edge_passes.add_net_inflow(balance, flow, chunk, chain)
        u = problem.u[:, chain.edges_of(chunk)]
        drop = chain.drops_of(point.potential, chunk).add_(chain.drops_of(point.carry, chunk))
        dual = drop.add_(lower).sub_(upper).abs_().div_(lower + upper)
        centre = torch.maximum((flow * lower - mu).abs_(), (slack * upper - mu).abs_())
        # The slack is iterated on its own, and its products count only as far as it is u - f.
        drift = (flow + slack).sub_(u).abs_().div_(slack).masked_fill_(u >= UNBOUNDED, 0)
        for k, error in enumerate((dual, centre, drift)):
            worst[k] = torch.maximum(worst[k], error.masked_fill_(u <= 0, 0).amax(1))
    return Residuals(
        conservation=balance[:, 1:-1].abs().amax(1) / -balance[:, -1],
        stationarity=worst[0],
        centrality=worst[1] / problem.mu,
        interiority=worst[2],
    )


def upper_bound(point: PointEdges, problem: Problem, chain: Chain) -> Tensor:
    """`(batch,)` bound on the maximum flow of the scaled problems, at most their row bound 1."""
    source = point.potential[:, -2:-1]
    # Any potentials prove a bound if they fall from 1 to 0, so those of the optimum are scaled and
    # clipped to that. The return edge is no part of a cut.
    height = (point.potential / source).clamp(0, 1)
    cut = torch.zeros_like(problem.mu)
    below_return = len(chain.shapes) - 1
    for chunk in chain.chunks(EDGES_IN_CACHE // len(cut)):
        inner = range(chunk.start, min(chunk.stop, below_return))
        if inner:
            u, drop = problem.u[:, chain.edges_of(inner)], chain.drops_of(height, inner)
            cut += torch.where((drop > 0) & (u > 0), drop * u, 0.0).sum(1)
    # An uncapacitated edge across the cut proves nothing; the row bound, 1 here, always holds.
    # A height that is no number leaves its edges out of the sum.
    proven = torch.isfinite(height).all(1) & torch.isfinite(cut) & (source[:, 0] > 0)
    return torch.where(proven, cut.clamp(max=1), torch.ones_like(cut))
