"""Errors and warnings, each stating what was expected, what came, and what to do.

AttnflowError
    InputError      an argument is invalid (also a ValueError)
    ModelError      the model cannot be explained, or gave numbers that cannot be used
    UnsolvedError   the solver could not certify an answer
    StorageError    a file could not be read or written (also an OSError)
    MissingExtraError   an optional package is not installed (also an ImportError)
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class AttnflowError(Exception):
    """Base of all errors that attnflow raises on purpose."""


class InputError(AttnflowError, ValueError):
    """An argument is invalid."""


class ModelError(AttnflowError):
    """The model cannot be explained, or gave numbers that cannot be used."""


class UnsolvedError(AttnflowError):
    """A flow has no certificate: the limit of iterations or of float64 was reached."""


class StorageError(AttnflowError, OSError):
    """A file could not be read or written."""


class MissingExtraError(AttnflowError, ImportError):
    """An optional package is not installed."""


@contextmanager
def needs(what: str, extra: str = "evaluation") -> Iterator[None]:
    """Name the extra to install where an import inside this context fails.

    Args:
        what: The beginning of the message: "tables need pandas".
        extra: The extra of attnflow that brings the package.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{what}: pip install 'attnflow[{extra}]'.") from error


def shown(value: object, most: int = 80) -> str:
    """Return how Python writes a value, in at most so many characters."""
    try:
        text = repr(value)
    except Exception:  # an integer of thousands of digits, lists a thousand deep, a broken repr
        kind = type(value).__name__
        if kind == "int":
            return "an integer of thousands of digits"
        return f"a value of type {kind} that Python cannot write"
    if "\n" in text:  # of arrays and tensors; strings have none, as Python writes them
        text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"


def warn(message: str) -> None:
    """Warn at the line outside the package that led here.

    A fixed `stacklevel` would point into the package as soon as a function is added on the way.
    Python shows a warning once for each line, which then has to be the user's.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "attnflow"
