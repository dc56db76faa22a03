"""Cells a second from the file of a movie to the file of the result, with the accuracy beside it: speed that is bought shows.

``python benchmarks/end_to_end.py [--quick] [--only NAME,...] [--devices cpu,cuda] [--weights FOLDER] [--resume]``; five minutes
on two cores. Each row is a process of its own: it trains (shortly, on another movie; ``--weights`` keeps and takes such weights), does
the whole job once to warm up on two frames, then once for the figures, and compares the file on disk with a truth (of TGMM's sample
30 spots of 3087 are what was trained on; of the other movies nothing). Stages are timed from outside; what one calls of another counts
for the inner one; the rest (masks, measuring, merging) is "cells".

Movies: synthetic embryos in BigDataViewer HDF5 (ELEPHANT), moving cells in TIFF (EmbedTrack, EfficientCellSeg), and the sample movie
of TGMM where the real movies are (HOWDAH_DATA, or ../shared/data beside the repository). Written: results/end_to_end.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "python")]

STAGES = ("read", "network", "cells", "link", "write")
MODULES = ("tracking", "embedtrack", "efficientcellseg")


class Stages:
    """Seconds by stage; a stage that begins within another one stops that one's clock."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._open = ["cells"]
        self._since = time.perf_counter()

    def _switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def begin(self, stage: str) -> None:
        self._switch()
        self._open.append(stage)

    def end(self) -> None:
        self._switch()
        self._open.pop()

    def around(self, function: Callable, stage: str) -> Callable:
        def timed(*arguments: Any, **options: Any) -> Any:
            self.begin(stage)
            try:
                return function(*arguments, **options)
            finally:
                self.end()

        return timed

    def around_steps(self, function: Callable, stage: str) -> Callable:
        def timed(*arguments: Any, **options: Any) -> Iterator[Any]:
            steps = function(*arguments, **options)
            while True:
                self.begin(stage)
                try:
                    step = next(steps)
                except StopIteration as end:
                    return end.value
                finally:
                    self.end()
                yield step

        return timed


@contextmanager
def watched(movie: Path) -> Iterator[Stages]:
    """Time the stages of what happens in this block."""
    from importlib import import_module

    import torch
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    from bdv_io.formats import open_image

    stages, depth, put_back = Stages(), [0], []

    def patch(owner: Any, name: str, made: Callable) -> None:
        put_back.append((owner, name, getattr(owner, name)))
        setattr(owner, name, made)

    def before(module: Any, given: Any) -> None:
        depth[0] += 1
        if depth[0] == 1:
            stages.begin("network")

    def after(module: Any, given: Any, made: Any) -> None:
        depth[0] -= 1
        if depth[0] == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            stages.end()

    kind = type(open_image(movie))
    patch(kind, "read", stages.around(kind.read, "read"))
    for name in MODULES:
        module = import_module(f"howdah.pipeline.{name}")
        for function, stage, wrap in (
            ("linked_anew", "link", stages.around_steps),
            ("save", "write", stages.around),
            ("write_results", "write", stages.around),
        ):
            if hasattr(module, function):
                patch(module, function, wrap(getattr(module, function), stage))
    hooks = [register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)]
    try:
        yield stages
        stages._switch()
    finally:
        for hook in hooks:
            hook.remove()
        for owner, name, function in put_back:
            setattr(owner, name, function)


def embryo_files(folder: Path, *, seed: int, quick: bool, big: bool) -> tuple[Path, Path]:
    """Write a synthetic embryo; return the movie and its truth."""
    from bdv_io import ArrayImage
    from bdv_io.formats import open_image, write_image, write_tracks
    from howdah import synthetic

    options = {"shape": (32, 224, 224), "n_nuclei": 150, "n_divisions": 12, "n_frames": 6} if big and not quick else {}
    made = synthetic.embryo(seed=seed, **({"n_frames": 4} if quick else {"n_frames": 12}) | options)
    movie = folder / f"embryo{seed}.xml"
    frames = [made.frame(t) for t in range(made.n_frames)]
    write_image(movie, ArrayImage(frames, voxel_size=made.settings.voxel_size, unit=made.truth.space_unit))
    truth = folder / f"embryo{seed}-truth.mastodon"
    write_tracks(truth, made.truth, image=open_image(movie))
    return movie, truth


