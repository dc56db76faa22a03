"""The challenge's rules for results, on drawn tracks, and what its folder says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pipeline import perfect

from bdv_io import Tracks
from bdv_io.formats import write_tracks
from bdv_io.image import ArrayImage
from bdv_io.label_image import tracks_of_labels
from howdah.pipeline.challenge_rules import Challenge, by_the_rules, filled, in_the_field

IMAGE = ArrayImage([perfect.frame(t) for t in range(4)])


@pytest.fixture(scope="module")
def tracks() -> Tracks:
    """The true cells with their links but those of the division."""
    return replace(tracks_of_labels(ArrayImage([perfect.labels(t) for t in range(4)])), features=())


def table(tracks: Tracks, folder: Path) -> list[list[int]]:
    write_tracks(folder / "01_RES", tracks, image=IMAGE)
    return [[int(n) for n in line.split()] for line in (folder / "01_RES" / "res_track.txt").read_text().splitlines()]


def test_only_cells_wholly_in_the_border_leave(tracks: Tracks) -> None:
    at_edge = tracks.centre[:, 1] < 20  # cell 1: y 14, radius 6: rows 9 to 19
    assert in_the_field(tracks, IMAGE, 9).all()
    np.testing.assert_array_equal(in_the_field(tracks, IMAGE, 20), ~at_edge)
    kept = by_the_rules(tracks, IMAGE, Challenge(border=20))
    assert kept.n_spots == tracks.n_spots - 4


def test_a_track_that_leaves_the_field_comes_back_as_its_own_child(tmp_path: Path) -> None:
    image = np.zeros((4, 1, 64, 64), dtype=np.int32)
    for t, x in enumerate((20, 12, 4, 30)):
        image[t, 0, 30:34, x : x + 4] = 1
    tracks = replace(tracks_of_labels(ArrayImage(list(image))), features=())
    kept = by_the_rules(tracks, IMAGE, Challenge(border=10))
    assert kept.t.tolist() == [0, 1, 3]
    assert table(kept, tmp_path) == [[1, 0, 1, 0], [2, 3, 3, 1]]


def test_empty_frames_get_the_cells_of_the_nearest(tracks: Tracks, tmp_path: Path) -> None:
    some = tracks.select(np.isin(tracks.t, [1]))
    full = filled(some, 4)
    assert np.bincount(full.t).tolist() == [2, 2, 2, 2]
    assert full.validate().tracks()[0] == 2
    assert table(full, tmp_path) == [[1, 0, 3, 0], [2, 0, 3, 0]]


def test_a_gap_that_was_closed_is_no_division(tracks: Tracks, tmp_path: Path) -> None:
    first = tracks.select(np.flatnonzero((tracks.centre[:, 1] < 20) & np.isin(tracks.t, [0, 3])))
    closed = first.with_links([[0, 1]])
    full = filled(closed, 4)
    assert full.n_spots == 4
    assert (full.n_children() <= 1).all()
    assert table(full, tmp_path)[0] == [1, 0, 0, 0]


def test_nothing_to_fill_from() -> None:
    assert filled(Tracks.empty(), 3).n_spots == 0
