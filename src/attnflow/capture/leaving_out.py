"""Passes without the tokens that the attention mask hides: nobody attends to them.

A hidden token has no effect on what is read at another. So a stage that hides half of a text need
not compute that half: the tokens that are left run with the positions that they have in the whole
text, and their effects are put back in place. The numbers are the same but for rounding.

Models that see distances in the tensor besides positions would read another text (a sliding window,
attention in chunks), unless the whole text is inside the window. Read next: staged.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attnflow.capture.capture import Effects, record
from attnflow.capture.families import family_of
from attnflow.capture.input_names import DEEPSTACK
from attnflow.capture.merging import Segments
from attnflow.capture.objectives import LogitsAt, Objective
from attnflow.capture.recorder import ProductRules

# Axes of batch and tokens in inputs of tokens, where they are not the first two.
_AXES = {DEEPSTACK: (0, 2)}
# Inputs of tokens that can be left out: what another input is to a token is not known.
_OF_TOKENS = ("input_ids", "inputs_embeds", "attention_mask", "position_ids", DEEPSTACK)

# Config entries of windows that are counted in the tensor, not in positions.
_WINDOWS = ("sliding_window", "window_size", "attention_chunk_size", "local_attention")


def record_visible(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    objective: Objective,
    *,
    rules: ProductRules,
    segments: Segments | None,
) -> Effects:
    """Return the effects of `cf` on one objective, without computing tokens that are hidden.

    Args:
        model: As for `record`.
        inputs: As for `record`.
        objective: The objective.
        rules: The backward rules of products.
        segments: As for `record`.
    """
    visible = _visible_tokens(model, inputs, objective)
    if visible is not None:
        inputs = visible.of_inputs(inputs)
        objective = visible.of_objective(objective)
        if segments is not None:
            segments = replace(segments, of_node=visible.of_nodes(segments.of_node))
    (effects,) = record(model, inputs, [objective], tensor="cf", rules=rules, segments=segments)
    if visible is None or segments is not None:
        return effects
    return visible.put_back(effects, visible.places.shape[1])


@dataclass(frozen=True)
class _VisibleTokens:
    """The tokens of a batch that are not hidden.

    Attributes:
        nodes: `(batch, kept)` int64, their nodes in each text in order; after the end of a row with
            fewer some of its hidden ones.
        counts: Number of visible ones in each row.
        places: `(batch, t)` int64, the place of each visible node in its row of `nodes`.
    """

    nodes: Tensor
    counts: list[int]
    places: Tensor

    def of_nodes(self, values: Tensor) -> Tensor:
        """`(batch, kept, ...)` values of these tokens, from `(batch, t, ...)` ones."""
        rows = torch.arange(len(values), device=values.device)[:, None]
        return values[rows, self.nodes.to(values.device)]

    def of_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the inputs of these tokens."""
        left = {}
        for name, value in inputs.items():
            batch, tokens = _AXES.get(name, (0, 1))
            batch += value.ndim - 2 if name == "position_ids" else 0  # of several axes, or of one
            tokens = value.ndim - 1 if name == "position_ids" else tokens
            rows_first = value.movedim((batch, tokens), (0, 1))
            left[name] = self.of_nodes(rows_first).movedim((0, 1), (batch, tokens))
        return left

    def of_objective(self, objective: Objective) -> Objective:
        """Return the objective that reads at the new places."""
        read, position = objective.read, objective.position
        if isinstance(read, LogitsAt):
            read = replace(read, positions=self._moved(read.positions))
        return replace(
            objective, read=read, position=None if position is None else self._moved(position)
        )

    def _moved(self, positions: Tensor) -> Tensor:
        places = self.places.to(positions.device)
        return places.gather(1, positions.view(len(places), -1)).view(positions.shape)

    def put_back(self, effects: Effects, t: int) -> Effects:
        """Return the effects in the nodes of the whole text; hidden ones have none."""
        signed, residual = effects.effects
        batch, layers = signed.shape[:2]
        wide, long = signed.new_zeros(batch, layers, t, t), residual.new_zeros(batch, layers, t)
        mask, sources = (x.new_zeros(batch, t) for x in (effects.mask, effects.sources))
        for row, count in enumerate(self.counts):
            at = self.nodes[row, :count].to(signed.device)
            wide[row, :, at[:, None], at] = signed[row, :, :count, :count]
            long[row, :, at] = residual[row, :, :count]
            mask[row, at] = effects.mask[row, :count]
            sources[row, at] = effects.sources[row, :count]
        return replace(effects, signed=wide, residual=long, mask=mask, sources=sources)


def _visible_tokens(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], objective: Objective
) -> _VisibleTokens | None:
    """Return the visible tokens; None where all are, or where others cannot be left out."""
    family, mask = family_of(model), inputs.get("attention_mask")
    if family is None or family.positions != "given" or "position_ids" not in inputs:
        return None
    if mask is None or any(name not in _OF_TOKENS for name in inputs):
        return None
    if not isinstance(objective.read, LogitsAt) or objective.position is None:
        return None
    t, config = mask.shape[1], model.config.get_text_config()
    if any((getattr(config, name, None) or t) < t for name in _WINDOWS):
        return None
    is_visible = mask != 0
    places = is_visible.long().cumsum(1) - 1
    counts = is_visible.sum(1).tolist()
    read = objective.position.to(mask.device).view(len(mask), -1)
    if max(counts) == t or not is_visible.gather(1, read).all():
        return None
    # Visible ones first, all in their order.
    nodes = torch.argsort(is_visible, dim=1, descending=True, stable=True)[:, : max(counts)]
    return _VisibleTokens(nodes, counts, places)
