"""The sections that compare the solver with CVXPY and Clarabel, igraph, and the model itself."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import product

from torch import Tensor

from attnflow.capture import capture
from attnflow.cli.bench.capacities import Models
from attnflow.cli.bench.competitors import (
    FINISHED,
    clarabel_flow,
    igraph_network,
    igraph_value,
    pruned_circulation,
)
from attnflow.cli.bench.markdown import ratio
from attnflow.cli.bench.section import Section, Settings, Skipped, require
from attnflow.cli.bench.timing import timed
from attnflow.solver import Flow, maximum_flow

BATCH = 16


class TimeLimit:
    """Skips every larger size once a size took a competitor longer than its limit."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._reason: str | None = None

    def check(self) -> None:
        """Raise `Skipped` if a smaller size was over the limit."""
        if self._reason is not None:
            raise Skipped(self._reason)

    def record(self, t: int, seconds: float) -> None:
        """Record the time of a size."""
        if seconds > self.seconds:
            self._reason = f"t = {t} took {seconds:.0f} s, the limit is {self.seconds:g} s"


def status_of(flow: Flow[Tensor]) -> str:
    """Outcome of the solves of a batch: one word, or how many were certified."""
    names = {status.name.lower().replace("_", " ") for status in flow.status}
    certified = sum(status.is_certified for status in flow.status)
    return names.pop() if len(names) == 1 else f"{certified} of {len(flow.status)} certified"


def clarabel(settings: Settings, models: Models) -> Section:
    """CVXPY with Clarabel on the same barrier program, with the same mu."""
    require("scipy", "cvxpy", "clarabel")
    lengths = settings.choose((12, 32, 64, 128), (12, 32))
    # One for each number of layers: a length that is too long for 12 may not be for 6.
    limits = defaultdict[int, TimeLimit](lambda: TimeLimit(settings.time_limit))
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
        sizes=[(t, layers) for layers in ((6,) if settings.quick else (6, 12)) for t in lengths],
        measure=lambda t, layers: _clarabel(settings, models, limits[layers], t, layers),
    )  # fmt: skip


def _clarabel(
    settings: Settings, models: Models, limit: TimeLimit, t: int, layers: int
) -> Sequence[object]:
    limit.check()
    capacities = models.capacities(layers, [t] * BATCH, settings.tensor)
    flow, alone = timed(lambda: maximum_flow(capacities[:1]), settings.repeat)
    together, batch = timed(lambda: maximum_flow(capacities), settings.repeat)
    edges, mu, value = pruned_circulation(capacities[0]), flow.mu.item(), flow.value.item()
    (status, theirs), seconds = timed(
        lambda: clarabel_flow(edges, mu, value, limit.seconds), settings.repeat
    )
    limit.record(t, seconds)
    ours = flow.edges[0].numpy()
    difference = "-" if theirs is None else abs(theirs - ours).max().item() / value
    per_text, is_bound = batch / BATCH, status not in FINISHED
    return (
        *(seconds, status, difference, alone, per_text),
        ratio(seconds / alone, is_bound=is_bound),
        ratio(seconds / per_text, is_bound=is_bound),
        status_of(together),
    )


def igraph(settings: Settings, models: Models) -> Section:
    """igraph's exact value of the maximum flow, which names no flow."""
    require("igraph")
    return Section(
        title="igraph, the exact value of the maximum flow",
        note=(
            f"Tensor {settings.tensor} of the embedded model, L = 6, float capacities. igraph "
            "gives the value only; ours gives the unique flow on every edge, per text in a batch "
            f"of {BATCH}. Flow / exact: our value over igraph's."
        ),
        columns=("t", "igraph flow only s", "igraph with building s", "ours per text s",
            "ours / flow only", "flow / exact", "our status"),
        sizes=[(t,) for t in settings.choose((64, 128, 256, 512), (64, 128))],
        measure=partial(_igraph, settings, models, TimeLimit(settings.time_limit)),
    )  # fmt: skip


def _igraph(settings: Settings, models: Models, limit: TimeLimit, t: int) -> Sequence[object]:
    limit.check()
    capacities = models.capacities(6, [t] * BATCH, settings.tensor)
    flow, batch = timed(lambda: maximum_flow(capacities), settings.repeat)
    edges = pruned_circulation(capacities[0])
    (graph, finite), building = timed(lambda: igraph_network(edges), settings.repeat)
    exact, seconds = timed(lambda: igraph_value(edges, graph, finite), settings.repeat)
    limit.record(t, seconds)
    per_text = batch / BATCH
    return (
        *(seconds, seconds + building, per_text, ratio(per_text / seconds)),
        f"{flow.value[0].item() / exact:.5f}",
        status_of(flow),
    )


def model(settings: Settings, models: Models) -> Section:
    """The model's own forward and backward pass, which every gradient method pays."""
    lengths = settings.choose((32, 128, 512), (32, 128))
    return Section(
        title="The model's own forward and backward pass",
        note=(
            f"`capture` of tensor {settings.tensor}, and `maximum_flow` of what it captured, in "
            "seconds per text. L = 6: the embedded model; L = 12: a random one of BERT-base's size."
        ),
        columns=("L", "t", "batch", "model s", "flow s", "flow / model", "our status"),
        sizes=list(product((6,) if settings.quick else (6, 12), lengths, (1, BATCH))),
        measure=partial(_model, settings, models),
    )


def _model(settings: Settings, models: Models, layers: int, t: int, batch: int) -> Sequence[object]:
    network, inputs = models.of(layers), models.inputs([t] * batch)
    captured, seconds = timed(
        lambda: capture(network, inputs, tensor=settings.tensor), settings.repeat
    )
    flow, ours = timed(lambda: maximum_flow(captured.capacities), settings.repeat)
    return (seconds / batch, ours / batch, ratio(ours / seconds), status_of(flow))
