"""Words of a text, found in the text and not by the tokenizer, hence the same for every model.

A word is a run of letters and digits with inner apostrophes or hyphens, one ideograph, or one other
visible character, each with the marks (accents, vowel signs, variants of an emoji) that follow it.
A token that spans several words joins them into one.
"""

import re
import unicodedata
from collections.abc import Sequence

IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
WORD = re.compile("w[wmj]*(?:-w[wmj]*)*|[^ ]m*(?:j[^ ]m*)*")  # of `_kinds`, not of the text


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
    return "".join(map(kind_of_character, text))


def kind_of_character(character: str) -> str:
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
