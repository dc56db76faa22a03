import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import DataError
from howdah.methods.elephant.box import box_around, grown, in_box, region_of

AFFINE = np.array([[2.0, 0, 0, 10], [0, 1, 0, -3], [0, 0, 0.5, 5], [0, 0, 0, 1]])


def test_a_box_around_a_point():
    low, high = box_around((10, 20, 30), (4, 6, 8))
    assert (low.tolist(), high.tolist()) == ([8, 17, 26], [12, 23, 34])
    assert np.ptp(box_around((0, 0, 0), 5), axis=0).tolist() == [5, 5, 5]


def test_what_lies_in_a_box():
    assert in_box(np.array([[0.0, 0, 0], [1, 1, 1], [0, 2, 0]]), ((0, 0, 0), (1, 1, 1))).tolist() == [True, True, False]


def test_the_voxels_of_a_box_in_the_world():
    region = region_of(((14, 0, 6), (18, 4, 7)), AFFINE, (8, 20, 30))
    assert region == (slice(2, 5), slice(3, 8), slice(2, 5))


@pytest.mark.parametrize("box", [((100, 0, 6), (101, 1, 7)), ((0, 0, 0), (8, 1, 1))])
def test_a_box_beside_the_frame_has_no_voxels(box):
    assert region_of(box, AFFINE, (8, 20, 30)) is None


def test_a_box_may_reach_beyond_the_frame():
    assert region_of(((-99, -99, -99), (99, 99, 99)), AFFINE, (8, 20, 30)) == (slice(0, 8), slice(0, 20), slice(0, 30))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_a_grown_region_starts_at_multiples_and_holds_the_region(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 90, 3)
    start = rng.integers(0, shape)
    stop = rng.integers(start, shape) + 1
    region = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    margin, unit = rng.integers(0, 20, 3).tolist(), [4, 16, 16]
    for part, inner, edge, size, m in zip(
        grown(region, margin, shape.tolist(), multiple=unit), region, margin, shape, unit, strict=True
    ):
        assert part.start % m == 0
        assert part.stop % m == 0 or part.stop == size
        assert part.start <= max(inner.start - edge, 0)
        assert part.stop >= min(inner.stop + edge, size)


@pytest.mark.parametrize("box", [((1, 0, 0), (0, 1, 1)), ((0, 0), (1, 1)), ((0, 0, np.nan), (1, 1, 1))])
def test_a_box_that_is_none_is_a_sentence(box):
    with pytest.raises(DataError, match="two corners"):
        in_box(np.zeros((1, 3)), box)
