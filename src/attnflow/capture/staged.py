"""The balanced conservative tensor `bcf`: `cf` in stages of removal, every layer of equal weight.

    E[l,i,j] = mean of cf's signed effects over the stages in which token j is present
    C = relu(E),   C_l / sum(C_l)

The explained number is the log-odds of the class: what speaks for another class speaks against it.

Stages, because effects at the text itself are not faithful. When several words say the same, the
model is sure with any of them. Each counts little, and what would speak for the class once the
first are removed does not show at all. So effects are measured several times, each time without the
tokens that have mattered most so far. A token's effect is the mean over the stages in which it is
present.

Balance, because layers that carry unequal totals are no network for a flow. The effects of one
stage are conserved, but their means over different stages are not, and clipping takes more from one
layer than from another. The layer with the least would bind alone and leave slack in all others,
which the barrier spreads evenly. With every layer scaled to a total of 1 none binds alone, and the
flow follows the proportions of all. `stacking.balanced` does this; `staged_capture` does not.

Source: ours. Measured in docs/results. Read next: frozen_backward.py for the effects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from attnflow.capture.capture import Capture, Effects, clip, record
from attnflow.capture.leaving_out import record_visible
from attnflow.capture.merging import Segments
from attnflow.capture.net_worth import net_capture
from attnflow.capture.objectives import Objective, contrast
from attnflow.capture.recorder import FROZEN, ProductRules
from attnflow.capture.token_removal import Removal, removal_of
from attnflow.capture.validation import check_removed
from attnflow.errors import InputError, shown

StageRule = float | Literal["halves"]
"""The nodes that a stage of `net` is without: see `captured_stages`."""

REMOVED = (0.05, 0.15, 0.3)  # shares of the tokens, one stage each after the whole text
# The stages of `captured_stages`. Which are better depends on how nodes are removed: measured in
# docs/results/language-models.md.
REPLACED_STAGES: tuple[StageRule, ...] = REMOVED
HIDDEN_STAGES: tuple[StageRule, ...] = (0.1, "halves")


def staged_capture(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    baseline: Tensor,
    objective: Objective | None = None,
    *,
    removed: Sequence[float] = REMOVED,
    segments: Segments | None = None,
) -> Capture:
    """Return the `cf` capture with effects averaged over stages; its layers are not balanced yet.

    Args:
        model: As for `capture`.
        inputs: As for `capture`, with `input_ids` or `pixel_values`.
        baseline: The example with all content removed, as for `removal_of`. Tokens or patches that
            differ from it can be removed: they are replaced by those of the baseline.
        objective: The explained number; the log-odds (`contrast`) of the predicted class when None.
        removed: Share of these tokens that is removed in each stage but the first, inside (0, 1);
            rounded up to whole tokens. A stage is a forward and a backward pass.
        segments: As for `capture`; segments are removed as a whole, and shares are of segments.

    Raises:
        InputError: As for `capture`, or `baseline` has another shape than what it replaces, or a
            share is not inside (0, 1).
        ModelError: As for `capture`.
    """
    removal = removal_of(model, inputs, baseline)
    check_removed(removed)
    objective = objective or Objective(scalar=contrast)
    (whole,) = record(model, inputs, [objective], tensor="cf", segments=segments)
    # The class predicted from the whole text stays explained, whatever later stages predict.
    objective = replace(objective, target=whole.target)
    mean = StageMean(whole)
    for share in removed:
        ((nodes, inputs_left),) = _removals(removal, mean.of_input_nodes, share, segments)
        (stage,) = record(model, inputs_left, [objective], tensor="cf", segments=segments)
        mean.add(stage, present=~nodes)
        del stage  # as large as the sums: two stages never exist at once
    return clip(mean.effects())


@dataclass(frozen=True)
class Stage:
    """One stage of removal, captured.

    Attributes:
        capture: Its capture; nodes that are hidden are padding to it.
        present: `(batch, nodes)` bool, true at nodes that are not removed.
    """

    capture: Capture
    present: Tensor


def captured_stages(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    removal: Removal | None,
    objective: Objective | None = None,
    *,
    removed: Sequence[StageRule] = REPLACED_STAGES,
    rules: ProductRules = FROZEN,
    segments: Segments | None = None,
    whole: Effects | None = None,
) -> Iterator[Stage]:
    """Yield the net capture (net_worth.py) of every stage, the whole text's first.

    A stage is captured when it is asked for. Its effects are freed before the next one's exist.

    Args:
        model: As for `capture`.
        inputs: As for `capture`, with `input_ids` or `pixel_values`.
        removal: The way in which nodes are removed, `removal_of` or `HiddenTokens.of`; None where
            `removed` is empty.
        objective: As for `staged_capture`.
        removed: Rules of the stages after the first. A share, inside (0, 1), is a stage without
            that share of the nodes, those worth the most so far. "halves" are two: all nodes that
            can be removed are ranked by their worth so far, and each stage has every other one.
            None: the whole text is the only stage.
        rules: The backward rules of products.
        segments: As for `staged_capture`.
        whole: Effects of the whole text, where they were recorded before; they are used up.

    Raises:
        InputError: As for `staged_capture`.
        ModelError: As for `capture`.
    """
    check_stage_rules(removed)
    objective = objective or Objective(scalar=contrast)
    if whole is None:
        (whole,) = record(model, inputs, [objective], tensor="cf", rules=rules, segments=segments)
    objective = replace(objective, target=whole.target)
    mask, total = whole.mask, whole.of_inputs
    count = mask.to(total)
    first = net_capture(whole)
    del whole  # its effects are as large as the capacities
    yield Stage(first, mask)
    del first
    if removal is None:
        if removed:
            raise InputError("stages that remove nodes need a removal; got None.")
        return
    for rule in removed:
        for nodes, inputs_left in _removals(removal, total / count.clamp(min=1), rule, segments):
            effects = record_visible(model, inputs_left, objective, rules=rules, segments=segments)
            present = mask & ~nodes
            total = total + effects.of_inputs.where(present, 0.0)
            count = count + present
            capture = net_capture(effects)
            del effects
            yield Stage(capture, present)
            del capture


def default_stages(*, hidden: bool) -> tuple[StageRule, ...]:
    """Return the stages of `net` where none are given: nodes are hidden, or replaced by others."""
    return HIDDEN_STAGES if hidden else REPLACED_STAGES


def check_stage_rules(rules: Sequence[StageRule]) -> None:
    """Raise an InputError unless every rule is a share inside (0, 1) or "halves"."""
    for rule in rules:
        if rule != "halves" and not (isinstance(rule, int | float) and 0 < rule < 1):
            raise InputError(
                "stages must be shares of the tokens inside (0, 1), such as 0.1, or 'halves', got "
                f"{shown(rule)}."
            )


def stage_count(rules: Sequence[StageRule]) -> int:
    """Return the number of stages by these rules, the whole text among them."""
    return 1 + sum(2 if rule == "halves" else 1 for rule in rules)


def _removals(
    removal: Removal, effects: Tensor, rule: StageRule, segments: Segments | None
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield `(batch, nodes)` bool, the nodes removed, and the inputs without them, by stage.

    A segment is removed as a whole, except tokens of it that are the baseline's already.
    """
    removable = removal.removable
    if segments is None:
        # Tokens before an image's patches stay.
        removable = pad(removable, (effects.shape[1] - removable.shape[1], 0))
        for nodes in _chosen(effects, removable, rule):
            yield nodes, removal.inputs_without(nodes)
        return
    # Segments are made on the CPU, whatever the model's device is.
    segments = replace(segments, of_node=segments.of_node.to(removable.device))
    for nodes in _chosen(effects, segments.touched(removable), rule):
        yield nodes, removal.inputs_without(segments.spread(nodes) & removable)


