"""The connection to Ray: a cluster that runs, or one of this machine that is started and ended."""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from attnflow.corpus.remote import one_line
from attnflow.errors import InputError

ANSWER = 5.0  # seconds that the head of a cluster has to answer; Ray itself tries for minutes
LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"
KEYWORDS = ("auto", "local")  # addresses that are none
LOGGERS = ("ray", "ray.data")


def connect() -> bool:
    """Connect this process to Ray, and return whether `disconnect` is to end that again.

    A connection that is there is used. Otherwise RAY_ADDRESS names the cluster, or `ray start` has
    begun one on this machine; where neither has, one is started.

    Raises:
        InputError: The cluster cannot be reached, or runs another version of Ray or Python.
    """
    import ray

    if ray.is_initialized():
        return False
    _check_answers()
    try:
        with _native_log_off():
            # Not address="auto", which joins what other processes of this machine have started for
            # themselves, and will end.
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise InputError(f"Ray cannot be used: {one_line(error)}.") from error
    return True


@contextmanager
def _native_log_off() -> Iterator[None]:
    """Switch off the log of Ray's library in this process, and its line that says so.

    The library reads the variable once, and writes to file descriptor 2. What it wrote is shown
    where this fails.
    """
    before = os.environ.get(LOG_LEVEL)
    os.environ[LOG_LEVEL] = before or "fatal"
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            os.write(stderr, written.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.environ.pop(LOG_LEVEL)
            os.environ.update({} if before is None else {LOG_LEVEL: before})


def _check_answers() -> None:
    """Check that the head answers which Ray will connect to: Ray tries a dead one for minutes."""
    from ray._private.utils import read_ray_address  # the file has no public reader

    named = os.environ.get("RAY_ADDRESS")
    if named in KEYWORDS:
        return
    address = named or read_ray_address()
    if address is None:
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise InputError(
            f"RAY_ADDRESS must be the head's host:port, such as 10.0.0.1:6379, got {address!r}: "
            "run the command on the cluster (ray job submit), where it is set so."
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except OSError as error:
        origin = "RAY_ADDRESS" if named else "of the last `ray start` here"
        raise InputError(
            f"Ray cannot be reached at {address} ({origin}): start it (ray up, ray start --head), "
            "or set RAY_ADDRESS=local to start it for this run alone."
        ) from error


def disconnect() -> None:
    """End the connection, and with it a cluster that `connect` started."""
    import ray

    if ray.is_initialized():
        ray.shutdown()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray's chatter from the terminal; what fails is raised, or explained again."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
