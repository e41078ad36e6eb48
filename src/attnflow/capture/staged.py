"""The balanced conservative tensor `bcf`: `cf` in stages of removal, every layer of equal weight.

Two things keep `cf` of the text alone from being faithful. When several words say the same, the
model is sure with any of them: at the text itself each counts little, and what would speak for the
class once the first are gone does not show at all. So effects are measured again and again, each
time without the tokens that have mattered most so far, and a token's effect is the mean over the
stages in which it was there. And layers that do not carry the same in all are no network for a
flow: the effects of one stage are conserved, but their means over different stages are not, and
clipping negative ones takes more from one layer than from another. The layer with the least would
bind alone, and leave slack, which the barrier spreads evenly, in all others. Scaling every layer to
a total of 1 lets none bind alone, so that the flow is held to the proportions of all.

What is explained is the log-odds of the class: what speaks for another class speaks against it.

    E[l,i,j] = mean of cf's signed effects over the stages in which token j is there
    C = relu(E),   C_l / sum(C_l)

Source: ours. Measured in docs/results. Read next: frozen.py for the effects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from attnflow.capture.capture import Asked, Capture, Effects, measured
from attnflow.capture.merging import Segments
from attnflow.capture.objectives import Explained, Reading, class_logits, contrast
from attnflow.capture.token_removal import Removal, removal
from attnflow.capture.validation import check_removed

REMOVED = (0.05, 0.15, 0.3)  # shares of the tokens, one stage each after the whole text


def staged_capture(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    neutral: Tensor,
    target: Tensor | None = None,
    *,
    removed: Sequence[float] = REMOVED,
    explained: Explained = contrast,
    read: Reading = class_logits,
    position: Tensor | None = None,
    segments: Segments | None = None,
) -> Capture:
    """`capture` of `cf`, its effects averaged over stages; capacities are not balanced yet.

    Args:
        model: As for `capture`.
        inputs: As for `capture`, with `input_ids` or `pixel_values`.
        neutral: The example with nothing in it, as for `removal`: a token or patch that it has
            elsewhere than the example can be removed, and is then what neutral has.
        target: As for `capture`.
        removed: Share of these tokens that is gone in each stage but the first, inside (0, 1);
            rounded up to whole tokens. A stage is a forward and a backward pass.
        explained: As for `capture`.
        read: As for `capture`.
        position: As for `capture`.
        segments: As for `capture`; what is removed are whole segments, of which a share is taken.

    Raises:
        InputError: As for `capture`, `neutral` has another shape than what it replaces, or a share
            is not inside (0, 1).
        ModelError: As for `capture`.
    """
    way = removal(model, inputs, neutral)
    check_removed(removed)
    asked = Asked(target, explained, read, position)
    (text,) = measured(model, inputs, [asked], tensor="cf", segments=segments)
    again = replace(asked, target=text.target)
    found = _Effects(text)
    for share in removed:
        gone, inputs_left = _without(way, found.of_nodes, share, segments)
        (stage,) = measured(model, inputs_left, [again], tensor="cf", segments=segments)
        found.add(stage, ~gone)
        del stage  # before there is another
    return found.mean(text).capture()


def _without(
    way: Removal, effects: Tensor, share: float, segments: Segments | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Which nodes are gone, `(batch, nodes)` bool, and the inputs without them.

    A segment goes as a whole, but for tokens of it that are neutral already.
    """
    removable = way.removable
    if segments is None:
        # Tokens before an image's patches stay.
        removable = pad(removable, (effects.shape[1] - removable.shape[1], 0))
        gone = largest(effects, removable, share)
        return gone, way.without(gone)
    gone = largest(effects, segments.touched(removable), share)
    return gone, way.without(segments.spread(gone) & removable)


class _Effects:
    """Sums of signed effects over the stages in which their token, the key, was there.

    Every sum is made in place, in the first stage's own tensor.
    """

    def __init__(self, text: Effects) -> None:
        self.signed, self.residual = text.of_cf
        self.stages = torch.ones(text.mask.shape, dtype=self.signed.dtype, device=text.mask.device)

    def add(self, stage: Effects, there: Tensor) -> None:
        signed, residual = stage.of_cf
        counted = there.to(self.stages)
        self.signed += signed.mul_(counted[:, None, None, :])
        self.residual += residual * counted[:, None, :]
        self.stages += counted

    def mean(self, text: Effects) -> Effects:
        """The means in the place of the text's effects; every node was there at first."""
        return replace(
            text,
            signed=self.signed.div_(self.stages[:, None, None, :]),
            residual=self.residual / self.stages[:, None, :],
        )

    @property
    def of_nodes(self) -> Tensor:
        """`(batch, t)` effects of the input nodes: of all that leaves them in the first layer."""
        signed, residual = self.signed[:, 0].sum(1), self.residual[:, 0]
        return (signed + residual) / self.stages


def largest(effects: Tensor, removable: Tensor, share: float) -> Tensor:
    """`(batch, t)` bool, of each text's removable tokens the share with the largest effects."""
    effects = effects.to(removable.device).where(removable, -torch.inf)
    rank = effects.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    counts = [whole_units(share, total) for total in removable.sum(1).tolist()]
    return (rank < torch.tensor(counts, device=rank.device)[:, None]) & removable


def whole_units(share: float, total: int) -> int:
    """A share of so many tokens, or words, rounded up; 0.3 of 50 are 15, whatever 0.3 * 50 is."""
    return math.ceil(share * total - 1e-9)
