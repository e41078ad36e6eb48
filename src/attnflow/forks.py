"""A forked process computes in one thread.

The threads that torch shares its work among (OpenMP's) do not survive a fork: the first large
operation in the child waits for them for ever. One thread needs none, which is why DataLoader's
workers have one. So a child of a process that has loaded the solver, or what captures models, gets
one too. Nothing that works is taken away, but where the parent had not computed anything yet:
torch.set_num_threads brings the threads back then. Spawned processes begin with their own.
"""

import os
from collections.abc import Callable

import torch

from attnflow.errors import warn

_threads_before = 0  # those of the parent, in a child that has not said so yet


def in_forked_children(action: Callable[[], object]) -> None:
    """Call a function at the beginning of every process that is forked from this one."""
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=action)


def warn_of_one_thread() -> None:
    """Warn, once in a forked process, that it computes in one thread instead of its parent's."""
    global _threads_before
    before, _threads_before = _threads_before, 0
    if before:
        warn(
            f"this process was forked from one of {before} threads, which do not survive a fork; "
            "it computes in one. Start it by the method 'spawn' for more, or where the parent had "
            f"not computed with torch before the fork, call torch.set_num_threads({before})."
        )


def _compute_in_one_thread() -> None:
    global _threads_before
    if torch.get_num_threads() > 1:
        _threads_before = torch.get_num_threads()
        torch.set_num_threads(1)


# At the fork, not at a first call of ours: torch may be called before that.
in_forked_children(_compute_in_one_thread)