def cells_files(folder: Path, *, seed: int, edge: int, frames: int) -> tuple[Path, Path]:
    """Write a movie of cells that wander, and its labels, which keep their numbers; return both."""
    from scipy.ndimage import gaussian_filter

    from bdv_io import ArrayImage
    from bdv_io.formats import write_image

    rng, spacing = np.random.default_rng(seed), 32
    side = edge // spacing
    middle = (np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2) + 0.5) * spacing
    place = middle + rng.uniform(-3, 3, middle.shape)
    radii, angle, bright = (
        rng.uniform(7.5, 11, (side * side, 2)),
        rng.uniform(0, np.pi, side * side),
        rng.uniform(0.6, 1, side * side),
    )
    near = np.stack(np.mgrid[-16:17, -16:17])
    images, labels = [], []
    for _ in range(frames):
        place = np.clip(place + rng.normal(0, 1.2, place.shape), middle - 5, middle + 5)
        label, light = np.zeros((edge + 64, edge + 64), np.uint16), np.zeros((edge + 64, edge + 64))
        for n, (at, (a, b), turn) in enumerate(zip(place, radii, angle, strict=True)):
            low = np.round(at).astype(int) + 16
            y, x = near - (at - np.round(at))[:, None, None]
            inside = ((y * np.cos(turn) + x * np.sin(turn)) / a) ** 2 + (
                (x * np.cos(turn) - y * np.sin(turn)) / b
            ) ** 2 <= 1
            box = (slice(low[0], low[0] + 33), slice(low[1], low[1] + 33))
            free = inside & (label[box] == 0)
            label[box][free] = n + 1
            light[box][free] = bright[n]
        light = gaussian_filter(light, 1.0)[32:-32, 32:-32]
        images.append((200 + 1500 * light + rng.normal(0, 60, light.shape)).clip(0).astype(np.uint16)[None])
        labels.append(label[32:-32, 32:-32][None])
    movie, truth = folder / f"cells{seed}.tif", folder / f"cells{seed}-labels.tif"
    write_image(movie, ArrayImage(images, voxel_size=(1.0, 0.5, 0.5), unit="µm"))
    write_image(truth, ArrayImage(labels, voxel_size=(1.0, 0.5, 0.5), unit="µm"))
    return movie, truth


Job = tuple[Path, Path, str, Callable[[Path], Any], Callable[[Path, Path, "str | None"], Any]]


def elephant_job(folder: Path, device: str, quick: bool, *, real: Path | None) -> Job:
    from bdv_io import Tracks
    from bdv_io.formats import open_image, read_tracks, write_tracks
    from howdah.pipeline import Job as Source
    from howdah.pipeline import track, train

    if real is not None:
        movie, truth = real / "tgmm-3d" / "datasethdf5.xml", real / "tgmm-3d" / "tgmm-mini.mastodon"
        taught, known, at = movie, read_tracks(truth), (5, 15, 25)
    else:
        movie, truth = embryo_files(folder, seed=3, quick=quick, big=True)
        taught, answers = embryo_files(folder, seed=1, quick=quick, big=False)
        known, at = read_tracks(answers), (0, 2, 3)
    rng, marks = np.random.default_rng(0), folder / "marks.mastodon"
    rows = np.concatenate([rng.choice(np.flatnonzero(known.t == t), 10, replace=False) for t in at])
    few = Tracks.build(
        known.t[rows], known.centre[rows], covariance=known.covariance[rows], space_unit=known.space_unit
    )
    write_tracks(marks, few, image=open_image(taught))
    settings = {"elephant": {"device": device, **({"n_epochs": 2} if quick else {})}}
    return (
        movie,
        truth,
        "tracked.mastodon",
        lambda weights: train(Source(marks), weights, settings=settings),
        lambda out, weights, frames: track(
            Source(movie, frames=frames), out, weights=weights, settings={"elephant": {"device": device}}
        ),
    )


