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
from transformers import PreTrainedModel

from attnflow.capture.capture import Capture, capture
from attnflow.capture.checks import check_neutral, check_removed
from attnflow.targets import Explained, contrast

REMOVED = (0.05, 0.15, 0.3)  # shares of the tokens, one stage each after the whole text


def staged_capture(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    neutral: Tensor,
    target: Tensor | None = None,
    *,
    removed: Sequence[float] = REMOVED,
    explained: Explained = contrast,
) -> Capture:
    """`capture` of `cf`, its effects averaged over stages; capacities are not balanced yet.

    Args:
        model: As for `capture`.
        inputs: As for `capture`, with `input_ids`.
        neutral: `(batch, t)` ids of the text with nothing in it: a token that it has elsewhere than
            the text can be removed, and is then what neutral has.
        target: As for `capture`.
        removed: Share of these tokens that is gone in each stage but the first, inside (0, 1);
            rounded up to whole tokens. A stage is a forward and a backward pass.
        explained: As for `capture`.

    Raises:
        InputError: As for `capture`, `neutral` has another shape than the ids, or a share is not
            inside (0, 1).
        ModelError: As for `capture`.
    """
    check_neutral(neutral, inputs)
    check_removed(removed)
    ids = inputs["input_ids"]
    mask = inputs.get("attention_mask", torch.ones_like(ids)) != 0
    neutral = neutral.to(ids.device)
    removable = (neutral != ids) & mask
    there = torch.ones_like(removable)
    text = capture(model, inputs, target, tensor="cf", explained=explained)
    found = _Effects(text, there)
    for share in removed:
        there = ~largest(found.of_tokens, removable, share)
        rest = {**inputs, "input_ids": ids.where(there, neutral)}
        found.add(capture(model, rest, text.target, tensor="cf", explained=explained), there)
    signed, residual = found.means
    capacities = signed.relu() + torch.diag_embed(residual.relu())
    return replace(text, capacities=capacities, signed=signed, residual=residual)


def balanced(capacities: Tensor) -> Tensor:
    """`(batch, layers, t, t)` with a total of 1 in every layer; a layer of zeros stays."""
    total = capacities.sum((2, 3), keepdim=True)
    return capacities / total.where(total > 0, 1.0)


class _Effects:
    """Sums of signed effects over the stages in which their token, the key, was there."""

    def __init__(self, text: Capture, there: Tensor) -> None:
        signed, residual = text.effects
        self.signed, self.residual = torch.zeros_like(signed), torch.zeros_like(residual)
        self.stages = torch.zeros(there.shape, dtype=signed.dtype, device=signed.device)
        self.add(text, there)

    def add(self, stage: Capture, there: Tensor) -> None:
        signed, residual = stage.effects
        counted = there.to(self.stages)
        self.signed += signed * counted[:, None, None, :]
        self.residual += residual * counted[:, None, :]
        self.stages += counted

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """`(batch, layers, t, t)` and `(batch, layers, t)`; every token was there at first."""
        return self.signed / self.stages[:, None, None, :], self.residual / self.stages[:, None, :]

    @property
    def of_tokens(self) -> Tensor:
        """`(batch, t)` effects of the input tokens: of all that leaves them in the first layer."""
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
