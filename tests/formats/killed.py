"""Kills a writer at every step: a script that :mod:`formats.test_killed` runs for one format at a time.

    python tests/formats/killed.py KEY FOLDER

The old content is written; then children are forked that write the new one over it and are killed: before and after each call
that the safe writing makes of the system, and, by a limit on the size of files, in the midst of writing bytes. After each
death what is there must be the old content or the new one, whole. Prints one JSON line.
"""

# ruff: noqa: E402, T201
from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[2] / "python"),
    str(Path(__file__).parents[2]),
]

import numpy as np
from formats.contract import plain

from bdv_io.difference import difference
from bdv_io.errors import FormatError
from bdv_io.formats import format_named, open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.safe_write import previous_version

CALLS = ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir")
KILLED, FOUND, NEITHER = 137, 10, 2
THREADED = {"geff"}  # must not be used before a fork
COUNTED = {"ctc", "labels", "rois"}  # masks: spots come back by their centroid
NAMES = {
    "mastodon": "a.mastodon", "trackmate": "a.xml", "mamut": "a-mamut.xml", "csv": "a-spots.csv", "ctc": "01_RES",
    "geff": "a.geff", "parquet": "a-spots.parquet", "rois": "a.zip", "labels": "labels.ome.zarr",
    "bdv": "a.xml", "ome-zarr": "a.ome.zarr", "tiff": "a.tif",
}  # fmt: skip


def movie(seed: int) -> ArrayImage:
    return ArrayImage(np.random.default_rng(seed).integers(0, 9999, (3, 12, 40, 48)).astype(np.uint16))


class Target:
    """What is written, and how to tell which version is there."""

    def __init__(self, key: str, folder: Path) -> None:
        self.key, self.path, self.kind = key, folder / NAMES[key], format_named(key).kind
        old, new = plain(), plain()
        self.contents: list[Any] = [movie(0), movie(1)] if self.kind == "image" else [old, new.select(new.t != 1)]

    def write(self, version: int) -> None:
        if self.kind == "image":
            write_image(self.path, self.contents[version], key=self.key)
        else:
            write_tracks(self.path, self.contents[version], key=self.key, image=movie(0))

    def version(self) -> int:
        """0 old, 1 new, 2 anything else; reading must work."""
        for number, content in enumerate(self.contents):
            if self.kind == "image":
                image = open_image(self.path, key=self.key)
                if all(np.array_equal(image.read(t), content.read(t)) for t in range(3)):
                    return number
            else:
                try:
                    there = read_tracks(self.path, key=self.key)
                except FormatError:  # the links of one version, the spots of the other
                    return NEITHER
                if self.key in COUNTED and there.n_spots == content.n_spots:
                    return number
                if there.n_spots == content.n_spots and there.n_links == content.n_links:
                    return number if difference(there, content).counts["spots_removed"] == 0 else NEITHER
        return NEITHER


def in_child(work: Callable[[], object]) -> int:
    """Run work in a forked child; return its exit status, 137 where it was killed, 10 and the number that work returns.

    Everything that opens a file runs in children: a library that has started threads (zarr) cannot be forked any more.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            result = work()
            status = FOUND + result if isinstance(result, int) else 0
        except OSError as error:  # a sentence about a file that may not grow
            status = 0 if "Writing" in str(error) else 1
        except BaseException:  # noqa: BLE001  it is said, and the child ends here
            traceback.print_exc()
        finally:
            os._exit(status)
    _, state = os.waitpid(child, 0)
    return KILLED if os.WIFSIGNALED(state) else os.waitstatus_to_exitcode(state)


def dying_at(number: int, *, after: bool) -> list[int]:
    """Make the process die at the ``number``-th call of those that put files in place; return the count of calls."""
    count = [0]

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*given: Any, **named: Any) -> Any:
            count[0] += 1
            if count[0] == number and not after:
                os._exit(KILLED)
            result = call(*given, **named)
            if count[0] == number and after:
                os._exit(KILLED)
            return result

        return wrapper

    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name)))
    return count


def growing_to(size: int, *, kill: bool) -> None:
    """Let no file grow beyond ``size``: the process is killed there, or the write fails."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def warm(target: Target) -> None:
    """Import what the children will need, so that not each of them has to."""
    if target.key in THREADED:
        __import__(format_named(target.key).module)
    else:
        target.write(0)
        target.version()


def number_of_calls(target: Target) -> int:
    """Count the calls of a writing that is not killed."""
    read, write = os.pipe()

    def work() -> None:
        count = dying_at(-1, after=False)
        target.write(1)
        os.write(write, str(count[0]).encode())

    assert in_child(work) == 0
    os.close(write)
    with os.fdopen(read) as pipe:
        return int(pipe.read())


def chosen(total: int, *, slow: bool) -> list[int]:
    """All calls of a short writing; of a long one (a file a chunk) the first, the last, and some between."""
    if slow:
        return [n for n in (total // 2, total - 4, total - 2, total - 1, total) if n >= 1]
    some = {*range(1, 6), *range(total - 11, total + 1), *np.linspace(1, total, 6).astype(int).tolist()}
    return sorted(n for n in some if 1 <= n <= total)


def fresh(target: Target, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    assert in_child(lambda: target.write(0)) == 0


def main(key: str, folder: Path) -> dict[str, int]:
    target = Target(key, folder)
    outcome = {"old": 0, "new": 0, "between": 0}
    warm(target)

    def check(what: str) -> None:
        found = in_child(target.version) - FOUND
        if found not in (0, 1):
            # only between two renames of files that belong together, and then the old version is at hand
            kept = [path for path in folder.iterdir() if previous_version(path).exists()]
            assert found == NEITHER, f"{key}, {what}: reading failed"
            assert kept, f"{key}, {what}: neither old nor new"
            outcome["between"] += 1
        else:
            outcome["old" if found == 0 else "new"] += 1
        # a lock or a temporary file of the dead must not be in the way
        assert in_child(lambda: target.write(1)) == 0, f"{key}, {what}: cannot be written any more"
        assert in_child(target.version) == FOUND + 1, f"{key}, {what}: cannot be written any more"

    fresh(target, folder)
    slow = key in THREADED
    for number in chosen(number_of_calls(target), slow=slow):
        for after in (False, True):
            fresh(target, folder)
            status = in_child(lambda n=number, a=after: (dying_at(n, after=a), target.write(1)))
            assert status in (0, KILLED), f"{key}: the child at call {number} failed"
            check(f"{'after' if after else 'before'} call {number}")
    fresh(target, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    largest = max(path.stat().st_size for path in files)
    for size in sorted(
        {100, int(largest * 0.5)} if slow else {1, 100, *(int(largest * p) for p in (0.2, 0.5, 0.8, 0.99))}
    ):
        for kill in (True, False):
            fresh(target, folder)
            in_child(lambda s=size, k=kill: (growing_to(s, kill=k), target.write(1)))
            check(f"files of {size} bytes")
    return outcome


if __name__ == "__main__":
    where = Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    print(json.dumps(main(sys.argv[1], where)))
