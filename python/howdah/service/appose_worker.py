"""The worker that Fiji starts by Appose: tasks over pipes, pixels and tables in shared memory. It ends when Fiji ends.

Fiji (``howdah_fiji.appose_backend``) starts it as ``python -c "from howdah.service import appose_worker; appose_worker.main()"``.
A script with its own Appose service gets the same guard by ``service.init("from howdah.service import appose_worker;
appose_worker.guard()")``. In a task's script there is ``appose_worker.run(task, name, parameters, arrays)``.

Appose's own worker writes its messages by ``print`` on descriptor 1. One stray line there (a library in C, a progress bar), two
messages on one line, or a NaN, and a task never ends in Fiji; :func:`guard` is the way out of all three.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np  # at the start: Appose's worker hangs on Windows where a task imports it first

import howdah
from howdah.errors import Cancelled, ConfigError, MissingExtraError
from howdah.progress import Progress
from howdah.service.clean import plain
from howdah.service.parameters import Image
from howdah.service.running import run_task, sentence_of
from howdah.service.shared import Blocks, allocate, block_message, image_of, numbered, pack_image, pack_table, table_of
from howdah.service.table import TASKS

__all__ = ["EXIT_CODES", "ApposeTask", "guard", "hello", "main", "make_blocks", "release", "run"]

EXIT_CODES = {"fault": 1, "input": 2, "missing": 3, "cancelled": 130}
"""Exit code of headless Fiji for each kind of error, as the command line's."""

BETWEEN_UPDATES_S = 0.1
PATIENCE_S = 3.0  # how long tasks may take to stop between two steps after Fiji is gone

_blocks = Blocks()
_device = threading.Lock()
_alone = threading.Event()
_running: set[int] = set()


class ApposeTask(Protocol):
    """What Appose hands a task's script as ``task``."""

    cancel_requested: bool
    fail: Callable[..., None]

    def update(
        self,
        message: str | None = None,
        current: int | None = None,
        maximum: int | None = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        """Tell Fiji how far the task is."""

    def cancel(self) -> None:
        """Tell Fiji that the task was cancelled."""


def main() -> None:
    """Run Appose's worker, guarded, until its input ends.

    Raises:
        MissingExtraError: Appose is not installed.
    """
    guard()
    importlib.import_module("appose.python_worker").main()


def guard() -> None:
    """Keep Appose's pipes for Appose alone; again is harmless.

    - Messages go through a private duplicate of descriptor 1, each line written whole, under a lock, and without NaN; descriptor
      1 and ``sys.stdout`` lead to standard error.
    - Requests come through a private duplicate of descriptor 0; processes that a task starts read nothing there.
    - When Fiji ends, the tasks are cancelled, shared memory is freed, and the process ends after at most three seconds.
    - Told to end (SIGTERM, which may reach Fiji and all that it started), it does the same.
    - Ctrl-C in the terminal is Fiji's to answer.

    Raises:
        MissingExtraError: Appose is not installed.
    """
    try:
        worker = importlib.import_module("appose.python_worker")
    except ModuleNotFoundError:
        raise MissingExtraError(
            "The Python of Howdah has no Appose. Install it there: pip install 'howdah[fiji]', or choose the service in Fiji."
        ) from None
    if isinstance(getattr(worker, "print", None), _Messages):
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: _leave())
    sys.stdout.flush()
    messages = _Messages(os.dup(1))
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    requests = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.stdin = _Requests(requests)
    for module in (worker, sys.modules["__main__"]):
        if hasattr(module, "Worker"):
            module.print = messages  # type: ignore[attr-defined]


