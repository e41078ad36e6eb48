"""Routes: what the page in the browser asks the server.

    GET  /                          the page
    GET  /assets/NAME               its style and script
    GET  /state                     models, limits, and the session's results
    POST /jobs                      explain; answers with the job
    POST /models                    describe a model, which loads it; answers with the job
    GET  /jobs/N?after=V            its state, once it is newer than version V
    POST /jobs/N/cancel             stop it
    GET  /results/NAME              the page of a result, for the frame
    GET  /results/NAME/summary      its request and summary; ?before=NAME: what changed
    GET  /results/NAME/image        the image that was dropped
    GET  /results/NAME/as/FORM      an export: json, csv, html or safetensors
    GET  /compare/A/B               the page of two results
    POST /results/NAME/forget       remove it

A result belongs to the session that asked for it, by a cookie; to others it does not exist.
"""

import base64
import binascii
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from attnflow import __version__
from attnflow.app.asked import Asked, file_name
from attnflow.app.changes import changes
from attnflow.app.guard import FRAME_POLICY, Json, TooLarge, refused
from attnflow.app.jobs import Job, Jobs
from attnflow.app.messages import worded
from attnflow.app.results import Result, exported, framed_page, size_of
from attnflow.app.sessions import Session, Sessions
from attnflow.app.worker_process import WorkerProcess
from attnflow.attribution.views import templates
from attnflow.errors import AttnflowError, InputError
from attnflow.files import parse_json

