"""One writer at a time in the folder of a run, by a lock that ends with its process."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from attnflow.errors import InputError, StorageError
from attnflow.files import parse_json, read_bytes, write_whole

LOCK, WRITER = "run.lock", "run.writer"
LOG = logging.getLogger(__name__)


@contextmanager
def one_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep every other process from writing into a folder.

    The system releases the lock when the process ends, however it does. On network file systems
    the lock holds as far as theirs do.

    Args:
        folder: An existing folder.
        wait: Wait until another writer is done, instead of an error.

    Raises:
        StorageError: Another process writes there, which is named; this thread does; or the lock
            cannot be made.
    """
    # A lock without the system, by a file's mere existence, would outlive its process.
    lock = FileLock(folder / LOCK, fallback_to_soft=False)
    try:
        _acquire(lock, folder, wait=wait)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot lock {folder / LOCK}: {error.strerror or error}. Name a folder whose file "
            "system has locks."
        ) from error
    except RuntimeError as error:  # filelock's word for a thread that would wait for itself
        raise StorageError(f"{folder} is already written by this thread.") from error
    writer = folder / WRITER
    try:
        name = json.dumps({"process": os.getpid(), "host": socket.gethostname()})
        write_whole(writer, name + "\n", overwrite=True)
        yield
    finally:
        with suppress(OSError):  # it only names the writer
            writer.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, folder: Path, *, wait: bool) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = f"{folder} is written by another process{_writer(folder)}"
        if not wait:
            raise StorageError(
                f"{who}: let it finish, wait for it (wait=True, --wait), or name another folder."
            ) from None
        LOG.warning("%s: waiting until it is done ...", who)
        lock.acquire()


def _writer(folder: Path) -> str:
    """The writer's process and host, in brackets; "" where it has not yet written them."""
    try:
        writer = parse_json(read_bytes(folder / WRITER).decode("utf-8"))
        return f" (process {writer['process']} on {writer['host']})"
    except (StorageError, InputError, UnicodeDecodeError, TypeError, KeyError):
        return ""
