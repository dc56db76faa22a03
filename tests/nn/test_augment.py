import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.nn.augment import Appearance, Pose, equalised


@given(
    shape=st.sampled_from([(5, 5), (5, 7), (3, 6, 6)]),
    turns=st.integers(0, 3),
    flips=st.lists(st.booleans(), min_size=3, max_size=3),
    spot=st.integers(0, 24),
)
@settings(deadline=None, max_examples=60)
def test_places_move_with_their_pixels(shape, turns, flips, spot):
    pose = Pose(tuple(flips[: len(shape)]), turns)
    image = np.zeros(shape)
    image.ravel()[spot] = 1
    place = np.array([np.unravel_index(spot, shape)], dtype=float)
    turned = pose.array(image)
    assert pose.places(place, shape).astype(int).tolist() == np.argwhere(turned).tolist()


def test_crops_that_are_not_square_are_turned_by_half_turns_only():
    rng = np.random.default_rng(0)
    assert {Pose.drawn(rng, (8, 16)).turns for _ in range(40)} == {0, 2}
    assert {Pose.drawn(rng, (8, 8)).turns for _ in range(40)} == {0, 1, 2, 3}


def test_poses_can_be_turned_off():
    rng = np.random.default_rng(0)
    drawn = {Pose.drawn(rng, (8, 8), flip=False, rotate=False) for _ in range(20)}
    assert drawn == {Pose((False, False), 0)}


def test_both_frames_of_a_pair_are_changed_alike_but_for_the_noise():
    rng = np.random.default_rng(0)
    image = rng.random((32, 32), dtype=np.float32)
    look = Appearance(equalise=True, blur=1.0)
    np.testing.assert_array_equal(look.of(image, rng, (1, 1)), look.of(image, rng, (1, 1)))
    noisy = Appearance(noise=0.05)
    assert (noisy.of(image, rng, (1, 1)) != noisy.of(image, rng, (1, 1))).any()


def test_nothing_is_drawn_where_nothing_is_wanted():
    rng = np.random.default_rng(0)
    assert {Appearance.drawn(rng, clahe=0, blur=0, noise=0) for _ in range(20)} == {Appearance()}


def test_a_coarse_axis_is_blurred_over_fewer_voxels():
    image = np.zeros((9, 9, 9), dtype=np.float32)
    image[4, 4, 4] = 1
    blurred = Appearance(blur=1.0).of(image, np.random.default_rng(0), (4, 1, 1))
    assert blurred[3, 4, 4] < 0.01 * blurred[4, 4, 3]


@given(shape=st.sampled_from([(7, 40), (64, 64), (3, 20, 24)]), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_equalising_keeps_the_range(shape, seed):
    image = np.random.default_rng(seed).random(shape, dtype=np.float32) ** 3
    result = equalised(image)
    assert result.shape == image.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1


def test_equalising_raises_faint_contrast_and_leaves_an_empty_crop_dark():
    faint = 0.1 + 0.05 * np.random.default_rng(0).random((64, 64), dtype=np.float32)
    assert equalised(faint).std() > 1.5 * faint.std()
    assert equalised(np.zeros((64, 64), dtype=np.float32)).max() < 0.05


def test_equalising_is_smooth_across_tiles():
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    steps = np.diff(equalised(ramp), axis=1)
    assert steps.min() > -1e-3
    assert steps.max() == pytest.approx(steps.mean(), abs=0.03)
