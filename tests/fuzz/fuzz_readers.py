"""Fuzzes every reader: damaged files must give a sentence (BdvIoError), in bounded time and memory. See README.md here.

    PYTHONPATH=python:. python tests/fuzz/fuzz_readers.py --minutes 10 --out /tmp/fuzz

Each case copies a small whole file (``seeds.py``), damages it (``mutators.py``), and reads it in a forked worker whose memory is
limited and whose warnings are errors. A case is named ``format/kind/seed/number`` and is the same in every run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from mutators import damage
from seeds import Seed, make_seeds

import bdv_io.threads
from bdv_io.errors import BdvIoError
from bdv_io.formats import FORMATS, identify, open_image, read_tracks
from bdv_io.image import Hints, ImageSeries
from bdv_io.repair import mended

REPOSITORY = Path(__file__).resolve().parents[2]
ADDRESS_SPACE = 4 << 30
MACHINE = 256 << 20  # the memory that the readers believe to have
MOST_RESIDENT = 1200 << 20
WALL, CPU = 10.0, 6.0  # seconds; both must be over, as the machine may be busy
BATCH = 150
HINTS = (
    {},
    {},
    {"axes": "TZYX"},
    {"axes": "TYX"},
    {"voxel_size": (2.0, 0.5, 0.5), "unit": "µm", "interval": (30.0, "s")},
    {"axes": "ZYX", "voxel_size": (2.0, 0.5, 0.5), "unit": "µm", "interval": (30.0, "s")},
)


class Broken(Exception):
    """A reader let through what it should have refused."""


# ---- one case ------------------------------------------------------------------------------------------------------------


def prepare(seed: Seed, number: int, folder: Path) -> tuple[Path, str]:
    """Copy a seed and damage it; returns what to open and what was done."""
    rng = Random(f"{seed.format}/{seed.kind}/{seed.name}/{number}")
    remove(folder)
    target = folder / "case"
    shutil.copytree(seed.folder, target)
    done = [damage(target, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    return target / seed.entry, "; ".join(done)


def remove(folder: Path) -> None:
    """Delete a case, whatever was made of its folders."""
    shutil.rmtree(folder, ignore_errors=True)


def use(seed: Seed, path: Path, number: int) -> str:
    """Read as a user would; returns the sentence of a refusal, empty if all was read."""
    sentence = ""
    with contextlib.suppress(BdvIoError):
        identify(path)
    known = next(f for f in FORMATS if (f.key, f.kind) == (seed.format, seed.kind))
    fitting = {name: value for name, value in HINTS[number % len(HINTS)].items() if name in known.hints}
    hints = Hints(**fitting) if fitting else None
    try:
        if seed.kind == "image":
            image = open_image(path, key=seed.format, hints=hints)
            try:
                sentence = use_image(image)
            finally:
                image.close()
        else:
            tracks = read_tracks(path, key=seed.format, hints=hints)
            contradictions = [p for p in tracks.problems() if "links run forward" not in p]
            try:
                tracks.validate(odd_is_fine=True)
            except BdvIoError as error:
                raise Broken(f"it was read, but contradicts itself: {error}") from error
            if contradictions:
                mended(tracks)
    except BdvIoError as error:
        sentence = str(error)
    if seed.kind == "annotation" and known.lenient and sentence:
        with contextlib.suppress(BdvIoError):
            mended(read_tracks(path, key=seed.format, hints=hints, lenient=True))
    if sentence and (len(sentence) < 30 or "<_io." in sentence or "object at 0x" in sentence or len(sentence) > 3000):
        raise Broken(f"no sentence for a person: {sentence[:500]}")
    return sentence


def use_image(image: ImageSeries) -> str:
    """Read parts of all setups and levels, and whole views where they are small or absurdly large."""
    refused = ""
    check(
        image.interval is None or (np.isfinite(image.interval[0]) and image.interval[0] > 0),
        f"interval {image.interval}",
    )
    check(image.n_frames == len(image.timepoints), "the number of frames is not that of the time points")
    for place, setup in enumerate(image.setups[:4]):
        check(all(np.isfinite(n) and n > 0 for n in setup.voxel_size), f"voxel size {setup.voxel_size}")
        check(all(isinstance(n, int) and n >= 1 for n in setup.shape), f"shape {setup.shape}")
        for level in range(min(len(setup.levels), 6)):
            for frame in sorted({0, 1, image.n_frames // 2, image.n_frames - 1} & set(range(image.n_frames))):
                try:
                    use_view(image, frame, place, level)
                except BdvIoError as error:
                    refused = refused or str(error)
    return refused


def use_view(image: ImageSeries, frame: int, setup: int, level: int) -> None:
    if image.is_missing(frame, setup):
        return
    shape, dtype = image.shape(frame, setup, level), image.setups[setup].dtype
    affine = image.affine(frame, setup, level)
    check(affine.shape == (4, 4) and bool(np.isfinite(affine).all()), f"affine {affine}")
    z, y, x = shape
    corners = (slice(0, 2), slice(0, 16), slice(0, 16)), (slice(z // 2, z // 2 + 2), slice(y - 9, y), slice(x - 9, x))
    for region in corners:
        part = image.read(frame, setup, level, region=region)
        check(part.dtype == dtype and part.dtype.isnative, f"type {part.dtype}, not {dtype}")
        check(
            part.shape == tuple(len(range(*s.indices(n))) for s, n in zip(region, shape, strict=True)),
            f"shape {part.shape}",
        )
    size = z * y * x * dtype.itemsize
    if size < 16 << 20 or size > MACHINE:
        whole = image.read(frame, setup, level)
        check(whole.shape == shape and whole.dtype == dtype, f"shape {whole.shape}, not {shape}")


def check(good: bool, what: str) -> None:
    """Complain of what was read from a damaged file."""
    if not good:
        raise Broken(f"it was let through: {what}")


# ---- workers -------------------------------------------------------------------------------------------------------------


def work(seed: Seed, numbers: range, scratch: Path, pipe: Connection) -> None:
    """Read cases one after another and tell what became of each, in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bdv_io.threads.memory = lambda: MACHINE
    warnings.simplefilter("error")
    logging.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C libraries say
    hidden: list[Any] = []
    sys.unraisablehook = hidden.append
    for number in numbers:
        folder = scratch / str(number)
        pipe.send(("start", number, "damaging"))
        try:
            path, done = prepare(seed, number, folder)
        except Exception:  # noqa: BLE001 - damage to what is damaged already may fail
            remove(folder)
            continue
        pipe.send(("start", number, done))
        verdict, text, place = "read", "", ""
        try:
            text = use(seed, path, number)
            verdict = "refused" if text else "read"
        except BaseException as error:  # noqa: BLE001 - whatever a reader lets out is a finding
            verdict, text, place = type(error).__name__, traceback.format_exc(), _place(error)
        if hidden and not place:
            error = hidden[0].exc_value
            verdict, text, place = (
                f"hidden {type(error).__name__}",
                f"{error!r} in {hidden[0].object!r}",
                str(error)[:60],
            )
        hidden.clear()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        if peak > MOST_RESIDENT and not place:
            verdict, text, place = "memory", f"{peak >> 20} MB were resident; {text}", str(peak >> 28)
        remove(folder) if not place else None
        pipe.send(("done", number, (verdict, text[-6000:], place)))
        if place:
            return  # what follows gets a fresh process
    pipe.send(("end", 0, None))


