"""Jobs as a client meets them: submitted, watched, cancelled, failed, run again; and what a kill of anything leaves."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from howdah.errors import ConfigError, ServiceError
from howdah.service.backend import Backend, cuda_devices
from howdah.service.clean import load_image, load_table

HERE = Path(__file__).parent
CRAMPED = 30.0


def test_a_job_runs_and_says_what_it_did(backend: Backend) -> None:
    job = backend.wait(backend.submit("nap", {"seconds": 0.3, "steps": 6}).id, CRAMPED)
    assert (job.state, job.result, job.stage, job.done, job.total, job.error) == (
        "done",
        {"slept": 0.3},
        "nap",
        6,
        6,
        None,
    )
    assert job.started is not None
    assert job.ended is not None
    assert job.created <= job.started <= job.ended
    assert job.device == "quick"
    assert job.folder.is_dir()
    assert [line["text"] for line in backend.lines(job.id)] == [f"step {n}" for n in range(1, 7)]
    assert [line["number"] for line in backend.lines(job.id, after=4)] == [5, 6]
    curve = backend.curves(job.id)["nap/loss"]
    assert curve[-1] == (6, pytest.approx(1 / 6))
    assert [step for step, _ in curve] == sorted({step for step, _ in curve})
    assert backend.jobs(state="done")[0].id == job.id


def test_a_round_trip_takes_two_milliseconds(backend: Backend) -> None:
    backend.wait(backend.submit("nap", {}).id, CRAMPED)
    times = []
    for _ in range(100):
        start = time.perf_counter()
        assert backend.wait(backend.submit("nap", {}).id, CRAMPED).state == "done"
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002, f"median {statistics.median(times) * 1e3:.2f} ms"  # 1 ms here; the machine is shared


def test_what_a_task_prints_garbles_nothing_and_its_values_are_json(backend: Backend) -> None:
    job = backend.wait(backend.submit("noisy", {}).id, CRAMPED)
    assert job.state == "done"
    assert job.result is not None
    plain = {name: value for name, value in job.result.items() if name not in ("image", "table")}
    assert plain == {"nan": None, "infinite": None, "numpy": 7, "path": "a", "pair": [1, 2]}
    image = load_image(job.result["image"], job.folder)
    assert image.axes == "YX"
    assert image.data.dtype == "<u2"
    assert image.data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert load_table(job.result["table"], job.folder)["t"].tolist() == [0, 1, 2]
    time.sleep(0.05)
    texts = [line["text"] for line in backend.lines(job.id)]
    assert "a log line" in texts


def test_arrays_and_tables_come_as_files(backend: Backend) -> None:
    root = backend.roots[0]
    tifffile.imwrite(root / "a.tif", np.arange(12, dtype=np.uint8).reshape(3, 4))
    job = backend.wait(backend.submit("check", {"image": "a.tif"}).id, CRAMPED)
    assert job.result is not None
    assert (job.result["sum"], job.result["axes"], job.result["shape"]) == (66, "TCZYX", [1, 1, 1, 3, 4])
    assert load_image(job.result["image"], job.folder).data[0, 0, 0].tolist() == [
        [11, 10, 9, 8],
        [7, 6, 5, 4],
        [3, 2, 1, 0],
    ]
    spots = {"t": [0, 0, 1, 1], "z": [0] * 4, "y": [0.0, 50.0, 1.0, 51.0], "x": [0.0, 50.0, 1.0, 49.0]}
    np.savez(root / "spots.npz", **{name: np.array(column) for name, column in spots.items()})
    job = backend.wait(backend.submit("link.table", {"table": str(root / "spots.npz")}).id, CRAMPED)
    assert job.result is not None, job.error
    links = load_table(job.result["table"], job.folder)
    assert (links["source"].tolist(), links["target"].tolist()) == ([0, 1], [2, 3])


def test_what_cannot_be_done_is_said_before_a_job_is_made(backend: Backend) -> None:
    before = len(backend.jobs(limit=10_000))
    with pytest.raises(ServiceError, match=r"There is no task 'trak'. Did you mean 'track'"):
        backend.submit("trak", {})
    with pytest.raises(ConfigError, match="Parameter 'source' of 'info' is missing"):
        backend.submit("info", {})
    with pytest.raises(ConfigError, match="Did you mean 'n_epochs'"):
        backend.submit("train", {"source": "a.mastodon", "settings": {"elephant": {"n_epoch": 3}}})
    with pytest.raises(ConfigError, match=r"no section 'elefant'.*Did you mean 'elephant'"):
        backend.submit("train", {"source": "a.mastodon", "settings": {"elefant": {}}})
    with pytest.raises(ConfigError, match="no JSON"):
        backend.submit("info", {"source": np.zeros(2)})
    with pytest.raises(ConfigError, match="no JSON"):
        backend.submit("nap", {"seconds": float("nan")})
    assert len(backend.jobs(limit=10_000)) == before


@pytest.mark.parametrize("path", ["/etc/passwd", "../own/jobs.sqlite", "root/../../x", "link"])
def test_no_path_leaves_the_roots(backend: Backend, path: str) -> None:
    link = backend.roots[0] / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    with pytest.raises(ServiceError, match="lies outside of the folders that this service may read"):
        backend.submit("info", {"source": path})
    with pytest.raises(ServiceError, match=r"'also' is .*lies outside of the folders that this service may write"):
        backend.submit("embedtrack.track", {"source": "a.tif", "also": ["b.xml", path]})


def test_paths_inside_of_a_batch_do_not_leave_the_roots_either(backend: Backend) -> None:
    (backend.roots[0] / "one.csv").write_text("x")
    told = {"task": "link", "inputs": ["one.csv"], "out": "batch", "parameters": {"flow": "/etc/passwd"}}
    job = backend.wait(backend.submit("batch", told).id, CRAMPED)
    assert job.state == "failed"
    assert "'flow' is /etc/passwd, which lies outside" in (job.error or "")


def test_the_same_key_is_the_same_job(backend: Backend) -> None:
    first = backend.submit("nap", {}, key="abc")
    assert backend.submit("nap", {"seconds": 9}, key="abc").id == first.id
    assert backend.submit("nap", {}, key="abd").id != first.id


@pytest.mark.parametrize(
    ("task", "kind", "sentence"),
    [
        ("memory", "input", "The memory of the GPU is full. .*smaller batch_size.*20.00 GiB"),
        (
            "fault",
            "fault",
            "A fault in Howdah ended 'fault', please report it: ZeroDivisionError: nobody thought of that",
        ),
        ("die", "fault", r"The worker that ran 'die' died \(signal SIGKILL\).*too much memory.*Last lines: last words"),
    ],
)
def test_a_failure_is_a_sentence_and_the_slot_recovers(backend: Backend, task: str, kind: str, sentence: str) -> None:
    job = backend.wait(backend.submit(task, {}).id, CRAMPED)
    assert (job.state, job.kind) == ("failed", kind)
    assert re.search(sentence, job.error or ""), job.error
    assert backend.wait(backend.submit("nap", {}).id, CRAMPED).state == "done"


def test_a_full_disk_is_a_sentence(backend: Backend) -> None:
    root = backend.roots[0]
    noise = np.random.default_rng(0).integers(0, 65535, (64, 128, 128), dtype=np.uint16)
    tifffile.imwrite(root / "large.tif", noise, imagej=True, metadata={"axes": "ZYX"})
    job = backend.wait(backend.submit("full", {"source": "large.tif"}).id, CRAMPED)
    assert job.state == "failed"
    assert job.kind == "input"
    assert re.search("large.*too large", job.error or "", re.IGNORECASE), job.error
    job = backend.wait(backend.submit("full.log", {"file": "x.log"}).id, CRAMPED)
    assert (job.kind, (job.error or "")[:16]) == ("input", "The disk is full")


def test_a_killed_worker_is_replaced(
    backend: Backend, until: Callable[..., float], alive: Callable[[int], bool]
) -> None:
    job = backend.submit("nap", {"seconds": 20, "steps": 1000})
    until(lambda: backend.job(job.id).done > 2, CRAMPED)
    (pid,) = [pid for device, pid in backend.workers if device == "quick"]
    os.kill(pid, signal.SIGKILL)
    ended = backend.wait(job.id, 2)
    assert ended.state == "failed"
    assert "at nap" in (ended.error or "")
    assert "SIGKILL" in (ended.error or "")
    assert backend.wait(backend.again(job.id).id, 0).state in ("queued", "running")
    assert backend.cancel(job.id).state == "cancelled"
    assert backend.wait(backend.submit("nap", {}).id, CRAMPED).state == "done"
    assert not alive(pid)


@pytest.mark.parametrize("task", ["nap", "deaf"])
def test_cancelling_is_immediate(
    backend: Backend, until: Callable[..., float], alive: Callable[[int], bool], task: str
) -> None:
    job = backend.submit(task, {"seconds": 30, "steps": 3000 if task == "nap" else 1})
    until(lambda: backend.job(job.id).state == "running" and bool(backend.lines(job.id)), CRAMPED)
    (pid,) = [pid for device, pid in backend.workers if device == "quick"]
    waiting = threading.Thread(target=lambda: seen.append((backend.wait(job.id, 10).state, time.monotonic())))
    seen: list[tuple[str, float]] = []
    waiting.start()
    start = time.monotonic()
    assert backend.cancel(job.id).state == "cancelled"
    waiting.join()
    assert seen[0][0] == "cancelled"
    assert seen[0][1] - start < 0.5
    until(lambda: not alive(pid), 2.0)
    assert backend.job(job.id).error is not None
    assert backend.wait(backend.submit("nap", {}).id, CRAMPED).state == "done"


def test_a_queued_job_is_cancelled_and_deleted(backend: Backend) -> None:
    running, queued = backend.submit("nap", {"seconds": 30, "steps": 3000}), backend.submit("nap", {})
    assert backend.cancel(queued.id).state == "cancelled"
    backend.delete(running.id)
    backend.delete(queued.id)
    assert not running.folder.exists()
    for job in (running, queued):
        with pytest.raises(ServiceError, match="There is no job"):
            backend.job(job.id)
    with pytest.raises(ServiceError, match="There is no job 'nix'"):
        backend.cancel("nix")


def test_a_learning_job_does_not_hold_up_quick_ones(backend: Backend) -> None:
    slow = backend.submit("learn", {"seconds": 30, "steps": 3000})
    assert backend.wait(backend.submit("nap", {}).id, CRAMPED).state == "done"
    assert backend.job(slow.id).state in ("queued", "running")
    assert backend.cancel(slow.id).state == "cancelled"


def test_a_thousand_jobs_of_thirty_two_clients(backend: Backend) -> None:
    file = backend.roots[0] / "notes.txt"
    states: list[str] = []

    def client(number: int) -> None:
        jobs = [backend.submit("note", {"file": str(file), "text": f"{number}-{i}"}) for i in range(32)]
        states.extend(backend.wait(job.id, 60).state for job in jobs)

    clients = [threading.Thread(target=client, args=(n,)) for n in range(32)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert states == ["done"] * 1024
    assert sorted(file.read_text().split()) == sorted(f"{n}-{i}" for n in range(32) for i in range(32))


def test_one_backend_a_folder(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="Another Howdah service uses"):
        Backend(backend.folder, roots=[])
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="cannot be used"):
        Backend(tmp_path / "file" / "x", roots=[])


PROGRAM = """
import sys, time
sys.path.insert(0, {here!r})
import extra_tasks
from pathlib import Path
from howdah.service import process, table
from howdah.service.backend import Backend
table.TASKS.update(extra_tasks.EXTRA)
process.COMMAND = [sys.executable, extra_tasks.__file__]
folder = Path(sys.argv[1])
backend = Backend(folder / "own", roots=[folder], devices=["cpu"], quick=1)
jobs = [backend.submit("deaf", {{"seconds": 1.0}})]
jobs += [backend.submit("note", {{"file": str(folder / "notes.txt"), "text": str(i)}}) for i in range(20)]
while not backend.lines(jobs[0].id):
    time.sleep(0.01)
