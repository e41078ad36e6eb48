"""Make texts look as people type them: misspelt, or in the short forms of chats."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from attnflow.evaluation.datasets import Example

NEIGHBOURS = {
    **dict(zip("qwertyuiop", ("wa", "qes", "wrd", "etf", "ryg", "tuh", "yij", "uok", "ipl", "ol"),
               strict=True)),
    **dict(zip("asdfghjkl", ("qsz", "adwx", "sfec", "dgrv", "fhtb", "gjyn", "hkum", "jlio", "kop"),
               strict=True)),
    **dict(zip("zxcvbnm", ("asx", "zcd", "xvf", "cbg", "vnh", "bmj", "nk"), strict=True)),
}  # fmt: skip
SHORT = {
    "you": "u", "are": "r", "your": "ur", "great": "gr8", "for": "4", "to": "2", "and": "n",
    "because": "cuz", "please": "plz", "people": "ppl", "really": "rly", "with": "w/", "be": "b",
    "before": "b4", "see": "c", "thanks": "thx", "tonight": "2nite", "though": "tho", "what": "wut",
    "about": "bout", "good": "gud", "love": "luv", "something": "smth", "everyone": "every1",
    "going": "goin", "nothing": "nothin", "the": "da", "this": "dis", "was": "wuz", "okay": "ok",
}  # fmt: skip
SHARE = 0.3  # of the words that are changed
WORD = re.compile(r"[A-Za-z]+")

Change = Callable[[str, np.random.Generator], str]


def misspelt(word: str, rng: np.random.Generator) -> str:
    """Drop, double or swap one letter, or hit the key next to it; never the first letter."""
    if len(word) < 3:
        return word
    at = int(rng.integers(1, len(word) - 1))
    letter = word[at].lower()
    kinds = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + str(rng.choice(list(NEIGHBOURS.get(letter, letter)))) + word[at + 1 :],
    )
    return kinds[int(rng.integers(len(kinds)))]


def chatty(word: str, rng: np.random.Generator) -> str:
    """Return the short form if there is one; else stretch a vowel or drop a final g."""
    short = SHORT.get(word.lower())
    if short is not None:
        return short
    if word.lower().endswith("ing"):
        return word[:-1]
    vowels = [i for i, c in enumerate(word) if c in "aeiou"]
    if not vowels:
        return word
    at = vowels[-1]
    return word[:at] + word[at] * int(rng.integers(2, 5)) + word[at + 1 :]


NOISE: dict[str, Change] = {"typos": misspelt, "slang": chatty}


def noisy(example: Example, kind: str, *, share: float = SHARE, seed: int = 0) -> Example:
    """Change a share of an example's words, the same ones for the same seed.

    Args:
        example: Its index seeds the draw too.
        kind: A name of `NOISE`.
        share: Chance of each word to be changed, 0 to 1.
        seed: Of the draw.
    """
    rng, change = np.random.default_rng([seed, example.index]), NOISE[kind]

    def perhaps(match: re.Match[str]) -> str:
        return change(match[0], rng) if rng.random() < share else match[0]

    return replace(example, content=WORD.sub(perhaps, str(example.content)))
