"""The maximum flows of a batch of captures, one network for each request."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from attnflow.attribution import Attribution
from attnflow.capture import Capture
from attnflow.errors import UnsolvedError
from attnflow.explainer.attention_sink import first_token
from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Request
from attnflow.models.tasks import Task
from attnflow.solver import Flow, maximum_flow
from attnflow.solver.network import LayeredNetwork, layered_network


@dataclass(frozen=True)
class Flows:
    """The flows of a batch.

    Attributes:
        scored: The flow that scores are read from.
        unrestricted: The flow of the whole network, where the first token was excluded; else None.
    """

    scored: Flow[Tensor]
    unrestricted: Flow[Tensor] | None


def solve_flows(
    capture: Capture,
    requests: Sequence[Request],
    options: CallOptions,
    task: Task,
    budget: float | None,
) -> Flows:
    """Solve the networks of a capture.

    Args:
        capture: The capture of the requests.
        requests: The requests.
        options: The options of the call.
        task: The task of the model.
        budget: Bytes that the solver may take, or None.
    """
    solve = partial(maximum_flow, gap=options.gap, mu=options.mu, max_memory=budget)
    network = _network(capture)
    whole = solve(network)
    if options.attention_sink != "exclude":
        return Flows(whole, None)
    # A second solve, not a rescaling: the flow that would have ended there has to find other ways.
    sinks = network.sinks.clone()
    for row, request in enumerate(requests):
        first = request.example.segment_of(first_token(task, request.example.example))
        sinks[row, capture.mask[row].nonzero()[first, 0]] = False
    return Flows(solve(replace(network, sinks=sinks)), whole)


def _network(capture: Capture) -> LayeredNetwork:
    """Networks in which every token may be a sink: capacity 0 keeps flow from where none can be."""
    # The solver needs float64, which Apple's devices do not have.
    device = "cpu" if capture.mask.device.type == "mps" else capture.mask.device
    mask = capture.mask.to(device)
    return layered_network(capture.capacities.to(device), capture.sources.to(device), mask)


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
            "for a larger gap, or for the results as they are (keep_unsolved=True)."
        )
