import numpy as np
import pytest
from scipy import ndimage

from howdah.errors import DataError
from howdah.methods.efficientcellseg import EfficientCellSegConfig
from howdah.methods.efficientcellseg.picture import mode_of, picture, picture_planes

CONFIG = EfficientCellSegConfig()


def movie(shape=(5, 48, 64), seed=0):
    """Noise with a grain of a few pixels, uint8."""
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), (0.7, 3, 3))
    return np.rint((rough - rough.min()) / (rough.max() - rough.min()) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("colour", "planes", "mode"),
    [("auto", 1, "grey"), ("auto", 2, "context"), ("time", 1, "time"), ("grey", 9, "grey"), ("context", 1, "context")],
)
def test_mode(colour, planes, mode):
    assert mode_of(EfficientCellSegConfig(colour=colour), planes) == mode


def test_grey_pictures_are_the_plane_three_times():
    found = picture(movie()[:1], CONFIG)
    assert found.shape == (1, 3, 48, 64)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, 1)
    assert np.array_equal(found[0, 0], found[0, 1])
    assert np.array_equal(found[0, 0], found[0, 2])


@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "float32", "float64"])
def test_one_picture_in_other_types_gives_the_same_colours(kind):
    frame = movie()
    scale, shift = {
        "uint16": (257, 0),
        "int16": (100, -9000),
        "uint32": (2**24, 5),
        "float32": (0.01, -1),
        "float64": (3e-7, 1),
    }[kind]
    other = (frame.astype(np.float64) * scale + shift).astype(kind)
    first, second = picture(frame, CONFIG), picture(other, CONFIG)
    off = np.abs(first - second) > 1e-5
    assert off.mean() < 0.002  # a brightness may come to lie on the other side of a step


def test_a_type_with_more_steps_gives_nearly_the_same_colours():
    fine = movie().astype(np.float32) + np.random.default_rng(1).uniform(-0.5, 0.5, (5, 48, 64)).astype(np.float32)
    assert (np.abs(picture(movie(), CONFIG) - picture(fine, CONFIG)) > 0.01).mean() < 0.03


def test_brightness_is_comparable_between_planes():
    frame = movie()
    frame[2] //= 4
    green = picture(frame, CONFIG)[:, 1]
    assert green[2].max() < 0.3 * green[1].max()


@pytest.mark.parametrize("times", [2, 0.5])
def test_pictures_are_enlarged_before_they_are_coloured(times):
    found = picture(movie(), CONFIG.model_copy(update={"enlarge": times}))
    assert found.shape == (5, 3, 48 * times, 64 * times)
    assert np.any(found[:, 0] != found[:, 1])


def test_frames_before_and_after_colour_a_frame_of_a_2d_movie():
    before, frame, after = (movie((1, 48, 64), seed) for seed in range(3))
    config = EfficientCellSegConfig(colour="time")
    found = picture(frame, config, earlier=before, later=after)
    assert found[0, 0].sum() > found[0, 1].sum()
    assert found[0, 2].sum() > found[0, 1].sum()
    first = picture(frame, config, later=after)
    assert np.array_equal(first[0, 0], first[0, 1])
    assert np.array_equal(first[0, 2], found[0, 2])


def test_frames_of_another_shape_cannot_colour():
    frame = movie((1, 48, 64))
    with pytest.raises(DataError, match=r"frame 6 has shape \(1, 48, 60\).*set colour to grey"):
        picture(frame, EfficientCellSegConfig(colour="time"), later=frame[..., :60], time=5)


def test_a_frame_without_numbers_is_refused_by_its_number():
    frame = movie().astype(np.float32)
    frame[0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"frame 4 .*NaN"):
        picture(frame, CONFIG, time=4)
    with pytest.raises(DataError, match=r"frame 4 .*NaN"):
        list(picture_planes(frame.__getitem__, 5, CONFIG, time=4))


def test_published_colours_are_of_the_raw_numbers():
    config = EfficientCellSegConfig(compat=("colouring",), enlarge=2)
    found = picture(movie(), config)
    assert found.shape == (5, 3, 96, 128)
    assert found.dtype == np.float32
    assert found[:, 1].max(axis=(1, 2)) == pytest.approx(1, abs=0.1)  # each plane for itself
    with pytest.raises(DataError, match="float32"):
        picture(movie().astype(np.float32), config)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("settings", [{}, {"enlarge": 2.0}, {"colour": "grey"}, {"colour": "time"}], ids=str)
def test_planes_one_by_one_give_the_same_pictures(kind, settings):
    frame, config = movie().astype(kind), EfficientCellSegConfig(**settings)
    whole = picture(frame, config)
    found = np.stack(list(picture_planes(frame.__getitem__, len(frame), config)))
    assert (np.abs(found - whole) > 1e-5).mean() < 0.002
    if kind in (np.uint8, np.uint16):
        assert np.array_equal(found, whole)


def test_published_planes_one_by_one_are_the_same():
    config = EfficientCellSegConfig(compat=("colouring",))
    found = np.stack(list(picture_planes(movie().__getitem__, 5, config)))
    assert np.array_equal(found, picture(movie(), config))


def test_an_even_volume_is_black():
    frame = np.full((3, 32, 32), 7.5, dtype=np.float32)
    assert not picture(frame, CONFIG).any()
    assert not np.stack(list(picture_planes(frame.__getitem__, 3, CONFIG))).any()
