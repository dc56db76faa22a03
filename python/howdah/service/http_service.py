"""What the routes share, and how names of a client (``upload:...``, ``array:...``) become files."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from howdah.errors import ServiceError
from howdah.service.arrays import ArrayHeader, begin_tiff, npy_offset
from howdah.service.backend import Backend
from howdah.service.parameters import in_memory
from howdah.service.roots import Roots
from howdah.service.running import prepare
from howdah.service.security import Guard, Limits, Refused
from howdah.service.store import Job, State
from howdah.service.table import TASKS
from howdah.service.uploads import Uploads

__all__ = ["RESULT", "Service", "array_of"]

RESULT = re.compile(r"(?P<job>[0-9a-f]{12})\.(?P<name>[A-Za-z0-9_-]{1,64}\.(?:npy|npz))")
REFERENCE = re.compile(r"(?P<kind>upload|array|table):(?P<id>[A-Za-z0-9_.-]{1,128})")
MOST_FILES = 10_000
UPLOAD = re.compile(r"uploads[\\/]+([0-9a-f]{16})[\\/]")  # in the path of its file
MOST_JOBS = 100_000
DEEPEST = 20  # lists and objects in each other
UNDONE: tuple[State, ...] = ("queued", "running")

log = logging.getLogger(__name__)


@dataclass
class Service:
    """The backend with what stands between it and its clients.

    Attributes:
        backend: Runs the jobs. guard: Knows the token. limits: How much a client may ask for. uploads: What clients sent.
        stop: Ends the process, None where a client must not.
        waiting: Answers that are held back now. ending: The server stops, and holds none back.
        last_asked: When a client last asked for anything (monotonic clock).
    """

    backend: Backend
    guard: Guard
    limits: Limits
    uploads: Uploads
    stop: Callable[[], object] | None = None
    waiting: int = 0
    ending: bool = False
    last_asked: float = field(default_factory=time.monotonic)
    roots: Roots = field(init=False)
    _quick: Roots = field(init=False)

    def __post_init__(self) -> None:
        folders = [*self.backend.roots, self.backend.folder / "jobs", self.uploads.folder]
        self.roots = Roots(folders, uploads=self.uploads.folder)
        self._quick = Roots(folders)  # the worker looks into an uploaded HDF5: that takes a while, and may be its end

    def job(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            Refused: 404.
        """
        try:
            return self.backend.job(job_id)
        except ServiceError as error:
            raise Refused(str(error), 404) from None

    def submit(self, task: str, parameters: Mapping[str, Any], key: str | None) -> Job:
        """Queue a job, after its files and what they name were held against the roots.

        Raises:
            Refused: 404 for an unknown task, 403 for a path outside, 429 for a full queue, 503 when the service is closing.
            ConfigError: A parameter is wrong.
        """
        if task not in TASKS:
            raise Refused(f"There is no task {task[:80]!r}. GET /api/tasks lists them.", 404)
        _check_depth(parameters)
        themselves = in_memory(TASKS[task].parameters)
        placed = {name: self._placed(value, as_file=name not in themselves) for name, value in parameters.items()}
        _, checked = prepare(task, _json(placed), folder=self.backend.folder / "jobs")
        self._quick.check(checked)
        if self.backend.store.count("queued") >= self.limits.queued:
            raise Refused(f"{self.limits.queued} jobs are waiting already. Try again when some are done.", 429)
        return self.backend.submit(task, placed, key=key)

    def needed(self) -> set[str]:
        """Return the ids of the uploads that jobs need which wait or run."""
        jobs = [job for state in UNDONE for job in self.backend.jobs(state=state, limit=MOST_JOBS)]
        return {found for job in jobs for found in UPLOAD.findall(json.dumps(job.parameters))}

    def delete_upload(self, upload_id: str) -> None:
        """Remove an upload.

        Raises:
            Refused: 404: there is none; 409: a job needs it.
        """
        self.uploads.find(upload_id)
        if upload_id in self.needed():
            raise Refused(f"A job that is not over needs the upload {upload_id}. Cancel the job, or wait for it.", 409)
        self.uploads.delete(upload_id)

    def tidy(self) -> None:
        """Remove old jobs with their folders, and uploads that nobody used for long and that no job needs."""
        removed = 0
        if self.limits.keep_jobs_s is not None:
            removed = self.backend.forget_old(self.limits.keep_jobs_s)
        uploads = self.uploads.clean(self.needed())
        if removed or uploads:
            log.info("Tidied up: %d old jobs and %d old uploads were removed.", removed, uploads)

    def _placed(self, value: Any, *, as_file: bool) -> Any:
        """Return a parameter with the path of an upload or of a result in the place of its name."""
        if isinstance(value, list):
            return [self._placed(item, as_file=as_file) for item in value]
        if isinstance(value, dict):  # the parameters of a batch
            return {key: self._placed(item, as_file=as_file) for key, item in value.items()}
        found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return value
        if found["kind"] == "upload" or RESULT.fullmatch(found["id"]) is None:
            return str(self.uploads.use(found["id"]).path)
        job, path = self.result_file(found["id"])
        if path.suffix != ".npy":
            return str(path)
        offset, header = array_of(job, path)
        begin = (lambda target: begin_tiff(target, header)) if as_file else None
        return str(self.uploads.adopt(path, asdict(header), offset, begin=begin).path)

    def result_file(self, name: str) -> tuple[Job, Path]:
        """Return the job and the file of a result, named ``JOB.NAME.npy`` or ``JOB.NAME.npz``.

        Raises:
            Refused: 404.
        """
        found = RESULT.fullmatch(name)
        if found is None:
            raise Refused(f"There is no array or table {name[:80]!r}.", 404)
        job = self.job(found["job"])
        path = job.folder / found["name"]
        if not path.is_file() or path.is_symlink():
            raise Refused(f"The job {job.id} has no result {found['name']}.", 404)
        return job, path

    def file_of(self, job: Job, name: str) -> Path:
        """Return a file in a job's folder by its relative path with slashes.

        Raises:
            Refused: 404: there is none, or the path leads elsewhere.
        """
        parts = name.split("/")
        odd = any(part in ("", ".", "..") or "\\" in part or "\0" in part or ":" in part for part in parts)
        path = job.folder.joinpath(*parts) if not odd else job.folder
        try:
            real = path.resolve()
            fine = not odd and job.folder.resolve() in real.parents and real.is_file()
        except (OSError, ValueError):
            fine = False
        if not fine:
            raise Refused(f"The job {job.id} has no file {name[:200]!r}.", 404)
        return real

    def files_of(self, job: Job, most: int = MOST_FILES) -> list[dict[str, Any]]:
        """Return name and size of each file in a job's folder, at most so many."""
        found: list[dict[str, Any]] = []
        for place, folders, names in os.walk(job.folder):
            folders.sort()
            for name in sorted(names):
                path = Path(place, name)
                with contextlib.suppress(OSError):  # a job that runs, or is deleted, takes it away
                    if path.is_file() and not path.is_symlink():
                        found.append({"name": path.relative_to(job.folder).as_posix(), "bytes": path.stat().st_size})
                if len(found) >= most:
                    return found
        return found

    def shown(self, job: Job) -> dict[str, Any]:
        """Return a job as a client sees it: images and tables of its result as ``array:...`` and ``table:...``."""
        return {**job.as_json(), "result": _named(job.result, job.id)}


