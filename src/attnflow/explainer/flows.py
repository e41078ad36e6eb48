"""The maximum flows of a batch of captures, one network for each request."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from attnflow.attribution import Attribution
from attnflow.attribution.data import FAINT
from attnflow.capture import Capture, Stage
from attnflow.errors import UnsolvedError, warn
from attnflow.explainer.attention_sink import first_token
from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Request
from attnflow.models.tasks import Task
from attnflow.solver import Flow, maximum_flow
from attnflow.solver.network import LayeredNetwork, layered_network


@dataclass(frozen=True)
class Flows:
    """The flows of a batch: in every stage one for each request, all in one batch of the solver.

    Attributes:
        scored: The flows that scores are read from, those of the first stage first.
        unrestricted: The flows of the whole networks, where the first token was excluded; else
            None.
        present: `(stages, batch, nodes)` bool, nodes that a stage has not removed.
        contributions: `(stages, batch, nodes)` signed effects of the input nodes, also of those
            that replace removed ones; None for tensors without signs.
    """

    scored: Flow[Tensor]
    unrestricted: Flow[Tensor] | None
    present: Tensor
    contributions: Tensor | None

    def rows(self, request: int) -> list[int]:
        """Return the rows of `scored` that belong to a request, one for each stage."""
        stages, batch = self.present.shape[:2]
        return [stage * batch + request for stage in range(stages)]


def solve_flows(
    stages: Sequence[Stage],
    requests: Sequence[Request],
    options: CallOptions,
    task: Task,
    budget: float | None,
) -> Flows:
    """Solve the networks of all stages.

    Args:
        stages: The stages of the requests.
        requests: The requests.
        options: The options of the call.
        task: The task of the model.
        budget: Bytes that the solver may take, or None.
    """
    solve = partial(maximum_flow, gap=options.gap, mu=options.mu, max_memory=budget)
    network = _network([stage.capture for stage in stages])
    whole = solve(network)
    present = torch.stack([stage.present for stage in stages])
    flows = Flows(whole, None, present.cpu(), _contributions(stages))
    if options.attention_sink != "exclude":
        return flows
    # A second solve, not a rescaling: the flow that would have ended there has to find other ways.
    sinks, mask = network.sinks.clone(), stages[0].capture.mask
    for i, request in enumerate(requests):
        first = request.merged.segment_of(first_token(task, request.example))
        sinks[flows.rows(i), mask[i].nonzero()[first, 0]] = False
    return replace(flows, scored=solve(replace(network, sinks=sinks)), unrestricted=whole)


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
            "rankings say little. Another target, or a contrast (against=), may say more."
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
