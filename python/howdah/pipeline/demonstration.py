"""``howdah demo``: the main job on a synthetic embryo, scored against the truth that the job never sees."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io import ArrayImage, Tracks, WriteError
from bdv_io.formats import open_image, read_tracks, write_image, write_tracks
from bdv_io.safe_write import replacing
from howdah import synthetic
from howdah.metrics import score_tracking
from howdah.pipeline.detection import Job, train
from howdah.pipeline.picture import draw_result
from howdah.pipeline.tracking import track
from howdah.progress import Progress, Steps

__all__ = ["demo"]

N_MARKS = 10
FRAME_TOLERANCE = 1


def demo(
    folder: str | os.PathLike[str] = "howdah-demo", *, seed: int = 0, settings: Mapping[str, Any] | None = None
) -> Steps[dict[str, Any]]:
    """Write a synthetic embryo with ten marked nuclei, train on them, find and link the rest, and score the result.

    Args:
        folder: Where everything goes: ``embryo.xml``/``.h5`` (the movie), ``marks.mastodon`` (what the person marked),
            ``weights.safetensors``, ``tracked.mastodon`` and ``tracked.xml`` (for TrackMate), ``truth.mastodon``,
            ``scores.json``, ``picture.png``.
        seed: Seed of the embryo, of the marks and of the training.
        settings: Changes to the defaults of ELEPHANT, as in a ``[elephant]`` section.

    Returns:
        Scores, times in seconds, and the files. The truth is used for scoring only.
    """
    where = Path(folder)
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"The folder {where} for the demo cannot be made: {error.strerror}. Name another: --out FOLDER"
        ) from None
    clock = _Clock()
    movie_file, marks_file = where / "embryo.xml", where / "marks.mastodon"
    embryo = synthetic.embryo(seed=seed)
    yield Progress("embryo", 0, 1)
    frames = [embryo.frame(t) for t in range(embryo.n_frames)]
    write_image(movie_file, ArrayImage(frames, voxel_size=embryo.settings.voxel_size, unit=embryo.truth.space_unit))
    movie = open_image(movie_file)
    write_tracks(marks_file, synthetic.marks(embryo, N_MARKS, seed=seed), image=movie)
    write_tracks(where / "truth.mastodon", embryo.truth, image=movie)
    clock.lap("embryo_s")
    yield Progress("embryo", 1, 1)

    job, weights = Job(marks_file), where / "weights.safetensors"
    yield from train(job, weights, settings={"elephant": {"seed": seed, **(settings or {})}}, resume=False)
    clock.lap("train_s")
    result = where / "tracked.mastodon"
    yield from track(job, result, weights=weights, settings={})
    clock.lap("find_and_link_s")

    found = read_tracks(result)
    write_tracks(where / "tracked.xml", found, image=movie)
    scores = _scores(found, embryo.truth)
    title = (
        f"synthetic embryo, {N_MARKS} nuclei marked: detection F1 {scores['detection_f1']:.3f}, "
        f"link F1 {scores['link_f1']:.3f}, division F1 {scores['division_f1']:.3f}"
    )
    draw_result(where / "picture.png", movie, found, title=title)
    clock.lap("picture_s")
    report = {"seed": seed, "marks": N_MARKS, **scores, **clock.laps, "total_s": round(clock.total, 1)}
    with replacing(where / "scores.json", keep_previous=False) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return {
        **report,
        "project": str(result),
        "trackmate": str(where / "tracked.xml"),
        "picture": str(where / "picture.png"),
    }


def _scores(found: Tracks, truth: Tracks) -> dict[str, float]:
    """Scores against the truth: spots count as found within their radius, divisions within one frame."""
    radius = float(np.median(np.linalg.det(truth.covariance) ** (1 / 6)))
    score = score_tracking(truth, found, max_distance=radius, frame_tolerance=FRAME_TOLERANCE)
    return {
        "detection_precision": round(score.detection.spots.precision, 4),
        "detection_recall": round(score.detection.spots.recall, 4),
        "detection_f1": round(score.detection.spots.f1, 4),
        "centre_error": round(score.detection.median_error, 4),
        "link_precision": round(score.links.precision, 4),
        "link_recall": round(score.links.recall, 4),
        "link_f1": round(score.links.f1, 4),
        "division_precision": round(score.divisions.precision, 4),
        "division_recall": round(score.divisions.recall, 4),
        "division_f1": round(score.divisions.f1, 4),
        "divisions_true": len(truth.divisions()),
        "divisions_found": len(found.divisions()),
        "matched_within": round(radius, 3),
    }


class _Clock:
    """Times of the stages of a run, in seconds."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Note the time since the last lap."""
        now = time.perf_counter()
        self.laps[name], self.last = round(now - self.last, 1), now

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start