def array_of(job: Job, path: Path) -> tuple[int, ArrayHeader]:
    """Return where the bytes of a result image begin, and its header."""
    if path.suffix != ".npy":
        raise Refused(f"{path.name} is a table; ask /api/tables for it.", 404)
    offset, shape, dtype = npy_offset(path)
    said = _find(job.result, path.name) or {}
    header = ArrayHeader(
        tuple(shape),
        "|u1" if dtype == np.bool_ else dtype.str,
        str(said.get("axes", "TCZYX"[-len(shape) :])),
        None if said.get("voxel_size") is None else tuple(said["voxel_size"]),
        str(said.get("unit") or "pixel"),
        said.get("interval"),
    )
    return offset, header


def _find(value: Any, name: str) -> dict[str, Any] | None:
    """Find what a result says of one of its images."""
    if isinstance(value, dict) and value.get("array") == name:
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for found in (_find(item, name) for item in inner) if found is not None), None)


def _check_depth(value: Any) -> None:
    """Refuse what would exhaust those who walk through it.

    Raises:
        Refused: There are too many lists and objects in each other.
    """
    inside, depth = [value], 0
    while inside:
        depth += 1
        if depth > DEEPEST:
            raise Refused(f"The parameters hold lists and objects in each other, deeper than {DEEPEST}.")
        both = [item for item in inside if isinstance(item, Mapping | list)]
        inside = [inner for item in both for inner in (item.values() if isinstance(item, Mapping) else item)]


def _json(value: Any) -> Any:
    """Return a value as JSON would give it back.

    Raises:
        Refused: It holds NaN or infinity, which JSON does not know.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except ValueError:
        raise Refused("The parameters hold NaN or infinity, which JSON does not know. Leave them out.") from None


def _named(value: Any, job_id: str) -> Any:
    if isinstance(value, Mapping):
        named = {key: _named(item, job_id) for key, item in value.items()}
        for kind, also in (("array", "shape"), ("table", "columns")):
            if isinstance(named.get(kind), str) and also in named:
                named[kind] = f"{kind}:{job_id}.{named[kind]}"
        return named
    return [_named(item, job_id) for item in value] if isinstance(value, list | tuple) else value
