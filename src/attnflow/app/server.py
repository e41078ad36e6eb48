"""The server: binds a port, prints the address, and answers until it is stopped."""

import secrets
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from attnflow.app.guard import Guard, is_loopback
from attnflow.app.routes import App, Settings
from attnflow.app.worker_process import WorkerProcess
from attnflow.errors import InputError

PORT = 8321
TRIED = 20  # ports from the default one on
MOST_CONNECTIONS = 64


def serve(
    models: tuple[str, ...],
    loading: dict[str, Any],
    *,
    host: str,
    port: int | None,
    token: str | None,
    ready: Callable[[str], object],
) -> None:
    """Serve the app until the process is interrupted.

    Args:
        models: Names of the models to choose from.
        loading: Keywords of `Explainer.from_pretrained`.
        host: Address to listen at. Any but a loopback address makes a token necessary.
        port: Port, 0 for any free one; None for the first free one from `PORT` on.
        token: Secret that a browser must give; None makes one up where one is necessary.
        ready: Takes the address to open, once it is listened at: who opens it at once waits for the
            answer until the server has begun.

    Raises:
        InputError: The address cannot be listened at.
    """
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    listening = bind(host, port)
    found = listening.getsockname()[1]
    server = server_of(models, loading, host=host, port=found, token=token, worker=WorkerProcess())
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{found}/" + (f"?token={token}" if token else ""))
    server.run([listening])


def server_of(
    models: tuple[str, ...],
    loading: dict[str, Any],
    *,
    host: str,
    port: int,
    token: str | None,
    worker: WorkerProcess,
) -> uvicorn.Server:
    """Return a server of the app, for a socket that listens at this host and port."""
    # The number of the port, since browsers give the cookies of one port to another.
    settings = Settings(
        models, takes_any=is_loopback(host), loading=loading, cookie=f"attnflow-{port}"
    )
    config = uvicorn.Config(
        Guard(App(settings, worker).routes(), host=host, port=port, token=token),
        log_level="warning",
        access_log=False,
        server_header=False,
        http="h11",
        ws="none",
        loop="asyncio",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def bind(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens at a port; None tries some from the default one on.

    Raises:
        InputError: The port is in use, or the address is not one of this machine.
    """
    tried = range(PORT, PORT + TRIED) if port is None else (port,)
    for number in tried:
        try:
            return socket.create_server(
                (host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET
            )
        except (OSError, OverflowError) as error:
            reason = error
    if port is None:
        raise InputError(
            f"cannot listen at {host}, ports {PORT} to {PORT + TRIED - 1}: {_words(reason)}; name "
            "a free one, or 0 for any: --port."
        ) from reason
    raise InputError(
        f"cannot listen at {host}, port {port}: {_words(reason)}. Leave --port out to find a free "
        "one, or name another."
    ) from reason


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
