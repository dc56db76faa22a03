"""The main job on a real movie, scored: a few spots of its project are the person's marks, the rest is the truth.

Run: ``python benchmarks/score_real.py DATA_FOLDER [OUT_FOLDER] [--marks 10,30,100] [--seeds 0] [SETTING=VALUE ...]`` where
DATA_FOLDER holds ``datasethdf5.xml`` and ``tgmm-mini.mastodon`` (the sample movie of the TGMM software; its truth is automatic).
Marks lie in 1, 3 or 5 frames, spread over the movie; scores are of the frames without marks. Written are a table
(Markdown), the tracked projects, and pictures.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks
from howdah.metrics import score_tracking
from howdah.pipeline import Job, draw_result, finish, track

FRAMES_FOR = {10: (15,), 30: (5, 15, 25), 100: (3, 9, 15, 21, 27)}


def person_marks(truth: Tracks, n: int, seed: int) -> Tracks:
    """Choose ``n`` spots, the same number in each of a few frames, without links, tags and features."""
    rng = np.random.default_rng(seed)
    frames = FRAMES_FOR.get(n, (15,))
    rows = [
        rng.choice(np.flatnonzero(truth.t == t), len(part), replace=False)
        for t, part in zip(frames, np.array_split(np.arange(n), len(frames)), strict=True)
    ]
    chosen = truth.select(np.sort(np.concatenate(rows)))
    return Tracks.build(chosen.t, chosen.centre, covariance=chosen.covariance, space_unit=truth.space_unit)


def run(data: Path, out: Path, n: int, seed: int, settings: dict[str, str]) -> dict[str, float]:
    movie = open_image(data / "datasethdf5.xml")
    truth = read_tracks(data / "tgmm-mini.mastodon")
    marks = person_marks(truth, n, seed)
    project = out / f"marks-{n}-{seed}.mastodon"
    write_tracks(project, marks, image=movie)
    start = time.perf_counter()
    result = out / f"tracked-{n}-{seed}.mastodon"
    finish(track(Job(project), result, settings={"elephant": {"seed": seed, **settings}}))
    elapsed = time.perf_counter() - start
    found = read_tracks(result)
    radius = float(np.median(np.linalg.det(truth.covariance) ** (1 / 6)))
    unseen = ~np.isin(truth.t, marks.t)
    fresh = ~np.isin(found.t, marks.t)
    spots = score_tracking(truth.select(unseen), found.select(fresh), max_distance=radius)
    whole = score_tracking(truth, found, max_distance=radius, frame_tolerance=1)
    draw_result(out / f"picture-{n}-{seed}.png", movie, found, frames=[0, 10, 20, 30], title=f"{n} marks, seed {seed}")
    return {
        "marks": n,
        "seed": seed,
        "precision": spots.detection.spots.precision,
        "recall": spots.detection.spots.recall,
        "F1": spots.detection.spots.f1,
        "median error": spots.detection.median_error,
        "link F1": whole.links.f1,
        "division F1": whole.divisions.f1,
        "divisions": len(found.divisions()),
        "seconds": elapsed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("score-real"))
    parser.add_argument("--marks", default="10,30,100")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("settings", nargs="*", help="SETTING=VALUE of ELEPHANT")
    arguments = parser.parse_intermixed_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = dict(setting.split("=", 1) for setting in arguments.settings)
    header = False
    for n in map(int, arguments.marks.split(",")):
        for seed in map(int, arguments.seeds.split(",")):
            row = run(arguments.data, arguments.out, n, seed, settings)
            if not header:
                print("| " + " | ".join(row) + " |\n|" + "---|" * len(row), flush=True)
                header = True
            print(
                "| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
