"""What a solve leaves behind: each network's flow and certificate, as its problem ended."""

from dataclasses import fields

import torch
from torch import Tensor

from attnflow.solver.certificate import Edges, residuals, upper_bound
from attnflow.solver.chain import Chain
from attnflow.solver.flow import Flow, Method, Status
from attnflow.solver.network import LayeredNetwork
from attnflow.solver.presolve import Presolved
from attnflow.solver.state import Problem

MOST_DRIFT = 1e-3


class Ended:
    """Points that leave the loop, and their certificates."""

    def __init__(
        self, point: Edges, problem: Problem, chain: Chain, tolerance: float, given_up: Tensor
    ) -> None:
        self.point, self.given_up = point, given_up
        self.bound = upper_bound(point, problem, chain)
        self.residuals = residuals(point, problem, chain)
        certified = self.residuals.below(tolerance)
        self.solved = certified & (self.residuals.interiority <= MOST_DRIFT)


ENDINGS = (Status.EMPTY, Status.SOLVED, Status.NUMERICAL_LIMIT, Status.ITERATION_LIMIT)


class Report:
    """What the networks of a batch left behind, each as it ended, in units of the capacities."""

    def __init__(self, network: LayeredNetwork, gap: float, mu: Tensor | None) -> None:
        u = network.capacities
        batch, _, t, _ = u.shape
        self.edges = torch.zeros_like(u)
        self.source, self.sink = u.new_zeros(batch, t), u.new_zeros(batch, t)
        self.value, self.bound, self.residuals = *u.new_zeros(2, batch), u.new_zeros(4, batch)
        self.mu = u.new_full((batch,), gap / 2) if mu is None else mu.clone()
        self.iterations = torch.zeros(batch, dtype=torch.int64, device=u.device)
        self.ending = torch.zeros_like(self.iterations)
        self.method = [Method.NONE] * batch

    def record(
        self,
        at: Tensor,
        ready: Presolved,
        places: Tensor,
        ended: Ended,
        iterations: Tensor,
        method: Method,
    ) -> None:
        """Keep the networks `at`, which are the problems `places` of their group."""
        scale, nodes = ready.scale[places], [row[places] for row in ready.nodes]
        for span, (flow, *_) in ended.point.spans(ready.chain):
            flows = ready.chain.blocks_of(flow * scale[:, None], span)
            for k, block in zip(span, flows, strict=True):
                self._keep(at, k, block, nodes)
        self.bound[at] = ended.bound * scale
        self.mu[at] = ready.problem.mu[places] * scale
        measured = ended.residuals
        self.residuals[:, at] = torch.stack([getattr(measured, f.name) for f in fields(measured)])
        self.iterations[at] = iterations
        self.ending[at] = torch.where(ended.solved, 1, torch.where(ended.given_up, 2, 3))
        for network in at.tolist():
            self.method[network] = method

    def _keep(self, at: Tensor, block: int, flow: Tensor, nodes: list[Tensor]) -> None:
        """The flow of a block, at its tokens."""
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
        """The result."""
        conservation, stationarity, centrality, interiority = self.residuals
        return Flow(
            value=self.value,
            upper_bound=self.bound,
            edges=self.edges,
            source=self.source,
            sink=self.sink,
            mu=self.mu,
            conservation=conservation,
            stationarity=stationarity,
            centrality=centrality,
            interiority=interiority,
            iterations=self.iterations,
            status=tuple(ENDINGS[i] for i in self.ending.tolist()),
            method=tuple(self.method),
        )
