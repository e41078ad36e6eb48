"""The server's end of the worker: starts it, sends it jobs, and can end it at once."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from typing import Any

COMMAND = (sys.executable, "-m", "attnflow.app.worker")
LONGEST_LINE = 1 << 24  # bytes of an answer; the longest hold the names of classes
SILENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


class WorkerEnded(Exception):
    """The worker ended before it had answered."""


class WorkerProcess:
    """A worker, which is started again where it has ended.

    Args:
        command: The program with its arguments.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: Process | None = None

    async def start(self) -> None:
        """Start a worker, unless one runs."""
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                limit=LONGEST_LINE,
                env={**os.environ, **SILENT},
                # Ctrl-C is for the server, which then ends the worker.
                start_new_session=True,
            )

    async def answers(self, order: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Send an order and yield what the worker says about it, the outcome last.

        Raises:
            WorkerEnded: It ended on the way: it was killed, or was short of memory. Or it wrote
                what is no answer, and was ended for that.
        """
        await self.start()
        await self._send(order)
        process = self._process
        while process is not None and process.stdout is not None:
            line = await process.stdout.readline()
            if not line.endswith(b"\n"):
                # It ended, maybe within a line. Until that is known, no other would be started.
                await process.wait()
                break
            answer = _answer(line)
            if answer is None:
                await self.kill()
                break
            yield answer
            if answer["is"] in ("done", "failed", "cancelled"):
                return
        raise WorkerEnded

    async def cancel(self, job: int) -> None:
        """Ask the worker to leave a job at its next step."""
        await self._send({"cancel": job})

    async def kill(self) -> None:
        """End the worker at once, and what it computes with it."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _send(self, order: dict[str, Any]) -> None:
        stdin = None if self._process is None else self._process.stdin
        if stdin is None:
            raise WorkerEnded
        try:
            stdin.write(json.dumps(order).encode() + b"\n")
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise WorkerEnded from error


def _answer(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None of one that is no answer."""
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and "is" in answer else None
