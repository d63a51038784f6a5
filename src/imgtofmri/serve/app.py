"""The application: what is at which address."""

from __future__ import annotations

import asyncio
import json
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from imgtofmri import __version__
from imgtofmri.exceptions import StimulusError
from imgtofmri.files import atomic_path
from imgtofmri.outputs.folder import PAGE
from imgtofmri.serve.description import describe
from imgtofmri.serve.guard import App, Guard
from imgtofmri.serve.inspection import inspect
from imgtofmri.serve.jobs import Job, Jobs
from imgtofmri.serve.limits import Limits
from imgtofmri.serve.refusal import Refusal, answer
from imgtofmri.serve.uploads import ClientLeftError, receive_upload
from imgtofmri.serve.work import Choices, roi_means
from imgtofmri.stimuli.discovery import IMAGE_SUFFIXES, MOVIE_SUFFIXES

TYPES = {
    ".gz": "application/gzip",
    ".tsv": "text/tab-separated-values; charset=utf-8",
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGES = {"/": "index.html", "/api": "api.html"}
STATIC = ("serve.css", "serve.js", "api.js", "icon.svg")

# The page of results is of no origin, so that nothing in it can ask this server for anything.
_REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts allow-downloads; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    # Browsers refuse to open what is in a sandbox and keeps openers away as well.
    "Cross-Origin-Opener-Policy": "unsafe-none",
}
_LOOK_S = 0.2
_ALIVE_S = 15.0


@dataclass(frozen=True, slots=True)
class About:
    """What a server says of its encoder."""

    id: str
    title: str
    network: str
    subjects: tuple[str, ...]


