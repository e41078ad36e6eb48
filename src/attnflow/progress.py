"""One bar for all that takes more than two seconds: in a terminal, and in a notebook."""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import Any

DELAY = 2.0  # seconds after which a bar appears

Advance = Callable[[int], object]
Listener = Callable[[int, int, str], object]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell a function of the progress inside this context, instead of showing bars.

    Args:
        listener: Takes the units done, their number in all, and the unit in the singular. What it
            raises ends the work, between two steps of it.
    """
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def bar(total: int, *, unit: str, show: bool | None = None) -> Iterator[Advance]:
    """Show a bar on standard error, with the time left, once `DELAY` seconds have passed.

    Yields a function that takes the number of units done.

    Args:
        total: Number of units.
        unit: What is counted, in the singular.
        show: None shows it where somebody may see it: in a terminal or a notebook.
    """
    listener = _listener.get()
    if listener is not None:
        yield _told(listener, total, unit)
        return
    if not (_is_watched() if show is None else show):
        yield lambda count: None
        return
    with _bar_type()(total=total, unit=unit, delay=DELAY, leave=False) as shown:
        # tqdm waits for the first unit, which alone may take a minute.
        timer = threading.Timer(DELAY, shown.refresh)
        timer.daemon = True
        timer.start()
        try:
            yield shown.update
        finally:
            timer.cancel()


def _told(listener: Listener, total: int, unit: str) -> Advance:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        listener(done, total, unit)

    advance(0)
    return advance


def import_tqdm_quietly() -> None:
    """Import `tqdm.auto`, which transformers uses, without its warning that ipywidgets is missing.

    Its bars of text are shown in notebooks too, so that nothing is missing.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        import_module("tqdm.auto")


def _bar_type() -> Any:
    """Return tqdm's class of bars for a notebook, or for a terminal."""
    # Imported as late as here, so that `--help` does not wait for it. Not `tqdm.auto`, which warns
    # in a notebook without ipywidgets; tqdm's bar of text is shown there as well.
    if "ipykernel" in sys.modules and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm.std import tqdm
    return tqdm


def _is_watched() -> bool:
    return "ipykernel" in sys.modules or bool(sys.stderr is not None and sys.stderr.isatty())
