"""The app on a port of this process, with a worker that only pretends, and clients as browsers."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from attnflow.app.server import bind, server_of
from attnflow.app.worker import RESULT
from attnflow.app.worker_process import WorkerEnded, WorkerProcess
from attnflow.attribution.attribution import save
from attnflow.errors import InputError
from support.example_attributions import attribution_of

MODEL = "a-model"
ABOUT = {
    "task": "text-classification",
    "labels": ["negative", "positive"],
    "writes": False,
    "reads_text": True,
    "reads_images": True,
    "has_pair": True,
    "has_position": False,
    "has_bos": False,
    "has_chat": False,
    "limit": 512,
}

# Models that differ from it: of fewer classes than it decides among, of others, and of tokens.
OTHERS: dict[str, dict[str, Any]] = {
    "lists-few": {"labels": ["negative"]},
    "of-letters": {"labels": ["a", "b"]},
    "writer": {"labels": [], "writes": True, "task": "text-generation"},
}


class PretendingWorker(WorkerProcess):
    """Answers as the worker does, by the text: "slow", "stuck", "dies", "fails", "breaks", or any
    other.

    Attributes:
        killed: How often it was ended by force.
        orders: What it was told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.killed = 0
        self.orders: list[dict[str, Any]] = []
        self._cancelled: set[int] = set()
        self._stuck = False

    async def start(self) -> None:
        self._stuck = False

    async def cancel(self, job: int) -> None:
        self._cancelled.add(job)

    async def kill(self) -> None:
        self.killed += self._stuck
        self._stuck = False

    async def answers(self, order: dict[str, Any]) -> Any:
        self.orders.append(order)
        about = ABOUT | OTHERS.get(order["asked"]["model"], {})
        text, job = order["asked"]["text"], order["job"]
        yield {"job": job, "is": "progress", "part": 0.25, "words": "decision 1 of 2"}
        if text == "dies":
            raise WorkerEnded
        if text == "breaks":
            raise ZeroDivisionError("no reason")
        self._stuck = text == "stuck"
        while text == "stuck":
            await asyncio.sleep(0.01)
            if not self._stuck:
                raise WorkerEnded
        while text == "slow" and job not in self._cancelled:
            await asyncio.sleep(0.01)
        if text == "slow":
            yield {"job": job, "is": "cancelled"}
        elif text == "fails":
            yield {"job": job, "is": "failed", "message": "too long (truncate=True, --truncate)"}
        elif order["do"] == "describe":
            yield {"job": job, "is": "done", "model": about, "warnings": []}
        else:
            positive = attribution_of(text[:300])
            negative = replace(positive, target=1 - positive.target)
            save([positive, negative], Path(order["folder"]) / RESULT)
            done = {
                "is_continuation": False,
                "model": about,
                "warnings": ["coarsen=2, --coarsen 2"],
            }
            yield {"job": job, "is": "done"} | done


class Client:
    """One browser: its cookies, and what it asks."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.host, self.port = host, port
        self.cookies: dict[str, str] = {}

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
        """Return status, body and headers of an answer; with a body it is a POST of JSON."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        sent = {"Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request("GET" if data is None else "POST", path, data, sent)
            answer = connection.getresponse()
            for line in answer.headers.get_all("set-cookie", []):
                self.cookies |= {name: m.value for name, m in SimpleCookie(line).items()}
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def json(self, path: str, body: Any = None) -> dict[str, Any]:
        status, content, _ = self.ask(path, body)
        return {"status": status} | json.loads(content)

    def start(self, text: str, **more: Any) -> int:
        """Ask for an explanation, and return the number of its job."""
        return self.json("/jobs", {"model": MODEL, "text": text} | more)["job"]

    def news(self, job: int, state: str) -> dict[str, Any]:
        """Wait until a job has a state."""
        found: dict[str, Any] = {"version": -1}
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = self.json(f"/jobs/{job}?after={found['version']}")
            if found["state"] == state:
                return found
        raise TimeoutError(found)

    def explain(self, text: str, **more: Any) -> dict[str, Any]:
        """Explain a text, and return what the page is told of its result."""
        return self.news(self.start(text, **more), "done")["outcome"]


class Served:
    """A running app.

    Attributes:
        port: Its port.
        worker: Its worker.
    """

    def __init__(self, port: int, worker: PretendingWorker) -> None:
        self.port, self.worker = port, worker

    def client(self) -> Client:
        """Return a browser that has opened the page."""
        client = Client(self.port)
        assert client.ask("/")[0] == 200
        return client


@contextmanager
def served(
    *, host: str = "127.0.0.1", token: str | None = None, listen: str = "127.0.0.1"
) -> Iterator[Served]:
    """Run the app in a thread; `host` is what it believes to listen at."""
    listening, worker = bind(listen, 0), PretendingWorker()
    port = listening.getsockname()[1]
    server = server_of((MODEL,), {}, host=host, port=port, token=token, worker=worker)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Served(port, worker)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


def port_in_use(port: int) -> str:
    """Return the error of listening at a port."""
    try:
        bind("127.0.0.1", port).close()
    except InputError as error:
        return str(error)
    raise AssertionError(f"port {port} was free")
