"""Detection on a real movie from a few marks: marks at random in some frames, scores in another one, and a picture.

Run: ``python benchmarks/score_marks.py DATA_FOLDER [OUT_FOLDER] [--marks 10,30] [--seeds 0,1,2] [--frames 0] [--score 15] [--within 7]
[--start WEIGHTS] [SETTING=VALUE ...]`` where DATA_FOLDER holds ``datasethdf5.xml`` and ``tgmm-mini.mastodon`` (the sample movie
of the TGMM software; its truth is automatic). Matching is by optimal assignment; a pair counts within the distance, in world
units. Written are a table (Markdown) and a picture of each run: found green, missed red, made up yellow.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks
from howdah.metrics import match_spots
from howdah.pipeline import Job, finish, predict, train


def person_marks(truth: Tracks, n: int, frames: list[int], seed: int) -> Tracks:
    """Choose ``n`` spots at random, as many in each of the frames, without links, tags and features."""
    rng = np.random.default_rng(seed)
    parts = zip(frames, np.array_split(np.arange(n), len(frames)), strict=True)
    rows = [rng.choice(np.flatnonzero(truth.t == t), len(part), replace=False) for t, part in parts]
    chosen = truth.select(np.sort(np.concatenate(rows)))
    return Tracks.build(chosen.t, chosen.centre, covariance=chosen.covariance, space_unit=truth.space_unit)


def draw(path: Path, frame: np.ndarray, affine: np.ndarray, truth: Tracks, found: Tracks, within: float) -> None:
    """Two maximum projections, the upper and the lower half of the nuclei, with what was found, missed and made up."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    pairs = match_spots(truth, found, max_distance=within)
    hit = np.isin(np.arange(truth.n_spots), pairs.truth_of)
    inverse = np.linalg.inv(affine)

    def voxels(points: np.ndarray) -> np.ndarray:
        return points @ inverse[:3, :3].T + inverse[:3, 3]

    true, made = voxels(truth.centre), voxels(found.centre[pairs.truth_of < 0])
    middle = int(np.median(true[:, 0])) + 2
    figure, axes = plt.subplots(2, 1, figsize=(6, 8.2), dpi=90)
    for axis, (low, high) in zip(axes, ((0, middle), (middle, frame.shape[0])), strict=True):
        flat = frame[low:high].max(axis=0).astype(float)
        axis.imshow(flat, cmap="gray", vmin=np.percentile(flat, 1), vmax=np.percentile(flat, 99.7))
        for points, mask, colour in (
            (true, hit, "lime"),
            (true, ~hit, "red"),
            (made, np.ones(len(made), bool), "yellow"),
        ):
            here = mask & (points[:, 0] >= low) & (points[:, 0] < high)
            axis.plot(points[here, 2], points[here, 1], "o", mfc="none", mec=colour, ms=9, mew=1.4)
        axis.set_title(f"slices {low} to {high - 1}", fontsize=9)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("score-marks"))
    parser.add_argument("--marks", default="10,30")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--frames", default="0")
    parser.add_argument("--score", type=int, default=15)
    parser.add_argument("--within", type=float, default=7.0)
    parser.add_argument("--start", type=Path)
    parser.add_argument("settings", nargs="*", help="SETTING=VALUE of ELEPHANT")
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    settings = dict(setting.split("=", 1) for setting in given.settings)
    frames = [int(frame) for frame in given.frames.split(",")]
    movie, truth = open_image(given.data / "datasethdf5.xml"), read_tracks(given.data / "tgmm-mini.mastodon")
    there = truth.select(truth.t == given.score)
    print("| marks | seed | precision | recall | F1 | train, s | find, s |\n|---|---|---|---|---|---|---|", flush=True)
    for n in map(int, given.marks.split(",")):
        for seed in map(int, given.seeds.split(",")):
            name = given.out / f"{n}-{seed}"
            project, weights = name.with_suffix(".mastodon"), name.with_suffix(".safetensors")
            write_tracks(project, person_marks(truth, n, frames, seed), image=movie)
            begin = time.perf_counter()
            changed = {"elephant": {"seed": seed, **settings}}
            finish(train(Job(project), weights, settings=changed, start=given.start, resume=False))
            trained = time.perf_counter()
            result = given.out / f"{n}-{seed}-found.mastodon"
            finish(predict(Job(project, frames=str(given.score)), result, weights=weights, settings={}))
            done = time.perf_counter()
            found = read_tracks(result)
            found = found.select(found.t == given.score)
            pairs = int((match_spots(there, found, max_distance=given.within).truth_of >= 0).sum())
            precision, recall = pairs / max(found.n_spots, 1), pairs / there.n_spots
            draw(
                name.with_suffix(".png"),
                movie.read(given.score),
                movie.affine(given.score),
                there,
                found,
                given.within,
            )
            f1 = 2 * pairs / (found.n_spots + there.n_spots)
            print(
                f"| {n} | {seed} | {precision:.3f} | {recall:.3f} | {f1:.3f} | {trained - begin:.0f} | {done - trained:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
