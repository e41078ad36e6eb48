"""Why a flow can be believed: residuals of the optimality conditions, and a cut from above.

Conservation, stationarity and centrality together say that the flow is the barrier's optimum,
which is unique. The bound says how far that is from the true maximum flow: for potentials p from
1 at the source to 0 at the target, no flow exceeds sum_e u_e max(0, p_tail - p_head), the
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
from attnflow.solver.state import EDGES_IN_CACHE, UNBOUNDED, Linearised, Point, Problem


class Edges(Protocol):
    """A point, however it keeps its edges."""

    potential: Tensor
    carry: Tensor

    def spans(self, chain: Chain) -> Iterator[tuple[range, tuple[Tensor, ...]]]: ...


@dataclass(frozen=True)
class Residuals:
    """How far a point is from the optimum, `(batch,)` each; `Flow` says what they mean."""

    conservation: Tensor
    stationarity: Tensor
    centrality: Tensor
    interiority: Tensor

    def below(self, tolerance: float) -> Tensor:
        """`(batch,)` bool, true where all but interiority are."""
        worst = torch.stack([self.conservation, self.stationarity, self.centrality])
        return worst.amax(0) <= tolerance


def below(here: Linearised, point: Point, tolerance: float) -> Tensor:
    """The same of what a pass found on its way, without measuring anew."""
    conservation = here.balance[:, 1:-1].abs().amax(1) / point.flow[:, -1]
    return torch.stack([conservation, here.stationarity, here.centrality]).amax(0) <= tolerance


def residuals(point: Edges, problem: Problem, chain: Chain) -> Residuals:
    """How far a point is from the barrier's optimum."""
    balance = chain.new_nodes(point.potential)
    worst = problem.mu.new_zeros(3, len(problem.mu))
    mu = problem.mu[:, None]
    for span, (flow, slack, lower, upper) in point.spans(chain):
        edge_passes.add(balance, flow, span, chain)
        u = problem.u[:, chain.edges_of(span)]
        drop = chain.drops_of(point.potential, span).add_(chain.drops_of(point.carry, span))
        dual = drop.add_(lower).sub_(upper).abs_().div_(lower + upper)
        centre = torch.maximum((flow * lower - mu).abs_(), (slack * upper - mu).abs_())
        # The slack is carried on its own, and is worth something only as far as it is u - f.
        drift = (flow + slack).sub_(u).abs_().div_(slack).masked_fill_(u >= UNBOUNDED, 0)
        for at, error in enumerate((dual, centre, drift)):
            worst[at] = torch.maximum(worst[at], error.masked_fill_(u <= 0, 0).amax(1))
    return Residuals(
        conservation=balance[:, 1:-1].abs().amax(1) / -balance[:, -1],
        stationarity=worst[0],
        centrality=worst[1] / problem.mu,
        interiority=worst[2],
    )


def upper_bound(point: Edges, problem: Problem, chain: Chain) -> Tensor:
    """`(batch,)` bound on the maximum flow of the scaled problems, at most their row bound 1."""
    source = point.potential[:, -2:-1]
    height = (point.potential / source).clamp(0, 1)
    cut = torch.zeros_like(problem.mu)
    below_return = len(chain.shapes) - 1
    for span in chain.spans(EDGES_IN_CACHE // len(cut)):
        inner = range(span.start, min(span.stop, below_return))
        if inner:
            u, drop = problem.u[:, chain.edges_of(inner)], chain.drops_of(height, inner)
            cut += torch.where((drop > 0) & (u > 0), drop * u, 0.0).sum(1)
    proven = torch.isfinite(cut) & (source[:, 0] > 0)
    return torch.where(proven, cut.clamp(max=1), torch.ones_like(cut))
