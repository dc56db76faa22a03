import numpy as np
import pytest

from howdah.methods.efficientcellseg.targets import centre_heat, deepest_points

ONE = (1.0, 1.0, 1.0)


def test_the_centre_of_a_disk_is_its_middle():
    y, x = np.mgrid[:21, :21]
    labels = ((y - 10) ** 2 + (x - 9) ** 2 <= 36).astype(np.int32)[None] * 4
    assert deepest_points(labels, ONE).tolist() == [[0, 10, 9]]


def test_the_centre_of_a_bent_cell_lies_in_it():
    labels = np.zeros((1, 30, 30), dtype=np.int32)
    labels[0, 2:28, 2:8] = labels[0, 22:28, 2:28] = 1  # an L: its centroid is outside
    z, y, x = deepest_points(labels, ONE)[0].astype(int)
    assert labels[z, y, x] == 1
    assert min(y - 1, 28 - y, x - 1, 28 - x) >= 3


def test_a_cell_goes_on_beyond_the_edge_of_the_frame():
    labels = np.zeros((1, 20, 20), dtype=np.int32)
    labels[0, :4, 5:15] = 1
    assert deepest_points(labels, ONE)[0, 1] <= 1


def test_depth_is_measured_in_world_units():
    labels = np.zeros((9, 30, 30), dtype=np.int32)
    labels[1:8, 5:25, 5:15] = 1
    near = deepest_points(labels, (5.0, 1.0, 1.0))[0]
    assert near[0] == 4
    assert near[2] in (9, 10)


def test_peaks_are_one_at_centres_and_stop_at_other_cells():
    labels = np.zeros((1, 24, 40), dtype=np.int32)
    labels[0, 4:20, 4:20] = 3
    labels[0, 4:20, 20:36] = 7
    centres = np.array([[0, 11, 11], [0, 11, 28]], dtype=float)
    heat = centre_heat(labels, centres, np.array([18.0, 18.0]), voxel_size=ONE, width=0.2)
    assert heat.dtype == np.float32
    assert heat[0, 11, 11] == heat[0, 11, 28] == 1
    assert heat[0, 11, 15] == pytest.approx(np.exp(-0.5 * (4 / 3.6) ** 2), rel=1e-5)
    alone = centre_heat(labels * (labels == 3), centres[:1], np.array([18.0]), voxel_size=ONE, width=0.2)
    both = centre_heat(labels * (labels != 3), centres[1:], np.array([18.0]), voxel_size=ONE, width=0.2)
    assert alone[0, 11, 21] > 0
    assert heat[0, 11, 21] == both[0, 11, 21]  # it belongs to the other cell


def test_in_volumes_peaks_are_round_in_world_units():
    labels = np.zeros((9, 31, 31), dtype=np.int32)
    labels[2:7, 8:23, 8:23] = 1
    heat = centre_heat(labels, np.array([[4.0, 15, 15]]), np.array([20.0]), voxel_size=(4.0, 1.0, 1.0), width=0.2)
    assert heat[5, 15, 15] == pytest.approx(heat[4, 19, 15], rel=1e-5)


def test_without_cells_nothing_is_drawn():
    labels = np.zeros((1, 8, 8), dtype=np.int32)
    assert deepest_points(labels, ONE).shape == (0, 3)
    assert not centre_heat(labels, np.empty((0, 3)), np.empty(0), voxel_size=ONE, width=0.2).any()


@pytest.mark.parametrize("planes", [1, 5])
def test_the_centre_of_a_cell_that_fills_the_frame_is_its_middle(planes):
    labels = np.ones((planes, 21, 31), dtype=np.int32)
    assert deepest_points(labels, ONE).tolist() == [[planes // 2, 10, 15]]
