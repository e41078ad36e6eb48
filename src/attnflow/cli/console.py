"""What the command says, and where: results on standard output, all else on standard error."""

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


@contextmanager
def bar(total: int, *, unit: str, hidden: bool) -> Iterator[Any]:
    """A progress bar on standard error once there is more than a batch to wait for."""
    from tqdm import tqdm

    disabled = hidden or total <= 16
    with tqdm(total=total, unit=unit, disable=disabled, leave=False) as shown:
        yield shown.update


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the loading bars and advice of transformers: our errors say what matters."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def say(message: object) -> None:
    """A line on standard error that no text or file name can use to drive the terminal."""
    from attnflow.attribution.views.sanitize import for_terminal

    try:
        print(for_terminal(str(message)), file=sys.stderr, flush=True)
    except OSError:
        # Nobody reads standard error any more; the files that are still to be written matter more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def fail(error: object, code: int) -> int:
    """Say what went wrong, and return the exit code."""
    say(f"attnflow: {error}")
    return code


class _LineHandler(logging.Handler):
    """Says what is logged as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"attnflow: {record.getMessage()}")


@contextmanager
def logged_lines(*, hidden: bool) -> Iterator[None]:
    """What the library logs is said where somebody watches, as the bar is."""
    watched = sys.stderr is not None and sys.stderr.isatty()
    log = logging.getLogger("attnflow")
    own = _LineHandler() if watched and not hidden else logging.NullHandler()
    log.addHandler(own)
    try:
        yield
    finally:
        log.removeHandler(own)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as a line of ours."""
    say(f"attnflow: warning: {message}")


def wrote(path: Path, *, quiet: bool) -> None:
    """Say what has been written."""
    if not quiet:
        say(f"wrote {path}")
