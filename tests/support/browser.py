"""Pages in a real browser, which runs without a screen: one process for all of a test session.

It is driven by the DevTools protocol, in JSON messages that end in NUL: it reads them from its
file descriptor 3 and answers on 4. Each page has a context of its own, and so no memory of others.
"""

import fcntl
import html
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attnflow.attribution.views.page import write

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
needs_browser = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium on the path"),
    pytest.mark.slow,
]
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
]
VIRTUAL_TIME = 4000  # milliseconds of a page's own clock, which does not wait
PATIENCE = 120  # seconds
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")

FRAME = """<!DOCTYPE html><meta charset="utf-8"><title>not run</title>
<style>body { margin: 0 } iframe { border: 0; width: %(width)dpx; height: 900px }</style>
<iframe src="%(page)s#%(hash)s"></iframe>
<script>
const frame = document.querySelector("iframe");
const press = (element, key) => element.dispatchEvent(new frame.contentWindow.KeyboardEvent(
  "keydown", { key, bubbles: true, cancelable: true }));
frame.onload = () => {
  const page = frame.contentDocument;
  const all = (selector) => Array.from(page.querySelectorAll(selector));
  const one = (selector) => page.querySelector(selector);
  (async () => { %(drive)s })().then((seen) => { document.title = JSON.stringify(seen); });
};
</script>"""


NO_SUCH_SESSION = -32001  # of the protocol


class Detached(AssertionError):
    """The session that a command was for has ended: its frame was loaded anew."""


class Browser:
    """A running chromium: commands are sent through one pipe, answers and events come by another.

    Attributes:
        events: What was told of the page since it was opened, each with its method and params.
    """

    def __init__(self, folder: Path) -> None:
        to_browser, self._commands = os.pipe()
        self._answers, from_browser = os.pipe()
        self.events: list[dict[str, Any]] = []
        self._numbers, self._unread = itertools.count(1), b""
        # Copies with high numbers: 3 and 4 may themselves be among the four ends.
        ends = [_moved_up(end) for end in (to_browser, from_browser)]
        arguments = [*OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"]
        log = _moved_up(os.open(folder / "log", os.O_WRONLY | os.O_CREAT))
        actions = [(os.POSIX_SPAWN_DUP2, ends[0], 3), (os.POSIX_SPAWN_DUP2, ends[1], 4)]
        actions += [(os.POSIX_SPAWN_DUP2, log, output) for output in (1, 2)]
        self._process = os.posix_spawn(
            BROWSER, [BROWSER, *arguments], os.environ, file_actions=actions
        )
        for end in (*ends, log):
            os.close(end)

    def close(self) -> None:
        self.send("Browser.close")
        os.close(self._commands)
        os.close(self._answers)
        os.waitpid(self._process, 0)

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its answer; events that come before it are kept.

        Raises:
            Detached: The session ended before there was an answer. The browser then sends none, and
                waiting for it would not end.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        while (answer := self._next()).get("id") != number:
            self.events.append(answer)
            if session is not None and _ended(answer) == session:
                raise Detached(f"{method}: the session has ended")
        if answer.get("error", {}).get("code") == NO_SUCH_SESSION:
            raise Detached(f"{method}: there is no such session")
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def wait_for(self, method: str) -> None:
        """Wait for an event, unless it has come already."""
        while not any(event["method"] == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            more = os.read(self._answers, 1 << 16)
            assert more, "the browser has ended"
            self._unread += more
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    @contextmanager
    def opened(self, page: Path) -> Iterator[str]:
        """Open a page and let its time pass; gives the session of its tab."""
        with patience():
            context = self.send("Target.createBrowserContext")["browserContextId"]
            tab = self.send("Target.createTarget", url="about:blank", browserContextId=context)
            attached = self.send("Target.attachToTarget", targetId=tab["targetId"], flatten=True)
            session = attached["sessionId"]
            self.events = []
            for domain in ("Page", "Runtime", "Log"):
                self.send(f"{domain}.enable", session)
            policy = {"policy": "pauseIfNetworkFetchesPending", "budget": VIRTUAL_TIME}
            self.send("Page.navigate", session, url=page.as_uri())
            self.send("Emulation.setVirtualTimePolicy", session, **policy)
            self.wait_for("Page.loadEventFired")
            self.wait_for("Emulation.virtualTimeBudgetExpired")
            yield session
            self.send("Target.disposeBrowserContext", browserContextId=context)

    def result(self, page: Path, expression: str) -> Any:
        """Open a page without complaints and return what an expression gives there."""
        with self.opened(page) as session:
            answer = self.send("Runtime.evaluate", session, expression=expression)
            complaints = [event for event in self.events if event["method"] in COMPLAINTS]
            assert not complaints, complaints
            return answer["result"]["value"]


def _ended(event: dict[str, Any]) -> str | None:
    """Return the session whose end an event tells of; None of other events."""
    if event.get("method") != "Target.detachedFromTarget":
        return None
    return event["params"]["sessionId"]


def _moved_up(end: int) -> int:
    high = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return high


@contextmanager
def patience(seconds: int = PATIENCE) -> Iterator[None]:
    """End with an error what takes too long, such as an answer that never comes."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"the browser has not answered in {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def driven(
    browser: Browser,
    folder: Path,
    attributions: Any,
    body: str,
    *,
    fragment: str = "",
    width: int = 1280,
    compare: bool = False,
) -> Any:
    """Load attributions in a frame, run a function body there, and return what it returns."""
    write(attributions, folder / "page.html", compare=compare, overwrite=True)
    values = {"page": "page.html", "hash": html.escape(fragment), "drive": body, "width": width}
    frame = folder / "frame.html"
    frame.write_text(FRAME % values, encoding="utf-8")
    return json.loads(browser.result(frame, "document.title"))


def chromium(folder: Path, page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a chromium of its own, whose standard error has what the page complains of."""
    command = [
        BROWSER,
        *OPTIONS,
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        f"--virtual-time-budget={VIRTUAL_TIME}",
        *arguments,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
