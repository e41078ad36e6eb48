"""Silence for transformers and its backends, whose bars and advice our own messages replace."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence bars and advice of transformers and its backends; our errors state what matters."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    backend = getLogger("bitsandbytes")  # imported by adapters too; it warns at every product
    level = backend.level
    backend.setLevel(ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        backend.setLevel(level)
        if bars:
            logging.enable_progress_bar()
