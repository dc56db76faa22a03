"""The main job on a real 3D movie: thirty spots of its project are the person's marks, the rest is the truth.

The floors are below what is measured (precision 0.95, recall 0.44 to 0.57, link F1 0.6); they catch a broken pipeline. Two
fifths of the truth, which is automatic, are deep, faint nuclei (``benchmarks/score_real.py`` scores the whole of it).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks
from howdah.metrics import score_tracking
from howdah.pipeline import Job, finish, track

pytestmark = [pytest.mark.real, pytest.mark.slow]

MARKED = (5, 15, 25)
QUICK = {"elephant": {"n_epochs": 8}}


@pytest.mark.timeout(900)
def test_the_main_job_on_drosophila_nuclei(real_data: Path, tmp_path: Path) -> None:
    movie = open_image(real_data / "tgmm-3d" / "datasethdf5.xml")
    truth = read_tracks(real_data / "tgmm-3d" / "tgmm-mini.mastodon")
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.choice(np.flatnonzero(truth.t == t), 10, replace=False) for t in MARKED])
    marks = Tracks.build(truth.t[rows], truth.centre[rows], covariance=truth.covariance[rows])
    write_tracks(tmp_path / "marks.mastodon", marks, image=movie)
    result = finish(track(Job(tmp_path / "marks.mastodon"), tmp_path / "out.mastodon", settings=QUICK))
    found = read_tracks(tmp_path / "out.mastodon")
    assert result["spots"] == found.n_spots
    unseen, fresh = ~np.isin(truth.t, MARKED), ~np.isin(found.t, MARKED)
    radius = float(np.median(np.linalg.det(truth.covariance) ** (1 / 6)))
    score = score_tracking(truth.select(unseen), found.select(fresh), max_distance=radius)
    assert score.detection.spots.precision > 0.8
    assert score.detection.spots.recall > 0.3
    assert score.links.f1 > 0.3
