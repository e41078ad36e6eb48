"""Messages of the library in the words of the page, which has fields where Python has arguments."""

import re

# An option as the library names it, for Python or the command, and the field of the page.
_FIELDS = {
    "truncate": "A text too long for the model",
    "coarsen": "Units of the flow",
    "bos": "Put the beginning-of-text token in front",
    "pair": "Second text",
    "position": "Position",
    "target": "Explain",
    "against": "Rather than",
}
_NAMES = "|".join(_FIELDS)
# "truncate=True, --truncate", "coarsen=2, --coarsen 2", "bos=True (--bos)", "pair=, --pair"
_BOTH = re.compile(rf"({_NAMES})=[\w\[\]]*(?:, --\1(?: \w+)?| \(--\1\))")


def worded(message: str) -> str:
    """Return a message that names fields of the page instead of arguments and options."""
    return _BOTH.sub(lambda found: f"option “{_FIELDS[found[1]]}”", message)
