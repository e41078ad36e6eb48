"""The guard in front of all routes: who may ask, how much may be sent, and what a browser may do.

- *Host* must be the server's own where it is bound to this machine. A page of another site that has
  its name point here (DNS rebinding) sends its own name.
- *Origin*, which browsers send with all but plain reading, must be the server's own. Of plain
  reading Sec-Fetch-Site tells where it comes from: pages of other sites may link here, no more.
- *Token*: where there is one, nothing is answered without it. A link with `?token=` sets a cookie.
- *Size*: a longer body is refused while it is read.
- *Headers* forbid the page to load anything from elsewhere, and other sites to frame it.
"""

import json
import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attnflow.errors import AttnflowError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 16 << 20  # of a request: a text, or a photograph
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
# In a frame of the app. Without allow-same-origin its scripts reach nothing of the app's.
FRAME_POLICY = "sandbox allow-scripts allow-downloads; frame-ancestors 'self'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    return host in LOOPBACK or host.startswith("127.")


class Json(JSONResponse):
    """JSON in ASCII, since a text may hold halves of surrogate pairs, which UTF-8 does not take."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


class TooLarge(AttnflowError):
    """More was sent than the server takes; raised where a route reads it, and answered there."""

    def __init__(self) -> None:
        super().__init__(f"more than {MOST_BYTES >> 20} MB: send a smaller image or text.")


class Guard:
    """Answers what may not reach the application, and adds headers to what does."""

    def __init__(self, app: ASGIApp, *, host: str, port: int, token: str | None) -> None:
        self._app, self._host, self._port, self._token = app, host, port, token
        self.token_cookie = f"attnflow-token-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        answer = self._refusal(connection) or self._ask_for_token(connection)
        if answer is not None:
            await answer(scope, receive, _with_headers(send))
            return
        await self._app(scope, _bounded(receive), _with_headers(send))

    def _refusal(self, connection: HTTPConnection) -> Response | None:
        headers = connection.headers
        if is_loopback(self._host) and _name(headers.get("host", "")) not in self._names():
            return refused(
                "this app answers to its own address alone: open the one that it printed.", 403
            )
        is_reading = connection.scope["method"] in ("GET", "HEAD")
        if not (_is_own(headers) or (is_reading and _is_allowed_reading(headers))):
            return refused("this request comes from another site.", 403)
        length = headers.get("content-length", "0")
        if not (length.isdecimal() and int(length) <= MOST_BYTES):
            return refused(str(TooLarge()), 413)
        return None

    def _names(self) -> Iterable[str]:
        return {*LOOPBACK, self._host}

    def _ask_for_token(self, connection: HTTPConnection) -> Response | None:
        if self._token is None:
            return None
        typed = parse_qs(connection.url.query).get("token", [""])[0]
        if typed and _equal(typed, self._token):
            # The token leaves the address, where it would be seen and remembered.
            answer = RedirectResponse(connection.url.path, 303)
            answer.set_cookie(self.token_cookie, self._token, httponly=True, samesite="lax")
            return answer
        if _equal(connection.cookies.get(self.token_cookie, ""), self._token):
            return None
        return refused("open the address with ?token=... that `attnflow app` printed.", 401)


def refused(message: str, status: int) -> Response:
    """Return an answer that states why there is no other."""
    return Json({"error": message}, status)


def _name(host: str) -> str:
    """Return the host of a Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_own(headers: Headers) -> bool:
    """Return whether a request was made by a page of this server, or by no browser."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _is_allowed_reading(headers: Headers) -> bool:
    """Return whether a page is opened, by a link from anywhere; an image or a frame opens none.

    A browser says nothing of where plain reading comes from but in Sec-Fetch-Site.
    """
    if "sec-fetch-site" not in headers or headers["sec-fetch-site"] in ("same-origin", "none"):
        return True
    mode, place = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest", "document")
    return mode == "navigate" and place == "document"


def _equal(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def _bounded(receive: Receive) -> Receive:
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            raise TooLarge
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Content-Security-Policy", POLICY)
        await send(message)

    return sent