print(" ".join(str(pid) for _, pid in backend.workers), flush=True)
print(" ".join(job.id for job in jobs), flush=True)
time.sleep(60)
"""


def test_a_killed_backend_leaves_no_worker_and_loses_no_job(
    misbehaving: None, tmp_path: Path, until: Callable[..., float], alive: Callable[[int], bool]
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(here=str(HERE)), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert program.stdout is not None
        workers = [int(pid) for pid in program.stdout.readline().split()]
        ids = program.stdout.readline().split()
    finally:
        program.kill()
        program.communicate()
    assert len(workers) == 1
    assert len(ids) == 21
    until(lambda: not any(map(alive, workers)), 2.0)
    with Backend(tmp_path / "own", roots=[tmp_path], devices=["cpu"], quick=1) as backend:
        assert [backend.wait(job_id, CRAMPED).state for job_id in ids] == ["done"] * 21
    assert sorted((tmp_path / "notes.txt").read_text().split(), key=int) == [str(i) for i in range(20)]


def test_a_closed_backend_queues_what_was_running(
    misbehaving: None, tmp_path: Path, until: Callable[..., float]
) -> None:
    with Backend(tmp_path, roots=[], devices=["cpu"], quick=1) as backend:
        job = backend.submit("nap", {"seconds": 0.4, "steps": 20})
        until(lambda: backend.job(job.id).done > 0, CRAMPED)
        ((_, pid),) = backend.workers
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ServiceError, match="is being stopped"):
        backend.submit("nap", {})
    backend.close()
    with Backend(tmp_path, roots=[], devices=["cpu"], quick=1) as backend:
        assert backend.wait(job.id, CRAMPED).state == "done"
        numbers = [line["number"] for line in backend.lines(job.id)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert cuda_devices() == ["cuda:0", "cuda:1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cuda_devices() == []


def test_a_worker_that_cannot_start_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from howdah.service import process

    monkeypatch.setattr(process, "COMMAND", [sys.executable, "-c", "import sys; sys.exit('no numpy here')"])
    with Backend(tmp_path, roots=[], devices=["cpu"], quick=1) as backend:
        job: Any = backend.wait(backend.submit("formats", {}).id, CRAMPED)
        assert job.state == "failed"
        assert "no numpy here" in job.error
        monkeypatch.setattr(process, "COMMAND", ["/nowhere/python"])
        job = backend.wait(backend.submit("formats", {}).id, CRAMPED)
        assert job.state == "failed"
        assert "could not be started" in job.error
