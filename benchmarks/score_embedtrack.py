"""EmbedTrack on three real 2D movies: trained on their first frames, scored on their last, beside a classical way.

Run: ``python benchmarks/score_embedtrack.py DATA_FOLDER [OUT_FOLDER] [--movies hela-h2b-2d,...] [--weights] [SETTING=VALUE ...]`` where
DATA_FOLDER holds the movies as Cell Tracking Challenge folders. Metrics are the official ones (py-ctcmetrics), and precision, recall and
F1 of divisions (howdah.metrics, within one frame). The classical way (``classical_tracking.py``) is tuned on the same training
frames; it needs LapTrack. Written are challenge folders, weights, and pictures with outlines and tracks. ``--weights`` takes the
weights of the last run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import classical_tracking
import matplotlib as mpl
import numpy as np
import tifffile
from ctc_metrics import evaluate_sequence
from scipy import ndimage

from bdv_io import Tracks
from howdah.methods.annotation import Annotation
from howdah.methods.embedtrack.cluster import find_cells
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.link import vote
from howdah.methods.embedtrack.predict import Network
from howdah.methods.embedtrack.train import train
from howdah.methods.embedtrack.weights import read_weights
from howdah.metrics import score_tracking
from howdah.nn.checkpoint import Weights
from howdah.nn.normalise import normalised
from howdah.progress import Progress, finish

mpl.use("Agg")
import matplotlib.pyplot as plt

MOVIES = {"hela-h2b-2d": (15, "01_GT"), "c2c12-phase-2d": (6, "01_GT"), "t98g-phase-2d": (12, "01_ST")}
OFFICIAL = ("SEG", "DET", "TRA", "OP_CSB", "OP_CTB", "LNK")


@dataclass(frozen=True)
class Movie:
    """Images and outlined cells (T, Y, X), rows (label, first, last, parent), and the first test frame."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    table: np.ndarray
    split: int

    @classmethod
    def read(cls, folder: Path, name: str) -> Movie:
        split, truth = MOVIES[name]
        read = [
            np.stack([tifffile.imread(f) for f in sorted(folder.glob(p))]) for p in ("01/*.tif", f"{truth}/SEG/*.tif")
        ]
        table = np.loadtxt(folder / "01_GT/TRA/man_track.txt", dtype=np.int64, ndmin=2)
        return cls(name, read[0], read[1].astype(np.int32), table, split)

    def parents(self, t: int) -> np.ndarray:
        """Return (K, 2) label at t, label at t-1."""
        rows = [(n, n if first < t else parent) for n, first, last, parent in self.table if first <= t <= last]
        here, before = np.unique(self.labels[t]), np.unique(self.labels[t - 1])
        kept = [(n, p) for n, p in rows if p and n in here and p in before]
        return np.array(kept, dtype=np.int64).reshape(-1, 2)

    def annotation(self) -> Annotation:
        """Return the training frames."""
        return Annotation(
            lambda t: self.images[t][None],
            lambda t: self.labels[t][None],
            tuple(range(self.split)),
            {t: self.parents(t) for t in range(1, self.split)},
            complete=True,
        )

    def part(self, start: int, stop: int) -> Tracking:
        """Return the truth of some frames, labels without gaps in each."""
        frames, parents = [], []
        for t in range(start, stop):
            names, plain = np.unique(self.labels[t], return_inverse=True)
            frames.append(plain.reshape(self.labels[t].shape).astype(np.int32))
            row = np.zeros(len(names) - 1, dtype=np.int64)
            if t > start:
                before = np.unique(self.labels[t - 1])
                for n, p in self.parents(t):
                    row[np.searchsorted(names, n) - 1] = np.searchsorted(before, p)
            parents.append(row)
        return Tracking(frames, parents)


