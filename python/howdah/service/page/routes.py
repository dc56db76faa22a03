"""Addresses of the web page, its cookie and its forms."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from howdah import __version__
from howdah.service.http_jobs import JobId
from howdah.service.http_service import Service
from howdah.service.page.curves import plots
from howdah.service.page.slices import Scenes
from howdah.service.security import Rate, Refused
from howdah.service.store import Job, State
from howdah.service.table import TASKS

__all__ = ["page_routes"]

LINES = 200
LONGEST_FORM = 65_536
SHOWN = 200
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path d="M1 14V8l3-2V3h8v3l3 2v6z" fill="#2463a8"/>'
    '<path d="M5 5h6v3H5z" fill="#fff"/></svg>'
)


class _Pages:
    """Renders templates."""

    def __init__(self, service: Service) -> None:
        self.service = service
        folder = FileSystemLoader(Path(__file__).with_name("templates"))
        self._templates = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, auto_reload=False)
        self._templates.filters.update(clock=_clock, span=_span, short=_short)

    def render(self, name: str, status: int = 200, **values: Any) -> Response:
        """Return a page. Its scripts and styles carry a number that is used once; nothing else runs."""
        once = secrets.token_urlsafe(16)
        form = self.service.guard.form if name != "login.html" else ""
        text = self._templates.get_template(name).render(
            once=once, form=form, version=__version__, now=time.time(), **values
        )
        policy = (
            f"default-src 'none'; script-src 'nonce-{once}'; style-src 'nonce-{once}'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return Response(
            text, status, headers={"Content-Security-Policy": policy}, media_type="text/html; charset=utf-8"
        )


def page_routes(service: Service) -> APIRouter:
    """Return the routes of the web page."""
    routes = APIRouter(include_in_schema=False, default_response_class=Response)
    pages, scenes = _Pages(service), Scenes(service.roots)
    _login_routes(routes, service, pages)

    @routes.get("/icon.svg")
    def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    @routes.get("/")
    def jobs() -> Response:
        return pages.render("jobs.html", **_all(service))

    @routes.get("/parts/jobs")
    def jobs_part() -> Response:
        return pages.render("jobs_part.html", **_all(service))

    @routes.get("/tasks")
    def tasks(request: Request) -> Response:
        schemas = {name: task.parameters.model_json_schema() for name, task in sorted(TASKS.items())}
        ways = [
            (", ".join(sorted(route.methods or ())), route.path, (route.endpoint.__doc__ or "").strip())
            for route in _routes(request.app.router)
            if route.path.startswith("/api")
        ]
        return pages.render("tasks.html", tasks=TASKS, schemas=schemas, ways=ways)

    @routes.get("/jobs/{job_id}")
    def job(job_id: JobId) -> Response:
        found = service.job(job_id)
        return pages.render("job.html", scene=_scene(scenes, found), **_about(service, found))

    @routes.get("/parts/jobs/{job_id}")
    def job_part(job_id: JobId) -> Response:
        return pages.render("job_part.html", **_about(service, service.job(job_id)))

    @routes.get("/jobs/{job_id}/slice.png")
    def slice_of(
        job_id: JobId, t: Annotated[int, Query(ge=0, lt=1 << 31)] = 0, z: Annotated[int, Query(ge=0, lt=1 << 31)] = 0
    ) -> Response:
        return Response(scenes.picture(service.job(job_id), frame=t, plane=z), media_type="image/png")

    @routes.post("/jobs/{job_id}/cancel")
    async def cancel(job_id: JobId, request: Request) -> Response:
        service.guard.check_form((await _form(request)).get("form", ""))
        await asyncio.to_thread(lambda: service.backend.cancel(service.job(job_id).id))
        return RedirectResponse(f"/jobs/{job_id}", 303)

    @routes.post("/jobs/{job_id}/delete")
    async def delete(job_id: JobId, request: Request) -> Response:
        service.guard.check_form((await _form(request)).get("form", ""))
        await asyncio.to_thread(lambda: service.backend.delete(service.job(job_id).id))
        return RedirectResponse("/", 303)

    return routes


def _login_routes(routes: APIRouter, service: Service, pages: _Pages) -> None:
    wrong = Rate(service.limits.wrong_tokens / 60, service.limits.wrong_tokens)

    def admitted(request: Request, token: str, then: str) -> Response:
        address = request.client.host if request.client is not None else "unknown"
        if not service.guard.knows(token):
            if not wrong.allows(address):
                raise Refused("Too many wrong tokens from this computer. Wait a minute.", 429, {"Retry-After": "60"})
            return pages.render("login.html", 401, wrong=True, then=then)
        answer = RedirectResponse(then, 303)
        answer.set_cookie(
            service.guard.cookie,
            service.guard.session,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return answer

    @routes.get("/login")
    def login(request: Request, token: str = "", next: str = "/") -> Response:  # noqa: A002  the name in the address
        then = next if next.startswith("/") and next[1:2] not in ("/", "\\") and next.isprintable() else "/"
        return admitted(request, token, then) if token else pages.render("login.html", wrong=False, then=then)

    @routes.post("/login")
    async def send_login(request: Request) -> Response:
        given = await _form(request)
        then = given.get("next", "/")
        then = then if then.startswith("/") and then[1:2] not in ("/", "\\") and then.isprintable() else "/"
        return admitted(request, given.get("token", ""), then)


async def _form(request: Request) -> dict[str, str]:
    body = await request.body()
    if len(body) > LONGEST_FORM:
        raise Refused("The form is too long.", 413)
    try:
        return {name: values[0] for name, values in parse_qs(body.decode("utf-8"), max_num_fields=20).items()}
    except ValueError:
        raise Refused("The form cannot be understood.") from None


def _routes(router: Any) -> list[APIRoute]:
    return [route for route in router.routes if isinstance(route, APIRoute)]


def _all(service: Service) -> dict[str, Any]:
    store = service.backend.store
    counts = {state: count for state in get_args(State) if (count := store.count(state))}
    return {
        "jobs": service.backend.jobs(limit=SHOWN),
        "counts": counts,
        "earlier": max(sum(counts.values()) - SHOWN, 0),
    }


def _about(service: Service, job: Job) -> dict[str, Any]:
    earlier = max(service.backend.store.last_line(job.id) - LINES, 0)
    return {
        "job": job,
        "plots": plots(service.backend.curves(job.id)),
        "lines": service.backend.lines(job.id, earlier),
        "earlier": earlier,
        "files": service.files_of(job, SHOWN),
    }


def _scene(scenes: Scenes, job: Job) -> dict[str, Any] | None:
    try:
        return scenes.about(job)
    except Refused:
        return None


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _span(seconds: float) -> str:
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{max(seconds, 0):.1f} s"
    return f"{whole // 3600} h {whole // 60 % 60} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 300 else f"{text[:297]}..."
