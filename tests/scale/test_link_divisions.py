"""A classifier of TAP says the same of the spots in blocks, so the links are the same."""

from __future__ import annotations

import numpy as np
from pipeline.test_tap_spots import QUIET, learned, project  # noqa: F401
from scale.link_movies import assert_same

from bdv_io.formats import read_tracks
from howdah import pipeline
from howdah.pipeline import Job, tap_link
from howdah.progress import finish
from howdah.scale import link_divisions
from howdah.scale.config import ScaleConfig
from howdah.scale.link import scale_link


def test_divisions_are_told_in_blocks(project, tmp_path, monkeypatch):  # noqa: F811
    for module in (tap_link, link_divisions):
        monkeypatch.setattr(module, "BLOCK", 3)
    told = learned(tmp_path / "classifier.safetensors", project)
    settings = {"linking": {"max_distance": 20}, **QUIET}
    config = ScaleConfig(workers=0, window=3)
    finish(pipeline.link(Job(project), tmp_path / "one.mastodon", settings=settings, divisions=told))
    how = {"settings": settings, "divisions": told, "config": config}
    finish(scale_link(Job(project), tmp_path / "other.mastodon", **how))
    one, other = read_tracks(tmp_path / "one.mastodon"), read_tracks(tmp_path / "other.mastodon")
    assert_same(one, other)
    values = [tracks.feature("TAP division").values for tracks in (one, other)]
    assert np.isfinite(values[0]).sum() > 20
    np.testing.assert_array_equal(*values)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".blocks", ".spots")]
