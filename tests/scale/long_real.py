"""Faults for minutes, by hand, with the real verbs: ``python -m scale.long_real MOVIE [VERB ...]`` in the folder ``tests``
(PYTHONPATH: python, the repository, tests). ``--workers``, ``--disk`` ...: only these faults.

For ``scale predict`` (an untrained network), ``scale link`` and ``scale convert``, each as a command of its own: 1. workers are killed at
random times in one run; 2. the command is killed three times and given again; 3. its dask scheduler is a program of its own and is killed
and started again; 4. between two halves of a run files of blocks are cut short, changed and removed; 5. the disk is full several times
(needs root and mount). The result must be that of the verb without ``scale``: spots, links and features bit for bit; of a conversion all
files byte for byte. Prints a Markdown table.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scale.test_faults import SCHEDULER, WORKER
from scale.toy_run import process, say

from bdv_io import Tracks
from bdv_io.formats import read_tracks, write_tracks
from howdah.scale.folder import work_folder

KILLS = 20
WORKERS = ["--workers", "2", "--worker-memory-mb", "3000", "--retries", "30"]
HOWDAH = ["-m", "howdah"]


@dataclass(frozen=True)
class Verb:
    """A verb: plain, in blocks, whether two results are equal, and how many kills of workers a run is long enough for."""

    name: str
    plain: Callable[[Path], list[str]]
    blocks: Callable[[Path], list[str]]
    same: Callable[[Path, Path], None]
    ending: str
    kills: int


def random_weights(path: Path) -> Path:
    """Write a network that was never trained: it takes as long as any other."""
    import torch

    from howdah.methods.elephant.config import ElephantConfig
    from howdah.methods.elephant.network import UNet
    from howdah.methods.elephant.train import METHOD
    from howdah.nn.checkpoint import Weights, save_weights

    torch.manual_seed(0)
    header = {"method": METHOD, "config": ElephantConfig().model_dump(mode="json")}
    header["resolved"] = {"suppression_distance": 5.0, "r_min": 1.0, "r_max": 10.0}
    save_weights(path, Weights((UNet().state_dict(),), header))
    return path


def same_tracks(one: Path, other: Path) -> None:
    """Spots, links, features and tags are equal, bit for bit."""
    mine, theirs = read_tracks(one), read_tracks(other)
    for name in ("t", "centre", "covariance", "quality", "id", "links"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)
    for name in ("features", "tag_sets"):
        for a, b in zip(getattr(mine, name), getattr(theirs, name), strict=True):
            for field in fields(a):
                np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=name)


def same_files(one: Path, other: Path) -> None:
    """All files of two stores are equal, byte for byte."""
    files = [{path.relative_to(top): path for path in top.rglob("*") if path.is_file()} for top in (one, other)]
    assert files[0].keys() == files[1].keys()
    for name, path in files[0].items():
        assert path.read_bytes() == files[1][name].read_bytes(), name


def many_spots(path: Path, frames: int = 400, cells: int = 500) -> Path:
    """Write a project of cells that drift, without links."""
    rng = np.random.default_rng(0)
    place = rng.uniform(0, 400, (cells, 3)) * (0.3, 1, 1)
    centre = []
    for _ in range(frames):
        place = place + rng.normal(0, 1, place.shape)
        centre.append(place[rng.random(cells) > 0.05])
    t = np.repeat(np.arange(frames), [len(one) for one in centre])
    write_tracks(path, Tracks.build(t, np.concatenate(centre), radius=4.0))
    return path


def verbs(movie: Path, folder: Path) -> list[Verb]:
    """Return what is tried."""
    weights, spots = random_weights(folder / "w.safetensors"), many_spots(folder / "spots.mastodon")
    network = [
        "--tile-size",
        "32,16,16",
        "--rescale",
        "1,0.25,0.25",
        "--threshold",
        "0.5",
        "--device",
        "cpu",
        "--memory-mb",
        "2000",
    ]
    network += ["-w", str(weights)]
    gaps = ["--frame-gap", "2"]

    def predict(out: Path) -> list[str]:
        return ["predict", str(movie), *network, "-o", str(out)]

    def link(out: Path) -> list[str]:
        return ["link", str(spots), "--image", str(movie), *gaps, "-o", str(out)]

    def convert(out: Path) -> list[str]:
        return ["convert", str(movie), str(out)]

    return [
        Verb("predict", predict, predict, same_tracks, ".mastodon", KILLS),
        Verb("link", link, lambda out: [*link(out), "--window", "2"], same_tracks, ".mastodon", 6),
        Verb("convert", convert, lambda out: [*convert(out), "--window", "1"], same_files, ".ome.zarr", 2),
    ]


def children(pid: int) -> list[int]:
    """Return the worker processes that a command has started, by the system's table of processes."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if entry.name.isdigit() else -1
            if parent == pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


