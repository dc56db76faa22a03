"""Howdah's service from Python: for scripts and notebooks, with nothing but the standard library and numpy.

with connect() as client:
    job = client.run("check", {"image": client.send_array(image, axes="ZYX")})
    result = client.array(job["result"]["image"]["array"])
"""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

from howdah.errors import Cancelled, DataError, ServiceError
from howdah.service.arrays import ArrayHeader
from howdah.service.parameters import Image, Table
from howdah.service.state import Running, read_note
from howdah.service.tables import TableHeader, pack, unpack

__all__ = ["Client", "client_of", "connect", "find"]

BLOCK = 1 << 20
HOLD_S = 20.0
TIMEOUT_S = 90.0
Shown = Callable[[Mapping[str, Any]], object]


def find() -> Running | None:
    """Return the service that runs on this computer for this user, or None; it may not answer any more."""
    return read_note()


def connect(url: str | None = None, token: str | None = None, *, certificate: str | Path | None = None) -> Client:
    """Return a client of the service at ``url``, or of the one that runs on this computer.

    Raises:
        ServiceError: None runs here, it does not answer, or the token is wrong.
    """
    if url is None:
        found = find()
        if found is None:
            raise ServiceError("No Howdah service runs on this computer. Start one: howdah serve --root FOLDER")
        client = client_of(found)
    else:
        client = Client(url, token or "", certificate=certificate)
    try:
        client.health()
        client.tasks()
    except ServiceError:
        client.close()
        raise
    return client


def client_of(running: Running, *, timeout: float = TIMEOUT_S) -> Client:
    """Return a client of a service that was found on this computer."""
    here = running.certificate is not None
    return Client(running.url, running.token, certificate=running.certificate, here=here, timeout=timeout)


