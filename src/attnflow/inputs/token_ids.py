"""Token ids as texts: what a user gives who has no text, or whose tokens must stay as they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from attnflow.errors import InputError
from attnflow.inputs.text import EncodedText, placed

Ids = Sequence[int]


def rows_of_ids(input_ids: Any, attention_mask: Any = None) -> list[list[int]]:
    """Each example's ids without its padding, which may be on either side.

    Args:
        input_ids: `(t,)` or `(batch, t)` integers: lists, numpy or torch.
        attention_mask: The same shape, 1 at real tokens; None where all are.

    Raises:
        InputError: Something else, nothing, or padding inside an example.
    """
    rows = _rows(input_ids, "input_ids")
    masks = [[1] * len(row) for row in rows]
    if attention_mask is not None:
        masks = _rows(attention_mask, "attention_mask")
    if [len(row) for row in rows] != [len(mask) for mask in masks]:
        raise InputError("attention_mask must have the shape of input_ids, 1 at real tokens.")
    found = []
    for index, (row, mask) in enumerate(zip(rows, masks, strict=True)):
        real = [i for i, one in enumerate(mask) if one]
        if not real:
            raise InputError(f"input_ids has no token in row {index}: drop empty examples.")
        if real != list(range(real[0], real[-1] + 1)):
            raise InputError(
                f"row {index} of input_ids has padding between its tokens: expected it on the left "
                "or on the right alone."
            )
        found.append(row[real[0] : real[-1] + 1])
    return found


def _rows(values: Any, name: str) -> list[list[int]]:
    values = values.tolist() if isinstance(values, torch.Tensor | np.ndarray) else values
    if isinstance(values, Sequence) and values and not isinstance(values[0], Sequence):
        values = [values]
    is_whole = isinstance(values, Sequence) and all(
        isinstance(row, Sequence) and all(isinstance(i, int) for i in row) for row in values
    )
    if not is_whole or not values:
        raise InputError(f"{name} must be integers, (t,) or (batch, t), got {values!r:.80}.")
    return [list(row) for row in values]


def of_ids(tokenizer: Any, ids: Ids, limit: int | None) -> EncodedText:
    """The text that these ids are; without a tokenizer its tokens are named by their ids.

    Raises:
        InputError: There are more than the model takes.
    """
    check_length(len(ids), limit)
    if tokenizer is None:
        names = tuple(str(i) for i in ids)
        count = len(ids)
        return EncodedText(
            text=" ".join(names),
            inputs={"input_ids": list(ids)},
            tokens=names,
            offsets=_spans(names),
            special=(False,) * count,
            word_ids=tuple(range(count)),
        )
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return placed(tokenizer, text, ids)


def check_length(count: int, limit: int | None, what: str = "input_ids") -> None:
    """The model takes so many tokens.

    Raises:
        InputError: It does not; `what` says what has so many.
    """
    if limit is not None and count > limit:
        raise InputError(f"{what} has {count} tokens and the model takes {limit}: shorten it.")


def _spans(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Where names stand that are joined by single spaces."""
    spans, start = [], 0
    for name in names:
        spans.append((start, start + len(name)))
        start += len(name) + 1
    return tuple(spans)
