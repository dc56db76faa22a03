"""Which spot gets a voxel: cores win where ellipsoids overlap, whatever their order, and no label vanishes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.ctc import read_ctc, write_ctc
from bdv_io.masks import Grid, Painter
from bdv_io.tracks import Tracks


def painted(centre, radius, *, shape=(9, 15, 25), values=None):
    tracks = Tracks.build(np.zeros(len(centre)), centre, radius=radius)
    numbers = np.arange(1, len(centre) + 1) if values is None else np.asarray(values)
    return Painter(tracks, Grid(shape, np.eye(4), 1), values=numbers, dtype=np.uint32).frame(0)


def test_touching_nuclei_are_cut_in_the_middle_whatever_their_order():
    centre = np.array([[4.0, 7.0, 8.0], [4.0, 7.0, 14.0]])
    one, other = painted(centre, 4.5), painted(centre[::-1], 4.5, values=[2, 1])
    np.testing.assert_array_equal(one, other)
    assert (one[4, 7, 8:11] == 1).all()
    assert (one[4, 7, 12:15] == 2).all()
    assert abs(int((one == 1).sum()) - int((one == 2).sum())) <= (one[:, :, 11] > 0).sum()


def test_a_small_nucleus_inside_a_large_one_keeps_its_core():
    for order in ([0, 1], [1, 0]):
        centre, radius = np.array([[4.0, 7.0, 10.0], [4.0, 7.0, 14.0]])[order], np.array([6.0, 2.0])[order]
        labels = painted(centre, radius, values=np.array([1, 2])[order])
        assert labels[4, 7, 14] == 2
        assert labels[4, 7, 10] == 1
        assert (labels == 2).sum() > 7


@pytest.mark.parametrize("n", [2, 5, 30])
def test_nuclei_at_one_place_all_have_a_voxel(n):
    labels = painted(np.tile([4.0, 7.0, 12.0], (n, 1)), np.linspace(1, 5, n))
    assert set(np.unique(labels)) == set(range(n + 1))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_crowds_keep_every_label_and_do_not_depend_on_order(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 15))
    centre, radius = random.uniform(2, [7, 13, 23], size=(n, 3)), random.uniform(1.5, 4, n)
    labels = painted(centre, radius)
    assert set(np.unique(labels)) - {0} == set(range(1, n + 1))
    order = random.permutation(n)
    again = painted(centre[order], radius[order], values=order + 1)
    hidden = (np.bincount(labels.reshape(-1), minlength=n + 1) == 1).any()
    assert hidden or (again != labels).sum() == 0


def test_more_labels_than_16_bits_hold(tmp_path: Path):
    n = 66_000
    z, y, x = np.unravel_index(np.arange(n), (11, 60, 100))
    centre = np.stack([z, y, x], axis=1) * 2.0
    tracks = Tracks.build(np.zeros(n), centre, radius=0.6)

    class Movie:
        n_frames, path, interval = 1, None, None
        setups = (type("S", (), {"unit": "pixel"})(),)

        def shape(self, t: int) -> tuple[int, int, int]:
            return (22, 120, 200)

        def affine(self, t: int) -> np.ndarray:
            return np.eye(4)

    write_ctc(tmp_path / "01_RES", tracks, image=Movie())  # type: ignore[arg-type]
    back = read_ctc(tmp_path / "01_RES", outlines=False)
    assert back.n_spots == n
    feature = back.feature("CTC track")
    assert feature is not None
    assert feature.values.max() == n
