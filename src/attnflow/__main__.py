"""`python -m attnflow` and `attnflow` are the command.

Signals end it at once, from before the first slow import: an exception raised in the middle of an
import can be swallowed, or shown as a failure of the package that was being imported.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")

_process = 0  # of the command


def command() -> int:
    """Run the command as a process of its own, and return its exit code."""
    global _process
    _process = os.getpid()
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    # Who started this process may have made it deaf to one of them, as nohup does.
    heard = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    # Runs last of all exit functions. Then Python takes back its handlers, and a signal would kill.
    atexit.register(_ignore, heard)
    for number in heard:
        signal.signal(number, _stop)
    from attnflow.cli import main

    code = 1  # of an exception that nobody catches
    try:
        code = main()
    except SystemExit as end:  # argparse's, which ends with a number
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        _flush()
        # All is done: a signal while Python ends may hasten the end, and changes no exit code.
        for number in heard:
            signal.signal(number, lambda *_: os._exit(code))
    return code


def _flush() -> None:
    """Write what is buffered, while a signal still counts as an interruption."""
    for stream in (sys.stdout, sys.stderr):
        # None where it is closed; a reader that has gone is reported by the command.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _ignore(numbers: list[int]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    """End the process with code 128 + the signal's number, and leave no half-written file."""
    # Nothing has been written while the module is not there, or is still being imported.
    discard = getattr(sys.modules.get("attnflow.files"), "discard_unfinished", None)
    # A process forked from the command has its handlers, and its list of what is being written.
    if discard is not None and os.getpid() == _process:
        discard()
    try:
        os.write(2, b"attnflow: interrupted.\n")
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    raise SystemExit(command())
