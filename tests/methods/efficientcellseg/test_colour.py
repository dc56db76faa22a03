import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from howdah.methods.efficientcellseg import EfficientCellSegConfig
from howdah.methods.efficientcellseg.colour import cells_roughly, coloured, coloured_planes

CONFIG = EfficientCellSegConfig()
RED, GREEN, BLUE = range(3)


def cells(shape=(4, 64, 96), seed=0, dots=6):
    """Blurred dots, one volume of brightness 0..1."""
    rng = np.random.default_rng(seed)
    volume = np.zeros(shape)
    volume[tuple(rng.integers(0, shape, (dots, 3)).T)] = 1
    volume = ndimage.gaussian_filter(volume, (0.7, 4, 4))
    return (volume / volume.max()).astype(np.float32)


def test_red_shows_the_cells_above_and_blue_those_below():
    plane = np.full((64, 64), 0.4, dtype=np.float32)
    above, below = np.zeros((2, 64, 64), dtype=np.float32)
    above[8:24, 8:24] = below[40:56, 40:56] = 1
    config = CONFIG.model_copy(update={"colour_blur": 0.0, "colour_area": 0.2})
    picture = coloured(np.stack([above, plane, below]), config)[1]
    assert np.all(picture[GREEN] == np.float32(0.2))
    assert np.array_equal(picture[RED] > 0.3, above > 0)
    assert np.array_equal(picture[BLUE] > 0.3, below > 0)
    assert picture[RED].max() == pytest.approx(0.4)


def test_planes_outside_are_neighbours_of_the_first_and_the_last():
    volume = cells()
    whole = coloured(volume, CONFIG)
    middle = coloured(volume[1:3], CONFIG, before=volume[0], after=volume[3])
    assert np.array_equal(middle, whole[1:3])


def test_without_neighbours_a_picture_is_half_the_plane_three_times():
    plane = cells()[:1]
    assert np.array_equal(coloured(plane, CONFIG), np.repeat(plane[:, np.newaxis] / 2, 3, axis=1))


@given(seed=st.integers(0, 99), planes=st.integers(1, 4), dots=st.integers(0, 9))
@settings(deadline=None, max_examples=20)
def test_colours_lie_between_the_plane_and_twice_the_plane(seed, planes, dots):
    volume = cells((planes, 40, 50), seed, dots) if dots else np.zeros((planes, 40, 50), dtype=np.float32)
    found = coloured(volume, CONFIG)
    assert np.array_equal(found[:, GREEN], volume / 2)
    for colour in (RED, BLUE):
        assert np.all((found[:, colour] == found[:, GREEN]) | (found[:, colour] == volume))


@given(area=st.sampled_from([0.01, 0.03, 0.1, 0.3]), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_no_more_than_the_area_is_cell_and_more_area_gives_more(area, seed):
    plane = cells(seed=seed)[1]
    found, more = (cells_roughly(plane, CONFIG, area=a) for a in (area, min(area * 2, 1)))
    assert found.mean() <= area
    assert np.all(more | ~found)


def test_a_dark_plane_has_no_cells():
    assert not cells_roughly(np.zeros((64, 64), dtype=np.float32), CONFIG).any()


def test_the_area_of_the_call_goes_before_that_of_the_settings():
    plane = cells()[1]
    wide = CONFIG.model_copy(update={"colour_area": 0.3})
    assert np.array_equal(cells_roughly(plane, wide), cells_roughly(plane, CONFIG, area=0.3))
    assert np.array_equal(cells_roughly(plane, wide, area=0.03), cells_roughly(plane, CONFIG))


def test_small_planes_of_a_few_pixels_are_coloured():
    assert coloured(np.ones((2, 3, 1), dtype=np.float32), CONFIG).shape == (2, 3, 3, 1)


def test_planes_are_coloured_while_they_come_each_once():
    volume, read = cells(), []

    def planes():
        for z, plane in enumerate(volume):
            read.append(z)
            yield plane

    stream = coloured_planes(planes(), CONFIG)
    first = next(stream)
    assert read == [0, 1]
    assert np.array_equal(np.stack([first, *stream]), coloured(volume, CONFIG))
    assert read == [0, 1, 2, 3]
