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
from types import FrameType, TracebackType


class AttnflowError(Exception):
    """Base of all errors that attnflow raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and notebooks print: the caller's lines, and the message last.

        Lines of this package, and what led to the error in it, are left out: the message says what
        to do. After `%xmode Verbose` they are printed, by `%tb` also of the last error.
        """
        from IPython import get_ipython  # it is IPython that calls this

        printer = get_ipython().InteractiveTB
        callers = _before_ours(self.__traceback__)
        if printer.mode == "Verbose" or not _passes_ours(self.__traceback__):
            whole = printer.structured_traceback(type(self), self, self.__traceback__, tb_offset=1)
            return list(whole)
        # A copy, which has no cause that would be printed before it.
        bare = type(self)(str(self))
        lines = list(printer.structured_traceback(type(self), bare, callers, tb_offset=1))
        return [*lines[:-1], "(%xmode Verbose, then %tb, shows the lines in attnflow)", lines[-1]]


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


class ModelWarning(UserWarning):
    """A warning about the model, which is the same for all of its texts."""


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


def warn(message: str, category: type[UserWarning] = UserWarning) -> None:
    """Warn at the line outside the package that led here.

    A fixed `stacklevel` would point into the package as soon as a function is added on the way.
    Python shows a warning once for each line, which then has to be the user's.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _before_ours(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback before it enters this package."""
    callers = []
    while traceback is not None and not _is_ours(traceback.tb_frame):
        callers.append(traceback)
        traceback = traceback.tb_next
    kept = None
    for each in reversed(callers):
        kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept


def _passes_ours(traceback: TracebackType | None) -> bool:
    """Return whether an error was raised in this package."""
    while traceback is not None:
        if _is_ours(traceback.tb_frame):
            return True
        traceback = traceback.tb_next
    return False


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "attnflow"
