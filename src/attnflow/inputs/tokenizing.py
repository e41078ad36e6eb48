"""Calls of a tokenizer that several threads may make at the same time.

A tokenizer in Rust keeps the truncation of its last call, and must not be asked for another while
one of its texts is read in another thread. So calls take turns.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any

from attnflow.forks import in_forked_children

_turn = Lock()


def _renew() -> None:
    """Give a forked process a lock of its own: its parent's may be held by a thread left behind."""
    global _turn
    _turn = Lock()


in_forked_children(_renew)


def encoded(tokenizer: Any, *texts: str, **options: Any) -> Any:
    """Return what a tokenizer makes of a text, or of two together."""
    with _turn:
        return tokenizer(*texts, **options)


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of tokens."""
    with _turn:
        return str(tokenizer.decode(ids))
