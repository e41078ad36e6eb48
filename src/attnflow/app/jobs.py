"""Jobs: one runs in the worker at a time, the others wait in their order and say so."""

import asyncio
import contextlib
import itertools
import shutil
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from attnflow.app.asked import Asked
from attnflow.app.messages import worded
from attnflow.app.worker_process import WorkerEnded, WorkerProcess
from attnflow.errors import AttnflowError, InputError

MOST_WAITING = 16
MOST_OF_ONE = 4  # that one session may have waiting
ABANDONED = 60.0  # seconds after which nobody asks for a job any more: its page was closed
GRACE = 4.0  # seconds until a cancelled job is ended by force

Finish = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
_ENDED = (
    "the process that explains has ended (it may have run out of memory) and was started again: "
    "try a shorter text, or merge its tokens"
)
_UNEXPECTED = (
    "an error that attnflow did not expect, {kind}: {message} (the terminal of the app has more); "
    "the process that explains was started again"
)


@dataclass(eq=False)
class Job:
    """A request on its way.

    Attributes:
        number: Its number, from 1.
        owner: Name of the session.
        does: "explain", or "describe" a model.
        asked: The request.
        image: The file of an image, or None.
        folder: Where its result goes; None of what has none.
        finish: Takes the worker's answer, and returns what the page is told.
        state: How far it is.
        part: Part that is done, 0 to 1.
        words: The step it is at, or why it failed.
        outcome: What the page is told at the end.
        version: Rises with every change.
        is_cancelled: Its owner wants no result any more.
        watchers: Requests for news of it that are open.
        asked_for: Time at which the last of them was answered.
    """

    number: int
    owner: str
    does: Literal["explain", "describe"]
    asked: Asked
    image: Path | None
    folder: Path | None
    finish: Finish
    state: State = "waiting"
    part: float = 0.0
    words: str = ""
    outcome: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    is_cancelled: bool = False
    watchers: int = 0
    asked_for: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        """True once nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")


class Jobs:
    """The queue in front of the worker."""

    def __init__(self, loading: dict[str, Any], worker: WorkerProcess) -> None:
        self._loading, self._worker = loading, worker
        self._jobs: dict[int, Job] = {}
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._numbers = itertools.count(1)
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start the worker, and do jobs from now on."""
        await self._worker.start()
        self._begin(self._run())
        self._begin(self._cancel_abandoned())

    async def close(self) -> None:
        """End the worker, and with it what it does."""
        for task in self._tasks:
            task.cancel()
        await self._worker.kill()

    async def add(
        self,
        owner: str,
        does: Literal["explain", "describe"],
        asked: Asked,
        finish: Finish,
        *,
        image: Path | None = None,
        folder: Path | None = None,
    ) -> Job:
        """Put a job at the end of the queue.

        Raises:
            InputError: Too many are waiting.
        """
        of_owner = sum(job.owner == owner for job in self._waiting)
        if len(self._waiting) >= MOST_WAITING or of_owner >= MOST_OF_ONE:
            raise InputError(
                f"{len(self._waiting)} requests are waiting already: cancel one of yours, or try "
                "again in a moment."
            )
        job = Job(next(self._numbers), owner, does, asked, image, folder, finish)
        self._jobs[job.number] = job
        self._waiting.append(job)
        self._forget_old()
        await self._tell(job)
        return job

    def find(self, owner: str, number: int) -> Job | None:
        """Return a session's own job."""
        job = self._jobs.get(number)
        return job if job is not None and job.owner == owner else None

    async def after(self, job: Job, version: int, seconds: float) -> dict[str, Any]:
        """Return the state of a job, once it is newer than a version or after some seconds."""
        job.watchers += 1
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: job.version > version or job.is_over)
        except TimeoutError:
            pass
        finally:
            job.watchers -= 1
            job.asked_for = time.monotonic()
        return self._state(job)

    async def cancel(self, job: Job) -> None:
        """Stop a job, whether it waits or runs."""
        if job.is_over or job.is_cancelled:
            return
        job.is_cancelled = True
        if job in self._waiting:
            self._waiting.remove(job)
            job.state = "cancelled"
            _discard(job)
            await self._tell_all()
        else:
            job.words = "stopping"
            await self._tell(job)
            self._begin(self._stop(job))

    async def _stop(self, job: Job) -> None:
        """Let a job end at its next step; end the worker where that takes too long."""
        try:
            await self._worker.cancel(job.number)
        except WorkerEnded:
            return
        await asyncio.sleep(GRACE)
        if self._running is job:
            await self._worker.kill()

    async def _cancel_abandoned(self) -> None:
        while True:
            await asyncio.sleep(ABANDONED / 4)
            since = time.monotonic() - ABANDONED
            for job in [*self._waiting, *filter(None, [self._running])]:
                if not job.watchers and job.asked_for < since:
                    await self.cancel(job)

    async def _run(self) -> None:
        while True:
            async with self._news:
                await self._news.wait_for(lambda: bool(self._waiting))
            self._running = self._waiting.pop(0)
            self._running.state = "running"
            await self._tell_all()
            try:
                await self._do(self._running)
                # Where it was killed the next one can get ready before it is asked.
                await self._worker.start()
            except Exception as error:  # whatever it was, the jobs behind it are done
                traceback.print_exc()
                await self._give_up(self._running, error)
            self._running = None
            await self._tell_all()

    async def _do(self, job: Job) -> None:
        order = {
            "job": job.number,
            "do": job.does,
            "asked": asdict(job.asked),
            "image": None if job.image is None else str(job.image),
            "folder": None if job.folder is None else str(job.folder),
            "loading": self._loading,
        }
        try:
            async for answer in self._worker.answers(order):
                await self._take(job, answer)
        except WorkerEnded:
            job.state, job.words = ("cancelled", "") if job.is_cancelled else ("failed", _ENDED)
        if job.state != "done":
            _discard(job)

    async def _give_up(self, job: Job, error: Exception) -> None:
        """End a job that cannot go on; what the worker has of it must not answer the next one."""
        if not job.is_over:
            words = _UNEXPECTED.format(kind=type(error).__name__, message=str(error)[:300])
            job.state, job.words = ("cancelled", "") if job.is_cancelled else ("failed", words)
            _discard(job)
        with contextlib.suppress(OSError):  # it ended by itself
            await self._worker.kill()

    async def _take(self, job: Job, answer: dict[str, Any]) -> None:
        if answer["is"] in ("progress", "note"):
            if not job.is_cancelled:
                job.part, job.words = answer.get("part", job.part), answer["words"]
        elif answer["is"] == "done" and not job.is_cancelled:
            try:
                job.outcome = await job.finish(answer)
                job.state = "done"
            except AttnflowError as error:  # such as a full disk
                job.state, job.words = "failed", str(error)
        elif answer["is"] == "failed" and not job.is_cancelled:
            job.state, job.words = "failed", worded(answer["message"])
        else:
            job.state = "cancelled"
        await self._tell(job)

    def _state(self, job: Job) -> dict[str, Any]:
        ahead = self._waiting.index(job) + 1 if job in self._waiting else 0
        words = f"waiting for {ahead} other request{'s' * (ahead > 1)}" if ahead else job.words
        return {
            "job": job.number,
            "version": job.version,
            "state": job.state,
            "part": job.part,
            "words": words,
            "outcome": job.outcome,
        }

    async def _tell(self, job: Job) -> None:
        job.version += 1
        async with self._news:
            self._news.notify_all()

    async def _tell_all(self) -> None:
        """Tell all jobs, whose places in the queue have changed."""
        for job in self._jobs.values():
            job.version += not job.is_over
        async with self._news:
            self._news.notify_all()

    def _forget_old(self) -> None:
        over = [number for number, job in self._jobs.items() if job.is_over]
        for number in over[: max(0, len(over) - 200)]:
            del self._jobs[number]

    def _begin(self, work: Any) -> None:
        # The loop itself holds no reference to a task.
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _discard(job: Job) -> None:
    """Remove the files of a job that has no result."""
    if job.folder is not None:
        shutil.rmtree(job.folder, ignore_errors=True)