def make_app(
    jobs: Jobs,
    choices: Choices,
    about: About,
    limits: Limits,
    names: Collection[str] = (),
    stopping: Callable[[], bool] = lambda: False,
) -> App:
    """Return the ASGI application.

    Parameters
    ----------
    jobs : Jobs
    choices : Choices
        What a job may ask for.
    about : About
    limits : Limits
    names : collection of str
        Names of this computer, as `Guard` takes them.
    stopping : callable
        Whether the server is about to end, so that streams end first.
    """
    api = _Api(jobs, choices, about, limits, stopping)
    routes = [
        Route("/predict", api.predict, methods=["POST"]),
        Route("/server", api.server, methods=["GET"]),
        Route("/jobs/{id}", api.job, methods=["GET", "DELETE"]),
        Route("/jobs/{id}/events", api.events, methods=["GET"]),
        Route("/jobs/{id}/rois", api.rois, methods=["GET"]),
        Route("/jobs/{id}/report", api.report, methods=["GET"]),
        Route("/jobs/{id}/results.zip", api.archive, methods=["GET"]),
        Route("/jobs/{id}/files/{file:path}", api.file, methods=["GET"]),
        Route("/openapi.json", api.description, methods=["GET"]),
        *(Route(path, _static(name), methods=["GET"]) for path, name in PAGES.items()),
        *(Route(f"/static/{name}", _static(name), methods=["GET"]) for name in STATIC),
    ]
    handlers: dict[Any, Any] = {
        HTTPException: _http_error,
        Refusal: _refused,
        ClientLeftError: _left,
        Exception: _fault,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # Redirections would name the host that was asked for.
    return Guard(app, limits, names)


class _Api:
    """The JSON interface."""

    def __init__(
        self,
        jobs: Jobs,
        choices: Choices,
        about: About,
        limits: Limits,
        stopping: Callable[[], bool],
    ) -> None:
        self._jobs, self._choices, self._about = jobs, choices, about
        self._limits, self._stopping = limits, stopping
        self._n_streams = 0
        self._one_at_a_time = asyncio.Lock()

    async def predict(self, request: Request) -> Response:
        with self._jobs.receiving() as job:
            content_type = request.headers.get("content-type", "")
            upload = await receive_upload(content_type, request.receive, job.sent, self._limits)
            job.asked = self._choices.read(upload.fields)
            async with self._one_at_a_time:
                await run_in_threadpool(self._inspect, job, upload.files)
            if not job.files:
                raise Refusal(422, " ".join(reason for _, reason in job.failures))
            self._jobs.submit(job)
        return JSONResponse(self._said(job), 202, {"Location": f"/jobs/{job.id}"})

    def _inspect(self, job: Job, files: list[Path]) -> None:
        for path in files:
            try:
                job.files.append(inspect(path, self._limits, job.asked["rate_hz"]))
            except StimulusError as error:
                job.failures.append((path.name, job.without_paths(str(error))))

    async def server(self, request: Request) -> Response:
        return JSONResponse(
            {
                "version": __version__,
                "encoder": self._about.id,
                "title": self._about.title,
                "network": self._about.network,
                "subjects": list(self._about.subjects),
                "rois": list(self._choices.rois),
                "chosen_rois": list(self._choices.chosen),
                "average": self._choices.average,
                "suffixes": [*IMAGE_SUFFIXES, *MOVIE_SUFFIXES],
                "limits": {
                    "max_mb": self._limits.max_mb,
                    "max_files": self._limits.max_files,
                    "max_megapixels": self._limits.max_megapixels,
                    "max_minutes": self._limits.max_minutes,
                    "max_rate_hz": self._limits.max_rate_hz,
                    "queue": self._limits.queue,
                    "keep_minutes": self._limits.keep_minutes,
                },
            }
        )

    async def job(self, request: Request) -> Response:
        job = self._asked(request)
        if request.method == "DELETE":
            self._jobs.drop(job)
            return Response(status_code=204)
        return JSONResponse(self._said(job))

    async def events(self, request: Request) -> Response:
        job = self._asked(request)
        headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        if request.method == "HEAD":
            return Response(headers=headers)
        if self._n_streams >= self._limits.streams:
            message = f"expected at most {self._limits.streams} streams; got one more. Ask later."
            raise Refusal(429, message, {"Retry-After": "5"})
        return StreamingResponse(self._stream(job), headers=headers)

    async def _stream(self, job: Job) -> AsyncIterator[str]:
        """Tell of each change until the job is over, or the stream has lasted long enough."""
        self._n_streams += 1
        try:
            yield "retry: 2000\n\n"
            told, spoke = "", time.monotonic()
            until = spoke + self._limits.events_s
            while (now := time.monotonic()) < until and not self._stopping():
                said = json.dumps(self._said(job), separators=(",", ":"))
                if said != told:
                    told, spoke = said, now
                    yield f"event: job\ndata: {said}\n\n"
                elif now - spoke > _ALIVE_S:
                    spoke = now
                    yield ": still there\n\n"
                if job.is_over or job.cancelled.is_set():
                    return
                await asyncio.sleep(_LOOK_S)
        finally:
            self._n_streams -= 1

    async def rois(self, request: Request) -> Response:
        job = self._finished(request)
        return JSONResponse(await run_in_threadpool(roi_means, job))

    async def report(self, request: Request) -> Response:
        return self._file(self._finished(request), PAGE, attached=False, headers=_REPORT_HEADERS)

    async def file(self, request: Request) -> Response:
        return self._file(self._finished(request), request.path_params["file"])

    async def archive(self, request: Request) -> Response:
        job = self._finished(request)
        path = job.folder / "results.zip"
        async with self._one_at_a_time:
            if not path.exists():
                await run_in_threadpool(_pack, job, path)
        return FileResponse(path, media_type="application/zip", filename="imgtofmri-results.zip")

    async def description(self, request: Request) -> Response:
        return JSONResponse(describe(self._choices))

    def _asked(self, request: Request) -> Job:
        return self._jobs.get(request.path_params["id"])

    def _finished(self, request: Request) -> Job:
        job = self._asked(request)
        if not job.results:
            message = f"expected a job with results; this one is {job.state}. Wait, or look why."
            raise Refusal(409, message)
        return job

    @staticmethod
    def _file(
        job: Job, name: str, attached: bool = True, headers: dict[str, str] | None = None
    ) -> Response:
        path = job.made / name
        if name not in job.results or not path.is_file():
            message = "expected one of the job's files; it has none of this name. See its files."
            raise Refusal(404, message)
        media_type = TYPES.get(path.suffix, "application/octet-stream")
        filename = path.name if attached else None
        return FileResponse(path, headers=headers, media_type=media_type, filename=filename)

    def _said(self, job: Job) -> dict[str, Any]:
        """Return what a job is, for whoever asks."""
        step = job.step
        return {
            "id": job.id,
            "state": job.state,
            "position": self._jobs.position(job),
            "doing": job.without_paths(step.description),
            "done": step.done,
            "total": step.total,
            "unit": step.unit,
            "stimuli": [path.name for path in job.files],
            "failures": [{"name": name, "reason": reason} for name, reason in job.failures],
            "notes": list(job.notes),
            "error": job.error,
            "settings": {key: _plain(value) for key, value in job.asked.items()},
            "report": f"/jobs/{job.id}/report" if PAGE in job.results else None,
            "files": [
                {
                    "name": name,
                    "bytes": size,
                    "url": f"/jobs/{job.id}/files/{quote(name)}",
                }
                for name, size in job.results.items()
            ],
        }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _pack(job: Job, path: Path) -> None:
    """Put all results into one file, not compressed again."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in job.results:
            archive.write(job.made / name, f"imgtofmri/{name}")


def _static(name: str) -> Any:
    content = (resources.files(__package__) / "static" / name).read_bytes()
    media_type = TYPES[Path(name).suffix]

    async def page(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return page


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reasons = {
        404: "expected an address of this server; there is nothing here. See /api.",
        405: "expected a method that this address takes; got another. See /api.",
    }
    reason = reasons.get(error.status_code, str(error.detail))
    return answer(Refusal(error.status_code, reason, error.headers))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return answer(error)


async def _left(request: Request, error: Exception) -> Response:
    return answer(Refusal(400, "expected a whole request; its sender left. Send it again."))


async def _fault(request: Request, error: Exception) -> Response:
    return answer(Refusal(500, "The server failed; its log says why."))
