"""The sections that set the solver beside others: CVXPY with Clarabel, igraph, and the model."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from attnflow.capture import capture
from attnflow.cli.bench.capacities import Models
from attnflow.cli.bench.competitors import (
    FINISHED,
    circulation,
    clarabel_flow,
    igraph_network,
    igraph_value,
)
from attnflow.cli.bench.markdown import at_least, at_most
from attnflow.cli.bench.section import Case, Section, Settings, Skipped, require
from attnflow.cli.bench.timing import timed
from attnflow.solver import Flow, maximum_flow

BATCH = 16
GOALS = {12: (1, 20), 32: (1, None), 64: (1, 100), 128: (100, 300)}  # alone, in a batch


class Limit:
    """Skips every larger size once one took a competitor longer than its limit."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._passed: str | None = None

    def check(self) -> None:
        """Raise `Skipped` if a smaller size was over the limit."""
        if self._passed is not None:
            raise Skipped(self._passed)

    def note(self, t: int, seconds: float) -> None:
        """Remember what a size took."""
        if seconds > self.seconds:
            self._passed = f"t = {t} took {seconds:.0f} s, the limit is {self.seconds:g} s"


def status_of(flow: Flow[Tensor]) -> str:
    """How the solves of a batch ended: one word, or how many were certified."""
    names = {status.name.lower().replace("_", " ") for status in flow.status}
    certified = sum(status.is_certified for status in flow.status)
    return names.pop() if len(names) == 1 else f"{certified} of {len(flow.status)} certified"


def clarabel(settings: Settings, models: Models) -> Section:
    """CVXPY with Clarabel on the same barrier program, with the same mu."""
    require("scipy", "cvxpy", "clarabel")
    lengths = settings.choose((12, 32, 64, 128), (12, 32))
    cases = []
    for layers in (6,) if settings.quick else (6, 12):
        limit = Limit(settings.time_limit)
        for t in lengths:
            measure = partial(_clarabel, settings, models, limit, t, layers)
            cases.append(Case((t, layers), measure))
    return Section(
        title="CVXPY with Clarabel, the same barrier program and the same mu",
        note=(
            f"Tensor {settings.tensor} of the embedded model (L = 6) and of a random one of "
            "BERT-base's size (L = 12). Clarabel's seconds: building the incidence matrix and the "
            "CVXPY problem, and solving it. Ours: `maximum_flow`, pruning and certificate "
            "included. Difference: largest of an edge, over the flow. A ratio with > is a lower "
            "bound: Clarabel gave no answer in that time."
        ),
        columns=("t", "L", "Clarabel s", "its status", "difference", "ours alone s",
            f"ours per text of {BATCH} s", "alone", "in a batch", "our status"),
        cases=cases,
    )  # fmt: skip


def _clarabel(
    settings: Settings, models: Models, limit: Limit, t: int, layers: int
) -> Sequence[object]:
    limit.check()
    capacities = models.capacities(layers, [t] * BATCH, settings.tensor)
    flow, alone = timed(lambda: maximum_flow(capacities[:1]), settings.repeat)
    together, batch = timed(lambda: maximum_flow(capacities), settings.repeat)
    network, mu, value = circulation(capacities[0]), flow.mu.item(), flow.value.item()
    (status, found), seconds = timed(
        lambda: clarabel_flow(network, mu, value, limit.seconds), settings.repeat
    )
    limit.note(t, seconds)
    difference = "-" if found is None else abs(found - flow.edges[0].numpy()).max().item() / value
    per_text, bound = batch / BATCH, status not in FINISHED
    goal_alone, goal_batch = GOALS.get(t, (1, None))
    return (
        *(seconds, status, difference, alone, per_text),
        at_least(seconds / alone, goal_alone, bound=bound),
        at_least(seconds / per_text, goal_batch, bound=bound),
        status_of(together),
    )


def igraph(settings: Settings, models: Models) -> Section:
    """igraph's exact value of the maximum flow, which names no flow."""
    require("igraph")
    limit = Limit(settings.time_limit)
    return Section(
        title="igraph, the exact value of the maximum flow",
        note=(
            f"Tensor {settings.tensor} of the embedded model, L = 6, float capacities. igraph "
            "gives the value only; ours gives the unique flow on every edge, per text in a batch "
            f"of {BATCH}. Flow / exact: our value over igraph's."
        ),
        columns=("t", "igraph flow only s", "igraph with building s", "ours per text s",
            "ours / flow only", "flow / exact", "our status"),
        cases=[
            Case((t,), partial(_igraph, settings, models, limit, t))
            for t in settings.choose((64, 128, 256, 512), (64, 128))
        ],
    )  # fmt: skip


def _igraph(settings: Settings, models: Models, limit: Limit, t: int) -> Sequence[object]:
    limit.check()
    capacities = models.capacities(6, [t] * BATCH, settings.tensor)
    flow, batch = timed(lambda: maximum_flow(capacities), settings.repeat)
    network = circulation(capacities[0])
    (graph, listed), building = timed(lambda: igraph_network(network), settings.repeat)
    exact, seconds = timed(lambda: igraph_value(network, graph, listed), settings.repeat)
    limit.note(t, seconds)
    per_text = batch / BATCH
    return (
        *(seconds, seconds + building, per_text),
        at_most(per_text / seconds, 3 if t >= 64 else None),
        f"{flow.value[0].item() / exact:.5f}",
        status_of(flow),
    )


def model(settings: Settings, models: Models) -> Section:
    """The model's own forward and backward pass, which every gradient method pays."""
    return Section(
        title="The model's own forward and backward pass",
        note=(
            f"`capture` of tensor {settings.tensor}, and `maximum_flow` of what it captured, in "
            "seconds per text. L = 6: the embedded model; L = 12: a random one of BERT-base's size."
        ),
        columns=("L", "t", "batch", "model s", "flow s", "flow / model", "our status"),
        cases=[
            Case((layers, t, batch), partial(_model, settings, models, layers, t, batch))
            for layers in ((6,) if settings.quick else (6, 12))
            for t in settings.choose((32, 128, 512), (32, 128))
            for batch in (1, BATCH)
        ],
    )


def _model(settings: Settings, models: Models, layers: int, t: int, batch: int) -> Sequence[object]:
    network, inputs = models.of(layers), models.inputs([t] * batch)
    captured, seconds = timed(
        lambda: capture(network, inputs, tensor=settings.tensor), settings.repeat
    )
    flow, ours = timed(lambda: maximum_flow(captured.capacities), settings.repeat)
    return (seconds / batch, ours / batch, at_most(ours / seconds, 1), status_of(flow))
