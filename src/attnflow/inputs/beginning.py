"""The beginning-of-text token, which some tokenizers of decoders leave out.

Attention rests on the first token where nothing else is wanted. A decoder that was trained with a
token of its own at the beginning has that place free; where the tokenizer puts none in front, the
first word has it.
"""

from dataclasses import replace
from typing import Any

from attnflow.errors import InputError
from attnflow.inputs.text import EncodedText


def beginning_id(model: Any, tokenizer: Any) -> int | None:
    """Return the id of the model's beginning-of-text token, by its tokenizer or its config."""
    for owner in (tokenizer, model.config.get_text_config()):
        if getattr(owner, "bos_token_id", None) is not None:
            return int(owner.bos_token_id)
    return None


def lacks_beginning(text: EncodedText, token: int | None) -> bool:
    """Return whether a text of one stack could begin with the token, and does not."""
    return token is not None and not text.special[0] and not text.roles


def with_beginning(
    text: EncodedText, token: int | None, name: str, limit: int | None
) -> EncodedText:
    """Return the text with the beginning-of-text token in front, which is special.

    Args:
        text: A text of one stack, not a chat.
        token: The id of the token, or None where the model has none.
        name: The name of the token.
        limit: Most tokens that the model takes, or None.

    Raises:
        InputError: The model has no such token, the text begins with a special token already, or
            it has no place for one more.
    """
    if token is None:
        raise InputError(
            "neither the tokenizer nor the config has a beginning-of-text token (bos_token_id): "
            "leave bos out."
        )
    if not lacks_beginning(text, token):
        raise InputError(
            f"the text begins with {text.tokens[0]!r}, as its tokenizer or template has it: leave "
            "bos out."
        )
    if limit is not None and len(text.tokens) >= limit:
        raise InputError(
            f"the text has {len(text.tokens)} tokens and the model takes {limit}: there is no "
            "place for the beginning-of-text token; shorten the text by a token, or leave bos out."
        )
    # Every list of the model's inputs has one number a token; only the ids differ.
    inputs = {
        key: [token if key == "input_ids" else values[0], *values]
        for key, values in text.inputs.items()
    }
    return replace(
        text,
        inputs=inputs,
        tokens=(name, *text.tokens),
        offsets=((0, 0), *text.offsets),
        special=(True, *text.special),
        word_ids=(None, *text.word_ids),
        begun=1,
    )
