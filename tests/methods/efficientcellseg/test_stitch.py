"""Joining of planes. Planes are rows of letters, from the first to the last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from howdah.errors import DataError
from howdah.methods.efficientcellseg.stitch import Stitcher


def joined(*planes: str, overlap=0.25) -> list[str]:
    """Join planes; cells of the result are letters in order."""
    stitcher = Stitcher(overlap=overlap)
    provisional = [stitcher.add(np.array([[max(ord(c) - 96, 0) for c in plane]], dtype=np.int32)) for plane in planes]
    table = stitcher.table()
    return ["".join("." if n == 0 else chr(96 + n) for n in table[plane][0]) for plane in provisional]


def test_a_cell_goes_through_planes_and_its_name_does_not_matter():
    assert joined("aaa.bbb", "bbb.aaa", ".a..b..") == ["aaa.bbb", "aaa.bbb", ".a..b.."]


def test_a_part_over_two_cells_does_not_make_them_one():
    """The wide part continues the cell that it shares most with; the other begins anew."""
    assert joined("aaaabbb", "aaaaaaa", "aaaabbb") == ["aaaabbb", "aaaaaaa", "aaaaccc"]


def test_the_best_sum_of_shares_wins_not_the_first():
    assert joined("aaaabbbb", ".aaaab..") == ["aaaabbbb", ".aaaab.."]


def test_what_shares_too_little_is_two_cells():
    assert joined("aaaa...", "...aaaa") == ["aaaa...", "...bbbb"]
    assert joined("aaaa...", "...aaaa", overlap=0.0) == ["aaaa...", "...aaaa"]
    assert joined("aaaa...", "....aaa", overlap=0.0) == ["aaaa...", "....bbb"]


def test_a_cap_joins_the_part_that_it_lies_on():
    assert joined("...a....", "aaaaaaa.", "....a...") == ["...a....", "aaaaaaa.", "....a..."]
    assert joined("a.......", "aa......", "aaaaaaaa", overlap=0.6) == ["a.......", "aa......", "aaaaaaaa"]


def test_a_cap_between_two_cells_joins_one_of_them_only():
    assert joined("aaaaaaaa", "aaa.....", "aaaaaaa.", overlap=0.5) == ["aaaaaaaa", "aaa.....", "bbbbbbb."]


def test_a_long_thin_cell_is_no_cap():
    assert joined("a.....", "a.....", "a.....", "aaa...", overlap=0.5) == ["a.....", "a.....", "a.....", "bbb..."]


def test_empty_planes_end_cells():
    assert joined("aa", "..", "aa") == ["aa", "..", "bb"]
    assert joined("..", "..") == ["..", ".."]
    assert Stitcher(overlap=0.3).table().tolist() == [0]


def test_skipped_planes_end_cells():
    stitcher = Stitcher(overlap=0.3)
    plane = np.ones((2, 2), np.int32)
    stitcher.add(plane)
    stitcher.skip()
    stitcher.add(plane)
    assert stitcher.table().tolist() == [0, 1, 2]


def test_planes_of_two_sizes_are_a_sentence():
    stitcher = Stitcher(overlap=0.3)
    stitcher.add(np.ones((2, 2), np.int32))
    with pytest.raises(DataError, match="a plane of 2 x 3 pixels follows one of 2 x 2"):
        stitcher.add(np.ones((2, 3), np.int32))


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_separated_ellipsoids_are_the_components_of_the_volume(seed):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (12, 24, 24)], indexing="ij"), axis=-1)
    mask = np.zeros(grid.shape[:3], bool)
    for _ in range(6):
        centre, radius = rng.uniform(0, (12, 24, 24)), rng.uniform(2.5, 5, 3)
        new = (((grid - centre) / radius) ** 2).sum(axis=-1) <= 1
        if not (ndimage.binary_dilation(mask, iterations=2) & new).any():
            mask |= new
    expected, _ = ndimage.label(mask)
    stitcher = Stitcher(overlap=0.25)
    planes = np.stack([stitcher.add(ndimage.label(plane)[0].astype(np.int32)) for plane in mask])
    np.testing.assert_array_equal(stitcher.table()[planes], expected)
