"""Texts as tokens that know where they stand: offsets, words and special tokens, for any tokenizer.

Tokenizers differ in what they tell. Fast ones give character offsets, which some get wrong (zero
width, out of order, or with the space in front); slow ones give none. So offsets are checked, and
where they cannot be right the tokens are found again in the text, from left to right.

Words come from the text and not from the tokenizer, hence are the same for every model: a run of
letters and digits with inner apostrophes or hyphens, one ideograph, or one other visible character,
each with the marks (accents, vowel signs, variants of an emoji) that follow it. A token that spans
several words joins them into one.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnflow.errors import InputError

IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
WORD = re.compile("w[wmj]*(?:-w[wmj]*)*|[^ ]m*(?:j[^ ]m*)*")  # of `_kinds`, not of the text
MARKERS = re.compile("^(?:##|Ġ|▁|Ċ)+|</w>$")


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


def spans_in(
    given: Sequence[tuple[int, int]] | None,
    text: str,
    tokens: Sequence[str],
    special: Sequence[bool],
) -> list[tuple[int, int]]:
    """Where every token stands in the text, without white space; (0, 0) where it has no place.

    Args:
        given: What the tokenizer says of it, or None.
        text: The text.
        tokens: Their names.
        special: Which tokens are not in the text.
    """
    return _grown(text, _offsets(given, text, tokens, special))


def _offsets(
    given: Sequence[tuple[int, int]] | None,
    text: str,
    tokens: Sequence[str],
    special: Sequence[bool],
) -> list[tuple[int, int]]:
    if given is not None:
        spans = [
            (0, 0) if is_special else _own(text, *span, token)
            for span, token, is_special in zip(given, tokens, special, strict=True)
        ]
        if _plausible(spans, given, text, tokens, special):
            return spans
    return _found_again(text, tokens, special)


def _own(text: str, start: int, end: int, token: str) -> tuple[int, int]:
    """The span without white space; empty if it is the next token's, as that of a lone "▁" is."""
    if not MARKERS.sub("", token).strip() and text[start:end].strip() not in token:
        end = start
    return _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends."""
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    return start, max(start, start + len(inner.strip()))


def _plausible(
    spans: Sequence[tuple[int, int]],
    given: Sequence[tuple[int, int]],
    text: str,
    tokens: Sequence[str],
    special: Sequence[bool],
) -> bool:
    """In order, inside the text, and not empty where the token is visible."""
    previous = 0
    for (start, end), raw, token, is_special in zip(spans, given, tokens, special, strict=True):
        if is_special:
            continue
        if not (0 <= raw[0] <= raw[1] <= len(text)) or start < previous:
            return False
        if start == end and _visible(token):
            return False
        previous = start
    return True


def _visible(token: str) -> str:
    """The token without the marks of its tokenizer, folded for comparison."""
    return _folded(MARKERS.sub("", token)).strip()


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()


def _found_again(
    text: str, tokens: Sequence[str], special: Sequence[bool]
) -> list[tuple[int, int]]:
    """Search each token in what is left of the text; (0, 0) where it cannot be found."""
    folded, source = _folded_with_source(text)
    spans, position = [], 0
    for token, is_special in zip(tokens, special, strict=True):
        wanted = "" if is_special else _visible(token)
        at = folded.find(wanted, position) if wanted else -1
        if at < 0:
            spans.append((0, 0))
            continue
        position = at + len(wanted)
        spans.append((source[at], source[position - 1] + 1))
    unseen = [s or not _visible(token) for token, s in zip(tokens, special, strict=True)]
    return _gaps_filled(text, spans, unseen)


def _gaps_filled(
    text: str, spans: list[tuple[int, int]], unseen: Sequence[bool]
) -> list[tuple[int, int]]:
    """Give tokens that were not found ([UNK], say) what stands between their neighbours."""
    filled, end = list(spans), 0
    for i, (start, stop) in enumerate(spans):
        if unseen[i] or stop > start:
            end = max(end, stop)
            continue
        following = (s for s, e in spans[i + 1 :] if e > s)
        filled[i] = _trimmed(text, end, max(end, next(following, len(text))))
    return filled


def _grown(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans with the accents that follow them and that the tokenizer dropped; else (0, 0)."""
    taken = {i for start, end in spans for i in range(start, end)}
    grown = []
    for start, end in spans:
        while start < end < len(text) and end not in taken and _kind(text[end]) == "m":
            end += 1
        grown.append((start, end) if end > start else (0, 0))
    return grown


def _folded_with_source(text: str) -> tuple[str, list[int]]:
    """The folded text, and for each of its characters the index it came from."""
    pieces = [(folded, i) for i, c in enumerate(text) for folded in _folded(c)]
    return "".join(piece for piece, _ in pieces), [i for _, i in pieces]


def word_ids(
    text: str, offsets: Sequence[tuple[int, int]], special: Sequence[bool]
) -> list[int | None]:
    """Each token's word, counted from the left; one without a place is its left neighbour's."""
    at_character = _word_of_character(text)
    ids: list[int | None] = []
    word, covered = -1, -1
    for (start, end), is_special in zip(offsets, special, strict=True):
        if is_special:
            ids.append(None)
            continue
        if end > start:
            first, last = at_character[start], at_character[end - 1]
            word += first > covered
            covered = max(covered, last)
        ids.append(max(word, 0))
    return ids


def _word_of_character(text: str) -> list[int]:
    """For each character the index of the word it is in; a space belongs to the word after it."""
    words, position = [], 0
    for index, match in enumerate(WORD.finditer(_kinds(text))):
        words += [index] * (match.end() - position)
        position = match.end()
    return words + [words[-1] if words else 0] * (len(text) - position)


def _kinds(text: str) -> str:
    """The text with a letter for the kind of each character, for `WORD` to be matched against.

    w is part of a word, m a mark on what precedes, j joins what follows to it, - and i are a word's
    inner punctuation and an ideograph, s is any other visible character.
    """
    return "".join(map(_kind, text))


def _kind(character: str) -> str:
    if character.isspace():
        return " "
    if character in "'’-":
        return "-"
    if character == "\u200d":
        return "j"
    if unicodedata.category(character)[0] == "M" or "\U0001f3fb" <= character <= "\U0001f3ff":
        return "m"
    if IDEOGRAPH.match(character):
        return "i"
    return "w" if character.isalnum() else "s"
