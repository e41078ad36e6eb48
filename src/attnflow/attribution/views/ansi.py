"""Colours of a terminal: grounds in the colour of a heat, in as many colours as there are.

Orange grounds are for the decision, blue ones against it; colour-blind people tell the two apart,
and blue ones are underlined besides. A colour sets both ground and letters, so that it is readable
on light and on dark terminals. Nothing in a text that gets a colour or a mark can drive the
terminal: `Style` shows control characters as signs.
"""

import os
import sys
from dataclasses import dataclass

from attnflow.attribution.views.sanitize import for_terminal

FAINTEST = 0.06  # of the heat; below it there is no ground

RESET = "\x1b[0m"
FAINT = "\x1b[2m"
BOLD = "\x1b[1m"
ORANGE = "\x1b[38;5;208m"
_PALE, _HOT = (222, 206, 192), (246, 128, 36)
_PALE_AGAINST, _COLD = (198, 210, 224), (84, 160, 236)
# From pale to strong in the colours from 16 up, which no theme of a terminal redefines.
_STEPS_256 = (223, 216, 215, 214, 208)
_STEPS_256_AGAINST = (189, 153, 117, 111, 75)
_UNDERLINED = "4;"


@dataclass(frozen=True)
class Style:
    """Colour depth of a terminal: "none", "256" or "truecolor"."""

    depth: str

    def heat(self, text: str, heat: float, *, against: bool = False) -> str:
        """Return the text on a ground in the colour of a heat, 0 to 1.

        Args:
            text: The text.
            heat: How strongly it speaks for the decision, or against it.
            against: True where the heat is of what speaks against.
        """
        text = for_terminal(text)
        # What speaks against is given here only where it counts, and so always marked.
        if self.depth == "none" or (heat < FAINTEST and not against):
            return text
        line = _UNDERLINED if against else ""
        if self.depth == "256":
            steps = _STEPS_256_AGAINST if against else _STEPS_256
            step = min(int(heat * len(steps)), len(steps) - 1)
            # Letters in black as 16, not 0: themes redefine the first sixteen colours.
            ground = f"48;5;{steps[step]};38;5;16"
        else:
            pale, strong = (_PALE_AGAINST, _COLD) if against else (_PALE, _HOT)
            mixed = [round(a + (b - a) * heat) for a, b in zip(pale, strong, strict=True)]
            ground = f"48;2;{mixed[0]};{mixed[1]};{mixed[2]};38;2;0;0;0"
        return f"\x1b[{line}{ground}m{text}{RESET}"

    def mark(self, text: str, code: str) -> str:
        """Return the text in one of the codes above."""
        text = for_terminal(text)
        return text if self.depth == "none" else f"{code}{text}{RESET}"


def style_of(color: bool | None) -> Style:
    """Return the style; None colours where standard output is a terminal that allows it."""
    if color is None:
        # By no-color.org an empty NO_COLOR does not count.
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        color = not plain and sys.stdout.isatty()
    if not color:
        return Style("none")
    rich = os.environ.get("COLORTERM") in ("truecolor", "24bit")
    return Style("truecolor" if rich else "256")