def _chosen(effects: Tensor, removable: Tensor, rule: StageRule) -> list[Tensor]:
    """`(batch, t)` bool, the nodes that each stage of a rule removes."""
    if isinstance(rule, str):
        return halves(effects, removable)
    return [largest(effects, removable, rule)]


class StageMean:
    """Running mean of signed effects over the stages in which the key of an edge is present.

    Sums are made in place, in the tensors of the first stage. A layer is t squared, and one more
    copy of all would be the largest thing in memory.
    """

    def __init__(self, whole: Effects) -> None:
        self._whole = whole
        self._signed, self._residual = whole.effects
        self._stages = torch.ones(
            whole.mask.shape, dtype=self._signed.dtype, device=whole.mask.device
        )

    def add(self, stage: Effects, present: Tensor) -> None:
        """Add a stage's effects of the nodes present, `(batch, t)` bool."""
        signed, residual = stage.effects
        counted = present.to(self._stages)
        self._signed += signed.mul_(counted[:, None, None, :])
        self._residual += residual * counted[:, None, :]
        self._stages += counted

    def effects(self) -> Effects:
        """Return the means as effects; every node was present in the first stage."""
        return replace(
            self._whole,
            signed=self._signed.div_(self._stages[:, None, None, :]),
            residual=self._residual / self._stages[:, None, :],
        )

    @property
    def of_input_nodes(self) -> Tensor:
        """`(batch, t)` mean effects of the input nodes: the sum of all edges up from each."""
        return self._whole.of_inputs / self._stages


def largest(effects: Tensor, removable: Tensor, share: float) -> Tensor:
    """`(batch, t)` bool, the share with the largest effects among each text's removable tokens."""
    rank = _ranks(effects, removable)
    counts = [whole_units(share, total) for total in removable.sum(1).tolist()]
    return (rank < torch.tensor(counts, device=rank.device)[:, None]) & removable


def halves(effects: Tensor, removable: Tensor) -> list[Tensor]:
    """`(batch, t)` bool, each text's removable tokens in two halves, as equal in effect as can be.

    By rank they take turns in the order of a, b, b, a, so that neither half has all the first ones.
    """
    first = torch.isin(_ranks(effects, removable) % 4, torch.tensor([0, 3]).to(removable.device))
    return [first & removable, ~first & removable]


def _ranks(effects: Tensor, removable: Tensor) -> Tensor:
    """`(batch, t)` ranks of the tokens by their effects, 0 the largest, removable ones first."""
    effects = effects.to(removable.device).where(removable, -torch.inf)
    return effects.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def whole_units(share: float, total: int) -> int:
    """Return a share of `total` tokens or words, rounded up to whole ones.

    The tolerance keeps rounding errors of the product from adding one: 0.3 of 50 are 15.
    """
    return math.ceil(share * total - 1e-9)