class Killer(threading.Thread):
    """Kills a worker of a command at a random time after each few blocks that were done, until there were so many or the command ends."""

    def __init__(self, running: subprocess.Popen[str], target: Path, most: int) -> None:
        super().__init__(daemon=True)
        self.running, self.target, self.most, self.killed = running, target, most, 0

    def run(self) -> None:
        chance = random.Random(5)
        while self.killed < self.most and self.running.poll() is None:
            enough = done(self.target) + chance.randint(0, 2)
            while self.running.poll() is None and done(self.target) < enough:
                time.sleep(chance.random() / 2)
            victims = children(self.running.pid)
            if victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(victims), signal.SIGKILL)
                    self.killed += 1


def counts(target: Path) -> dict[str, int]:
    """Return blocks, blocks that are done, and executions, from the manifest."""
    with contextlib.closing(sqlite3.connect(work_folder(target) / "manifest.sqlite", timeout=30)) as database:
        stages = json.loads(database.execute("SELECT value FROM run WHERE name='stages'").fetchone()[0])
        executions, done = database.execute(
            "SELECT sum(executions), sum(state IN ('done', 'gone')) FROM blocks"
        ).fetchone()
    return {"blocks": sum(one["blocks"] for one in stages.values()), "executions": executions or 0, "done": done or 0}


def done(target: Path) -> int:
    """Return how many blocks are done; 0 before there is a manifest."""
    try:
        return counts(target)["done"]
    except (sqlite3.Error, TypeError, OSError):
        return 0


def ended(running: subprocess.Popen[str], seconds: float = 1200) -> str:
    """Wait for the end of a command and return what it said."""
    return running.communicate(timeout=seconds)[0]


