"""Token ids as texts, and texts that go on: given words, or what the model itself writes.

Ids come from a user who has no text, or whose tokens must stay as they are. A continuation's tokens
are put behind the prompt's, as a model that generates would do it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from attnflow.errors import InputError, ModelError
from attnflow.inputs import batching
from attnflow.inputs.text import EncodedText, placed
from attnflow.inputs.token_ids import Ids, of_ids
from attnflow.inputs.words import word_ids


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
    inputs = batching.inputs([text], model, None)
    options: dict[str, Any] = {"do_sample": False, "num_beams": 1, "max_new_tokens": most}
    padding = batching.pad_token_id(model.config)
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
