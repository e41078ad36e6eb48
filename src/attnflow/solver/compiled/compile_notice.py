"""A notice in the log while the passes are compiled, since the first solve waits for it.

numba keeps the machine code on disk, so that later solves need not wait. What numba compiles for
other packages is not announced.
"""

import logging
from typing import Any

from numba.core import event

_LOG = logging.getLogger("attnflow")


class Announcer(event.Listener):  # type: ignore[misc]  # numba has no types
    """Logs a warning at the first function of attnflow that is compiled, and is silent after it."""

    def __init__(self) -> None:
        self.has_announced = False

    def on_start(self, started: Any) -> None:
        # Functions that were made by exec have no module.
        module = started.data["dispatcher"].py_func.__module__ or ""
        if module.startswith("attnflow.") and not self.has_announced:
            self.has_announced = True
            _LOG.warning(
                "compiling the solver for this processor: about a minute, once; the next solves "
                "need not wait."
            )

    def on_end(self, ended: Any) -> None:
        pass


def announce() -> None:
    """Log the first compilation from now on."""
    event.register("numba:compile", Announcer())