def cells_job(folder: Path, device: str, quick: bool, *, method: str) -> Job:
    from howdah.pipeline import Job as Source
    from howdah.pipeline import segment_efficientcellseg, track_embedtrack, train_efficientcellseg, train_embedtrack

    movie, truth = cells_files(folder, seed=2, edge=256 if quick else 512, frames=4 if quick else 8)
    taught, answers = cells_files(folder, seed=1, edge=256, frames=4)
    asked = {"device": device} | ({"n_epochs": 1} if quick else {"n_epochs": 8})
    if method == "efficientcellseg":
        asked["encoder"] = "lite0"  # its weights come with the packages for developers
    settings, plain = {method: asked}, {method: {"device": device}}
    if method == "embedtrack":
        return (
            movie,
            truth,
            "tracked.xml",
            lambda weights: train_embedtrack(Source(taught), weights, settings=settings, truth=answers),
            lambda out, weights, frames: track_embedtrack(
                Source(movie, frames=frames), out, weights=weights, settings=plain
            ),
        )
    return (
        movie,
        truth,
        "cells.xml",
        lambda weights: train_efficientcellseg(Source(taught), weights, settings=settings, truth=answers),
        lambda out, weights, frames: segment_efficientcellseg(
            Source(movie, frames=frames), out, weights=weights, settings=plain, link=True
        ),
    )


