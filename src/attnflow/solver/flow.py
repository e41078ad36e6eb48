"""Flow: a solved batch of networks with its certificate, and the ways a solve can end."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from attnflow.errors import UnsolvedError

Array = TypeVar("Array", Tensor, np.ndarray[Any, Any])


class Status(Enum):
    """Outcome of the solve of one network; the value is the message."""

    SOLVED = "solved"
    EMPTY = (
        "no path leads from a source to a sink (capacities below 1e-100 of the narrowest row count "
        "as none), so the flow is zero"
    )
    ITERATION_LIMIT = (
        "the iteration limit was reached before the tolerance; ask for a larger gap, or raise "
        "max_iterations"
    )
    NUMERICAL_LIMIT = "float64 cannot resolve this network at this mu; ask for a larger gap (or mu)"

    @property
    def is_certified(self) -> bool:
        return self in (Status.SOLVED, Status.EMPTY)


class Method(Enum):
    """Method by which a network was solved."""

    NONE = "not at all: it is empty"
    PRIMAL_DUAL = "primal-dual"
    DUAL = "dual, because the primal-dual method did not fit in memory"


@dataclass(frozen=True, eq=False)
class Flow(Generic[Array]):
    """The barrier maximum flow of each network, and why it can be believed.

    Flow is in the units of the capacities. Arrays are of the kind that came in (torch or numpy).

    Attributes:
        value: `(batch,)` total flow.
        upper_bound: `(batch,)` no flow is larger: total capacity across a (fractional) cut.
        edges: `(batch, layers, t, t)` flow on each edge; 0 where no path leads through.
        source: `(batch, t)` flow from the super-source into each node of the top row.
        sink: `(batch, t)` flow from each node of the bottom row into the super-target.
        mu: `(batch,)` weight of the barrier, in the units of the capacities.
        conservation: `(batch,)` largest imbalance of a node over `value`.
        stationarity: `(batch,)` largest error of an edge's reduced cost over its multipliers' sum.
        centrality: `(batch,)` largest |flow * multiplier / mu - 1| over edges and both bounds.
        interiority: `(batch,)` largest error of an edge's slack as capacity - flow, over the slack.
        iterations: `(batch,)` int, factorisations used.
        status: How each solve ended.
        method: How each network was solved.
    """

    value: Array
    upper_bound: Array
    edges: Array
    source: Array
    sink: Array
    mu: Array
    conservation: Array
    stationarity: Array
    centrality: Array
    interiority: Array
    iterations: Array
    status: tuple[Status, ...]
    method: tuple[Method, ...]

    @property
    def gap(self) -> Array:
        """`(batch,)` how far `value` can be below the maximum, over the bound, 0 to 1."""
        positive = self.upper_bound > 0
        gap: Array = positive * (1 - self.value / (self.upper_bound + ~positive)).clip(0, 1)
        return gap

    def without_edges(self) -> "Flow[Array]":
        """The same flow with no nodes in `edges`, which are nearly all of its memory."""
        empty: Array = self.edges[:, :, :0, :0]
        # A copy: a view would keep all of them.
        return replace(self, edges=empty.clone() if isinstance(empty, Tensor) else empty.copy())

    def throughput(self, network: int) -> Array:
        """Return `(t,)` mean flow through each node of one network, over its layers + 1 rows."""
        # What enters every row: the lower rows along edges, the top row from the source.
        entering: Array = self.edges[network].sum((0, 1)) + self.source[network]
        return entering / (self.edges.shape[1] + 1)

    def __repr__(self) -> str:
        batch, layers, t, _ = self.edges.shape
        certified = sum(status.is_certified for status in self.status)
        return f"Flow({batch} networks of {layers} layers, t = {t}; {certified} certified)"

    def raise_for_status(self) -> None:
        """Raise `UnsolvedError` unless every network has a certificate, saying which have none."""
        bad = [i for i, status in enumerate(self.status) if not status.is_certified]
        if not bad:
            return
        shown = "; ".join(
            f"network {i}: {self.status[i].value} (iterations {int(self.iterations[i])}, "
            f"conservation {float(self.conservation[i]):.1e}, "
            f"centrality {float(self.centrality[i]):.1e})"
            for i in bad[:3]
        )
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise UnsolvedError(f"{len(bad)} of {len(self.status)} flows not solved. {shown}{more}.")


def joined(flows: Sequence[Flow[Tensor]]) -> Flow[Tensor]:
    """The flows of several batches, of networks of one size, as one batch."""
    if len(flows) == 1:
        return flows[0]
    columns = {f.name: [getattr(flow, f.name) for flow in flows] for f in fields(Flow)}
    values: dict[str, Any] = {
        name: torch.cat(column) if isinstance(column[0], Tensor) else sum(column, ())
        for name, column in columns.items()
    }
    return Flow(**values)


def as_numpy(flow: Flow[Tensor]) -> Flow[np.ndarray[Any, Any]]:
    """The same flow in numpy arrays."""
    values: dict[str, Any] = {f.name: getattr(flow, f.name) for f in fields(flow)}
    arrays = {k: v.cpu().numpy() for k, v in values.items() if isinstance(v, Tensor)}
    return Flow(**(values | arrays))
