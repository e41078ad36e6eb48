"""Says when the passes are being compiled: the first solve of a machine waits for it.

numba keeps what it made on disk, so that later ones need not. What it compiles for others is not
ours to announce.
"""

import logging
from typing import Any

from numba.core import event

_LOG = logging.getLogger("attnflow")


class Announcer(event.Listener):  # type: ignore[misc]  # numba has no types
    """Logs a warning at the first function of ours that is compiled, and is silent after it."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, started: Any) -> None:
        # Functions that were made by exec have no module.
        module = started.data["dispatcher"].py_func.__module__ or ""
        if module.startswith("attnflow.") and not self.said:
            self.said = True
            _LOG.warning(
                "compiling the solver for this processor: about a minute, once; the next solves "
                "need not wait."
            )

    def on_end(self, ended: Any) -> None:
        pass


def announce() -> None:
    """From now on, say when something is compiled."""
    event.register("numba:compile", Announcer())
