import numpy as np
import pytest

from howdah.methods.elephant import defaults


@pytest.mark.parametrize(
    ("ratio", "levels"), [(8, 3), (5.5, 2), (6, 3), (3.5, 2), (1, 0), (1.4, 0), (1.5, 1), (0.5, 0), (5, 2), (100, 4)]
)
def test_z_is_left_alone_until_voxels_are_about_isotropic(ratio, levels):
    flags = defaults.keep_axials(np.diag([ratio * 0.3, 0.3, 0.3, 1]), (20, 100, 100))
    assert sum(flags) == levels
    assert list(flags) == sorted(flags, reverse=True)


def test_one_slice_is_never_pooled_along_z():
    assert defaults.keep_axials(np.eye(4), (1, 64, 64)) == (True,) * 4


def test_the_setting_wins():
    assert sum(defaults.keep_axials(np.eye(4), (20, 64, 64), n_keep=3)) == 3


def test_voxel_size_of_a_rotated_view():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ np.diag([2.0, 0.5, 0.5])
    affine = np.eye(4)
    affine[:3, :3] = turn
    np.testing.assert_allclose(defaults.voxel_size(affine), [2, 0.5, 0.5])


def test_crops_hold_some_nuclei_and_fit_the_network():
    covariance = np.tile(np.diag([2.7**2, 4.7**2, 4.7**2]), (5, 1, 1))
    z, y, x = defaults.crop_size(covariance, (29, 101, 151), (4, 16, 16))
    assert z % 4 == y % 16 == x % 16 == 0
    assert 2 * 2 * 2.7 <= z <= 32
    assert 2 * 2 * 4.7 <= y <= 112


def test_crops_of_large_nuclei_stay_within_reason():
    covariance = np.tile(np.eye(3) * 40.0**2, (5, 1, 1))
    assert np.prod(defaults.crop_size(covariance, (300, 900, 900), (16, 16, 16))) < 4 * 160**3


def test_limits_follow_the_marks():
    limits = defaults.spot_limits(np.tile(np.diag([16.0, 4, 9]), (7, 1, 1)))
    assert limits == pytest.approx({"r_min": 1, "r_max": 8, "r_usual": 24 ** (1 / 3), "suppression_distance": 2})


def scene(bright, dark):
    image = np.full((16, 64, 64), dark, np.float32)
    centre = np.array([[8, 16, 16], [8, 48, 48], [8, 16, 48.0]])
    grid = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1)
    for c in centre:
        image[np.linalg.norm(grid - c, axis=-1) < 6] = bright
    return image, centre, np.tile(np.eye(3) * 36.0, (3, 1, 1))


def test_background_lies_between_surroundings_and_nuclei():
    level = defaults.background_level(*scene(0.8, 0.2))
    assert 0.2 < level < 0.5


def test_no_background_where_nuclei_are_dark():
    assert defaults.background_level(*scene(0.2, 0.8)) == 0


def test_the_working_grid_is_coarser_for_large_nuclei_only():
    assert defaults.working_scale((5.0, 5.0, 5.0), np.ones(3), (100, 400, 400)) == (0.5, 0.5, 0.5)
    assert defaults.working_scale((3.0, 3.0, 3.0), np.array([1, 0.25, 0.25]), (24, 400, 400)) == (1.0, 0.208, 0.208)
    assert defaults.working_scale((3.0, 2.0, 2.0), np.ones(3), (24, 400, 400)) == (1.0, 1.0, 1.0)
    assert defaults.working_scale((5.0, 5.0, 5.0), np.ones(3), (20, 48, 48))[1:] == (1.0, 1.0)


def test_contrast_is_uneven_where_a_tenth_is_faint():
    assert not defaults.uneven(np.ones(10))
    assert defaults.uneven(np.array([1.0] * 8 + [0.2] * 2))
    assert not defaults.uneven(np.array([1.0, 0.1]))  # too few to tell
