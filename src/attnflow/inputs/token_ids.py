"""Token ids instead of texts: for users who have no text, or whose tokens must stay as they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from attnflow.checks import check_dense
from attnflow.errors import InputError, shown
from attnflow.inputs.text import EncodedText, place_tokens

Ids = Sequence[int]


def unpadded_rows(
    input_ids: Any, attention_mask: Any = None, name: str = "input_ids"
) -> list[list[int]]:
    """Ids of each example without its padding, which may be on either side.

    Args:
        input_ids: `(t,)` or `(batch, t)` integers: lists, numpy or torch.
        attention_mask: The same shape, 1 at real tokens; None where all are.
        name: The argument, for errors.

    Raises:
        InputError: The ids are no such integers, a row is empty, or has padding inside.
    """
    rows = _rows(input_ids, name)
    masks = [[1] * len(row) for row in rows]
    if attention_mask is not None:
        masks = _rows(attention_mask, "attention_mask")
    if [len(row) for row in rows] != [len(mask) for mask in masks]:
        raise InputError(f"attention_mask must have the shape of {name}, 1 at real tokens.")
    return [_without_padding(i, *row) for i, row in enumerate(zip(rows, masks, strict=True))]


def _without_padding(index: int, row: list[int], mask: list[int]) -> list[int]:
    real = [i for i, is_real in enumerate(mask) if is_real]
    if not real:
        raise InputError(f"input_ids has no token in row {index}: drop empty examples.")
    if real != list(range(real[0], real[-1] + 1)):
        raise InputError(
            f"row {index} of input_ids has padding between its tokens: expected it on the left "
            "or on the right alone."
        )
    return row[real[0] : real[-1] + 1]


def _rows(values: Any, name: str) -> list[list[int]]:
    if isinstance(values, torch.Tensor):
        check_dense(name, values)
    values = values.tolist() if isinstance(values, torch.Tensor | np.ndarray) else values
    if isinstance(values, Sequence) and values and not isinstance(values[0], Sequence):
        values = [values]
    is_whole = isinstance(values, Sequence) and all(
        isinstance(row, Sequence) and all(isinstance(i, int) for i in row) for row in values
    )
    if is_whole and name == "input_ids":  # a mask may be of truth values
        is_whole = not any(isinstance(i, bool) for row in values for i in row)
    if not is_whole or not values:
        raise InputError(f"{name} must be integers, (t,) or (batch, t), got {shown(values)}.")
    return [list(row) for row in values]


def encode_ids(tokenizer: Any, ids: Ids, limit: int | None) -> EncodedText:
    """Encode the text that these ids spell; without a tokenizer the ids are the tokens' names.

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
            offsets=_joined_spans(names),
            # Without a tokenizer nothing says which ids are special.
            special=(False,) * count,
            word_ids=tuple(range(count)),
        )
    # Not cleaned up, which would take away spaces that belong to tokens.
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return place_tokens(tokenizer, text, ids)


def check_length(count: int, limit: int | None, what: str = "input_ids") -> None:
    """Check that the model takes so many tokens.

    Args:
        count: Number of tokens.
        limit: Most that the model takes, or None.
        what: The text that has so many, for the error.

    Raises:
        InputError: The model takes fewer.
    """
    if limit is not None and count > limit:
        raise InputError(f"{what} has {count} tokens and the model takes {limit}: shorten it.")


def _joined_spans(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Character spans of names that are joined by single spaces."""
    spans, start = [], 0
    for name in names:
        spans.append((start, start + len(name)))
        start += len(name) + 1
    return tuple(spans)
