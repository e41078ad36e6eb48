"""The threads that share the compiled passes: Python's, which run while the passes hold no lock.

numba's own loops (`parallel=True`) are not used. Each of its layers breaks a program of some kind:
GNU OpenMP kills a process that was forked after the first loop, and `workqueue` one in which two
threads solve at once. Passes that are called for a part of their range, without the global lock,
need no layer. The pool begins anew in a forked process, which has none of its parent's threads.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any

from attnflow.forks import in_forked_children

_of_caller = threading.local()
_pool: ThreadPoolExecutor | None = None
_making = threading.Lock()


def use_threads(number: int) -> None:
    """Share the passes that this thread calls among so many threads, itself included."""
    _of_caller.threads = number


def threads() -> int:
    """Number of threads that share the passes that this thread calls; 1 unless it said another."""
    return getattr(_of_caller, "threads", 1)


def share(work: Callable[..., object], count: int, *arguments: Any) -> None:
    """Call `work(first, stop, *arguments)` for parts of `range(count)`, one in each thread.

    The parts do not depend on how fast they are. Only functions that write to different places for
    different numbers of the range may be shared.
    """
    parts = max(1, min(threads(), count))
    own, *others = pairwise(count * part // parts for part in range(parts + 1))
    running: list[Future[object]] = []
    try:
        for part in others:
            _start(running, work, *part, *arguments)
        work(*own, *arguments)
    finally:
        _wait_for(running)
    for future in running:
        future.result()


def _wait_for(running: list[Future[object]]) -> None:
    """Wait for all, through interrupts too: then the arrays are the caller's again."""
    try:
        wait(running)
    except BaseException:  # of a signal's handler, KeyboardInterrupt or another
        _wait_for(running)
        raise


def _start(running: list[Future[object]], work: Callable[..., object], *arguments: Any) -> None:
    """Give a part to the pool, or compute it here where no thread can be started."""
    part: Future[object] = Future()

    def claimed() -> None:
        if not part.set_running_or_notify_cancel():
            return
        try:
            part.set_result(work(*arguments))
        except BaseException as error:
            part.set_exception(error)

    try:
        _threads_of_process().submit(claimed)
    except RuntimeError:
        # The interpreter starts no thread while it exits, nor the system beyond its limit. The pool
        # may have the part all the same, and another of its threads may have begun with it.
        if part.cancel():
            work(*arguments)
            return
    running.append(part)


def _threads_of_process() -> ThreadPoolExecutor:
    global _pool
    with _making:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="attnflow")
        return _pool


def _begin_anew() -> None:
    global _pool, _making
    _pool, _making = None, threading.Lock()


in_forked_children(_begin_anew)
