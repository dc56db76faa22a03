import numpy as np
import pytest

from howdah.methods.embedtrack import defaults


def test_the_diameter_is_that_of_a_disk_or_a_ball_in_pixels_of_the_finest_axis():
    assert defaults.diameter(np.array([314]), (1, 1)) == pytest.approx(20, rel=1e-3)
    assert defaults.diameter(np.array([4189 // 5]), (5.0, 1.0, 1.0)) == pytest.approx(20, rel=1e-2)


@pytest.mark.parametrize(("across", "times"), [(6, 4), (12, 2), (20, 1), (40, 1), (60, 0.5), (400, 0.25)])
def test_small_cells_are_enlarged_and_large_ones_made_smaller(across, times):
    assert defaults.enlargement(np.array([round(np.pi / 4 * across**2)]), (1, 1)) == times
    assert defaults.enlargement(np.array([round(np.pi / 4 * across**2)]), (1, 1, 1)) == 1


@pytest.mark.parametrize(
    ("voxel_size", "planes", "keep"),
    [
        ((1, 1, 1), 64, 0),
        ((2, 1, 1), 64, 1),
        ((5, 1, 1), 29, 2),
        ((10, 1, 1), 20, 3),
        ((1, 1, 1), 4, 2),
        ((1, 1, 1), 1, 3),
    ],
)
def test_poolings_leave_a_coarse_or_thin_z_alone(voxel_size, planes, keep):
    assert defaults.keep_axials(voxel_size, planes) == keep


def crop(sizes, extents, **more):
    given = {"reach": 0.0, "shape": (1000, 1000), "voxel_size": (1, 1), "multiple": (8, 8), **more}
    return defaults.crop_size(np.array(sizes), np.array(extents), **given)


def test_a_crop_is_six_cells_wide_and_a_multiple():
    assert crop([314], [[20, 20]]) == (120, 120)


def test_a_crop_has_room_for_a_long_cell_and_its_way():
    assert crop([314], [[100, 20]], reach=30.0) == (192, 192)


def test_a_crop_is_no_larger_than_256_or_the_frame():
    assert crop([31400], [[200, 200]]) == (256, 256)
    assert crop([31400], [[200, 200]], shape=(100, 40)) == (104, 40)


def test_a_crop_of_voxels_is_shorter_along_a_coarse_axis_and_limited():
    size = crop([4000], [[4, 20, 20]], shape=(300, 1000, 1000), voxel_size=(5, 1, 1), multiple=(2, 8, 8))
    assert size[1] == size[2]
    assert size[0] * 5 == pytest.approx(size[1], abs=12)
    assert np.prod(size) <= defaults.MOST_VOXELS


def test_the_smallest_cell_is_half_of_the_first_percentile():
    assert defaults.min_size(np.array([20] * 99 + [200])) == 10