def _place(error: BaseException) -> str:
    """The last line of our code in a traceback: findings of the same are one."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/bdv_io/" in f.filename]
    if not frames:
        return "outside"
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}:{frames[-1].line}"


@dataclass
class Outcome:
    """What became of one case."""

    number: int
    done: str
    verdict: str
    text: str
    place: str


def run_batch(seed: Seed, numbers: range, scratch: Path) -> list[Outcome]:
    """Read cases in workers, a new one after each that failed."""
    context, outcomes = multiprocessing.get_context("fork"), []
    while numbers:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(seed, numbers, scratch, theirs), daemon=True)
        worker.start()
        theirs.close()
        current, done = None, ""
        while True:
            if not _answers(ours, worker.pid):
                worker.kill()
                outcomes.append(
                    Outcome(current or numbers[0], done, "time-out", f"no answer within {WALL} s", f"{seed.name}")
                )
                current = None
                break
            try:
                word, number, said = ours.recv()
            except EOFError:
                break
            if word == "end":
                current = None
                numbers = range(0)
                break
            if word == "start":
                current, done = number, said
                continue
            outcomes.append(Outcome(number, done, *said))
            current, numbers = None, range(number + 1, numbers.stop)
        worker.join(5)
        if current is not None:
            outcomes.append(Outcome(current, done, f"died ({worker.exitcode})", "", f"{seed.name}: {done[:40]}"))
        if outcomes and numbers and outcomes[-1].number >= numbers.start:
            numbers = range(outcomes[-1].number + 1, numbers.stop)
        elif not outcomes:
            break  # nothing of it could be damaged
    return outcomes


def _answers(pipe: Connection, process: int | None) -> bool:
    """Wait for a message; False if both the wall clock and the processor time of the worker are over the limit."""
    start, used = time.monotonic(), _cpu(process)
    while not pipe.poll(0.5):
        waited = time.monotonic() - start
        if waited > WALL and (_cpu(process) - used > CPU or waited > 3 * WALL or _sleeps(process)):
            return False
    return True


def _cpu(process: int | None) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sleeps(process: int | None) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"
    except OSError:
        return False


# ---- the run -------------------------------------------------------------------------------------------------------------


class Record:
    """Counts, time and findings, kept in a folder over runs."""

    def __init__(self, out: Path) -> None:
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        state = out / "state.json"
        self.totals: dict[str, dict[str, float]] = json.loads(state.read_text()) if state.exists() else {}
        self.next: dict[str, int] = self.totals.pop("next", {})  # type: ignore[assignment]
        self.findings = 0

    def take(self, seed: Seed, outcomes: list[Outcome], seconds: float, scratch: Path) -> None:
        total = self.totals.setdefault(
            f"{seed.format} ({seed.kind})", {"cases": 0, "seconds": 0, "refused": 0, "failed": 0}
        )
        total["cases"] += len(outcomes)
        total["seconds"] += seconds
        for outcome in outcomes:
            total["refused"] += outcome.verdict == "refused"
            if outcome.verdict == "refused":
                self._sentence(seed, outcome.text)
            if outcome.place:
                total["failed"] += 1
                self._finding(seed, outcome, scratch / str(outcome.number))
        self.save()

    def _sentence(self, seed: Seed, text: str) -> None:
        with (self.out / f"sentences-{seed.format}.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text.replace("\n", "\\n")[:400] + "\n")

    def _finding(self, seed: Seed, outcome: Outcome, folder: Path) -> None:
        key = hashlib.sha1(f"{seed.format} {outcome.verdict} {outcome.place}".encode(errors="replace")).hexdigest()[:8]
        kept = self.out / "findings" / f"{seed.format}-{outcome.verdict.split()[0]}-{key}"
        if not kept.exists():
            self.findings += 1
            kept.mkdir(parents=True)
            with contextlib.suppress(OSError, shutil.Error):
                shutil.copytree(folder, kept / "case", symlinks=True, ignore=_large)
            said = f"{seed.format}/{seed.kind}/{seed.name}/{outcome.number}\n{outcome.done}\n{outcome.verdict} at {outcome.place}\n\n{outcome.text}\n"  # noqa: E501
            (kept / "finding.txt").write_text(said, encoding="utf-8", errors="backslashreplace")
            print(
                f"FOUND {outcome.verdict:20} {outcome.place}  {seed.format}/{seed.kind}/{seed.name}/{outcome.number}: {outcome.done[:100]}",
                flush=True,
            )
        remove(folder)

    def save(self) -> None:
        (self.out / "state.json").write_text(json.dumps({**self.totals, "next": self.next}, indent=1))
        lines = [
            f"{name:28} {int(t['cases']):8} cases {t['seconds']:8.0f} s {int(t['refused']):8} refused {int(t['failed']):6} failed"
            for name, t in sorted(self.totals.items())
        ]
        cases, seconds = (sum(t[key] for t in self.totals.values()) for key in ("cases", "seconds"))
        (self.out / "log.txt").write_text(
            "\n".join([*lines, f"{'all':28} {int(cases):8} cases {seconds:8.0f} s"]) + "\n"
        )


def _large(folder: str, names: list[str]) -> list[str]:
    """Files with holes and pipes are not kept."""
    paths = [Path(folder, name) for name in names]
    return [
        p.name
        for p in paths
        if not p.is_symlink() and not p.is_dir() and (not p.is_file() or p.stat().st_size > 4 << 20)
    ]


def main() -> int:
    """Run for some minutes, or replay one case."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=5.0)
    options.add_argument(
        "--out", type=Path, default=Path("fuzz-out"), help="where counts and findings are kept over runs"
    )
    options.add_argument("--formats", nargs="*", help="keys of formats; all by default")
    options.add_argument("--replay", help="format/kind/seed/number of a finding: read it here, without limits")
    given = options.parse_args()
    for known in FORMATS:
        import_module(known.module)
    for name in (
        "h5py",
        "zarr",
        "tifffile",
        "imagecodecs",
        "numcodecs",
        "roifile",
        "lxml.etree",
        "hashlib",
        "bdv_io.roi_set.shapes",
    ):
        import_module(name)
    real = Path(os.environ.get("HOWDAH_DATA", REPOSITORY.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory(prefix="howdah-fuzz-", ignore_cleanup_errors=True) as base:
        os.environ["TMPDIR"] = base
        seeds = _seeds_in_child(Path(base) / "seeds", real if real.is_dir() else None, given.formats)
        if given.replay:
            return replay(given.replay, seeds, Path(base))
        record, scratch, end = Record(given.out), Path(base) / "cases", time.monotonic() + given.minutes * 60
        print(f"{len(seeds)} seeds: {', '.join(sorted({f'{s.format} ({s.kind})' for s in seeds}))}", flush=True)
        scratch.mkdir()
        while time.monotonic() < end:
            for seed in _fairly(seeds, record):
                name = f"{seed.format}/{seed.kind}/{seed.name}"
                first = record.next.get(name, 0)
                record.next[name] = first + BATCH
                start = time.monotonic()
                outcomes = run_batch(seed, range(first, first + BATCH), scratch)
                record.take(seed, outcomes, time.monotonic() - start, scratch)
                if time.monotonic() > end:
                    break
    print((given.out / "log.txt").read_text())
    return int(record.findings > 0)


def _fairly(seeds: list[Seed], record: Record) -> list[Seed]:
    """One seed a format: the one with the fewest cases; the formats with the least time first."""
    best: dict[str, Seed] = {}
    for seed in seeds:
        key = f"{seed.format} ({seed.kind})"
        count = record.next.get(f"{seed.format}/{seed.kind}/{seed.name}", 0)
        if key not in best or count < record.next.get(f"{best[key].format}/{best[key].kind}/{best[key].name}", 0):
            best[key] = seed
    ordered = sorted(best, key=lambda key: record.totals.get(key, {}).get("seconds", 0.0))
    return [best[key] for key in ordered[: max(1, len(ordered) // 2)]]


def _seeds_in_child(folder: Path, real: Path | None, formats: list[str] | None) -> list[Seed]:
    """Writing starts threads, which do not survive the forks that follow: so another process does it."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=lambda: theirs.send(make_seeds(folder, real, formats)))
    child.start()
    theirs.close()
    seeds: list[Seed] = ours.recv()
    child.join()
    return seeds


def replay(name: str, seeds: list[Seed], base: Path) -> int:
    """Read one case in this process and show what happens."""
    key, kind, seed_name, number = name.split("/")
    seed = next(s for s in seeds if (s.format, s.kind, s.name) == (key, kind, seed_name))
    folder = base / "replay"
    folder.mkdir()
    path, done = prepare(seed, int(number), folder)
    print(done, flush=True)
    bdv_io.threads.memory = lambda: MACHINE
    warnings.simplefilter("error")
    print(use(seed, path, int(number)) or "it was read")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, "MB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
