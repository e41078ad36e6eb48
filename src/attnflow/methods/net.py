"""The tensor `net` as a method: flows of all stages, and the signed effects next to them.

The stages and flows are those of `Explainer`, with the same inputs; what is added here are readings
without a flow, to see what the flow adds. Source: ours, docs/method.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from attnflow.capture import (
    Stage,
    StageRule,
    captured_stages,
    default_pattern,
    default_stages,
    mean_present,
    product_rules,
    signed_scores,
    stage_count,
)
from attnflow.capture.recorder import ProductRules
from attnflow.methods.adapter import Scores
from attnflow.methods.attention import as_scores
from attnflow.methods.information_tensors import objective_of
from attnflow.methods.instance import Instance
from attnflow.models.literals import Pattern
from attnflow.solver import maximum_flow
from attnflow.solver.network import layered_network


@dataclass(frozen=True)
class NetStages:
    """The stages of `net` of an instance, captured; an instance keeps them in its cache.

    Attributes:
        removed: Rules of the stages after the first, as for `captured_stages`; None are those of an
            explanation.
        pattern: As for `product_rules`; None is that of an explanation.
    """

    removed: tuple[StageRule, ...] | None = None
    pattern: Pattern | None = None

    @property
    def count(self) -> int:
        """Number of stages, a backward pass each."""
        # Both defaults have as many.
        return stage_count(default_stages(hidden=True) if self.removed is None else self.removed)

    def __call__(self, instance: Instance) -> list[Stage]:
        hidden = instance.adapter.hides_tokens
        removed = default_stages(hidden=hidden) if self.removed is None else self.removed
        return list(
            captured_stages(
                instance.adapter.model,
                instance.inputs,
                instance.adapter.stage_removal(instance.content) if removed else None,
                objective_of(instance),
                removed=removed,
                rules=self.rules(instance),
            )
        )

    def rules(self, instance: Instance) -> ProductRules:
        """Return the backward rules of products in these stages."""
        hidden = instance.adapter.hides_tokens
        pattern = default_pattern(hidden=hidden) if self.pattern is None else self.pattern
        return product_rules(instance.adapter.model, pattern)


@dataclass(frozen=True)
class NetFlows:
    """`(stages, t)` maximum flows of the stages into the input nodes."""

    stages: NetStages

    def __call__(self, instance: Instance) -> Tensor:
        captures = [stage.capture for stage in instance.cached(self.stages)]
        capacities, sources, mask = (
            torch.cat([getattr(capture, name) for capture in captures])
            for name in ("capacities", "sources", "mask")
        )
        # A flow without a certificate would be compared as if it were the method's answer.
        solved = maximum_flow(layered_network(capacities, sources, mask))
        solved.raise_for_status()
        return solved.sink.cpu()


Reading = Callable[[NetStages, Instance], Scores]


def flow(stages: NetStages, instance: Instance) -> Scores:
    """Mean flow of the stages into each token: the scores of `Explainer`."""
    return _mean(instance.cached(NetFlows(stages)), stages, instance)


def signed(stages: NetStages, instance: Instance) -> Scores:
    """The flow where a token speaks for the decision, its contribution where against."""
    flows = instance.cached(NetFlows(stages))
    return _mean(signed_scores(flows, _contributions(stages, instance)), stages, instance)


def contributions(stages: NetStages, instance: Instance) -> Scores:
    """Signed effects of the tokens, without a flow."""
    return _mean(_contributions(stages, instance), stages, instance)


def _contributions(stages: NetStages, instance: Instance) -> Tensor:
    rows = [cast(Tensor, stage.capture.contributions)[0] for stage in instance.cached(stages)]
    return torch.stack(rows).double().cpu()


def _mean(values: Tensor, stages: NetStages, instance: Instance) -> Scores:
    present = torch.stack([stage.present[0] for stage in instance.cached(stages)]).cpu()
    return as_scores(mean_present(values, present))


NET_TENSORS = {
    "net": NetStages(),
    "net1": NetStages(()),
    # Other stages, and the other kind's pattern: to see what the defaults are worth.
    "net-shares": NetStages((0.1, 0.3, 0.5)),
    "net-halves": NetStages((0.1, "halves")),
    "net-shared": NetStages(pattern="shared"),
    "net-frozen": NetStages(pattern="frozen"),
    "net1-frozen": NetStages((), "frozen"),
}
NET_READINGS: dict[str, Reading] = {"flow": flow, "signed": signed, "contributions": contributions}
