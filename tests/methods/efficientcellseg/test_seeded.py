import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from howdah.ellipsoids import rasterise
from howdah.errors import DataError
from howdah.methods.efficientcellseg import seeded
from howdah.methods.efficientcellseg.seeded import REACH, masks_of

SHAPE = (12, 40, 40)


def balls(*radii):
    """Covariances of ellipsoids with these half-axes (z, y, x)."""
    return np.array([np.diag(np.square(np.asarray(r, dtype=float))) for r in radii])


def seen_as(labels, blur=0.7):
    """A probability as a network would give it: the cells, blurred."""
    return ndimage.gaussian_filter((labels > 0).astype(np.float32), blur)


def test_a_mask_takes_the_form_of_the_cell_not_that_of_its_ellipsoid():
    cell = np.zeros(SHAPE, dtype=np.int32)
    cell[4:8, 14:26, 14:26] = 1  # a box
    found = masks_of([[5.5, 19.5, 19.5]], balls((3, 7, 7)), cell.astype(np.float32))
    assert np.array_equal(found.labels, cell)
    assert found.seen.tolist() == [True]
    assert found.size.tolist() == [cell.sum()]
    assert found.quality == pytest.approx([1])


def test_touching_cells_are_parted_half_way():
    cell = np.zeros(SHAPE, dtype=np.float32)
    cell[4:8, 14:26, 8:32] = 1
    found = masks_of([[5.5, 19.5, 13.5], [5.5, 19.5, 25.5]], balls((3, 7, 7), (3, 7, 7)), cell).labels
    assert np.all(found[4:8, 14:26, 8:20] == 1)
    assert np.all(found[4:8, 14:26, 20:32] == 2)


def test_touching_cells_are_parted_where_the_probability_has_a_valley():
    cell = np.zeros(SHAPE, dtype=np.float32)
    cell[4:8, 14:26, 8:32] = 1
    cell[4:8, 14:26, 22] = 0.6  # a border that the network saw, two voxels off the middle
    found = masks_of([[5.5, 19.5, 13.5], [5.5, 19.5, 25.5]], balls((3, 7, 8), (3, 7, 8)), cell).labels
    assert np.all(found[4:8, 14:26, 8:22] == 1)
    assert np.all(found[4:8, 14:26, 23:32] == 2)


def test_thick_planes_part_by_half_axes():
    """Above each other, one plane apart in z where a plane is as thick as four pixels."""
    cell = np.zeros((6, 40, 40), dtype=np.float32)
    cell[:, 12:28, 12:28] = 1
    found = masks_of([[1, 19.5, 19.5], [4, 19.5, 19.5]], balls((1.5, 8, 8), (1.5, 8, 8)), cell).labels
    assert np.all(found[:3, 14:26, 14:26] == 1)
    assert np.all(found[3:, 14:26, 14:26] == 2)


def test_a_mask_does_not_run_away():
    found = masks_of([[5.5, 19.5, 19.5]], balls((3, 5, 5)), np.ones(SHAPE, dtype=np.float32))
    limit = rasterise([[5.5, 19.5, 19.5]], balls((3, 5, 5)), SHAPE, scale=REACH)
    assert np.array_equal(found.labels, limit)


def test_where_the_network_sees_nothing_the_ellipsoid_stays():
    places, sizes = [[5.5, 19.5, 19.5]], balls((3, 6, 6))
    found = masks_of(places, sizes, np.zeros(SHAPE, dtype=np.float32))
    assert np.array_equal(found.labels, rasterise(places, sizes, SHAPE))
    assert found.seen.tolist() == [False]


def test_an_ellipsoid_that_stays_is_cut_by_the_mask_of_its_neighbour():
    cell = np.zeros(SHAPE, dtype=np.float32)
    cell[3:9, 10:30, 5:20] = 1
    places, sizes = [[5.5, 19.5, 12], [5.5, 19.5, 24]], balls((4, 10, 8), (4, 6, 6))
    cell[:, :, 20:] = 0
    found = masks_of(places, sizes, cell)
    assert found.size.min() > 0
    assert np.all(found.labels[:, :, :16][cell[:, :, :16] > 0] != 2)


def test_a_spot_beside_its_cell_still_finds_it():
    cell = np.zeros(SHAPE, dtype=np.int32)
    cell[4:8, 14:26, 14:26] = 1
    found = masks_of([[5.5, 19.5, 28]], balls((4, 9, 9)), cell.astype(np.float32))
    assert found.seen.tolist() == [True]
    assert np.all(cell[found.labels > 0] == 1)
    assert found.size[0] > 0.8 * cell.sum()


def test_two_spots_in_one_place_both_get_voxels():
    found = masks_of([[5.5, 19.5, 19.5]] * 3, balls(*[(3, 6, 6)] * 3), np.ones(SHAPE, dtype=np.float32))
    assert found.size.min() >= 1
    assert found.size.max() > 300


