"""Characters that must not reach a page or a terminal as they are, made visible.

A text may hold anything: escape sequences that would drive a terminal, halves of surrogate pairs
that cannot be encoded, marks that reverse the direction of what follows. They are made visible
instead of dropped, so that the reader sees them.
"""

import unicodedata

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

# Unicode has a picture for each of the first 32 controls, and none for those from 0x80.
_CONTROLS: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20)}
_CONTROLS[0x7F] = "\N{SYMBOL FOR DELETE}"
# Some terminals take 0x9B alone for the beginning of an escape sequence.
_CONTROLS.update({code: _REPLACEMENT for code in range(0x80, 0xA0)})
# Half a surrogate pair cannot be encoded as UTF-8, so that no file could be written.
_CONTROLS.update({code: _REPLACEMENT for code in range(0xD800, 0xE000)})

# The page keeps white space as it is, and isolates directions by <bdi>; a terminal has no such tag.
_ON_PAGE = {code: symbol for code, symbol in _CONTROLS.items() if code not in (0x09, 0x0A)}
_ON_TERMINAL = {**_CONTROLS, **{ord(mark): _REPLACEMENT for mark in _DIRECTION}}
_WHITESPACE = str.maketrans({"\n": "⏎", "\t": "⇥", " ": "␣"})


def for_page(text: str) -> str:
    """Return the text with line breaks as \\n, controls and lone surrogates made visible."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_ON_PAGE)


def for_terminal(text: str) -> str:
    """Return the text without anything a terminal would obey, line breaks and tabs included."""
    return text.translate(_ON_TERMINAL)


def as_name(text: str) -> str:
    """Return a token's name; if it is nothing but white space, that becomes visible."""
    if not text:
        return "(empty)"
    return text.translate(_WHITESPACE) if text.isspace() else text.strip()


def columns(text: str) -> int:
    """Return the columns of a terminal that a text takes: 2 for wide characters, 0 for marks.

    Letters of a decomposed Korean syllable take those of its first.
    """
    return sum(_column(character) for character in text)


def _column(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