class Client:
    """One connection to a service; not for several threads at once. A context manager.

    Args:
        url: Of the service: ``http://127.0.0.1:PORT``.
        token: Its token.
        certificate: A PEM file to trust beside those of the system.
        here: The service runs on this computer and showed its certificate in its note: that one alone is trusted, whatever name it is for.
        timeout: Seconds without an answer after which a request fails.

    Raises:
        ServiceError: The address is none, or the certificate cannot be read.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        certificate: str | Path | None = None,
        here: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServiceError(f"'{url}' is no address of a service; expected http://HOST:PORT.")
        self.url, self._token = url.rstrip("/"), token
        if parts.scheme == "https":
            trusted = _trusted(certificate, here=here)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=trusted
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout, blocksize=BLOCK)

    # ---- tasks and jobs --------------------------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """Return state and version of the service."""
        return dict(self._json("GET", "/api/health"))

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks: name, summary, whether they use a network."""
        return list(self._json("GET", "/api/tasks"))

    def task(self, name: str) -> dict[str, Any]:
        """Return a task with the JSON schema of its parameters."""
        return dict(self._json("GET", f"/api/tasks/{quote(name, safe='')}"))

    def submit(
        self, task: str, parameters: Mapping[str, Any], *, wait: float = 0, key: str | None = None
    ) -> dict[str, Any]:
        """Ask for a task and return the job; with ``wait`` when it is over, or after so many seconds.

        A key is made where none is given, so that the request can be repeated after a cut connection without a second job.
        """
        asked = {"task": task, "parameters": dict(parameters), "key": key or secrets.token_hex(12)}
        return dict(self._json("POST", f"/api/jobs?wait={wait:g}", asked))

    def job(self, job_id: str, *, wait: float = 0) -> dict[str, Any]:
        """Return a job as it is now, or when it is over, or after ``wait`` seconds."""
        return dict(self._json("GET", f"/api/jobs/{job_id}?wait={wait:g}"))

    def jobs(self, *, state: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return jobs, the newest first."""
        query = {"limit": limit, **({"state": state} if state else {})}
        return list(self._json("GET", f"/api/jobs?{urlencode(query)}"))

    def run(
        self, task: str, parameters: Mapping[str, Any], *, show: Shown | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """Ask for a task, wait for its end and return the job, which is done.

        Args:
            task: Name of the task.
            parameters: What it is told.
            show: Called with the job whenever there is news.
            timeout: Seconds after which the job is cancelled.

        Raises:
            DataError: The job failed; the sentence says why. Cancelled: It was cancelled. ServiceError: See :func:`connect`.
        """
        until = None if timeout is None else time.monotonic() + timeout
        hold = HOLD_S if show is None else 1.0
        job = self.submit(task, parameters, wait=1.0)  # soon, so that a cut connection does not leave the job unknown
        while job["state"] in ("queued", "running"):
            if show is not None:
                show(job)
            if until is not None and time.monotonic() > until:
                self.cancel(job["id"])
                raise Cancelled(f"The task {task} was cancelled: it took more than {timeout:g} s.")
            try:
                job = self.job(job["id"], wait=hold)
            except ServiceError as error:
                raise ServiceError(f"{error} The job {job['id']} goes on when the service runs again.") from error
        if show is not None:
            show(job)
        if job["state"] == "cancelled":
            raise Cancelled(str(job["error"] or "The job was cancelled."))
        if job["state"] == "failed":
            raise DataError(str(job["error"]))
        return job

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job."""
        return dict(self._json("POST", f"/api/jobs/{job_id}/cancel"))

    def delete(self, job_id: str) -> None:
        """Forget a job and remove its own folder."""
        self._json("DELETE", f"/api/jobs/{job_id}")

    def lines(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return log lines with a number above ``after``."""
        return list(self._json("GET", f"/api/jobs/{job_id}/lines?after={after}"))

    def curves(self, job_id: str) -> dict[str, list[list[float]]]:
        """Return the curves of a job: stage/name -> points (step, value)."""
        return dict(self._json("GET", f"/api/jobs/{job_id}/curves"))

    def shutdown(self) -> None:
        """Stop the service."""
        self._json("POST", "/api/shutdown")

    # ---- images, tables, files -------------------------------------------------------------------------------------

    def send_array(self, image: Any, *, axes: str = "", **calibration: Any) -> str:
        """Send an image and return ``upload:ID``, which stands for it in the parameters of a task.

        Args:
            image: A numpy array or an :class:`Image`.
            axes: A letter for each axis of an array, slowest first.
            calibration: ``voxel_size`` (z, y, x), ``unit``, ``interval_s``.
        """
        if isinstance(image, Image):
            size = None if image.voxel_size is None else list(image.voxel_size)
            axes, calibration = image.axes, {"voxel_size": size, "unit": image.unit, "interval_s": image.interval}
            image = image.data
        header = ArrayHeader.of(image, axes, **calibration)
        data = np.ascontiguousarray(image).astype(np.dtype(header.dtype), copy=False)
        body = _bytes_of(data)
        said = self._json("POST", "/api/arrays", body, headers={"X-Howdah-Array": header.to_text()})
        return str(said["array"])

    def array(self, name: str) -> Image:
        """Return the image of ``array:ID`` or ``upload:ID``."""
        answer = self._ask("GET", f"/api/arrays/{quote(name.partition(':')[2] or name)}")
        said = json.loads(answer.headers["X-Howdah-Array"])
        data = np.empty(said["shape"], dtype=said["dtype"])
        _read_into(answer, _bytes_of(data))
        size = said["voxel_size"]
        return Image(data, said["axes"], None if size is None else tuple(size), said["unit"], said["interval_s"])

    def send_table(self, table: Table) -> str:
        """Send columns of equal length and return ``upload:ID``."""
        header, body = pack(table)
        said = self._json("POST", "/api/tables", memoryview(body), headers={"X-Howdah-Table": header.to_text()})
        return str(said["table"])

    def table(self, name: str) -> Table:
        """Return the table of ``table:ID`` or ``upload:ID``."""
        answer = self._ask("GET", f"/api/tables/{quote(name.partition(':')[2] or name)}")
        return unpack(TableHeader.parse(answer.headers["X-Howdah-Table"]), answer.read())

    def send_file(self, path: str | Path) -> str:
        """Send a file and return ``upload:ID``."""
        source = Path(path)
        with source.open("rb") as file:
            size = {"Content-Length": str(source.stat().st_size)}
            said = self._json("POST", f"/api/files?{urlencode({'name': source.name})}", file, headers=size)
        return str(said["file"])

    def files(self, job_id: str) -> list[dict[str, Any]]:
        """Return name and bytes of each file in a job's own folder."""
        return list(self._json("GET", f"/api/jobs/{job_id}/files"))

    def save_file(self, job_id: str, name: str, target: str | Path) -> Path:
        """Fetch a file of a job."""
        answer = self._ask("GET", f"/api/jobs/{job_id}/files/{quote(name)}")
        with Path(target).open("wb") as file:
            shutil.copyfileobj(answer, file, BLOCK)
        return Path(target)

    # ---- requests --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        answer = self._ask(method, path, body, headers)
        text = answer.read()
        return json.loads(text) if text else None

    def _ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request and return its answer, which is no error; once more where an idle connection was closed."""
        raw = isinstance(body, memoryview) or hasattr(body, "read")
        kind = "application/octet-stream" if raw else "application/json"
        data = body if raw or body is None else json.dumps(body, allow_nan=False).encode("ascii")
        said = {
            "Authorization": f"Bearer {self._token}",
            **({"Content-Type": kind} if body is not None else {}),
            **(headers or {}),
        }
        fresh = self._connection.sock is None
        try:
            answer = self._once(method, path, data, said)
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected) as error:
            if fresh or raw:
                raise self._lost(error) from error
            try:
                answer = self._once(method, path, data, said)
            except (OSError, http.client.HTTPException) as again:
                raise self._lost(again) from again
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        if answer.status >= 400:
            raise ServiceError(_sentence(answer))
        return answer

    def _once(self, method: str, path: str, data: Any, headers: dict[str, str]) -> http.client.HTTPResponse:
        if self._connection.sock is None:
            self._connection.connect()  # sets TCP_NODELAY
        self._connection.putrequest(method, path)
        length = len(data) if isinstance(data, bytes | memoryview) else None
        if length is not None and "Content-Length" not in headers:
            headers = {**headers, "Content-Length": str(length)}
        elif data is None and method != "GET":
            headers = {**headers, "Content-Length": "0"}
        for name, value in headers.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        try:
            for block in _blocks(data):
                self._connection.send(block)
        except (BrokenPipeError, ConnectionResetError):
            try:  # the service may have refused the upload with a sentence before it closed
                return self._connection.getresponse()
            except (OSError, http.client.HTTPException):
                self._connection.close()
                raise ConnectionResetError("the connection was cut in the middle of the upload") from None
        return self._connection.getresponse()

    def _lost(self, error: Exception) -> ServiceError:
        self._connection.close()
        if isinstance(error, ssl.SSLError):
            return ServiceError(
                f"The service at {self.url} could not be trusted, or speaks no TLS ({error}). Give the certificate of the service: "
                "certificate=FILE.pem; the name in it must be that of the address."
            )
        why = "it took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return ServiceError(
            f"The service at {self.url} does not answer ({why}). See whether it runs: howdah serve --status"
        )


def _trusted(certificate: str | Path | None, *, here: bool) -> ssl.SSLContext:
    """Return whom to believe that it is the service."""
    try:
        if here and certificate is not None:
            trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trusted.check_hostname = False
            trusted.verify_flags |= (
                ssl.VERIFY_X509_PARTIAL_CHAIN
            )  # also one that an authority signed, without its chain
            trusted.load_verify_locations(certificate)
            return trusted
        trusted = ssl.create_default_context()
        if certificate is not None:
            trusted.load_verify_locations(certificate)
        return trusted
    except (OSError, ValueError) as error:
        raise ServiceError(f"The certificate {certificate} cannot be used: {error}. Give it as a PEM file.") from error


def _bytes_of(data: np.ndarray[Any, Any]) -> memoryview:
    """Return the memory of an array in row order as bytes."""
    flat: Any = data.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _blocks(data: Any) -> Iterable[bytes | memoryview]:
    if data is None:
        return
    if isinstance(data, bytes | memoryview):
        for at in range(0, len(data), BLOCK):
            yield data[at : at + BLOCK]
        return
    file: BinaryIO = data
    while block := file.read(BLOCK):
        yield block


def _read_into(answer: http.client.HTTPResponse, target: memoryview) -> None:
    at = 0
    while at < len(target):
        got = answer.readinto(target[at:])
        if not got:
            raise ServiceError(f"The connection was cut: {at:,} of {len(target):,} bytes came. Ask again.")
        at += got
    answer.read()


def _sentence(answer: http.client.HTTPResponse) -> str:
    text = answer.read(1 << 20)
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return f"The service answered with the status {answer.status} ({answer.reason})."
