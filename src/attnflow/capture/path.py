"""The balanced conservative tensor `bcf`: `cf` along a path, every layer given the same weight.

Two things keep `cf` at one point from being faithful. Where the model is sure, its slopes at the
text itself are small or point elsewhere; so effects are averaged over points on the straight way
from a neutral text (every ordinary token masked) to the text, as integrated gradients do for
inputs. And clipping negative effects takes more from one layer than from another: conservation says
that all layers carry the same, but the clipped layer with the least would bind alone, and leave
slack, which the barrier spreads evenly, in all others. Scaling every layer to a total of 1 lets
none bind alone, so that the flow is held to the proportions of all.

What is explained is the log-odds of the class: what speaks for another class speaks against it.

    C = relu(mean over points of cf's effects),   C_l / sum(C_l)

Source: ours; Sundararajan et al. (2017) for the path. Measured in docs/results. Read next:
frozen.py for the effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attnflow.capture.capture import Capture, capture
from attnflow.capture.checks import check_neutral, check_points
from attnflow.errors import ModelError
from attnflow.targets import Explained, contrast

POINTS = 4


def path_capture(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    neutral: Tensor,
    target: Tensor | None = None,
    *,
    points: int = POINTS,
    explained: Explained = contrast,
) -> Capture:
    """`capture` of `cf`, its effects averaged over a path; capacities are not balanced yet.

    Args:
        model: As for `capture`.
        inputs: As for `capture`, with `input_ids`.
        neutral: `(batch, t)` token ids where the path begins; the text is where it ends.
        target: As for `capture`.
        points: From 1 / points of the way to the whole of it; a forward and a backward pass each.
        explained: As for `capture`.

    Raises:
        InputError: As for `capture`, `neutral` has another shape than the ids, or points < 1.
        ModelError: As for `capture`.
    """
    check_neutral(neutral, inputs)
    check_points(points)
    table, device = model.get_input_embeddings(), next(model.parameters()).device
    with torch.no_grad():
        whole, masked = (table(ids.to(device)) for ids in (inputs["input_ids"], neutral))
    others = {name: value for name, value in inputs.items() if name != "input_ids"}

    def at(part: float, target: Tensor | None) -> Capture:
        place = {**others, "inputs_embeds": torch.lerp(masked, whole, part)}
        return capture(model, place, target, tensor="cf", explained=explained)

    text = at(1.0, target)
    found = [text, *(at(k / points, text.target) for k in range(1, points))]
    signed = torch.stack([_known(c.signed) for c in found]).mean(0)
    residual = torch.stack([_known(c.residual) for c in found]).mean(0)
    capacities = signed.relu() + torch.diag_embed(residual.relu())
    return replace(text, capacities=capacities, signed=signed, residual=residual)


def balanced(capacities: Tensor) -> Tensor:
    """`(batch, layers, t, t)` with a total of 1 in every layer; a layer of zeros stays."""
    total = capacities.sum((2, 3), keepdim=True)
    return capacities / total.where(total > 0, 1.0)


def _known(effects: Tensor | None) -> Tensor:
    if effects is None:
        raise ModelError("the capture of 'cf' came without the effects of its edges.")
    return effects
