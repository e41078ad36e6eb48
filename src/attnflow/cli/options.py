"""How the command reads its options."""

import argparse
import math
from typing import NoReturn

TENSORS = ("af", "gf", "agf", "cf", "bcf")  # named here, so that --help need not wait for torch


class Parser(argparse.ArgumentParser):
    """A parser whose complaints cannot drive the terminal with what was typed."""

    def error(self, message: str) -> NoReturn:
        from attnflow.attribution.views.sanitize import for_terminal

        super().error(for_terminal(message))


def number(text: str) -> float:
    """Any number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text}") from None


def inside_unit(text: str) -> float:
    """A number inside (0, 1)."""
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number inside (0, 1), got {text}")
    return value


def positive(text: str) -> float:
    """A finite number > 0, of a barrier's weight."""
    value = number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(
            f"expected a finite number > 0, got {text}; for a flow close to a true maximum "
            "use a small --gap"
        )
    return value


def seconds(text: str) -> float:
    """Finite seconds > 0."""
    value = number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected seconds > 0, got {text}")
    return value


def span(text: str) -> tuple[int, int] | bool:
    """Two integers with a colon between them, or all."""
    if text == "all":
        return True
    start, colon, stop = text.partition(":")
    if not (colon and start.isdecimal() and stop.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected A:B, two indices of tokens, or all; got {text}")
    return int(start), int(stop)


def unit(text: str) -> int | str:
    """What tokens are merged to: "word", "sentence", or so many."""
    if text in ("word", "sentence"):
        return text
    try:
        return count(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected how many tokens, an integer of at least 1, or word or sentence; got {text}"
        ) from None


def count(text: str) -> int:
    """An integer of at least 1."""
    value = number(text)
    if not (value.is_integer() and value >= 1):
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text}")
    return int(value)
