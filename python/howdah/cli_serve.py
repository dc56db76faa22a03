"""The command line: ``howdah serve``."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import signal
import stat
import sys
import threading
import time
import typing
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from howdah import __version__
from howdah.cli_hints import grouped
from howdah.cli_show import guarded, show_result, warn
from howdah.errors import MissingExtraError, ServiceError

if TYPE_CHECKING:
    from howdah.service.http_server import Server

__all__ = ["add_to"]

GIGABYTE = 2**30
IDLE_LOOK_S = 5.0
STOP_S = 20.0
TIDY_S = 3600.0
DAY_S = 86_400.0


def _option(name: str, metavar: str | None, text: str, **more: Any) -> Any:
    return typer.Option(name, metavar=metavar, help=text, **more)


@dataclass(frozen=True)
class _Wanted:
    """The options of ``howdah serve``, in the order of its help."""

    host: Annotated[
        str, _option("--host", "NAME", "Interface; others than this computer's own need TLS or --plain.")
    ] = "127.0.0.1"
    port: Annotated[int, _option("--port", "N", "0 for a free one.", min=0, max=65535)] = 0
    root: Annotated[
        list[Path] | None,
        _option("--root", "FOLDER", "A folder that clients may read and write; may be repeated (default: this one)."),
    ] = None
    state: Annotated[
        Path | None, _option("--state", "FOLDER", "Where jobs and uploads are kept (default: ~/.howdah/service).")
    ] = None
    token_file: Annotated[
        Path | None,
        _option("--token-file", "FILE", "Holds the token; only its owner may read it (default: a new token)."),
    ] = None
    certificate: Annotated[Path | None, _option("--certificate", "FILE.pem", "For TLS, with --key.")] = None
    key: Annotated[Path | None, _option("--key", "FILE.pem", "For TLS, with --certificate.")] = None
    plain: Annotated[
        bool, _option("--plain", None, "Serve other computers without TLS: the token can be read on the way.")
    ] = False
    max_upload: Annotated[float, _option("--max-upload", "GB", "Largest upload.", min=0.001)] = 64
    keep_days: Annotated[
        float,
        _option(
            "--keep-days",
            "DAYS",
            "Forget jobs that ended so long ago, with results that were given no name; 0: never.",
            min=0,
        ),
    ] = 30
    idle: Annotated[
        float | None,
        _option("--idle", "MINUTES", "End when nobody asked for anything for so long and no job runs.", min=0.01),
    ] = None
    device: Annotated[
        list[str] | None, _option("--device", "NAME", "Device for learning jobs (default: each GPU, else cpu).")
    ] = None
    stop: Annotated[bool, _option("--stop", None, "Stop the service of this user.")] = False
    status: Annotated[bool, _option("--status", None, "Say whether a service runs, where, and what it does.")] = False
    json: Annotated[bool, _option("--json", None, "Print one JSON line.")] = False


TYPES = typing.get_type_hints(_Wanted, include_extras=True)
CHOICES = {each.name: (TYPES[each.name], each.default) for each in fields(_Wanted)}


def add_to(app: typer.Typer) -> None:
    """Add the command ``serve``."""

    @app.command()
    @grouped("choices", CHOICES)
    def serve(choices: dict[str, Any]) -> None:
        """Serve all tasks over HTTP, for Fiji and for scripts, here or on a GPU server; with a web page of its jobs."""
        wanted = _Wanted(**choices)
        work = _stop if wanted.stop else _status if wanted.status else _serve
        code = guarded(lambda: work(wanted), as_json=wanted.json)
        if code:
            raise typer.Exit(code)


def _status(wanted: _Wanted) -> None:
    from howdah.service.client import client_of, find

    found = find()
    if found is None:
        raise ServiceError(
            "No Howdah service of this user runs on this computer. Start one: howdah serve --root FOLDER"
        )
    with client_of(found, timeout=10) as client:
        health = client.health()
        counts = {state: len(client.jobs(state=state, limit=1000)) for state in ("running", "queued")}
    show_result(
        {
            "url": found.url,
            "page": f"{found.url}/login?token={found.token}",
            "pid": found.pid,
            **health,
            **counts,
            "log": found.log,
        },
        as_json=wanted.json,
    )


def _stop(wanted: _Wanted) -> None:
    from howdah.service.client import client_of, find

    found = find()
    if found is None:
        show_result({"state": "no service was running"}, as_json=wanted.json)
        return
    with client_of(found, timeout=10) as client:
        client.shutdown()
    until = time.monotonic() + STOP_S
    while find() is not None and time.monotonic() < until:
        time.sleep(0.05)
    if find() is not None:
        raise ServiceError(f"The service at {found.url} did not stop within {STOP_S:g} s. Its process is {found.pid}.")
    show_result({"state": "stopped", "pid": found.pid}, as_json=wanted.json)


def _serve(wanted: _Wanted) -> None:
    """Serve until a signal, ``--stop`` or ``--idle`` ends it."""
    try:
        from howdah.service.http import create_app
        from howdah.service.http_server import Address, Server, is_loopback
    except ImportError as error:
        raise MissingExtraError(
            f"Serving needs {error.name}, which is not installed. Install it with: pip install 'howdah[serve]'"
        ) from None
    from howdah.service.backend import Backend
    from howdah.service.roots import Roots
    from howdah.service.security import Guard, Limits
    from howdah.service.state import Running, claim_home, forget, home, note

    if not is_loopback(wanted.host) and wanted.certificate is None and not wanted.plain:
        raise ServiceError(
            f"Serving other computers ({wanted.host}) needs TLS, for else the token can be read on the way: give --certificate and "
            "--key, or reach this one through `ssh -L`. On a network that you trust: --plain."
        )
    token, roots = _token(wanted.token_file), wanted.root or [_here()]
    Guard(token)
    Roots(roots)
    limits = Limits(
        upload=int(wanted.max_upload * GIGABYTE),
        keep_jobs_s=wanted.keep_days * DAY_S if wanted.keep_days else None,
    )
    address = Address(wanted.host, wanted.port, wanted.certificate, wanted.key)
    hosts = ("127.0.0.1", "localhost", "::1", wanted.host) if is_loopback(wanted.host) else ()
    with (
        claim_home(),
        contextlib.closing(Server(address)) as server,
        Backend(wanted.state or home() / "service", roots=roots, devices=wanted.device or None) as backend,
    ):
        log = _logging(home())
        app = create_app(backend, token=token, limits=limits, stop=server.stop, hosts=hosts)
        shown = None if wanted.certificate is None else str(wanted.certificate.resolve())
        note(Running(server.url, token, os.getpid(), __version__, time.time(), str(log), shown))
        try:
            _stop_at_signals(server)
            show_result(
                {"url": server.url, "page": _page(server.url, token, wanted), "log": str(log)},
                as_json=wanted.json,
            )
            sys.stdout.flush()
            if not is_loopback(wanted.host) and wanted.certificate is None:
                warn("other computers reach this service without TLS: who listens on the network can read the token.")
            backend.warm_up()
            _tidy_now_and_then(server, app.state.service)
            if wanted.idle is not None:
                _stop_when_idle(server, backend, app.state.service, wanted.idle * 60)
            server.run(app)
        finally:
            forget(os.getpid())
            logging.getLogger(__name__).info("The service ends.")


def _here() -> Path:
    """Return the folder in which the command was given, unless that would serve everybody's files.

    Raises:
        ServiceError: It is the root of the disk, or holds the users' folders.
    """
    here = Path.cwd().resolve()
    if here == Path(here.anchor) or here in Path.home().resolve().parents:
        raise ServiceError(
            f"Shall clients read and write all of {here}? Name the folder with your movies: --root FOLDER (or --root {here}, "
            "if it is meant)."
        )
    return here


def _page(url: str, token: str, wanted: _Wanted) -> str:
    """Return the address of the page; a token that was given in a file is not printed, for what is printed may be kept in a log."""
    return f"{url}/login?token={token}" if wanted.token_file is None else f"{url}/login"


def _token(file: Path | None) -> str:
    from howdah.service.security import new_token

    if file is None:
        return new_token()
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"Reading the token from {file} failed: {error}.") from None
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise ServiceError(f"Others may read the token in {file}. Make it private: chmod 600 {file}")
    return text


def _logging(folder: Path) -> Path:
    """Write warnings and what the service does to a log file of bounded size, and return its path."""
    path = folder / "service.log"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=4 << 20, backupCount=2, encoding="utf-8")
    except OSError as error:
        raise ServiceError(f"The log {path} cannot be written: {error}. Set HOWDAH_HOME to another folder.") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name, level in (("howdah", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
    return path


def _stop_at_signals(server: Server) -> None:
    def ask(number: int, frame: FrameType | None) -> None:
        server.stop()

    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, ask)


def _tidy_now_and_then(server: Server, service: Any) -> None:
    def work() -> None:
        while True:
            try:
                service.tidy()
            except ServiceError as error:
                logging.getLogger(__name__).warning("Old jobs and uploads were not removed: %s", error)
            if server.stopped.wait(TIDY_S):
                return

    threading.Thread(target=work, name="howdah-tidy", daemon=True).start()


def _stop_when_idle(server: Server, backend: Any, service: Any, seconds: float) -> None:
    def watch() -> None:
        while not server.stopped.wait(min(IDLE_LOOK_S, seconds)):
            busy = service.waiting or any(backend.jobs(state=state, limit=1) for state in ("running", "queued"))
            if busy:
                service.last_asked = time.monotonic()
            elif time.monotonic() - service.last_asked > seconds:
                server.stop()

    threading.Thread(target=watch, name="howdah-idle", daemon=True).start()
