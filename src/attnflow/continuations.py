"""Token ids as texts, and texts that go on: given words, or what the model itself writes.

Ids come from a user who has no text, or whose tokens must stay as they are. A continuation's tokens
are put behind the prompt's, as a model that generates would do it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from attnflow import batches
from attnflow.errors import InputError, ModelError
from attnflow.tokens import EncodedText, placed, word_ids

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


def ids_of(tokenizer: Any, continuation: str, prompt: EncodedText | None = None) -> list[int]:
    """The tokens of a continuation, without any that a tokenizer would add.

    They are those that it has in one text with the prompt, where the prompt's tokens stay the same
    there; else those that it has by itself, where some tokenizers put a space in front.

    Raises:
        InputError: There is none, or no tokenizer.
    """
    if tokenizer is None:
        raise InputError("a continuation as text needs a tokenizer; give its ids in input_ids.")
    ids = None if prompt is None else _ids_behind(tokenizer, continuation, prompt)
    if ids is None:
        ids = list(tokenizer(text_target=continuation, add_special_tokens=False)["input_ids"])
    if not ids:
        raise InputError(
            f"the continuation {continuation!r} is empty: there is nothing to explain."
        )
    return ids


def _ids_behind(tokenizer: Any, continuation: str, prompt: EncodedText) -> list[int] | None:
    """What follows the prompt's tokens in the whole text; None where they change."""
    known = prompt.inputs["input_ids"]
    whole = list(tokenizer(prompt.text + continuation, verbose=False)["input_ids"])
    return whole[len(known) :] if whole[: len(known)] == list(known) else None


def begun(model: Any, tokenizer: Any, source: EncodedText, ids: Ids = ()) -> EncodedText:
    """A source, and behind it what an encoder-decoder has written: its start tokens, and `ids`.

    Raises:
        ModelError: The model does not say which these are.
    """
    start = model.config.decoder_start_token_id
    if start is None:
        raise ModelError(
            f"{type(model).__name__} has no decoder_start_token_id in its config, with which what "
            "it writes begins: set it."
        )
    forced = getattr(model.generation_config, "forced_bos_token_id", None)
    first = [start] if forced is None else [start, forced]
    return _prefixed(tokenizer, source, [*first, *ids])


def _prefixed(tokenizer: Any, source: EncodedText, ids: Ids) -> EncodedText:
    """A source, without any prefix, and behind it what has been written."""
    inputs = {**source.inputs, "decoder_input_ids": list(ids)}
    return behind(source, of_ids(tokenizer, ids, None), inputs, "\n")


def behind(
    text: EncodedText, more: EncodedText, inputs: Mapping[str, list[int]], between: str
) -> EncodedText:
    """Both texts in one, with `between` between them where there is more to see, and `inputs`."""
    whole = f"{text.text}{between}{more.text}" if more.text.strip() else text.text
    start = len(text.text) + len(between)
    offsets = (*text.offsets, *(_shifted(span, start) for span in more.offsets))
    special = (*text.special, *more.special)
    return replace(
        text,
        text=whole,
        inputs=inputs,
        tokens=(*text.tokens, *more.tokens),
        offsets=offsets,
        special=special,
        word_ids=tuple(word_ids(whole, offsets, special)),
    )


def _shifted(span: tuple[int, int], by: int) -> tuple[int, int]:
    return (span[0] + by, span[1] + by) if span[1] > span[0] else span


def written(model: Any, text: EncodedText, count: int, limit: int | None) -> list[int]:
    """The `count` likeliest next tokens, one after the other, or fewer where the model ends.

    Args:
        model: It writes.
        text: It goes on with this, or behind this source with what it has written.
        count: Of tokens.
        limit: Most tokens that the model takes, those that are there among them, or None.

    Raises:
        InputError: `count` is no number of tokens, or the model takes fewer and does not end.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise InputError(
            "continuation must be a text, one for all, or how many tokens to write, at least one; "
            f"got {count!r:.80}."
        )
    known = len(text.inputs.get("decoder_input_ids", text.inputs["input_ids"]))
    most = count if limit is None else min(count, limit - known)
    found = _generated(model, text, most)[known:] if most > 0 else []
    ends = np.atleast_1d(model.generation_config.eos_token_id)  # one, several or None
    if len(found) == most < count and not (found and found[-1] in ends):
        raise InputError(
            f"continuation={count} is too long: the model takes {limit} tokens, of which {known} "
            "are there. Let it write fewer, or shorten the text."
        )
    return found


def _generated(model: Any, text: EncodedText, most: int) -> list[int]:
    """What is there, and behind it what the model writes."""
    inputs = batches.inputs([text], model, None)
    options: dict[str, Any] = {"do_sample": False, "num_beams": 1, "max_new_tokens": most}
    padding = batches.pad_token_id(model.config)
    with torch.inference_mode():
        ids = model.generate(**inputs, **options, pad_token_id=0 if padding is None else padding)
    found: list[int] = ids[0].tolist()
    return found


def extended(tokenizer: Any, text: EncodedText, ids: Ids) -> EncodedText:
    """The text with more tokens behind it."""
    whole = of_ids(tokenizer, [*text.inputs["input_ids"], *ids], None)
    if tokenizer is None:
        return whole
    # The prompt as the user wrote it, and not as its tokens spell it.
    rest = rest_of(tokenizer, text.inputs["input_ids"], ids)
    return placed(tokenizer, text.text + rest, whole.inputs["input_ids"])


def rest_of(tokenizer: Any, known: Ids, ids: Ids) -> str:
    """What `ids` spell behind `known` ones, which may begin with a space."""
    whole, start = (
        tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for some in ([*known, *ids], list(known))
    )
    return str(whole[len(start) :])
