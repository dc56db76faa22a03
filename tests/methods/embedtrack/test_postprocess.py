"""Rules of the challenge: field of interest, numbers, holes, empty frames, types that do not wrap."""

from __future__ import annotations

import numpy as np
import pytest
from methods.embedtrack.fakes import drawn

from howdah.errors import DataError
from howdah.methods.embedtrack.postprocess import inside_field, large_enough, lineage, painted


def parents(*frames):
    return [np.array(frame, dtype=np.int64) for frame in frames]


def keeps(*frames):
    return [np.array(frame, dtype=bool) for frame in frames]


def test_a_cell_is_in_the_field_if_one_pixel_is():
    labels = drawn("1...2 .3.22 ..4.. ..... 55...")
    assert inside_field(labels, 0).tolist() == [True] * 5
    assert inside_field(labels, 1).tolist() == [False, True, True, True, False]
    assert inside_field(labels, 2).tolist() == [False, False, False, True, False]
    assert inside_field(labels, 3).tolist() == [False] * 5
    assert inside_field(np.stack([labels]), 1).tolist() == [False, True, True, True, False]  # not along z


def test_small_cells_and_names_without_pixels():
    assert large_enough(drawn("11.3 1..."), 0).tolist() == [True, False, True]
    assert large_enough(drawn("11.3 1..."), 3).tolist() == [True, False, False]
    assert large_enough(drawn("...."), 3).tolist() == []


def test_tracks_go_on_divide_and_begin():
    found = lineage(parents([0, 0], [2, 1], [1, 1, 0]))
    assert [n.tolist() for n in found.numbers] == [[1, 2], [2, 1], [3, 4, 5]]
    assert found.table.tolist() == [[1, 0, 1, 0], [2, 0, 1, 0], [3, 2, 2, 2], [4, 2, 2, 2], [5, 2, 2, 0]]


def test_a_track_with_a_hole_is_cut():
    keep = keeps([1], [1], [0], [1], [0], [1, 1])
    found = lineage(parents([0], [1], [1], [1], [1], [1, 1]), keep=keep)
    assert [n.tolist() for n in found.numbers] == [[1], [1], [0], [4], [0], [2, 3]]
    assert found.table.tolist() == [[1, 0, 1, 0], [2, 5, 5, 4], [3, 5, 5, 4], [4, 3, 3, 1]]


def test_children_of_a_track_without_masks_have_no_parent():
    found = lineage(parents([0], [1, 1], [1, 2]), keep=keeps([0], [1, 1], [1, 1]))
    assert found.table.tolist() == [[2, 1, 2, 0], [3, 1, 2, 0]]


def test_empty_frames_stay_unless_asked():
    movie = parents([], [0, 0], [], [], [0], [])
    assert [len(n) for n in lineage(movie).numbers] == [0, 2, 0, 0, 1, 0]
    found = lineage(movie, fill_empty=True)
    assert found.shown.tolist() == [1, 1, 1, 4, 4, 4]
    assert found.table.tolist() == [[1, 0, 2, 0], [2, 0, 2, 0], [3, 3, 5, 0]]


def test_a_frame_whose_cells_are_all_left_out_is_empty():
    found = lineage(parents([0], [1], [1]), keep=keeps([1], [0], [1]), fill_empty=True)
    assert found.shown.tolist() == [0, 0, 2]
    assert found.table.tolist() == [[1, 0, 2, 0]]


@pytest.mark.parametrize("fill", [False, True])
def test_movies_without_cells(fill):
    assert lineage([], fill_empty=fill).table.shape == (0, 4)
    found = lineage(parents([], []), fill_empty=fill)
    assert found.table.shape == (0, 4)
    assert [n.tolist() for n in found.numbers] == [[], []]


def test_numbers_never_wrap():
    labels = drawn("12.")
    assert painted(labels, np.array([65535, 7]), most=65535).dtype == np.uint16
    wide = painted(labels, np.array([65536, 7]), most=65536)
    assert wide.dtype == np.uint32
    assert wide.tolist() == [[65536, 7, 0]]
    with pytest.raises(DataError, match="with 2 numbers up to 70000; expected one number a label, 9 at most"):
        painted(labels, np.array([70000, 7]), most=9)
    with pytest.raises(DataError, match="labels up to 2 with 1 numbers"):
        painted(labels, np.array([1]), most=9)


def test_what_does_not_fit():
    with pytest.raises(DataError, match=r"in frame 1 a cell has the parent 2, but frame 0 has the labels 1\.\.1 only"):
        lineage(parents([0], [2]))
    with pytest.raises(DataError, match="keep has not one value for each cell"):
        lineage(parents([0], [1]), keep=keeps([1], []))
