"""Routes of tasks and jobs: JSON in, JSON out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from howdah import __version__
from howdah.service.http_answers import Json
from howdah.service.http_service import Service
from howdah.service.security import Refused
from howdah.service.store import Job, State
from howdah.service.table import TASKS

__all__ = ["ERRORS", "JobId", "JobRequest", "Problem", "job_routes"]

SLICE_S = 1.0
KEY = r"^[A-Za-z0-9._:-]{1,128}$"


class Problem(BaseModel):
    """What went wrong."""

    error: str = Field(description="A sentence for a person.")


class JobRequest(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(min_length=1, max_length=80, description="Name of a task, see GET /api/tasks.")
    parameters: dict[str, Any] = Field(default={}, description="What the task is told, see GET /api/tasks/NAME.")
    key: str | None = Field(
        default=None, pattern=KEY, description="Chosen by the client; the same key again returns the same job."
    )


class Ready(Json):
    """An answer that came from JSON, so that it need not be looked through again."""

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


JobId = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="Of a job.")]
Wait = Annotated[float, Query(ge=0, le=3600, description="Seconds to hold the answer back until the job is over.")]
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": "A sentence that says what is wrong."}
    for code in (400, 401, 403, 404, 405, 409, 411, 413, 416, 421, 422, 429, 503, 507)
}


def job_routes(service: Service) -> APIRouter:
    """Return the routes of tasks and jobs."""
    routes = APIRouter(prefix="/api", responses=ERRORS, default_response_class=Json)
    _service_routes(routes, service)
    backend = service.backend

    @routes.post("/jobs", status_code=201)
    async def submit(
        asked: JobRequest,
        request: Request,
        wait: Wait = 0,
        idempotency_key: Annotated[str | None, Header(pattern=KEY)] = None,
    ) -> Response:
        """Ask for a task. The answer is the job; with ``wait`` it is held back until the job is over or the time is up."""
        key = asked.key or idempotency_key
        job = await asyncio.to_thread(service.submit, asked.task, asked.parameters, key)
        return Ready(service.shown(await _held(service, request, job, wait)), 201)

    @routes.get("/jobs")
    def jobs(state: State | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        """List jobs, the newest first."""
        return Ready([service.shown(job) for job in backend.jobs(state=state, limit=limit)])

    @routes.get("/jobs/{job_id}")
    async def job(job_id: JobId, request: Request, wait: Wait = 0) -> Response:
        """Return a job; with ``wait`` the answer is held back until it is over or the time is up."""
        found = await asyncio.to_thread(service.job, job_id)
        return Ready(service.shown(await _held(service, request, found, wait)))

    @routes.get("/jobs/{job_id}/lines")
    def lines(job_id: JobId, after: Annotated[int, Query(ge=0, lt=1 << 62)] = 0) -> Response:
        """Return the log lines with a number above ``after``."""
        service.job(job_id)
        return Json(backend.lines(job_id, after))

    @routes.get("/jobs/{job_id}/curves")
    def curves(job_id: JobId) -> Response:
        """Return the curves: stage/name -> points (step, value)."""
        service.job(job_id)
        return Json(backend.curves(job_id))

    @routes.post("/jobs/{job_id}/cancel")
    def cancel(job_id: JobId) -> Response:
        """Stop a job at once; one that is over stays as it is."""
        service.job(job_id)
        return Ready(service.shown(backend.cancel(job_id)))

    @routes.delete("/jobs/{job_id}", status_code=204)
    def delete(job_id: JobId) -> Response:
        """Forget a job and remove its own folder. Files that a client named stay."""
        service.job(job_id)
        backend.delete(job_id)
        return Response(status_code=204)

    return routes


def _service_routes(routes: APIRouter, service: Service) -> None:
    """Add the routes of the service itself and of its tasks."""
    began = time.time()

    @routes.get("/health")
    async def health() -> Response:
        """Say that the service is there."""
        return Json({"state": "ready", "version": __version__, "up_s": round(time.time() - began, 1)})

    @routes.get("/tasks")
    async def tasks() -> Response:
        """List the tasks: name, summary, whether it uses a network."""
        return Json([{"name": t.name, "summary": t.summary, "learns": t.learns} for t in TASKS.values()])

    @routes.get("/tasks/{name}")
    async def task(name: str) -> Response:
        """Return a task with the JSON schema of its parameters."""
        if name not in TASKS:
            raise Refused(f"There is no task {name[:80]!r}. GET /api/tasks lists them.", 404)
        found = TASKS[name]
        about = {"name": found.name, "summary": found.summary, "learns": found.learns}
        return Json({**about, "parameters": found.parameters.model_json_schema()})

    @routes.post("/shutdown", status_code=202)
    async def shutdown(later: BackgroundTasks) -> Response:
        """Stop the service. Jobs that run are queued again when it starts next."""
        if service.stop is None:
            raise Refused("This service cannot be stopped from outside.", 403)
        later.add_task(service.stop)
        return Json({"state": "stopping"}, 202, background=later)


async def _held(service: Service, request: Request, job: Job, wait: float) -> Job:
    """Hold an answer back until a job is over, the time is up, or the client has gone; not if too many are held already."""
    if job.over or wait <= 0 or service.waiting >= service.limits.waiting:
        return job
    until = time.monotonic() + min(wait, service.limits.wait_s)
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(news.set)

    service.waiting += 1
    try:
        with service.backend.watching(job.id, tell):
            while (found := service.backend.store.job(job.id)) is not None and not found.over:
                left = min(until - time.monotonic(), SLICE_S)
                if left <= 0 or service.ending:
                    break
                try:
                    await asyncio.wait_for(news.wait(), left)
                except TimeoutError:
                    if await request.is_disconnected():
                        break
                news.clear()
    finally:
        service.waiting -= 1
    if found is not None and found.over:
        return found
    return await asyncio.to_thread(service.job, job.id)
