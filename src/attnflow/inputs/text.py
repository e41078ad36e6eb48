"""Texts as tokens that know where they stand: offsets, words and special tokens, for any tokenizer.

Tokenizers differ in what they tell. Fast ones give character offsets, which some get wrong (zero
width, out of order, or with the space in front); slow ones give none. So offsets are checked, and
where they cannot be right the tokens are found again in the text, from left to right.

Words come from the text and not from the tokenizer, hence are the same for every model: a run of
letters and digits with inner apostrophes or hyphens, one ideograph, or one other visible character,
each with the marks (accents, vowel signs, variants of an emoji) that follow it. A token that spans
several words joins them into one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnflow.errors import InputError
from attnflow.inputs.offsets import spans_in
from attnflow.inputs.words import word_ids


@dataclass(frozen=True)
class EncodedText:
    """One text as the model will see it.

    Attributes:
        text: The text.
        inputs: The tokenizer's lists for the model (`input_ids`, ...), without padding.
        tokens: The tokens' names; length t.
        offsets: Half-open character spans; (0, 0) where a token has none.
        special: Which tokens the tokenizer added.
        word_ids: Index of each token's word, None for special tokens.
        truncated: Number of tokens cut off, at the end unless the tokenizer says otherwise.
        second: Character at which the second text of a pair begins; 0 where there is none.
        compared: The text whose embedding this one's is compared with, if any.
        message_ids: Of a chat, index of each token's message, None for the template's; else ().
        roles: Of a chat, who says each message.
    """

    text: str
    inputs: Mapping[str, list[int]]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    special: tuple[bool, ...]
    word_ids: tuple[int | None, ...]
    truncated: int = 0
    second: int = 0
    compared: "EncodedText | None" = None
    message_ids: tuple[int | None, ...] = ()
    roles: tuple[str, ...] = ()


def encode(
    tokenizer: Any,
    text: str,
    pair: str | None = None,
    *,
    limit: int | None,
    truncate: bool = False,
) -> EncodedText:
    """Tokenize one text, or a pair of texts, and place every token in it.

    Args:
        tokenizer: A tokenizer of transformers, fast or slow; fast for a pair.
        text: Not empty.
        pair: What the tokenizer puts behind the text, as its second one; in the result it stands
            on a line of its own.
        limit: Most tokens that the model takes, or None.
        truncate: Cut a longer text instead of refusing it.

    Raises:
        InputError: The text is no string, empty, nothing but special tokens, or too long.
    """
    parts = [text] if pair is None else [text, pair]
    for part in parts:
        _check_text(part)
    if pair is not None and not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"a pair needs a fast tokenizer, which tells the two texts apart; "
            f"{type(tokenizer).__name__} is none."
        )
    whole = _tokenized(tokenizer, parts, None)
    excess = max(0, len(whole["input_ids"]) - limit) if limit else 0
    if excess and not truncate:
        raise InputError(
            f"the text has {len(whole['input_ids'])} tokens and the model takes {limit}: shorten "
            f"it, or let {excess} tokens be cut off (truncate=True, --truncate)."
        )
    encoding = _tokenized(tokenizer, parts, limit) if excess else whole
    tokens = tokenizer.convert_ids_to_tokens(encoding["input_ids"])
    special = _special(tokenizer, encoding)
    if all(special):
        raise InputError(
            f"the text {text!r:.80} has only special tokens {tokens}: there is nothing to explain."
        )
    offsets, words = _placed_in_parts(encoding, parts, tokens, special)
    text = "\n".join(parts)
    names = [name for name in tokenizer.model_input_names if name in encoding]
    return EncodedText(
        text=text,
        inputs={name: list(encoding[name]) for name in names},
        tokens=tuple(tokens),
        offsets=tuple(offsets),
        special=tuple(special),
        word_ids=tuple(words),
        truncated=excess,
        second=0 if pair is None else len(parts[0]) + 1,
    )


def placed(tokenizer: Any, text: str, ids: Sequence[int]) -> EncodedText:
    """Tokens that are known already, each found again in the text that they spell."""
    names = tokenizer.convert_ids_to_tokens(list(ids))
    tokens = [str(i) if name is None else name for i, name in zip(ids, names, strict=True)]
    added = special_ids(tokenizer)
    special = [i in added for i in ids]
    offsets = spans_in(None, text, tokens, special)
    return EncodedText(
        text=text,
        inputs={"input_ids": list(ids)},
        tokens=tuple(tokens),
        offsets=tuple(offsets),
        special=tuple(special),
        word_ids=tuple(word_ids(text, offsets, special)),
    )


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise InputError(f"a text must be a string, got {type(text).__name__}: {text!r:.80}.")
    if not text.strip():
        raise InputError("the text is empty: there is nothing to explain.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text is not valid Unicode ({error.reason} at character {error.start}): read the "
            "file with its right encoding, or replace the character."
        ) from None


def _placed_in_parts(
    encoding: Any, parts: Sequence[str], tokens: Sequence[str], special: Sequence[bool]
) -> tuple[list[tuple[int, int]], list[int | None]]:
    """Where every token stands in the parts, each on its own line, and its word."""
    given = encoding.get("offset_mapping")
    part_of = [0] * len(tokens) if len(parts) == 1 else encoding.sequence_ids(0)
    found, start = [(0, 0)] * len(tokens), 0
    words: list[int | None] = [None] * len(tokens)
    known = 0
    for number, part in enumerate(parts):
        own = [i for i, of in enumerate(part_of) if of == number]
        spans = spans_in(
            None if given is None else [given[i] for i in own],
            part,
            [tokens[i] for i in own],
            [special[i] for i in own],
        )
        own_words = word_ids(part, spans, [special[i] for i in own])
        for i, (first, last), word in zip(own, spans, own_words, strict=True):
            found[i] = (first + start, last + start) if last > first else (0, 0)
            words[i] = None if word is None else word + known
        start += len(part) + 1
        known += max((word for word in own_words if word is not None), default=-1) + 1
    return found, words


def _tokenized(tokenizer: Any, parts: Sequence[str], limit: int | None) -> Any:
    return tokenizer(
        *parts,
        truncation=limit is not None,
        max_length=limit,
        return_special_tokens_mask=True,
        return_offsets_mapping=bool(getattr(tokenizer, "is_fast", False)),
        verbose=False,
    )


def _special(tokenizer: Any, encoding: Any) -> list[bool]:
    """Tokens added by the tokenizer, or typed by hand; an unknown or a masked word is ordinary."""
    ids, ordinary = special_ids(tokenizer), _ordinary(tokenizer)
    pairs = zip(encoding["input_ids"], encoding["special_tokens_mask"], strict=True)
    return [(bool(added) and i not in ordinary) or i in ids for i, added in pairs]


def special_ids(tokenizer: Any) -> set[int]:
    """Ids that are special wherever they stand; an unknown or a masked word's are not."""
    return set(tokenizer.all_special_ids) - _ordinary(tokenizer)


def _ordinary(tokenizer: Any) -> set[int | None]:
    return {tokenizer.unk_token_id, tokenizer.mask_token_id}