class Faults:
    """All faults of one verb."""

    def __init__(self, verb: Verb, folder: Path) -> None:
        self.verb, self.folder = verb, folder
        self.expected = self.target("plain")
        begun = time.monotonic()
        with process(*HOWDAH, *verb.plain(self.expected)) as running:
            said = ended(running)
            assert running.returncode == 0, said
        self.row("plain verb", None, time.monotonic() - begun, "")

    def row(self, fault: str, target: Path | None, seconds: float, facts: str) -> None:
        """Compare the result and print a row."""
        known = {"blocks": "", "executions": ""}
        equal = ""
        if target is not None:
            self.verb.same(self.expected, target)
            known, equal = counts(target), "yes"
            remove(target)
        say(
            f"| {self.verb.name} | {fault} | {facts} | {known['blocks']} | {known['executions']} | {seconds:.0f} | {equal} |"
        )

    def command(self, target: Path, *more: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        """Start the verb in blocks."""
        return process(*HOWDAH, "scale", *self.verb.blocks(target), "--keep", *(more or WORKERS))

    def target(self, name: str, folder: Path | None = None) -> Path:
        """Return a target; all have one name (a store says its own), in folders of their own."""
        place = (folder or self.folder) / name
        place.mkdir(exist_ok=True)
        return place / f"{self.verb.name}{self.verb.ending}"

    def workers(self) -> None:
        target, begun = self.target("workers"), time.monotonic()
        with self.command(target) as running:
            while not done(target) and running.poll() is None:
                time.sleep(0.02)
            killer = Killer(running, target, self.verb.kills)
            killer.start()
            said = ended(running)
            killer.join()
            assert running.returncode == 0, said
        self.row("workers killed in one run", target, time.monotonic() - begun, f"{killer.killed} kills")

    def coordinator(self) -> None:
        target, begun, kills = self.target("command"), time.monotonic(), 0
        while True:
            before = done(target)
            with self.command(target) as running:
                while kills < 3 and running.poll() is None and done(target) < before + 3:
                    time.sleep(0.02)
                if kills < 3 and running.poll() is None:
                    time.sleep(random.Random(kills).random())
                    os.kill(running.pid, signal.SIGKILL)
                    kills += 1
                    continue
                said = ended(running)
                assert running.returncode == 0, said
                break
        self.row("command killed and given again", target, time.monotonic() - begun, f"{kills} kills")

    def scheduler(self) -> None:
        target, file, kills = self.target("scheduler"), self.folder / "scheduler.json", 0
        file.unlink(missing_ok=True)
        begun = time.monotonic()
        with ExitStack() as stack:

            def start() -> subprocess.Popen[str]:
                found = stack.enter_context(process("-c", SCHEDULER, str(file)))
                while not file.exists():
                    time.sleep(0.05)
                for _ in range(2):
                    stack.enter_context(process("-c", WORKER, str(file)))
                return found

            scheduler = start()
            running = stack.enter_context(self.command(target, "--scheduler", str(file)))
            last = 0
            while running.poll() is None:
                now = done(target)
                if kills < 2 and now >= last + 5:
                    scheduler.kill()
                    scheduler.wait()
                    file.unlink()
                    scheduler, kills, last = start(), kills + 1, now
                time.sleep(0.05)
            said = ended(running)
            assert running.returncode == 0, said
        self.row("scheduler killed and started again", target, time.monotonic() - begun, f"{kills} kills")

    def damage(self) -> None:
        target, begun = self.target("damage"), time.monotonic()
        with self.command(target, "--workers", "0") as running:
            while running.poll() is None and done(target) < 12:
                time.sleep(0.02)
            os.kill(running.pid, signal.SIGKILL)
        files = sorted(path for path in work_folder(target).rglob("*.block"))
        chunks = sorted(path for path in (work_folder(target) / "store").rglob("*") if path.is_file())
        chance = random.Random(1)
        spoilt = chance.sample(files, min(3, len(files))) + chance.sample(chunks, min(3, len(chunks)))
        for number, path in enumerate(spoilt):
            content = path.read_bytes()
            if number % 3 == 0:
                path.unlink()
            elif number % 3 == 1:
                path.write_bytes(content[: len(content) // 2])
            else:
                path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        with self.command(
            target, *(["--workers", "0"] + (["--check"] if self.verb.name == "convert" else []))
        ) as running:
            said = ended(running)
            assert running.returncode == 0, said
        self.row("files removed, cut short, changed", target, time.monotonic() - begun, f"{len(spoilt)} files")

    def disk(self) -> None:
        with small_disk(self.folder / "disk") as resize:
            if resize is None:
                say("<!-- the disk was not filled: mounting one needs root -->")
                return
            target, begun, stops = self.target("disk", self.folder / "disk"), time.monotonic(), []
            for size in ("80k", "300k", "1m", "2m", "5m", "12m", "400m"):
                resize(size)
                with self.command(target, "--workers", "0") as running:
                    said = ended(running)
                if running.returncode == 0:
                    break
                assert running.returncode == 2, said
                assert "Traceback" not in said, said
                stops.append(said)
                line = next((line for line in said.splitlines() if "error" in line.lower()), said)
                say(f"<!-- {size}: {re.sub(str(self.folder), 'FOLDER', line)} -->")
            assert running.returncode == 0
            self.row("disk full", target, time.monotonic() - begun, f"{len(stops)} stops")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[str], Any] | None]:
    """Mount a disk in memory and give a function that changes its size; None where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def remove(target: Path) -> None:
    """Remove a result and its work folder."""
    for path in (target, work_folder(target)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def main() -> None:
    """Run all."""
    movie, wanted = Path(sys.argv[1]).absolute(), [name for name in sys.argv[2:] if not name.startswith("-")]
    only = [name[2:] for name in sys.argv[2:] if name.startswith("--")]
    faults = only or ["damage", "disk", "coordinator", "scheduler", "workers"]
    with tempfile.TemporaryDirectory() as name:
        say("| verb | fault | | blocks | executions | s | equal |\n|---|---|---|---|---|---|---|")
        for verb in verbs(movie, Path(name)):
            if wanted and verb.name not in wanted:
                continue
            tried = Faults(verb, Path(name))
            for fault in faults:
                getattr(tried, fault)()


if __name__ == "__main__":
    main()