LONGEST_POLL = 20.0  # seconds
FORMS = ("json", "csv", "html", "safetensors")
ASSETS = {
    "page.css": "text/css",
    "app.css": "text/css",
    "app.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Settings:
    """The options that the app was started with.

    Attributes:
        models: Names of the models to choose from, the first one at the start.
        takes_any: True where the page may name another model: a folder of this machine, or an id.
        loading: Keywords of `Explainer.from_pretrained`.
        cookie: Name of the cookie of sessions.
    """

    models: tuple[str, ...]
    takes_any: bool
    loading: dict[str, Any]
    cookie: str


class App:
    """The routes, and what they share."""

    sessions: Sessions  # while the server runs

    def __init__(self, settings: Settings, worker: WorkerProcess) -> None:
        self.settings = settings
        self.jobs = Jobs(settings.loading, worker)
        self._described: dict[str, dict[str, Any]] = {}

    def routes(self) -> Starlette:
        """Return the application."""
        routes = [
            Route("/", self._page),
            Route("/assets/{name}", self._asset),
            Route("/state", self._state),
            Route("/jobs", self._explain, methods=["POST"]),
            Route("/models", self._describe, methods=["POST"]),
            Route("/jobs/{number:int}", self._job),
            Route("/jobs/{number:int}/cancel", self._cancel, methods=["POST"]),
            Route("/results/{name}", self._result),
            Route("/results/{name}/summary", self._summary),
            Route("/results/{name}/image", self._image),
            Route("/results/{name}/as/{form}", self._export),
            Route("/results/{name}/forget", self._forget, methods=["POST"]),
            Route("/compare/{name}/{other}", self._compare),
        ]
        handlers: Any = {AttnflowError: _explained, 404: _not_found, 405: _not_found}
        return Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        with TemporaryDirectory(prefix="attnflow-app-") as folder:
            self.sessions = Sessions(Path(folder))
            await self.jobs.open()
            try:
                yield
            finally:
                await self.jobs.close()

    async def _page(self, request: Request) -> Response:
        answer = HTMLResponse(_read_asset("app.html"))
        if self._session(request) is None:
            session = self.sessions.begin()
            # Lax: reading changes nothing, and a link from another site finds its session.
            answer.set_cookie(self.settings.cookie, session.name, httponly=True, samesite="lax")
        return answer

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            return _not_found(request)
        # Colours and types are those of the page of results.
        text = templates.asset(name) if name == "page.css" else _read_asset(name)
        return Response(text, media_type=ASSETS[name])

    async def _state(self, request: Request) -> Response:
        session = self._session(request)
        results = [] if session is None else list(session.results.items())
        listed = [await run_in_threadpool(_listed, name, result) for name, result in results]
        return Json(
            {
                "version": __version__,
                "models": self.settings.models,
                "takes_any": self.settings.takes_any,
                "described": self._described,
                "results": listed,
            }
        )

    async def _explain(self, request: Request) -> Response:
        session = self._owner(request)
        record = await _record(request)
        image = record.pop("image", None)
        asked = Asked.of(record)
        self._check_model(asked.model)
        folder = self.sessions.new_folder()
        try:
            file = None if image is None else _save_image(image, folder)
            finish = partial(self._keep, session, folder, asked, "" if file is None else file.name)
            job = await self.jobs.add(
                session.name, "explain", asked, finish, image=file, folder=folder
            )
        except AttnflowError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Json({"job": job.number}, 202)

    async def _describe(self, request: Request) -> Response:
        session = self._owner(request)
        asked = Asked.of(await _record(request))
        self._check_model(asked.model)
        finish = partial(self._learn, asked.model)
        job = await self.jobs.add(session.name, "describe", asked, finish)
        return Json({"job": job.number}, 202)

    async def _job(self, request: Request) -> Response:
        job = self._find_job(request)
        after = request.query_params.get("after", "")
        version = int(after) if after.isdecimal() and len(after) < 10 else -1
        return Json(await self.jobs.after(job, version, LONGEST_POLL))

    async def _cancel(self, request: Request) -> Response:
        await self.jobs.cancel(self._find_job(request))
        return Json({})

    async def _result(self, request: Request) -> Response:
        html = await run_in_threadpool(framed_page, [self._find(request, "name")])
        return HTMLResponse(html, headers={"Content-Security-Policy": FRAME_POLICY})

    async def _compare(self, request: Request) -> Response:
        results = [self._find(request, "name"), self._find(request, "other")]
        html = await run_in_threadpool(framed_page, results)
        return HTMLResponse(html, headers={"Content-Security-Policy": FRAME_POLICY})

    async def _summary(self, request: Request) -> Response:
        result = self._find(request, "name")
        before = request.query_params.get("before")
        earlier = None if before is None else self._owner(request).results.get(before)
        changed = None
        if earlier is not None:
            changed = await run_in_threadpool(_changes, earlier, result)
        listed = await run_in_threadpool(_listed, result.folder.name, result)
        return Json(listed | {"changes": changed})

    async def _image(self, request: Request) -> Response:
        result = self._find(request, "name")
        if not result.image:
            return _not_found(request)
        # The page asks for it by script alone, and shows it from memory.
        data = (result.folder / result.image).read_bytes()
        return Response(data, media_type="application/octet-stream")

    async def _export(self, request: Request) -> Response:
        result, form = self._find(request, "name"), request.path_params["form"]
        if form not in FORMS:
            return _not_found(request)
        name, data, kind = await run_in_threadpool(exported, result, form)
        return Response(
            data,
            media_type=kind,
            headers={
                "Content-Disposition": f'attachment; filename="{name}"',
                "Content-Security-Policy": FRAME_POLICY,
            },
        )

    async def _forget(self, request: Request) -> Response:
        self._owner(request).forget(request.path_params["name"])
        return Json({})

    def _session(self, request: Request) -> Session | None:
        return self.sessions.find(request.cookies.get(self.settings.cookie, ""))

    def _owner(self, request: Request) -> Session:
        session = self._session(request)
        if session is None:
            raise _Missing("this session has ended, or the app was started again: reload the page.")
        return session

    def _find(self, request: Request, parameter: str) -> Result:
        result = self._owner(request).results.get(request.path_params[parameter])
        if result is None:
            raise _Missing("there is no such result (any more): the oldest ones make room.")
        return result

    def _find_job(self, request: Request) -> Job:
        job = self.jobs.find(self._owner(request).name, request.path_params["number"])
        if job is None:
            raise _Missing("there is no such request.")
        return job

    def _check_model(self, name: str) -> None:
        if name in self.settings.models or (self.settings.takes_any and name.strip()):
            return
        raise InputError(
            f"this app explains {', '.join(self.settings.models)}; start it with another --model "
            "for others."
        )

    async def _learn(self, model: str, answer: dict[str, Any]) -> dict[str, Any]:
        self._described[model] = answer["model"]
        return {"model": answer["model"]}

    async def _keep(
        self, session: Session, folder: Path, asked: Asked, image: str, answer: dict[str, Any]
    ) -> dict[str, Any]:
        # Files are read in a thread; sessions change between two steps of the loop alone.
        result, listed = await run_in_threadpool(_made, folder, asked, image, answer)
        await self._learn(asked.model, answer)
        self.sessions.keep(session, result)
        return listed


class _Missing(AttnflowError):
    """There is no such session, job or result."""


def _explained(request: Request, error: Exception) -> Response:
    statuses = {_Missing: 404, TooLarge: 413}
    return refused(str(error), statuses.get(type(error), 400))


def _not_found(request: Request, error: Exception | None = None) -> Response:
    return refused("there is nothing here.", 404)


def _read_asset(name: str) -> str:
    return (files("attnflow.app") / "app_assets" / name).read_text(encoding="utf-8")


def _made(
    folder: Path, asked: Asked, image: str, answer: dict[str, Any]
) -> tuple[Result, dict[str, Any]]:
    """Return the result in a folder, and what the page is told of it."""
    warnings = tuple(map(worded, answer["warnings"]))
    result = Result(folder, asked, answer["is_continuation"], image, size_of(folder), warnings)
    return result, _listed(folder.name, result)


def _listed(name: str, result: Result) -> dict[str, Any]:
    return {
        "name": name,
        "asked": asdict(result.asked),
        "image": result.image,
        "warnings": result.warnings,
        "summary": result.summary,
    }


def _changes(before: Result, after: Result) -> dict[str, Any] | None:
    if before.is_continuation or after.is_continuation:
        return None
    return changes(before.attributions(), after.attributions()[0])


async def _record(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise InputError("expected JSON (Content-Type: application/json).")
    body = await request.body()
    try:
        record = parse_json(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError("the request is not text in UTF-8.") from error
    except InputError as error:
        raise InputError(f"the request is not JSON: {error}.") from error
    if not isinstance(record, dict):
        raise InputError("expected a JSON object.")
    return record


def _save_image(image: Any, folder: Path) -> Path:
    """Write an image that the page sent, {"name": ..., "data": base64}; Pillow checks it later."""
    try:
        name, data = image["name"], base64.b64decode(image["data"], validate=True)
        file = folder / file_name(name)
    except (TypeError, KeyError, AttributeError, binascii.Error) as error:
        raise InputError("an image must be its name and its data in base64.") from error
    file.write_bytes(data)
    return file
