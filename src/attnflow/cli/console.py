"""Write results to standard output, and all else (progress, warnings, errors) to standard error."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnflow.errors import StorageError


def show(text: str) -> bool:
    """Print text, with `?` for what its encoding lacks; return whether anyone still reads."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except OSError as error:
        abandon_standard_output(error)
        return False
    return True


def abandon_standard_output(error: OSError) -> None:
    """Write nothing more after a reader (`head`, say) has left.

    Raises:
        StorageError: It failed for another reason, such as a full disk.
    """
    # Python flushes once more at exit and would complain again, so the rest goes nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        raise StorageError(f"cannot write to standard output: {error.strerror}.") from error


def say(message: object) -> None:
    """Print a line on standard error, without characters that could drive the terminal."""
    from attnflow.attribution.views.sanitize import for_terminal

    try:
        print(for_terminal(str(message)), file=sys.stderr, flush=True)
    except OSError:
        # Nobody reads standard error any more, and the files still to be written matter more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def fail(error: object, code: int) -> int:
    """Report an error, and return the exit code."""
    say(f"attnflow: {error}")
    return code


class _LineHandler(logging.Handler):
    """Print log records as lines of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"attnflow: {record.getMessage()}")


@contextmanager
def logged_lines(*, hidden: bool) -> Iterator[None]:
    """Print what the library logs, only on a terminal as the progress bar, unless `hidden`."""
    watched = sys.stderr is not None and sys.stderr.isatty()
    log = logging.getLogger("attnflow")
    handler = _LineHandler() if watched and not hidden else logging.NullHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as a line of the command."""
    say(f"attnflow: warning: {message}")


def wrote(path: Path, *, quiet: bool) -> None:
    """Report a written file."""
    if not quiet:
        say(f"wrote {path}")
