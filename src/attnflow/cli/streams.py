"""Read and write the files that options name, where `-` names standard input or standard output."""

import sys
from collections.abc import Iterable
from pathlib import Path

from attnflow.cli.console import abandon_standard_output, wrote
from attnflow.errors import InputError, StorageError, shown
from attnflow.files import check_writable, write_whole

STANDARD_STREAM = "-"


def read_text(name: str, option: str) -> str:
    """Return the UTF-8 text of a file, or of standard input; `option` names the file in errors.

    Raises:
        InputError: The text is not UTF-8, or standard input is closed.
        StorageError: The file cannot be read.
    """
    if name == STANDARD_STREAM:
        return read_standard_input()
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StorageError(f"cannot read {option} {name}: {error.strerror}.") from error
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise InputError(f"{option} {name} is not UTF-8: {error}.") from error
        raise InputError(f"{option}: no file can have the name {shown(name)} ({error}).") from error


def read_standard_input() -> str:
    """Return all of standard input, without line ends before and after it.

    Raises:
        InputError: It is closed, or not UTF-8.
    """
    if sys.stdin is None:
        raise InputError("standard input is closed: there is no text to read from it.")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8: {error}.") from error


def check_output(name: str, *, overwrite: bool) -> None:
    """Refuse a name that cannot be written to, before any work is done for it.

    Raises:
        StorageError: The file exists and `overwrite` is false, or cannot be written; or standard
            output is closed.
    """
    if name != STANDARD_STREAM:
        check_writable(Path(name), overwrite=overwrite)
    elif sys.stdout is None:
        raise StorageError("standard output is closed: name a file instead of -.")


def named_files(names: Iterable[str | None]) -> list[Path]:
    """Return the files among the names of outputs: not those left out, nor standard output."""
    return [Path(name) for name in names if name not in (None, STANDARD_STREAM)]


def write_output(name: str, content: str, *, overwrite: bool, quiet: bool) -> None:
    """Write a file and report it on standard error, or write to standard output and say nothing.

    Raises:
        StorageError: As `check_output`, or the disk refuses.
    """
    if name == STANDARD_STREAM:
        _write_standard_output(content.encode("utf-8"))
    else:
        wrote(write_whole(Path(name), content, overwrite=overwrite), quiet=quiet)


def _write_standard_output(data: bytes) -> None:
    """Write bytes as they are: a program that reads them expects UTF-8 whatever the terminal is."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        abandon_standard_output(error)
