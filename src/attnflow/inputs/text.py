"""Encoding of texts: tokens with their offsets and words, for any tokenizer.

`offsets` finds the characters of every token, `words` the words of the text; here both are joined
for a text, or for the two texts of a pair. Read next: text_inputs.py, which reads all that a call
gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnflow.errors import InputError, shown
from attnflow.inputs.example import Example, Region
from attnflow.inputs.offsets import Span, token_offsets
from attnflow.inputs.tokenizing import encoded
from attnflow.inputs.words import word_ids


@dataclass(frozen=True)
class EncodedText(Example):
    """One text as its model reads it.

    Attributes:
        text: The text.
        inputs: The tokenizer's lists for the model (`input_ids`, ...), without padding.
        tokens: Names of the tokens; length t.
        offsets: Half-open character spans; (0, 0) where a token has none.
        special: True at tokens that the tokenizer added.
        word_ids: Index of each token's word, None for special tokens.
        truncated: Number of tokens cut off, at the end unless the tokenizer is set otherwise.
        second: First character of the second text of a pair; 0 where there is none.
        compared: The text whose embedding this one's is compared with, if any.
        message_ids: For each token of a chat the index of its message, None for the template's.
        roles: The role of each message of a chat.
        begun: Tokens in front besides those of the tokenizer: 1 where `bos` put one there.
        visual: The model's inputs besides tokens: pixel values of images and what goes with them.
        expanded: The text as a processor wrote it for images, each placeholder as often as its
            image has tokens; "" of texts alone.
        image: `(h, w, 3)` uint8, the images to show, one below the other, or None.
        regions: For each token the part of `image` that it stands for, or None; () of texts alone.
    """

    text: str
    inputs: Mapping[str, list[int]]
    tokens: tuple[str, ...]
    offsets: tuple[Span, ...]
    special: tuple[bool, ...]
    word_ids: tuple[int | None, ...]
    truncated: int = 0
    second: int = 0
    compared: "EncodedText | None" = None
    message_ids: tuple[int | None, ...] = ()
    roles: tuple[str, ...] = ()
    begun: int = 0
    visual: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    expanded: str = ""
    image: NDArray[np.uint8] | None = field(default=None, compare=False)
    regions: tuple[Region | None, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of images, which stay allocated until the end of a call."""
        pictures = 0 if self.image is None else self.image.nbytes
        return pictures + sum(values.nbytes for values in self.visual.values())

    @property
    def sides(self) -> tuple[int, ...]:
        """Tokens in each stack: all of them, or an encoder-decoder's source and prefix."""
        source = len(self.inputs["input_ids"])
        if "decoder_input_ids" not in self.inputs:
            return (source,)
        return source, len(self.inputs["decoder_input_ids"])


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
        text: A text that is not empty.
        pair: A second text, which the tokenizer puts after the first; in the result it stands on a
            line of its own.
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
    # Tokenized whole at first, since how much is cut is known only from the whole.
    whole = _tokenize(tokenizer, parts, None)
    excess = max(0, len(whole["input_ids"]) - limit) if limit else 0
    if excess and not truncate:
        raise InputError(
            f"the text has {len(whole['input_ids'])} tokens and the model takes {limit}: shorten "
            f"it, or let {excess} tokens be cut off (truncate=True, --truncate)."
        )
    encoding = _tokenize(tokenizer, parts, limit) if excess else whole
    tokens = tokenizer.convert_ids_to_tokens(encoding["input_ids"])
    special = _special(tokenizer, encoding)
    if all(special):
        raise InputError(
            f"the text {shown(text)} has only special tokens {tokens}: there is nothing to explain."
        )
    offsets, words = _place_in_parts(encoding, parts, tokens, special)
    return EncodedText(
        text="\n".join(parts),
        inputs=model_inputs(tokenizer, encoding),
        tokens=tuple(tokens),
        offsets=tuple(offsets),
        special=tuple(special),
        word_ids=tuple(words),
        truncated=excess,
        second=0 if pair is None else len(parts[0]) + 1,
    )


