"""A simulated person in the incremental loop: how fast do predictions become right?

Run: ``python benchmarks/simulate_loop.py [DATA_FOLDER] [--out FOLDER] [--marks 10] [--cycles 6] [--judge 25] [--seeds 0]
[--movie embryo|crop|FOLDER] [SETTING=VALUE ...]``. The movie is a synthetic embryo (truth known), a synthetic crop of
32 x 256 x 256 voxels, or a folder with ``datasethdf5.xml`` and ``tgmm-mini.mastodon`` (truth automatic: not every faint nucleus
is in it, so precision there is a lower bound).

She marks a few nuclei in a frame; then, in each cycle, she runs ``howdah loop --once``, looks at the predictions of the frame that
she works on, judges some of them (accepts right ones, rejects wrong ones), adds some nuclei that are missed, and goes on to the next
frame. Scores are of all nuclei in all frames, with the weights of that cycle, against the truth; the loop never sees it.
Written are a table (Markdown) and, in the folder, the loop's own table and plot, and ``curve.png``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from bdv_io import ArrayImage, Tracks
from bdv_io.formats import open_image, read_tracks, write_image, write_tracks
from howdah import synthetic
from howdah.methods.elephant.predict import Detector, read_weights
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, Status, spot_status
from howdah.metrics import score_detection
from howdah.pipeline import Job, finish
from howdah.pipeline.loop import Loop, once

RIGHT, WRONG, MISSED = (DETECTION_TAGS[code] for code in (Status.TP, Status.FP, Status.FN))


@dataclass
class Person:
    """Judges predictions against the truth, a few at a time.

    Attributes:
        truth: What she would see.
        reach: A prediction this near to a nucleus is right.
        judge: Predictions she looks at in a cycle. add: Missed nuclei she marks in a cycle, at most.
    """

    truth: Tracks
    reach: float
    judge: int
    add: int
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def marks(self, n: int, frame: int) -> Tracks:
        """Mark some nuclei of a frame."""
        return self._mark(self.rng.choice(np.flatnonzero(self.truth.t == frame), n, replace=False))

    def proofread(self, tracks: Tracks, frame: int) -> Tracks:
        """Accept, reject and add in a frame."""
        here = np.flatnonzero((tracks.t == frame) & (spot_status(tracks) == Status.UNLABELLED))
        looked = self.rng.permutation(here)[: self.judge]
        nuclei = np.flatnonzero(self.truth.t == frame)
        tree = cKDTree(self.truth.centre[nuclei])
        taken = np.zeros(len(nuclei), dtype=bool)
        own = np.flatnonzero((tracks.t == frame) & np.isin(spot_status(tracks), (Status.TP, Status.FN)))
        if len(own):
            taken[tree.query(tracks.centre[own])[1]] = True
        right, wrong = [], []
        for row in looked:
            distance, nearest = tree.query(tracks.centre[row])
            good = distance <= self.reach and not taken[nearest]
            (right if good else wrong).append(row)
            taken[nearest] |= good
        others = np.setdiff1d(np.flatnonzero(tracks.t == frame), wrong)
        far = cKDTree(tracks.centre[others]).query(self.truth.centre[nuclei])[0] > self.reach if len(others) else ~taken
        missed = self.rng.permutation(nuclei[far & ~taken])[: self.add]
        tracks = tracks.with_tag(DETECTION, RIGHT, spots=right).with_tag(DETECTION, WRONG, spots=wrong)
        return tracks.concatenate(self._mark(missed)) if len(missed) else tracks

    def _mark(self, rows: Any) -> Tracks:
        some = self.truth.select(np.sort(rows))
        return Tracks.build(some.t, some.centre, covariance=some.covariance, space_unit=some.space_unit)


def movie_of(name: str, folder: Path, seed: int) -> tuple[Path, Tracks]:
    """Write or name the movie; return it with its truth."""
    if name not in ("embryo", "crop"):
        return Path(name) / "datasethdf5.xml", read_tracks(Path(name) / "tgmm-mini.mastodon")
    big = {"shape": (32, 256, 256), "n_nuclei": 120, "n_divisions": 8, "n_frames": 5} if name == "crop" else {}
    embryo = synthetic.embryo(seed=seed, **big)
    frames = [embryo.frame(t) for t in range(embryo.n_frames)]
    file = folder / "movie.xml"
    write_image(file, ArrayImage(frames, voxel_size=embryo.settings.voxel_size, unit=embryo.truth.space_unit))
    return file, embryo.truth


def score(weights: Path, image: Any, truth: Tracks, reach: float, frames: list[int]) -> tuple[float, float, float]:
    """Precision, recall and F1 over frames, with the weights as they are."""
    detector = Detector(read_weights(weights))
    parts = [(t, detector.predict_spots(image.read(t), image.affine(t))) for t in frames]
    found = Tracks.build(
        np.concatenate([np.full(len(spots), t) for t, spots in parts]),
        np.concatenate([spots.centre for _, spots in parts]),
        covariance=np.concatenate([spots.covariance for _, spots in parts]),
        space_unit=truth.space_unit,
    )
    result = score_detection(truth.select(np.isin(truth.t, frames)), found, max_distance=reach).spots
    return result.precision, result.recall, result.f1


def simulate(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Run one person through the loop."""
    folder = arguments.out / f"{Path(arguments.movie).name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    movie, truth = movie_of(arguments.movie, folder, seed)
    image = open_image(movie)
    reach = float(np.median(np.linalg.det(truth.covariance) ** (1 / 6)))
    person = Person(truth, reach, arguments.judge, arguments.add, np.random.default_rng(seed))
    project = folder / "work.mastodon"
    frame = image.n_frames // 2
    write_tracks(project, person.marks(arguments.marks, frame), image=image)
    settings = {"elephant": {"seed": seed}, "loop": {}}
    for setting in arguments.settings:
        section, _, rest = setting.partition(".")
        name, _, value = rest.partition("=")
        settings[section][name] = None if value == "none" else value
    unseen = list(range(0, image.n_frames, max(image.n_frames // 5, 1)))
    rows = []
    for number in range(1, arguments.cycles + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        facts = finish(once(Loop(Job(project), settings=settings, all_frames=arguments.all_frames)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        precision, recall, f1 = score(Path(facts["weights"]), image, truth, reach, unseen)
        last = facts["last_predictions"]
        if rows and last:
            rows[-1].update({"judged precision": last["precision"], "judged recall": last["recall"]})
        rows.append(
            {
                "cycle": number,
                "frame": frame,
                "nuclei": facts["nuclei"],
                "steps": facts["steps"],
                "precision": precision,
                "recall": recall,
                "F1": f1,
                "judged precision": None,
                "judged recall": None,
                "train s": facts["train_s"],
                "total s": facts["total_s"],
                "cpu s": cpu,
            }
        )
        print(f"  seed {seed} cycle {number}: F1 {f1:.3f} ({wall:.0f} s)", flush=True)
        tracks = read_tracks(project)
        read = (
            replace(tracks, quality=np.full(tracks.n_spots, np.nan)) if number % 2 else tracks
        )  # as Mastodon may save
        write_tracks(project, person.proofread(read, frame), image=image)
        if frame + 1 < image.n_frames and number % arguments.stay == 0:
            frame += 1
    return rows


def draw(path: Path, runs: dict[int, list[dict[str, Any]]], title: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    groups = (("precision", "recall", "F1"), ("judged precision", "judged recall"))
    for panel, names, what in zip(panels, groups, ("against the truth, all frames", "as she judged them"), strict=True):
        for name, colour in zip(names, ("#1b9e77", "#7570b3", "#333333"), strict=False):
            table = np.array([[np.nan if row[name] is None else row[name] for row in rows] for rows in runs.values()])
            number = np.arange(1, table.shape[1] + 1)
            panel.plot(number, table.T, color=colour, alpha=0.25, lw=1)
            panel.plot(number, np.nanmean(table, axis=0) if len(runs) > 1 else table[0], "o-", color=colour, label=name)
        panel.set(xlabel="cycle", title=what, ylim=(-0.02, 1.02))
        panel.set_xticks(number)
        panel.grid(alpha=0.2)
        panel.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--movie", default="embryo")
    parser.add_argument("--out", type=Path, default=Path("simulate-loop"))
    parser.add_argument("--marks", type=int, default=10)
    parser.add_argument("--cycles", type=int, default=6)
    parser.add_argument("--judge", type=int, default=20)
    parser.add_argument("--add", type=int, default=8)
    parser.add_argument("--stay", type=int, default=1, help="cycles in which she stays at a frame")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--all-frames", action="store_true")
    parser.add_argument("settings", nargs="*", help="elephant.SETTING=VALUE or loop.SETTING=VALUE")
    arguments = parser.parse_intermixed_args()
    print(f"cores: {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")
    runs = {int(seed): simulate(arguments, int(seed)) for seed in arguments.seeds.split(",")}
    header = ["seed", *next(iter(runs.values()))[0]]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for seed, rows in runs.items():
        for row in rows:
            texts = (
                "" if v is None else f"{v:.3f}" if isinstance(v, float) and v <= 1 else f"{v:.4g}" for v in row.values()
            )
            print(f"| {seed} | " + " | ".join(texts) + " |")
    what = f"{Path(arguments.movie).name}: {arguments.marks} marks, {arguments.judge} judged and up to {arguments.add} added a cycle"
    draw(arguments.out / "curve.png", runs, what)


if __name__ == "__main__":
    main()