class _Messages:
    """Writes each message as one line; stands in for ``print`` in Appose's worker."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def __call__(self, *values: object, file: Any = None, flush: bool = True) -> None:
        text = " ".join(map(str, values))
        if file is not None:
            file.write(text + "\n")
            return
        if "NaN" in text or "Infinity" in text:
            text = json.dumps(plain(json.loads(text)), allow_nan=False, separators=(",", ":"))
        line = memoryview(text.replace("\n", " ").encode() + b"\n")
        try:
            with self._lock:
                while line:
                    line = line[os.write(self._descriptor, line) :]
        except OSError:  # Fiji reads no more
            _leave()


class _Requests:
    """Appose's requests, in place of standard input; their end is Fiji's."""

    def __init__(self, descriptor: int) -> None:
        self._lines = open(descriptor, encoding="utf-8", errors="replace")  # noqa: SIM115  open as long as this process runs

    def readline(self, size: int = -1, /) -> str:
        """Return the next request; nothing at the end, and then this process ends, too."""
        line = self._lines.readline(size)
        if not line:
            _leave()
        return line


def _leave() -> None:
    """End this process soon: tasks stop between two steps if they come to one in time."""
    if not _alone.is_set():
        _alone.set()
        threading.Thread(target=_end, name="howdah-end").start()


def _end() -> None:
    until = time.monotonic() + PATIENCE_S
    while _running and time.monotonic() < until:
        time.sleep(0.02)
    _blocks.close()
    sys.stderr.flush()
    os._exit(0)


def hello() -> dict[str, Any]:
    """Return what Fiji wants to know at the start: versions, this process, and the names of the tasks."""
    return {"howdah": howdah.__version__, "python": sys.version.split()[0], "pid": os.getpid(), "tasks": sorted(TASKS)}


def make_blocks(planes: int, plane_bytes: int) -> dict[str, Any]:
    """Make blocks of shared memory for an image (a table: one plane) that Fiji will send; :func:`run` frees them.

    Returns:
        ``{"blocks": {"0": what Appose makes an NDArray of bytes of, (planes, plane_bytes), ...}}``.

    Raises:
        ServiceError: There is too little shared memory.
    """
    names = allocate(_blocks, planes, plane_bytes)
    sizes = [_blocks.bytes_of(name).size for name in names]
    shapes = [(size // plane_bytes, plane_bytes) for size in sizes]
    bytewise = np.dtype(np.uint8)
    return {"blocks": numbered([block_message(n, bytewise, shape) for n, shape in zip(names, shapes, strict=True)])}


def release(names: Sequence[str]) -> None:
    """Free blocks that Fiji has read, or will not fill."""
    _blocks.free(names)


def run(
    task: ApposeTask,
    name: str,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, Any]] | None = None,
    folder: str | None = None,
) -> dict[str, Any]:
    """Run a task of Howdah's table inside a task of Appose, with its progress, cancelling and errors.

    Args:
        task: Appose's task.
        name: Name in :data:`howdah.service.table.TASKS`.
        parameters: What the task is told.
        arrays: Images and tables in shared memory by the parameter that takes them, or by ``"image"`` and ``"table"`` for the one that
            does (:func:`howdah.service.shared.image_of`, ``table_of``); an image for a task on files is written to one.
        folder: Where results go that nobody named; None for ``results`` in Howdah's own folder.

    Returns:
        ``{"result": ...}``: plain values; images as ``{"image": ...}`` and tables as ``{"table": ...}`` in shared memory, which Fiji
        gives back by :func:`release`.

    Raises:
        Cancelled, HowdahError, BdvIoError: For Appose, which then sends Fiji one answer: cancelled, or failed with the sentence. An
            update with ``{"kind", "exit_code", "sentence"}`` goes before it.
    """
    sent = [block for message in (arrays or {}).values() for block in message["blocks"] if isinstance(block, str)]
    with _answering(task), _freeing(sent) as made, tempfile.TemporaryDirectory(prefix="howdah-") as scratch:
        known = TASKS.get(name)
        with _turn(task, alone=known is not None and known.learns):
            told = {**parameters, **_given(name, arrays or {}, parameters, Path(scratch))}
            result = run_task(name, told, show=_Updates(task), cancelled=lambda: _stopped(task), folder=_folder(folder))
        del told
        return {"result": _packed(result, sent, made)}


def _stopped(task: ApposeTask) -> bool:
    return task.cancel_requested or _alone.is_set()


class _answering:  # noqa: N801
    """Turns an error into the one answer that Fiji understands."""

    def __init__(self, task: ApposeTask) -> None:
        self.task = task

    def __enter__(self) -> None:
        _running.add(id(self.task))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            what, sentence = sentence_of(error)
            if what == "fault":
                traceback.print_exception(error, file=sys.stderr)
            self.task.update(info={"kind": what, "exit_code": EXIT_CODES.get(what, 1), "sentence": sentence})
            fail = self.task.fail
            self.task.fail = (
                _ignoring(self.task.cancel) if what == "cancelled" else _ignoring(functools.partial(fail, sentence))
            )
        _running.discard(id(self.task))


def _ignoring(answer: Callable[[], None]) -> Callable[..., None]:
    """Return what Appose may call with its trace."""
    return lambda *_trace: answer()


@contextmanager
def _freeing(sent: Sequence[str]) -> Iterator[set[str]]:
    """Free what Fiji sent once the task is over, except what carries the result; where the task fails, that, too."""
    made: set[str] = set()
    done = False
    try:
        yield made
        done = True
    finally:
        _blocks.free([name for name in sent if name not in made] if done else {*sent, *made})


@contextmanager
def _turn(task: ApposeTask, *, alone: bool) -> Iterator[None]:
    """Wait until no other task uses a network, for Appose runs all of them at the same time."""
    if not alone:
        yield
        return
    told = False
    while not _device.acquire(timeout=BETWEEN_UPDATES_S):
        if _stopped(task):
            raise Cancelled("The task was cancelled while it waited for another one.")
        if not told:
            task.update(message="Waiting until another task has ended.", info={"stage": "wait"})
            told = True
    try:
        yield
    finally:
        _device.release()


class _Updates:
    """Shows progress in Fiji, at most ten times a second; what has a message or is the last step is always shown."""

    def __init__(self, task: ApposeTask) -> None:
        self._task = task
        self._next = 0.0

    def __call__(self, step: Progress) -> None:
        now = time.monotonic()
        if now < self._next and not step.message and step.done < step.total:
            return
        self._next = now + BETWEEN_UPDATES_S
        info = plain({"stage": step.stage, "values": dict(step.values)})
        self._task.update(message=step.message or None, current=step.done, maximum=step.total, info=info)


def _folder(named: str | None) -> Path:
    if named is not None:
        return Path(named)
    home = Path(os.environ.get("HOWDAH_HOME") or Path.home() / ".howdah")
    return home / "results" / time.strftime(f"%Y%m%d-%H%M%S-{uuid.uuid4().hex[:6]}")


def _given(
    name: str, arrays: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, Any], scratch: Path
) -> dict[str, Any]:
    """Return images and tables under the parameters that take them."""
    if not arrays or name not in TASKS:
        return {}
    fields = TASKS[name].parameters.model_json_schema()["properties"]
    given: dict[str, Any] = {}
    for key, message in arrays.items():
        is_table = "rows" in message["header"]
        field, takes = _field_for(name, key, "table" if is_table else "array", fields)
        if field in parameters:
            raise ConfigError(
                f"The task '{name}' was given '{field}' twice: as a parameter and as an open image or table."
            )
        value = table_of(message, _blocks) if is_table else image_of(message, _blocks)
        given[field] = (
            _written(value, scratch / f"{field}.tif") if isinstance(value, Image) and takes == "path" else value
        )
    return given


def _field_for(name: str, key: str, role: str, fields: Mapping[str, Any]) -> tuple[str, str]:
    """Find the parameter that takes an image or a table: the one of that name, of that kind, or ``source`` for a file."""
    formats = {field: form for field, schema in fields.items() if (form := _format(schema)) is not None}
    if key in formats and formats[key] in (role, "path"):
        return key, formats[key]
    of_kind = [field for field, form in formats.items() if form == role]
    if of_kind:
        return of_kind[0], role
    for field in ("source", "sources", "image"):
        if role == "array" and formats.get(field) == "path":
            return field, "path"
    raise ConfigError(
        f"The task '{name}' takes no {'table' if role == 'table' else 'image'}. It takes {', '.join(fields)}."
    )


def _format(schema: Mapping[str, Any]) -> str | None:
    for part in (schema, *schema.get("anyOf", ()), schema.get("items", {})):
        if "format" in part and part.get("role") != "write":
            return str(part["format"])
    return None


def _written(image: Image, path: Path) -> Path:
    """Write an image to a file for a task that reads files."""
    from bdv_io.formats import write_image
    from bdv_io.image import ArrayImage, WriteOptions

    order = [image.axes.index(letter) for letter in "TCZYX" if letter in image.axes]
    missing = tuple(i for i, letter in enumerate("TCZYX") if letter not in image.axes)
    frames = np.expand_dims(np.transpose(image.data, order), missing)
    movie = ArrayImage(
        frames,
        voxel_size=image.voxel_size or (1.0, 1.0, 1.0),
        unit=image.unit,
        interval=None if image.interval is None else (image.interval, "s"),
    )
    write_image(path, movie, options=WriteOptions(compression=None))
    return path


def _packed(result: Mapping[str, Any], sent: Sequence[str], made: set[str]) -> dict[str, Any]:
    """Return a result with its images and tables in shared memory; a single image takes the place of what Fiji sent."""
    found = [value for value in result.values() if isinstance(value, Image) or _is_table(value)]
    packed: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Image):
            packed[key] = {"image": pack_image(value, _blocks, reuse=sent if len(found) == 1 else ())}
        elif _is_table(value):
            packed[key] = {"table": pack_table(value, _blocks)}
        else:
            packed[key] = plain(value)
            continue
        made.update(block["shm"]["name"] for part in packed[key].values() for block in part["blocks"].values())
    return packed


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(c, np.ndarray) for c in value.values())