def place_tokens(tokenizer: Any, text: str, ids: Sequence[int]) -> EncodedText:
    """Encode a text whose token ids are known already: each token is found again in the text."""
    names = tokenizer.convert_ids_to_tokens(list(ids))
    # A model may have more ids than its tokenizer has tokens.
    tokens = [str(i) if name is None else name for i, name in zip(ids, names, strict=True)]
    added = special_ids(tokenizer)
    special = [i in added for i in ids]
    offsets = token_offsets(None, text, tokens, special)
    return EncodedText(
        text=text,
        inputs={"input_ids": list(ids)},
        tokens=tuple(tokens),
        offsets=tuple(offsets),
        special=tuple(special),
        word_ids=tuple(word_ids(text, offsets, special)),
    )


def model_inputs(tokenizer: Any, encoding: Any) -> dict[str, list[int]]:
    """The lists of an encoding that the model takes."""
    names = [name for name in tokenizer.model_input_names if name in encoding]
    return {name: list(encoding[name]) for name in names}


def special_ids(tokenizer: Any) -> set[int]:
    """Ids that are special wherever they stand; those of unknown and masked words are not."""
    return set(tokenizer.all_special_ids) - _ordinary_ids(tokenizer)


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise InputError(f"a text must be a string, got {type(text).__name__}: {shown(text)}.")
    if not text.strip():
        raise InputError("the text is empty: there is nothing to explain.")
    check_unicode(text, "the text")


def check_unicode(text: str, name: str) -> None:
    """Check that a text has no half of a surrogate pair.

    Raises:
        InputError: It has; `name` names the text.
    """
    try:
        # It would fail inside the tokenizer, with an error about types.
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} is not valid Unicode ({error.reason} at character {error.start}): read the "
            "file with its right encoding, or replace the character."
        ) from None


def _place_in_parts(
    encoding: Any, parts: Sequence[str], tokens: Sequence[str], special: Sequence[bool]
) -> tuple[list[Span], list[int | None]]:
    """Offsets and word of every token, in the parts, each of which stands on its own line."""
    given = encoding.get("offset_mapping")
    part_of = [0] * len(tokens) if len(parts) == 1 else encoding.sequence_ids(0)
    # Each part is placed by itself: a token of the second text is not searched in the first.
    offsets: list[Span] = [(0, 0)] * len(tokens)
    words: list[int | None] = [None] * len(tokens)
    start = words_before = 0
    for number, part in enumerate(parts):
        indices = [i for i, of in enumerate(part_of) if of == number]
        part_special = [special[i] for i in indices]
        spans = token_offsets(
            None if given is None else [given[i] for i in indices],
            part,
            [tokens[i] for i in indices],
            part_special,
        )
        part_words = word_ids(part, spans, part_special)
        for i, (first, last), word in zip(indices, spans, part_words, strict=True):
            offsets[i] = (first + start, last + start) if last > first else (0, 0)
            words[i] = None if word is None else word + words_before
        start += len(part) + 1
        # Numbers go on in the second text: two words with one number would be joined.
        words_before += max((word for word in part_words if word is not None), default=-1) + 1
    return offsets, words


def _tokenize(tokenizer: Any, parts: Sequence[str], limit: int | None) -> Any:
    return encoded(
        tokenizer,
        *parts,
        truncation=limit is not None,
        max_length=limit,
        return_special_tokens_mask=True,
        return_offsets_mapping=bool(getattr(tokenizer, "is_fast", False)),
        verbose=False,
    )


def _special(tokenizer: Any, encoding: Any) -> list[bool]:
    """True at tokens that the tokenizer added or that were typed by hand.

    An unknown or a masked word is an ordinary token, although its id is a special one.
    """
    ids, ordinary = special_ids(tokenizer), _ordinary_ids(tokenizer)
    pairs = zip(encoding["input_ids"], encoding["special_tokens_mask"], strict=True)
    return [(bool(added) and i not in ordinary) or i in ids for i, added in pairs]


def _ordinary_ids(tokenizer: Any) -> set[int | None]:
    return {tokenizer.unk_token_id, tokenizer.mask_token_id}