@dataclass(frozen=True)
class Tracking:
    """Labels 1..N of each frame, and for each of them its label at t-1, 0 for none."""

    labels: list[np.ndarray]
    parents: list[np.ndarray]

    def tracks(self) -> Tracks:
        """Return spots at the cells' centres, with links; pixels."""
        count = np.array([len(p) for p in self.parents])
        first = np.concatenate([[0], np.cumsum(count)])
        places = [
            np.array(ndimage.center_of_mass(f > 0, f, np.arange(1, n + 1))).reshape(-1, 2)
            for f, n in zip(self.labels, count, strict=True)
        ]
        links = [
            np.column_stack([first[t - 1] + p[p > 0] - 1, first[t] + np.flatnonzero(p)])
            for t, p in enumerate(self.parents)
            if t
        ]
        centre = np.column_stack([np.zeros(first[-1]), np.concatenate(places)])
        return Tracks.build(np.repeat(np.arange(len(count)), count), centre, radius=1.0, links=np.concatenate(links))

    def numbers(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the track number of each cell, and rows (number, first, last, parent) as the challenge wants them."""
        rows: list[list[int]] = []
        before = np.zeros(0, dtype=np.int64)
        numbers = []
        for t, parent in enumerate(self.parents):
            children = np.bincount(parent, minlength=len(before) + 1)
            here = np.zeros(len(parent), dtype=np.int64)
            for i, p in enumerate(parent):
                mother = int(before[p - 1]) if p else 0
                if mother and children[p] == 1:
                    here[i] = mother
                    rows[mother - 1][2] = t
                else:
                    rows.append([len(rows) + 1, t, t, mother])
                    here[i] = len(rows)
            numbers.append(here)
            before = here
        return numbers, np.array(rows, dtype=np.int64).reshape(-1, 4)

    def write(self, folder: Path, *, truth: bool) -> None:
        """Write a challenge folder: a result, or a truth."""
        shutil.rmtree(folder, ignore_errors=True)
        masks = [folder / "SEG", folder / "TRA"] if truth else [folder]
        numbers, rows = self.numbers()
        for place in masks:
            place.mkdir(parents=True)
            for t, (frame, number) in enumerate(zip(self.labels, numbers, strict=True)):
                name = f"man_{'seg' if place.name == 'SEG' else 'track'}{t:03d}.tif" if truth else f"mask{t:03d}.tif"
                tifffile.imwrite(
                    place / name, np.concatenate([[0], number]).astype(np.uint16)[frame], compression="zlib"
                )
        np.savetxt(masks[-1] / ("man_track.txt" if truth else "res_track.txt"), rows, fmt="%d")


def scored(found: Tracking, truth: Tracking, folder: Path, *, radius: float) -> dict[str, float]:
    """Return the official metrics and those of divisions."""
    found.write(folder / "RES", truth=False)
    truth.write(folder / "GT", truth=True)
    with contextlib.redirect_stdout(io.StringIO()):
        official = evaluate_sequence(str(folder / "RES"), str(folder / "GT"), list(OFFICIAL), threads=1)
    divisions = score_tracking(truth.tracks(), found.tracks(), max_distance=radius, frame_tolerance=1).divisions
    extra = {"div P": divisions.precision, "div R": divisions.recall, "div F1": divisions.f1}
    counts = {
        "div true": divisions.true_positives + divisions.false_negatives,
        "div found": divisions.true_positives + divisions.false_positives,
    }
    return {**{name: float(official[name]) for name in OFFICIAL}, **extra, **counts}


def classical(movie: Movie, radius: float) -> tuple[Tracking, str]:
    """Tune on the training frames, then segment and link the test frames."""
    images = [normalised(image, EmbedTrackConfig().percentiles) for image in movie.images]
    recipe, quality = classical_tracking.tuned(images[: movie.split], list(movie.labels[: movie.split]))
    learned = [recipe.segment(image) for image in images[: movie.split]]
    truth, best, top = movie.part(0, movie.split).tracks(), (10.0, None), -1.0
    for way in classical_tracking.WAYS:
        for splitting in (None, way / 2, way):
            found = Tracking(learned, classical_tracking.lap(learned, way=way, splitting=splitting)).tracks()
            result = score_tracking(truth, found, max_distance=radius, frame_tolerance=1)
            score = result.links.f1 + (0.2 * result.divisions.f1 if result.divisions.f1 > 0 else 0.0)  # not NaN
            if score > top:
                best, top = (way, splitting), score
    labels = [recipe.segment(image) for image in images[movie.split :]]
    parents = classical_tracking.lap(labels, way=best[0], splitting=best[1])
    return Tracking(
        labels, parents
    ), f"{recipe}, training overlap {quality:.3f}, LapTrack way {best[0]:g}, splitting {best[1]}"


def trained(movie: Movie, file: Path, settings: dict[str, str], *, again: bool) -> tuple[Weights, float]:
    """Train, or read the weights of the last run; also return the seconds."""
    if not again and file.is_file():
        return read_weights(file), 0.0
    start = time.perf_counter()
    with file.with_suffix(".log").open("w") as log:

        def show(progress: Progress) -> None:
            text = " ".join(f"{name} {value:.4f}" for name, value in progress.values.items())
            log.write(f"{time.perf_counter() - start:.1f} {progress.done}/{progress.total} {text} {progress.message}\n")
            log.flush()

        config = EmbedTrackConfig.of(settings, source="the command line")
        weights = finish(train(movie.annotation(), config, save_to=file, resume=False), show)
    return weights, time.perf_counter() - start


def tracked(movie: Movie, weights: Weights, settings: dict[str, str]) -> Tracking:
    """Segment and link the test frames."""
    network = Network(weights, EmbedTrackConfig.of(settings, source="the command line"))
    labels, parents = [], []
    for _, fields in network.fields(lambda t: movie.images[t][None], range(movie.split, len(movie.images))):
        cells = find_cells(fields, network.config, min_size=network.config.min_size or 0)
        first = not labels
        parents.append(
            np.zeros(len(cells), dtype=np.int64)
            if first
            else vote(cells.labels, labels[-1], fields, network.config).parent
        )
        labels.append(cells.labels)
    return Tracking(labels, parents)


def draw(movie: Movie, rows: dict[str, Tracking], file: Path) -> None:
    """Draw outlines over four test frames, and the tracks over the last one; a row a method."""
    chosen = np.unique(np.linspace(0, len(movie.images) - movie.split - 1, 4).round().astype(int))
    figure, axes = plt.subplots(
        len(rows), len(chosen) + 1, figsize=(5 * (len(chosen) + 1), 5 * len(rows)), squeeze=False
    )
    colours = plt.get_cmap("tab20")(np.arange(20))
    for line, (name, tracking) in zip(axes, rows.items(), strict=True):
        numbers, table = tracking.numbers()
        ways: dict[int, list[np.ndarray]] = {}
        for frame, number in zip(tracking.labels, numbers, strict=True):
            places = np.array(ndimage.center_of_mass(frame > 0, frame, np.arange(1, len(number) + 1))).reshape(-1, 2)
            for n, place in zip(number, places, strict=True):
                ways.setdefault(int(n), []).append(place)
        for row in table:
            if row[3]:
                ways[int(row[0])].insert(0, ways[int(row[3])][-1])
        for axis, t in zip(line, [*chosen, chosen[-1]], strict=True):
            image = movie.images[movie.split + t]
            axis.imshow(image, cmap="gray", vmin=np.percentile(image, 1), vmax=np.percentile(image, 99.5))
            axis.set_title(f"{name}, frame {movie.split + t}")
            axis.axis("off")
        for axis, t in zip(line, chosen, strict=False):
            for i, n in enumerate(numbers[t], start=1):
                axis.contour(tracking.labels[t] == i, [0.5], colors=[colours[n % 20]], linewidths=1)
        for n, way in ways.items():
            line[-1].plot(np.array(way)[:, 1], np.array(way)[:, 0], "-o", ms=2, lw=1.5, color=colours[n % 20])
    figure.tight_layout()
    figure.savefig(file, dpi=60)
    plt.close(figure)


def run(
    data: Path, out: Path, name: str, settings: dict[str, str], *, again: bool, show: Callable[[str], None]
) -> None:
    movie = Movie.read(data / name, name)
    truth = movie.part(movie.split, len(movie.images))
    radius = float(np.sqrt(np.median(np.bincount(movie.labels[0].ravel())[1:]) / np.pi))
    results = {}
    weights, seconds = trained(movie, out / f"{name}.safetensors", settings, again=again)
    start = time.perf_counter()
    results["EmbedTrack"] = tracked(movie, weights, settings)
    each = (time.perf_counter() - start) / len(truth.labels)
    note = f"{name}: trained {seconds:.0f} s, {weights.header['steps']} steps, crops of {weights.header['resolved']['crop_size']}, "
    notes = [
        note
        + f"predicted in {each:.2f} s a frame, {os.cpu_count()} cores, validation {weights.header['metrics'].get('validation')}"
    ]
    try:
        start = time.perf_counter()
        results["classical"], how = classical(movie, radius)
        notes.append(f"{name}: classical, {how}; {time.perf_counter() - start:.0f} s with tuning")
    except ImportError:
        notes.append(f"{name}: no classical way, for LapTrack is not installed (pip install laptrack)")
    for method, found in results.items():
        row = scored(found, truth, out / f"{name}-{method}", radius=radius)
        cells = " | ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values())
        show(f"| {name} | {method} | {cells} |")
    draw(movie, {**results, "truth": truth}, out / f"{name}.png")
    for line in notes:
        show(f"<!-- {line} -->")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("score-embedtrack"))
    parser.add_argument("--movies", default=",".join(MOVIES))
    parser.add_argument("--weights", action="store_true", help="take those of the last run")
    parser.add_argument("settings", nargs="*", help="SETTING=VALUE of EmbedTrack")
    arguments = parser.parse_intermixed_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = dict(setting.split("=", 1) for setting in arguments.settings)
    names = [*OFFICIAL, "div P", "div R", "div F1", "div true", "div found"]
    print(f"| movie | method | {' | '.join(names)} |\n|{'---|' * (len(names) + 2)}", flush=True)
    for name in arguments.movies.split(","):
        run(
            arguments.data,
            arguments.out,
            name,
            settings,
            again=not arguments.weights,
            show=lambda s: print(s, flush=True),
        )


if __name__ == "__main__":
    main()
