"""Collects per-network results into a `Flow`."""

import torch
from torch import Tensor

from attnflow.solver.certificate import PointEdges, residuals, upper_bound
from attnflow.solver.flow import Flow, Method, Status
from attnflow.solver.network import LayeredNetwork
from attnflow.solver.presolve import Group
from attnflow.solver.state import Problem

# A solved network may have slacks that differ from u - f by at most this part of themselves. They
# are iterated on their own and drift by rounding. That is harmless far above `tolerance`, but
# beyond a thousandth the products s v no longer certify centrality of the flow that is returned.
MOST_DRIFT = 1e-3
# Statuses by the number that `record` keeps for a network; a network never recorded is empty.
STATUSES = (Status.EMPTY, Status.SOLVED, Status.NUMERICAL_LIMIT, Status.ITERATION_LIMIT)
SOLVED, NUMERICAL_LIMIT, ITERATION_LIMIT = 1, 2, 3


def _finite(residual: Tensor) -> Tensor:
    """Return residuals in which what is no number, or infinite, is the largest number."""
    most = torch.finfo(residual.dtype).max
    return residual.nan_to_num(nan=most, posinf=most, neginf=most)


class FlowBuilder:
    """Collects flows and certificates of a batch, in units of the capacities.

    Args:
        network: The batch.
        gap: Relative gap, which gives the mu of networks without a path.
        mu: `(batch,)` in units of the capacities, instead of `gap`.
        tolerance: Largest residual of a solved network.
    """

    def __init__(
        self, network: LayeredNetwork, gap: float, mu: Tensor | None, tolerance: float
    ) -> None:
        u = network.capacities
        batch, _, t, _ = u.shape
        self.tolerance = tolerance
        self.edges = torch.zeros_like(u)
        self.source, self.sink = u.new_zeros(batch, t), u.new_zeros(batch, t)
        self.value, self.upper_bound = u.new_zeros(2, batch)
        self.conservation, self.stationarity = u.new_zeros(2, batch)
        self.centrality, self.interiority = u.new_zeros(2, batch)
        self.mu = u.new_full((batch,), gap / 2) if mu is None else mu.clone()
        self.iterations = torch.zeros(batch, dtype=torch.int64, device=u.device)
        self.status = torch.zeros_like(self.iterations)
        self.method = [Method.NONE] * batch

    def record(
        self,
        group: Group,
        places: Tensor,
        point: PointEdges,
        problem: Problem,
        *,
        exhausted: Tensor,
        iterations: Tensor,
        method: Method,
    ) -> None:
        """Record problems of a group that have ended, with their certificates, or record anew.

        Args:
            group: The group.
            places: `(n,)` int, which of its problems these are.
            point: Their last points.
            problem: The problems.
            exhausted: `(n,)` bool, true where float64 could go no further; else the iteration
                limit ended a problem that is not solved.
            iterations: `(n,)` int, factorisations used.
            method: How they were solved.
        """
        at, scale = group.members[places], group.scale[places]
        nodes = [row[places] for row in group.nodes]
        for chunk, (flow, *_) in point.chunks(group.chain):
            flows = group.chain.blocks_of(flow * scale[:, None], chunk)
            for k, block in zip(chunk, flows, strict=True):
                self._record_block(at, k, block, nodes)
        certificate = residuals(point, problem, group.chain)
        self.conservation[at] = _finite(certificate.conservation)
        self.stationarity[at] = _finite(certificate.stationarity)
        self.centrality[at] = _finite(certificate.centrality)
        self.interiority[at] = _finite(certificate.interiority)
        self.upper_bound[at] = upper_bound(point, problem, group.chain) * scale
        self.mu[at] = problem.mu * scale
        self.iterations[at] = iterations
        solved = certificate.below(self.tolerance) & (certificate.interiority <= MOST_DRIFT)
        failure = torch.where(exhausted, NUMERICAL_LIMIT, ITERATION_LIMIT)
        self.status[at] = torch.where(solved, SOLVED, failure)
        self._zero_lost(at[~solved])
        for network in at.tolist():
            self.method[network] = method

    def unsolved(self, members: Tensor, *, at_limit: bool) -> Tensor:
        """Return those of some recorded networks that have no certificate.

        Args:
            members: Indices of the networks.
            at_limit: Count those that have reached the limit of iterations.
        """
        status = self.status[members]
        return members[(status != SOLVED) & (at_limit | (status != ITERATION_LIMIT))]

    def _zero_lost(self, unsolved: Tensor) -> None:
        """Give networks whose last point is no longer finite the flow 0, which always exists."""
        for network in unsolved.tolist():
            parts = [self.edges, self.source, self.sink, self.value]
            if not all(part[network].isfinite().all() for part in parts):
                for part in parts:
                    part[network] = 0

    def _record_block(self, at: Tensor, block: int, flow: Tensor, nodes: list[Tensor]) -> None:
        """Record the flow of a block at the tokens `nodes` of its rows."""
        if block == 0:
            self.sink[at[:, None], nodes[0]] = flow[..., 0]
        elif block < len(nodes):
            tails, heads = nodes[block][:, :, None], nodes[block - 1][:, None, :]
            self.edges[at[:, None, None], block - 1, tails, heads] = flow
        elif block == len(nodes):
            self.source[at[:, None], nodes[-1]] = flow[:, 0]
        else:
            self.value[at] = flow[:, 0, 0]

    def flow(self) -> Flow[Tensor]:
        """The batch's flow, with zeros for networks never recorded."""
        return Flow(
            value=self.value,
            upper_bound=self.upper_bound,
            edges=self.edges,
            source=self.source,
            sink=self.sink,
            mu=self.mu,
            conservation=self.conservation,
            stationarity=self.stationarity,
            centrality=self.centrality,
            interiority=self.interiority,
            iterations=self.iterations,
            status=tuple(STATUSES[i] for i in self.status.tolist()),
            method=tuple(self.method),
        )
