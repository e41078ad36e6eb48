"""Words of a text, found in the text and not by the tokenizer, so that every model has the same.

A word is a run of letters and digits with inner apostrophes or hyphens, one ideograph, or one other
visible character. Each takes with it the marks (accents, vowel signs, variants of an emoji) that
follow it. A token that spans several words joins them into one.
"""

import re
import unicodedata
from collections.abc import Sequence

_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Matched against the kinds of the characters (see `character_kind`), not against the text.
_WORD = re.compile("w[wmj]*(?:-w[wmj]*)*|[^ ]m*(?:j[^ ]m*)*")


def word_ids(
    text: str, offsets: Sequence[tuple[int, int]], special: Sequence[bool]
) -> list[int | None]:
    """Index of each token's word, counted from the left; None for special tokens.

    A token without a place in the text belongs to the word of its left neighbour.
    """
    word_at = _word_of_character(text)
    ids: list[int | None] = []
    word, covered = -1, -1
    for (start, end), is_special in zip(offsets, special, strict=True):
        if is_special:
            ids.append(None)
            continue
        if end > start:
            first, last = word_at[start], word_at[end - 1]
            # A token that begins in a word already covered belongs to the word before it, so that
            # a token across two words joins them.
            word += first > covered
            covered = max(covered, last)
        ids.append(max(word, 0))
    return ids


def _word_of_character(text: str) -> list[int]:
    """Index of each character's word; a space belongs to the word after it."""
    words, position = [], 0
    kinds = "".join(map(character_kind, text))
    for index, match in enumerate(_WORD.finditer(kinds)):
        words += [index] * (match.end() - position)
        position = match.end()
    return words + [words[-1] if words else 0] * (len(text) - position)


def character_kind(character: str) -> str:
    """A letter for the kind of a character.

    w is part of a word, m a mark on what precedes, j joins what follows to it, - and i are a word's
    inner punctuation and an ideograph, s is any other visible character, a space white space.
    """
    if character.isspace():
        return " "
    if character in "'’-":
        return "-"
    if character == "\u200d":
        return "j"
    if unicodedata.category(character)[0] == "M" or "\U0001f3fb" <= character <= "\U0001f3ff":
        return "m"
    if _IDEOGRAPH.match(character):
        return "i"
    return "w" if character.isalnum() else "s"