def real_folder() -> Path | None:
    named = os.environ.get("HOWDAH_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if (folder / "tgmm-3d" / "datasethdf5.xml").is_file() else None


NAMES = {
    "ELEPHANT, synthetic embryo": lambda *given: elephant_job(*given, real=None),
    "ELEPHANT, TGMM sample": lambda *given: elephant_job(*given, real=real_folder()),
    "EmbedTrack, cells": lambda *given: cells_job(*given, method="embedtrack"),
    "EfficientCellSeg, cells": lambda *given: cells_job(*given, method="efficientcellseg"),
}


def one(name: str, device: str, quick: bool, kept: Path | None) -> dict[str, Any]:
    """Do one row in this process."""
    from bdv_io.formats import open_image, read_tracks
    from benchmarks.suite.child import CLEAR, held_mb
    from howdah.pipeline.evaluation import evaluate
    from howdah.progress import finish

    with tempfile.TemporaryDirectory(prefix="howdah-bench-") as place:
        folder = Path(place)
        movie, truth, result, train, run = NAMES[name](folder, device, quick)
        weights = (kept or folder) / f"{name.replace(', ', '-').replace(' ', '-')}.safetensors"
        began = time.perf_counter()
        if not weights.exists():
            finish(train(weights))
        trained = time.perf_counter() - began
        finish(run(folder / f"warm-{result}", weights, "0-1"))
        image = open_image(movie)
        n_frames, size = image.n_frames, sum(int(np.prod(image.shape(t))) * 2 for t in range(image.n_frames))
        image.close()
        peak_is_known = _start_of_peak(CLEAR)
        with watched(movie) as stages:
            cpu, wall = time.process_time(), time.perf_counter()
            finish(run(folder / result, weights, None))
            taken, spent = time.perf_counter() - wall, time.process_time() - cpu
        peak = round(held_mb("VmHWM")) if peak_is_known else None
        found = read_tracks(folder / result)
        score = finish(evaluate(folder / result, truth))
    return {
        "name": name,
        "device": device,
        "frames": n_frames,
        "cells": found.n_spots,
        "mb": size / 1e6,
        "train_s": trained,
        "wall_s": taken,
        "cpu_s": spent,
        "peak_mb": peak,
        "stages_s": stages.seconds,
        "scores": scores_of(score),
    }


def _start_of_peak(clear: Path) -> bool:
    """Let the kernel forget the most memory that this process has held; False where it cannot."""
    try:
        clear.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def scores_of(score: dict[str, Any]) -> dict[str, float]:
    """Return F1 of spots and links, and SEG where there are masks."""
    rows = {str(row.get("what", row.get("of"))): row for row in score.get("measures", [])}
    picked = {
        f"{name} F1": float(row[key]) for name, row in rows.items() for key in ("F1", "f1") if row.get(key) is not None
    }
    seg = score.get("segmentation", {}).get("SEG", score.get("segmentation", {}).get("seg"))
    return picked | ({} if seg is None else {"SEG": float(seg)})


def row_text(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"| {row['name']} | {row['device']} | failed: {row['failed'].replace('|', '/')} |" + " |" * 7
    share = " · ".join(f"{name} {100 * value / row['wall_s']:.0f} %" for name, value in row["stages_s"].items())
    scores = ", ".join(f"{name} {value:.3f}" for name, value in row["scores"].items())
    peak = "-" if row["peak_mb"] is None else f"{row['peak_mb']:.0f} MB"
    return (
        f"| {row['name']} | {row['device']} | {row['frames']} / {row['cells']} / {row['mb']:.0f} MB | {row['wall_s']:.1f} s "
        f"| {row['frames'] / row['wall_s']:.2f} | **{row['cells'] / row['wall_s']:.0f}** | {row['wall_s'] / row['mb'] * 1000:.0f} "
        f"| {share} | {peak} | {scores} |"
    )


HEAD = (
    "| what | device | frames / cells / voxels | time | frames/s | cells/s | s/GB | where the time goes | memory of the process "
    "| accuracy of the file |\n|---|---|---|---:|---:|---:|---:|---|---:|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--devices", default="")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--resume", action="store_true", help="do the rows that the file in --out lacks, or has failed")
    parser.add_argument("--row-seconds", type=float, default=120.0, help="most for a row, with its training")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "DEVICE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        sys.stdout.write("\n" + json.dumps(one(*asked.one, asked.quick, asked.weights)) + "\n")
        return
    import torch

    from benchmarks.suite.machine import machine

    devices = [each for each in asked.devices.split(",") if each] or [
        "cpu",
        *(["cuda"] if torch.cuda.is_available() else []),
    ]
    names = [each for each in NAMES if not asked.only or any(word in each for word in asked.only.split(","))]
    if real_folder() is None:
        names = [each for each in names if "TGMM" not in each]
    file = asked.out / "end_to_end.json"
    facts = {"schema": 1, "quick": asked.quick, "machine": machine(Path(tempfile.gettempdir())), "rows": []}
    if asked.resume and file.exists():
        facts = json.loads(file.read_text(encoding="utf-8"))
        facts["rows"] = [row for row in facts["rows"] if "failed" not in row]
    done = {(row["name"], row["device"]) for row in facts["rows"]}
    print(HEAD, flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    for name, device in [(name, device) for name in names for device in devices if (name, device) not in done]:
        sys.stderr.write(f"[{time.perf_counter() - began:4.0f} s] {name}, {device}\n")
        facts["rows"].append(in_a_process(name, device, asked))
        print(row_text(facts["rows"][-1]), flush=True)
        file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        rows = "\n".join([HEAD, *map(row_text, facts["rows"])])
        (asked.out / "end_to_end.md").write_text(f"{rows}\n", encoding="utf-8")


def in_a_process(name: str, device: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Do one row in a process of its own; what fails, or takes too long, says so."""
    command = [sys.executable, __file__, "--one", name, device, *(["--quick"] if asked.quick else [])]
    command += ["--weights", str(asked.weights)] if asked.weights else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=asked.row_seconds)
    except subprocess.TimeoutExpired:
        return {"name": name, "device": device, "failed": f"given up after {asked.row_seconds:g} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        return {"name": name, "device": device, "failed": said[-1][:160]}
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


if __name__ == "__main__":
    main()
