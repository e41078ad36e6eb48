"""A visit to a running server in a real browser: typing, clicking, and looking into frames."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.browser import COMPLAINTS, Browser, Detached, patience

PAUSE = 0.05  # seconds between two looks
_MIDDLE = """(() => {
  const element = document.querySelector(%s);
  element.scrollIntoView({ block: "center" });
  const box = element.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""


class Visit:
    """A tab at an address; what it asks of any server, and what it complains of, is kept.

    Attributes:
        requested: Addresses that the page and its frames have asked for.
        complaints: Errors of scripts, messages of the console and refused requests.
    """

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser, self._session, self._context = browser, session, context
        self._seen = 0
        self._frame: str | None = None
        self.requested: list[str] = []
        self.complaints: list[Any] = []

    def evaluate(self, expression: str, session: str | None = None) -> Any:
        """Return what an expression gives in the page; a promise is awaited."""
        answer = self._browser.send(
            "Runtime.evaluate",
            session or self._session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        self._take_events()
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def in_frame(self, expression: str) -> Any:
        """Return what an expression gives in the frame."""
        self.evaluate("0")  # events come with answers
        assert self._frame is not None, "there is no frame of a process of its own"
        return self.evaluate(expression, self._frame)

    def wait(self, expression: str, *, frame: bool = False, seconds: float = 60) -> Any:
        """Return what an expression gives, once that is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                found = self.in_frame(expression) if frame else self.evaluate(expression)
            except AssertionError:  # the frame is being loaded, Detached among them
                found = None
            if found:
                return found
            time.sleep(PAUSE)
        raise TimeoutError(f"never true: {expression}; {self.evaluate('document.body.innerText')}")

    def click(self, selector: str) -> None:
        """Click an element by the mouse, where it is seen."""
        place = self.evaluate(_MIDDLE % json.dumps(selector))
        self._press(*place)

    def click_in_frame(self, selector: str) -> None:
        """Click an element of the frame by the mouse."""
        inner = self.in_frame(_MIDDLE % json.dumps(selector))
        outer = self.evaluate(
            """(() => { const frame = document.querySelector("iframe");
            frame.scrollIntoView(); const box = frame.getBoundingClientRect();
            return [box.x, box.y]; })()"""
        )
        self._press(outer[0] + inner[0], outer[1] + inner[1])

    def type(self, selector: str, text: str) -> None:
        """Replace what a field holds by typed or pasted text."""
        self.evaluate(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)});"
            "field.focus(); field.select(); })()"
        )
        self._browser.send("Input.insertText", self._session, text=text)

    def resize(self, width: int, height: int) -> None:
        """Give the tab a size in pixels."""
        self._browser.send(
            "Emulation.setDeviceMetricsOverride",
            self._session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Prefer "light" or "dark" colours."""
        self._browser.send(
            "Emulation.setEmulatedMedia",
            self._session,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as a PNG file."""
        answer = self._browser.send(
            "Page.captureScreenshot", self._session, format="png", captureBeyondViewport=whole
        )
        file.write_bytes(base64.b64decode(answer["data"]))

    def download_into(self, folder: Path) -> None:
        """Let downloads go into a folder."""
        options = {
            "behavior": "allow",
            "downloadPath": str(folder),
            "browserContextId": self._context,
        }
        self._browser.send("Browser.setDownloadBehavior", **options)

    def _press(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            place = {"x": x, "y": y, "button": "left", "clickCount": 1}
            self._browser.send("Input.dispatchMouseEvent", self._session, type=kind, **place)

    def _take_events(self) -> None:
        events, self._seen = self._browser.events[self._seen :], len(self._browser.events)
        for event in events:
            parameters = event["params"]
            if event["method"] == "Target.attachedToTarget":
                self._listen_to(parameters["sessionId"])
            elif event["method"] == "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            elif event["method"] in COMPLAINTS:
                self.complaints.append(parameters)

    def _listen_to(self, session: str) -> None:
        """Take a session for that of the frame, unless the frame was loaded anew meanwhile."""
        try:
            for domain in ("Runtime", "Network", "Log"):
                self._browser.send(f"{domain}.enable", session)
        except Detached:
            return
        self._frame = session


@contextmanager
def visiting(browser: Browser, address: str, *, seconds: int = 120) -> Iterator[Visit]:
    """Open an address in a context of its own, as another user has it."""
    with patience(seconds):
        context = browser.send("Target.createBrowserContext")["browserContextId"]
        tab = browser.send("Target.createTarget", url="about:blank", browserContextId=context)
        attached = browser.send("Target.attachToTarget", targetId=tab["targetId"], flatten=True)
        session = attached["sessionId"]
        browser.events = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.send(f"{domain}.enable", session)
        options = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        browser.send("Target.setAutoAttach", session, **options)
        browser.send("Page.navigate", session, url=address)
        browser.wait_for("Page.loadEventFired")
        yield Visit(browser, session, context)
        browser.send("Target.disposeBrowserContext", browserContextId=context)
