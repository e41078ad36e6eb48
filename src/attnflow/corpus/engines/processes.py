"""The engine of one machine: worker processes, one for each device or CPU.

A process that dies takes the pool of the standard library with it. Then all chunks that were being
explained are tried again, one at a time; a chunk that ends its process again is explained row by
row, and the row that ends it a third time has failed.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from attnflow.corpus.chunks import Chunk
from attnflow.corpus.work import Care, Done, Model, Work, Worker, bytes_of_process
from attnflow.errors import ModelError
from attnflow.models.quiet import quiet_transformers
from attnflow.solver.memory import free_bytes

AHEAD = 1  # chunks that wait for each worker, so that none waits for the source

# Of a worker process: its worker, and before that what it takes to load it.
_worker: Worker | None = None
_to_load: tuple[Model, str | None, Work] | None = None


class Processes:
    """Worker processes that load the model once each.

    Attributes:
        count: Number of processes at most.
    """

    def __init__(self, model: Model, work: Work, *, workers: int | None = None) -> None:
        """Take a model by name.

        Args:
            model: The model.
            work: What is done with each chunk.
            workers: Number of processes; None takes one for each device, or for each CPU as far as
                memory goes.
        """
        self._model, self._work = model, work
        device = str(model.options.get("device") or "cpu")
        self._devices = _devices(device)
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._cpus = cpus or 1
        self._asked = workers
        self.count = workers or (len(self._devices) if self._devices else self._cpus)
        self._pool: ProcessPoolExecutor | None = None
        self._is_idle = True
        self._notes = tempfile.TemporaryDirectory(prefix="attnflow-corpus-")

    def describe(self) -> dict[str, Any]:
        """Return what `Worker.describe` does, and let memory bound the number of processes.

        Raises:
            AttnflowError: The model cannot be loaded or explained.
        """
        self._is_idle = False
        try:
            found = self._started().submit(_describe).result()
            self._is_idle = True
        except BrokenProcessPool as error:
            raise ModelError(
                "the process that loads the model died, most likely for want of memory."
            ) from error
        if self._asked is None and not self._devices:
            each = bytes_of_process(found["bytes"])
            fits = 1 + int(free_bytes(torch.device("cpu")) // each)  # one is there
            if fits < self.count:  # each of them computes in more threads
                self.count = max(1, fits)
                self._restart()
        return dict(found)

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Done]:
        """Yield each chunk when it is done.

        Raises:
            AttnflowError: Something fails that is no text's own fault.
        """
        self._is_idle = False
        rest, running = iter(chunks), dict[Future[Done], Chunk]()
        while True:
            for chunk in _some(rest, self.count * (1 + AHEAD) - len(running)):
                running[self._submitted(chunk)] = chunk
            if not running:
                self._is_idle = True
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = [future for future in finished if _is_broken(future)]
            for future in finished.difference(broken):
                del running[future]
                yield future.result()
            if broken:
                lost = list(running.values())
                running.clear()
                self._restart()
                yield from map(self._again, lost)

    def _submitted(self, chunk: Chunk) -> Future[Done]:
        """Give a chunk to the pool; one that broke while the chunk was read fails like others."""
        try:
            return self._started().submit(_do, chunk)
        except BrokenProcessPool as error:
            failed: Future[Done] = Future()
            failed.set_exception(error)
            return failed

    def _again(self, chunk: Chunk) -> Done:
        """Explain a chunk whose process died, first as before, then row by row."""
        with suppress(BrokenProcessPool):
            return self._started().submit(_do, chunk).result()
        note = Path(self._notes.name) / "row"
        lost: set[int] = set()
        while True:
            self._restart()
            note.unlink(missing_ok=True)
            try:
                done = self._started().submit(_do, chunk, str(note), frozenset(lost)).result()
            except BrokenProcessPool as error:
                told = note.read_text() if note.exists() else ""
                found = int(told) if told else None
                if found is None or found in lost:
                    raise ModelError(
                        f"the processes that explain {chunk.file} (rows from {chunk.start}) die "
                        "before they begin: give fewer workers (workers=, --workers)."
                    ) from error
                lost.add(found)
            else:
                return done

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            threads = max(1, self._cpus // self.count)
            devices = context.Queue() if self._devices else None
            for number in range(self.count):
                if devices is not None:
                    devices.put(self._devices[number % len(self._devices)])
            self._pool = ProcessPoolExecutor(
                self.count,
                mp_context=context,
                initializer=_begin,
                initargs=(self._model, self._work, threads, devices),
            )
        return self._pool

    def _restart(self) -> None:
        """End the processes, so that others are started when they are needed."""
        if self._pool is not None:
            # Nobody waits for what they still do; those that have nothing to do end in order.
            for process in list(() if self._is_idle else (self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def close(self) -> None:
        """End the processes, those too that have not finished."""
        self._restart()
        self._notes.cleanup()


def _devices(device: str) -> list[str]:
    """The devices of the workers; none where they compute on the CPU."""
    if device == "cuda":
        return [f"cuda:{i}" for i in range(max(1, torch.cuda.device_count()))]
    return [] if device == "cpu" else [device]


def _some(chunks: Iterator[Chunk], count: int) -> Iterator[Chunk]:
    for _, chunk in zip(range(count), chunks, strict=False):
        yield chunk


def _is_broken(future: Future[Done]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


# In the worker processes.


def _begin(model: Model, work: Work, threads: int, devices: Any) -> None:
    global _to_load
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides
    _end_with_parent()
    torch.set_num_threads(threads)
    # Not loaded here: what an initialiser raises is lost, and only breaks the pool.
    _to_load = model, None if devices is None else devices.get(), work


def _end_with_parent() -> None:
    """End this process when the first one does, however it ends."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _describe() -> dict[str, Any]:
    return _loaded().describe()


def _do(chunk: Chunk, note: str | None = None, lost: frozenset[int] = frozenset()) -> Done:
    if note is None:
        return _loaded().do(chunk)
    path = Path(note)
    return _loaded().do(chunk, Care(lost, lambda row: path.write_text(str(row))))


def _loaded() -> Worker:
    global _worker
    if _worker is None:
        if _to_load is None:
            raise ModelError("this process was not told its model.")
        model, device, work = _to_load
        with quiet_transformers():
            _worker = Worker(model.load(device), work)
    return _worker