def test_spots_outside_of_the_image_get_nothing_and_keep_their_number():
    places = [[-9, 5, 5], [5.5, 19.5, 19.5], [5, 5, 400]]
    found = masks_of(places, balls(*[(3, 6, 6)] * 3), np.ones(SHAPE, dtype=np.float32))
    assert np.unique(found.labels).tolist() == [0, 2]
    assert found.seen.tolist() == [False, True, False]
    assert found.size.tolist() == [0, np.count_nonzero(found.labels), 0]
    assert np.isnan(found.quality[[0, 2]]).all()


def test_no_spots_give_an_empty_image():
    found = masks_of(np.empty((0, 3)), np.empty((0, 3, 3)), np.ones(SHAPE, dtype=np.float32))
    assert not found.labels.any()
    assert found.seen.shape == (0,)


def test_holes_of_a_cell_are_filled():
    cell = np.zeros(SHAPE, dtype=np.float32)
    cell[4:8, 14:26, 14:26] = 1
    cell[5, 19:21, 22:24] = 0.2
    arguments = ([[5.5, 19.5, 19.5]], balls((3, 7, 7)), cell)
    assert masks_of(*arguments).labels[5, 19, 22] == 1
    assert masks_of(*arguments, holes=False).labels[5, 19, 22] == 0


def test_flat_images_take_flat_ellipses():
    cell = np.zeros((1, 40, 40), dtype=np.int32)
    cell[0, 10:20, 8:30] = 1
    found = masks_of([[0, 14.5, 19]], balls((0.01, 5, 11)), cell.astype(np.float32))
    assert np.array_equal(found.labels, cell)


@given(seed=st.integers(0, 999), n=st.integers(1, 12), flat=st.booleans(), blur=st.sampled_from([0.0, 1.0, 3.0]))
@settings(deadline=None, max_examples=15)
def test_every_spot_has_a_mask_within_its_reach(seed, n, flat, blur):
    rng = np.random.default_rng(seed)
    shape = (1, 40, 40) if flat else SHAPE
    places = rng.random((n, 3)) * (np.array(shape) - 1)
    sizes = balls(*rng.uniform((1, 2, 2), (3, 7, 7), (n, 3)))
    probability = seen_as(rasterise(places, sizes, shape), blur) * rng.random(shape, dtype=np.float32) ** 0.3
    found = masks_of(places, sizes, probability)
    assert found.labels.shape == shape
    assert np.array_equal(np.unique(found.labels[found.labels > 0]), np.arange(1, n + 1))
    assert np.array_equal(np.bincount(found.labels.ravel(), minlength=n + 1)[1:], found.size)
    for spot in range(n):
        voxels = np.argwhere(found.labels == spot + 1)
        steps = (voxels - places[spot]) / np.sqrt(np.diag(sizes[spot]))
        assert np.all((steps**2).sum(axis=1) < REACH**2 + 1e-6) or found.size[spot] <= 1


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=8)
def test_the_order_of_spots_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    places, sizes = rng.random((6, 3)) * (np.array(SHAPE) - 1), balls(*rng.uniform((2, 4, 4), (3, 8, 8), (6, 3)))
    probability = seen_as(rasterise(places, sizes, SHAPE)) + rng.random(SHAPE, dtype=np.float32) * 0.1
    order = rng.permutation(6)
    first = masks_of(places, sizes, probability)
    second = masks_of(places[order], sizes[order], probability)
    again = np.concatenate([[0], order + 1])[second.labels]
    assert (again != first.labels).mean() < 0.002  # equal heights at a border may fall to either side


@pytest.mark.parametrize(
    ("places", "sizes", "probability", "said"),
    [
        (np.zeros((1, 3)), balls((1, 1, 1)), np.zeros((4, 4), np.float32), r"the probability has shape \(4, 4\)"),
        (np.zeros((1, 3)), balls((1, 1, 1)), np.full((1, 4, 4), np.nan, np.float32), "must be finite"),
        (np.zeros((2, 3)), balls((1, 1, 1)), np.zeros((1, 4, 4), np.float32), r"covariances \(1, 3, 3\)"),
        (np.full((1, 3), np.nan), balls((1, 1, 1)), np.zeros((1, 4, 4), np.float32), "Delete that spot"),
    ],
)
def test_what_is_no_spot_or_no_image_is_refused(places, sizes, probability, said):
    with pytest.raises(DataError, match=said):
        masks_of(places, sizes, probability)


def test_distances_in_blocks_give_the_same_masks(monkeypatch):
    cell = np.zeros(SHAPE, dtype=np.float32)
    cell[4:8, 14:26, 8:32] = 1
    spots = [[5.5, 19.5, 13.5], [5.5, 19.5, 25.5]], balls((3, 7, 7), (3, 7, 7))
    whole = masks_of(*spots, cell).labels
    monkeypatch.setattr(seeded, "BLOCK", 100)
    assert np.array_equal(masks_of(*spots, cell).labels, whole)
