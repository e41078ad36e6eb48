"""The maximum flows of a batch of captures, one network for each request.

The networks of all stages are solved together while they are small, which is faster. Those of long
texts are solved stage by stage: a stage is captured, solved and freed before the next one is
captured, so that the capacities of one stage exist at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnflow.attribution import Attribution
from attnflow.attribution.data import FAINT
from attnflow.capture import Capture, Effects, Stage
from attnflow.errors import UnsolvedError, warn
from attnflow.explainer.attention_sink import first_token
from attnflow.explainer.memory.estimate import solves_by_stage
from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Request
from attnflow.models.tasks import Task
from attnflow.solver import Flow, joined, maximum_flow
from attnflow.solver.network import LayeredNetwork, layered_network


@dataclass(frozen=True)
class Flows:
    """The flows of a batch: in every stage one for each request.

    Attributes:
        whole: What the first stage, with the whole text, recorded besides its capacities.
        layers: Number of layers of the networks.
        scored: The flows that scores are read from, those of the first stage first. Their `edges`
            have no nodes where no option of the call reads them and stages were solved one by one.
        unrestricted: The flows of the whole networks, where the first token was excluded; else
            None.
        present: `(stages, batch, nodes)` bool, nodes that a stage has not removed.
        contributions: `(stages, batch, nodes)` signed effects of the input nodes, also of those
            that replace removed ones; None for tensors without signs.
    """

    whole: Effects
    layers: int
    scored: Flow[Tensor]
    unrestricted: Flow[Tensor] | None
    present: Tensor
    contributions: Tensor | None

    def rows(self, request: int) -> list[int]:
        """Return the rows of `scored` that belong to a request, one for each stage."""
        stages, batch = self.present.shape[:2]
        return [stage * batch + request for stage in range(stages)]


def solve_flows(
    stages: Iterable[Stage],
    requests: Sequence[Request],
    options: CallOptions,
    task: Task,
    budget: float | None,
) -> Flows:
    """Solve the networks of all stages.

    Args:
        stages: The stages of the requests, captured when they are asked for.
        requests: The requests.
        options: The options of the call.
        task: The task of the model.
        budget: Bytes that the solver may take at a time, or None.
    """

    parts: list[Flows] = []
    for some in _solved_together(iter(stages), options):
        whole = parts[0].whole if parts else some[0].capture.without_capacities()
        parts.append(_solve(some, whole, requests, options, task, budget))
        del some  # before the next stage is captured
    unrestricted = [part.unrestricted for part in parts if part.unrestricted is not None]
    signed = [part.contributions for part in parts if part.contributions is not None]
    return Flows(
        whole=whole,
        layers=parts[0].layers,
        scored=joined([part.scored for part in parts]),
        unrestricted=joined(unrestricted) if unrestricted else None,
        present=torch.cat([part.present for part in parts]),
        contributions=torch.cat(signed) if signed else None,
    )


def _solved_together(stages: Iterator[Stage], options: CallOptions) -> Iterator[list[Stage]]:
    """Yield the stages that are solved together: all of them, or one by one if they are large."""
    first = next(stages)
    if not solves_by_stage(first.capture.capacities.numel(), options.networks):
        yield [first, *stages]
        return
    yield [first]
    del first  # before the next stage is captured, as below
    for stage in stages:
        yield [stage]
        del stage


def _solve(
    stages: Sequence[Stage],
    whole: Effects,
    requests: Sequence[Request],
    options: CallOptions,
    task: Task,
    budget: float | None,
) -> Flows:
    """Solve the networks of some stages in one batch of the solver."""
    keeps_edges = options.reads_edges or len(stages) == options.networks

    def solve(network: LayeredNetwork) -> Flow[Tensor]:
        flow = maximum_flow(network, gap=options.gap, mu=options.mu, max_memory=budget)
        return flow if keeps_edges else flow.without_edges()

    network = _network([stage.capture for stage in stages])
    scored, unrestricted = solve(network), None
    present = torch.stack([stage.present for stage in stages])
    if options.attention_sink == "exclude":
        # A second solve, not a rescaling: the flow that would have ended there has to find other
        # ways. Nodes are counted in the whole text: to a stage those that it hides are padding.
        sinks = network.sinks.clone()
        for i, request in enumerate(requests):
            first = request.merged.segment_of(first_token(task, request.example))
            sinks[i :: len(requests), whole.mask[i].nonzero()[first, 0]] = False
        scored, unrestricted = solve(replace(network, sinks=sinks)), scored
    return Flows(
        whole=whole,
        layers=network.capacities.shape[1],
        scored=scored,
        unrestricted=unrestricted,
        present=present.cpu(),
        contributions=_contributions(stages),
    )


def _contributions(stages: Sequence[Stage]) -> Tensor | None:
    signed = [stage.capture.contributions for stage in stages]
    rows = [contributions for contributions in signed if contributions is not None]
    return torch.stack(rows).cpu().double() if rows else None


def _network(captures: Sequence[Capture]) -> LayeredNetwork:
    """Networks in which every token may be a sink: capacity 0 keeps flow from where none can be."""
    # The solver needs float64, which Apple's devices do not have.
    device = "cpu" if captures[0].mask.device.type == "mps" else captures[0].mask.device
    capacities, sources, mask = (
        torch.cat([getattr(capture, name) for capture in captures]).to(device)
        for name in ("capacities", "sources", "mask")
    )
    return layered_network(capacities, sources, mask)


def warn_of_faint(attributions: Sequence[Attribution]) -> None:
    """Warn of flows that carry too little of what their layers could."""
    some = [i for i, a in enumerate(attributions) if a.is_faint]
    if some:
        least = min(attributions[i].certificate.value for i in some)
        warn(
            f"{len(some)} of {len(attributions)} flows carry less than {FAINT:.0%} of what their "
            f"layers could, the least {least:.2g} (number {', '.join(map(str, some[:5]))}): their "
            "rankings say little. Another target or another contrast (against=, --against) may say "
            "more."
        )


def check_certified(attributions: Sequence[Attribution]) -> None:
    """Check that every flow has a certificate.

    Raises:
        UnsolvedError: A flow has none.
    """
    bad = [i for i, a in enumerate(attributions) if not a.certificate.is_certified]
    if bad:
        shown = ", ".join(f"{i} ({attributions[i].certificate.status})" for i in bad[:5])
        raise UnsolvedError(
            f"{len(bad)} of {len(attributions)} flows could not be certified: number {shown}. Ask "
            "for a larger gap (gap=, --gap), or in Python for the results as they are "
            "(keep_unsolved=True)."
        )
