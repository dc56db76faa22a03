"""The tasks over HTTP: JSON for control, raw bytes for images and tables, for any language and for other computers.

    app = create_app(backend, token=token, roots=roots)

Read with it: :mod:`security` (who may ask), :mod:`http_gate` (what every request passes), :mod:`http_jobs`, :mod:`http_data`
(the routes), :mod:`uploads` (what clients sent), :mod:`page` (the web page), :mod:`http_server` (the process).
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from howdah import __version__
from howdah.service.backend import Backend
from howdah.service.http_answers import install_answers
from howdah.service.http_data import data_routes
from howdah.service.http_files import file_routes
from howdah.service.http_gate import Gate
from howdah.service.http_jobs import job_routes
from howdah.service.http_service import Service
from howdah.service.page.routes import page_routes
from howdah.service.security import Guard, Limits
from howdah.service.uploads import Uploads

__all__ = ["create_app"]

DESCRIPTION = """Howdah finds, segments and tracks cells. A task is what a verb of the command line does; asking for one makes a job.
Every error is `{"error": "a sentence"}`."""


def create_app(
    backend: Backend,
    *,
    token: str,
    limits: Limits | None = None,
    stop: Callable[[], object] | None = None,
    hosts: tuple[str, ...] = (),
) -> FastAPI:
    """Return the application over a backend.

    Args:
        backend: Runs the jobs; the application does not close it.
        token: What every request must show; see :class:`howdah.service.security.Guard`.
        limits: How much a client may ask for.
        stop: Called on ``POST /api/shutdown``; None: that is refused.
        hosts: Names under which the service may be asked (the header ``Host``); none: any.

    Raises:
        ServiceError: The token is too short.
    """
    guard, bounds = Guard(token), limits or Limits()
    service = Service(backend, guard, bounds, Uploads(backend.folder / "uploads", bounds), stop)
    app = FastAPI(
        title="Howdah",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # these pages load scripts from elsewhere; the page has its own description
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.service = service
    install_answers(app)
    for routes in (job_routes, data_routes, file_routes, page_routes):
        app.include_router(routes(service))
    app.add_middleware(Gate, service=service, hosts=hosts)
    return app
