"""Ellipsoids: shape, voxels, components, moments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from howdah.ellipsoids import (
    connected_components,
    covariance_from,
    ellipsoids_from_labels,
    ellipsoids_from_probability,
    ellipsoids_from_voxels,
    equivalent_radius,
    inside,
    overlap,
    radii_and_axes,
    rasterise,
    runs_of,
    squared_distance,
    transform,
    volume,
)
from howdah.errors import DataError

seeds = st.integers(0, 2**32 - 1)
quick = settings(deadline=None, max_examples=40)


def random_ellipsoids(rng, n, *, least=2.0, most=6.0, extent=(30, 40, 40)):
    centre = rng.uniform(0, 1, (n, 3)) * (np.asarray(extent) - 1)
    axes = Rotation.random(n, random_state=rng).as_matrix()
    return centre, covariance_from(rng.uniform(least, most, (n, 3)), axes)


def sphere(radius, centre=(0.0, 0.0, 0.0)):
    return np.array([centre], dtype=float), np.eye(3)[None] * radius**2


# ---- shape ----------------------------------------------------------------------------------------------------------


def test_a_sphere_has_its_radius_and_volume():
    _, covariance = sphere(3.0)
    radii, axes = radii_and_axes(covariance)
    assert radii == pytest.approx(np.full((1, 3), 3.0))
    assert np.linalg.det(axes[0]) == pytest.approx(1.0, abs=1e-9) or np.linalg.det(axes[0]) == pytest.approx(-1.0)
    assert volume(covariance)[0] == pytest.approx(4 / 3 * np.pi * 27)
    assert equivalent_radius(covariance)[0] == pytest.approx(3.0)


@quick
@given(seeds)
def test_radii_and_axes_go_there_and_back(seed):
    _, covariance = random_ellipsoids(np.random.default_rng(seed), 5)
    radii, axes = radii_and_axes(covariance)
    assert (np.diff(radii, axis=1) >= 0).all()
    assert covariance_from(radii, axes) == pytest.approx(covariance)


@quick
@given(seeds)
def test_an_affine_and_its_inverse_change_nothing(seed):
    rng = np.random.default_rng(seed)
    centre, covariance = random_ellipsoids(rng, 4)
    affine = np.eye(4)
    affine[:3] = rng.normal(size=(3, 4)) + 3 * np.eye(3, 4)
    there = transform(centre, covariance, affine)
    back = transform(*there, np.linalg.inv(affine))
    assert back[0] == pytest.approx(centre, abs=1e-6)
    assert back[1] == pytest.approx(covariance, abs=1e-6)


def test_an_affine_keeps_who_is_inside():
    rng = np.random.default_rng(1)
    centre, covariance = random_ellipsoids(rng, 6)
    points = rng.uniform(0, 30, (50, 1, 3))
    affine = np.eye(4)
    affine[:3] = rng.normal(size=(3, 4))
    moved = points @ affine[:3, :3].T + affine[:3, 3]
    before = squared_distance(points, centre, covariance)
    assert before.shape == (50, 6)
    assert squared_distance(moved, *transform(centre, covariance, affine)) == pytest.approx(before)


def test_the_surface_is_not_inside():
    centre, covariance = sphere(2.0)
    points = np.array([[[2.0, 0, 0]], [[1.99, 0, 0]], [[0, 0, 2.01]]])
    assert inside(points, centre, covariance).ravel().tolist() == [False, True, False]


@pytest.mark.parametrize(("distance", "radius"), [(0.0, 2.0), (1.0, 2.0), (2.5, 2.0), (3.0, 1.0), (5.0, 2.0)])
def test_overlap_of_spheres_is_near_the_closed_form(distance, radius):
    big = 3.0
    lens = 0.0
    if distance <= big - radius:
        lens = 4 / 3 * np.pi * radius**3
    elif distance < big + radius:
        square = distance**2 + 2 * distance * (big + radius) - 3 * (big - radius) ** 2
        lens = np.pi * (big + radius - distance) ** 2 * square / (12 * distance)
    volumes = 4 / 3 * np.pi * np.array([radius**3, big**3])
    iou, containment = overlap(*sphere(radius), *sphere(big, (0.6 * distance, 0.8 * distance, 0.0)))
    assert iou[0] == pytest.approx(lens / (volumes.sum() - lens), abs=0.02)
    assert containment[0] == pytest.approx(lens / volumes[0], abs=0.03)


@quick
@given(seeds)
def test_overlap_is_symmetric_and_bounded(seed):
    rng = np.random.default_rng(seed)
    a, b = random_ellipsoids(rng, 8, extent=(9, 9, 9)), random_ellipsoids(rng, 8, extent=(9, 9, 9))
    there, back = overlap(*a, *b), overlap(*b, *a)
    assert there[0] == pytest.approx(back[0])
    assert there[1] == pytest.approx(back[1])
    assert ((there[0] >= 0) & (there[0] <= there[1] + 1e-12) & (there[1] <= 1)).all()
    assert overlap(*a, *a)[0] == pytest.approx(np.ones(8))


def test_shapes_and_bad_matrices_are_refused():
    with pytest.raises(DataError, match="covariance 0 has the eigenvalues"):
        radii_and_axes(np.diag([1.0, 1.0, -1.0])[None])
    with pytest.raises(DataError, match=r"shape \(N, 3, 3\)"):
        volume(np.eye(3))
    with pytest.raises(DataError, match=r"centres of shape \(N, 3\)"):
        transform(np.zeros(3), np.eye(3)[None], np.eye(4))
    with pytest.raises(DataError, match=r"affine has shape \(3, 4\)"):
        transform(*sphere(1.0), np.eye(3, 4))


# ---- raster ---------------------------------------------------------------------------------------------------------


def brute_force(centre, covariance, shape, scale=1.0):
    """Squared distances (Z, Y, X, N) of all voxels."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)[..., None, :]
    return squared_distance(grid, centre, covariance * scale**2)


@quick
@given(seeds)
def test_runs_hold_just_the_voxels_inside(seed):
    rng = np.random.default_rng(seed)
    shape = (8, 13, 11)
    centre, covariance = random_ellipsoids(rng, 6, least=0.3, extent=shape)
    centre[0] += 12  # cut by the border, or outside
    expected = brute_force(centre, covariance, shape) < 1
    runs = runs_of(centre, covariance, shape, min_voxels=0)
    found = np.zeros((*shape, 6), dtype=int)
    flat, owner = runs.voxels()
    np.add.at(found.reshape(-1, 6), (flat, owner), 1)
    assert (found == expected).all()
    assert (np.diff(runs.owner) >= 0).all()
    assert runs.n_voxels == expected.sum()
    assert (flat == runs.flat()).all()


@quick
@given(seeds)
def test_a_contested_voxel_goes_to_the_nearest_by_mahalanobis(seed):
    rng = np.random.default_rng(seed)
    shape = (9, 14, 14)
    centre, covariance = random_ellipsoids(rng, 7, extent=shape)
    distance = brute_force(centre, covariance, shape, scale=0.8)
    expected = np.where(distance.min(axis=-1) < 1, distance.argmin(axis=-1) + 1, 0)
    assert (rasterise(centre, covariance, shape, scale=0.8, min_voxels=0) == expected).all()


@quick
@given(seeds)
def test_the_order_of_ellipsoids_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    shape = (8, 12, 12)
    _, covariance = random_ellipsoids(rng, 9, least=0.2, most=4)
    centre = rng.integers(0, (16, 24, 24), (9, 3)) / 2.0  # many ties by symmetry
    centre[1], covariance[3:] = centre[0], np.eye(3) * 4.0
    _, kept = np.unique(np.concatenate([centre, covariance.reshape(9, 9)], axis=1), axis=0, return_index=True)
    centre, covariance, shuffled = centre[kept], covariance[kept], rng.permutation(len(kept))
    one = rasterise(centre, covariance, shape)
    other = rasterise(centre[shuffled], covariance[shuffled], shape)
    assert (np.concatenate([[0], shuffled + 1])[other] == one).all()


def test_at_equal_distance_the_first_centre_wins():
    centre = np.array([[2.0, 2, 5], [2.0, 2, 1]])
    labels = rasterise(centre, np.tile(np.eye(3) * 9, (2, 1, 1)), (5, 5, 7))
    assert labels[2, 2].tolist() == [2, 2, 2, 2, 1, 1, 1]


def test_many_batches_give_what_one_gives(monkeypatch):
    centre, covariance = random_ellipsoids(np.random.default_rng(5), 60, extent=(12, 40, 40))
    one = rasterise(centre, covariance, (12, 40, 40))
    monkeypatch.setattr("howdah.ellipsoids.raster.BATCH_VOXELS", 500)
    assert (rasterise(centre, covariance, (12, 40, 40)) == one).all()


def test_anisotropic_voxels_draw_a_sphere_as_a_flat_one():
    labels = rasterise(*sphere(4.0, (8.0, 8.0, 8.0)), (9, 17, 17), voxel_size=(2.0, 1.0, 1.0))
    extents = [np.flatnonzero(labels.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    assert [(e.min(), e.max()) for e in extents] == [(3, 5), (5, 11), (5, 11)]


@pytest.mark.parametrize("shape", [(7, 7, 7), (1, 9, 9)])
def test_a_tiny_ellipsoid_gets_nine_voxels(shape):
    middle = tuple((np.array(shape) - 1) / 2 + ((shape[0] > 1) * 0.05, 0.1, 0.2))
    runs = runs_of(*sphere(0.1, middle), shape)
    flat = runs.flat()
    assert len(flat) == 9
    distance = brute_force(*sphere(0.1, middle), shape).ravel()
    assert distance[flat].max() <= np.sort(distance)[8] * (1 + 1e-6)


def test_voxels_at_the_same_distance_come_together():
    assert runs_of(*sphere(0.1, (3.0, 3.0, 3.0)), (7, 7, 7)).n_voxels == 19  # 1 + 6 faces + 12 edges


def test_a_tiny_ellipsoid_takes_what_a_tiny_image_has():
    assert runs_of(*sphere(0.1), (1, 2, 2)).n_voxels == 4
    assert runs_of(*sphere(0.1), (1, 2, 2), min_voxels=0).n_voxels == 1
    assert runs_of(*sphere(0.1), (1, 1, 1)).n_voxels == 1


def test_a_tilted_needle_finds_its_nearest_voxels_beyond_its_neighbourhood():
    axes = Rotation.from_euler("x", 30, degrees=True).as_matrix()[None]
    centre, covariance = np.array([[10.3, 10.4, 10.2]]), covariance_from([[8.0, 0.1, 0.1]], axes)
    flat = runs_of(centre, covariance, (21, 21, 21)).flat()
    distance = brute_force(centre, covariance, (21, 21, 21)).ravel()
    assert sorted(flat) == sorted(np.argsort(distance)[: len(flat)])
    assert len(flat) == 9


def test_an_ellipsoid_outside_draws_nothing_and_none_draw_nothing():
    assert runs_of(*sphere(2.0, (-9.0, 5.0, 5.0)), (5, 9, 9)).n_voxels == 0
    assert not rasterise(*sphere(0.2, (2.0, 9.0, 2.0)), (5, 9, 9)).any()
    assert not rasterise(np.empty((0, 3)), np.empty((0, 3, 3)), (2, 3, 4)).any()


def test_dilation_equals_scipy():
    rng = np.random.default_rng(2)
    shape = (7, 15, 16)
    centre, covariance = random_ellipsoids(rng, 5, extent=shape)
    runs = runs_of(centre, covariance, shape)
    painted = np.zeros(shape, dtype=bool)
    painted.reshape(-1)[runs.flat()] = True
    grown = np.zeros(shape, dtype=bool)
    dilated = runs.dilated()
    grown.reshape(-1)[dilated.flat()] = True
    assert (grown == ndimage.binary_dilation(painted, np.ones((3, 3, 3)))).all()
    assert (np.diff(dilated.owner) >= 0).all()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="not positive definite"):
        runs_of(np.zeros((1, 3)), np.zeros((1, 3, 3)), (3, 3, 3))
    with pytest.raises(DataError, match="centres have shape"):
        runs_of(np.zeros((2, 3)), np.eye(3)[None], (3, 3, 3))
    with pytest.raises(DataError, match="must be positive"):
        runs_of(*sphere(1.0), (3, 3, 3), voxel_size=(0.0, 1.0, 1.0))
    with pytest.raises(DataError, match="A 2D image has Z = 1"):
        runs_of(*sphere(1.0), (3, 3))
    with pytest.raises(DataError, match="not finite"):
        runs_of(*sphere(1.0, (np.nan, 0, 0)), (3, 3, 3))


# ---- components -----------------------------------------------------------------------------------------------------


@quick
@given(seeds, st.floats(0.02, 0.7))
def test_components_equal_those_of_scipy(seed, density):
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(1, 9, 3))) < density
    expected, n = ndimage.label(mask, np.ones((3, 3, 3)))
    found = connected_components(mask)
    assert found.n == n
    assert (found.labels() == expected).all()


@pytest.mark.parametrize("density", [0.01, 0.4])
def test_components_of_noise_equal_those_of_scipy_sparse_and_dense(density):
    mask = np.random.default_rng(3).random((20, 50, 60)) < density
    assert (connected_components(mask).labels() == ndimage.label(mask, np.ones((3, 3, 3)))[0]).all()


def test_rows_do_not_touch_around_the_border():
    mask = np.zeros((2, 3, 4), dtype=bool)
    mask[0, 0, 3] = mask[0, 1, 0] = mask[0, 2, 3] = mask[1, 0, 3] = True
    assert connected_components(mask).owner.tolist() == [0, 1, 2, 0]


def test_a_mask_needs_three_axes():
    with pytest.raises(DataError, match="mask\\[None\\]"):
        connected_components(np.zeros((4, 4), dtype=bool))


# ---- moments --------------------------------------------------------------------------------------------------------


@quick
@given(seeds)
def test_what_was_drawn_is_measured(seed):
    rng = np.random.default_rng(seed)
    size = np.array([2.0, 0.5, 0.5]) * rng.uniform(0.5, 1.5)
    # half-axes of at least 2 voxels along every direction
    radii = rng.uniform(2, 4, (1, 3)) * size.max()
    covariance = covariance_from(radii, Rotation.random(1, random_state=rng).as_matrix())
    shape = (13, 45, 45)
    centre = (np.array([[6.0, 22, 22]]) + rng.uniform(-0.5, 0.5, (1, 3))) * size
    voxel_size = tuple(size)
    found = ellipsoids_from_labels(
        rasterise(centre, covariance, (13, 45, 45), voxel_size=voxel_size), voxel_size=voxel_size
    )
    assert found.n_voxels.sum() == runs_of(centre, covariance, shape, voxel_size=voxel_size).n_voxels
    assert (np.abs(found.centre - centre) < 0.5 * size).all()
    extent = np.sqrt(np.diagonal(found.covariance[0])) - np.sqrt(np.diagonal(covariance[0]))
    assert (np.abs(extent) < size).all()
    assert np.abs(radii_and_axes(found.covariance)[0] - np.sort(radii)).max() < size.max()


@pytest.mark.parametrize(("radius", "n"), [(2.0, 300), (3.0, 200), (4.0, 100), (8.0, 20), (12.0, 10), (30.0, 2)])
def test_sizes_are_unbiased_where_the_reference_is_not(radius, n):
    """ELEPHANT's own code measures spheres +9 % (2 voxels), -3 % (6), -7 % (12), -9 % (30)."""
    rng = np.random.default_rng(7)
    side = int(2 * radius) + 5
    found = []
    for _ in range(n):
        flat, owner = runs_of(*sphere(radius, rng.uniform(-0.5, 0.5, 3) + side // 2), (side,) * 3).voxels()
        found.append(equivalent_radius(ellipsoids_from_voxels(flat, owner, (side,) * 3).covariance)[0])
    assert np.mean(found) == pytest.approx(radius, rel=0.012)


@pytest.mark.parametrize("radius", [2.0, 5.0, 15.0])
def test_a_disc_in_a_2d_image_has_its_radius(radius):
    rng = np.random.default_rng(8)
    side = int(2 * radius) + 5
    found = []
    for _ in range(100):
        middle = (0.0, *(rng.uniform(-0.5, 0.5, 2) + side // 2))
        found.append(ellipsoids_from_labels(rasterise(*sphere(radius, middle), (1, side, side))).covariance[0])
    radii = np.sqrt(np.diagonal(np.mean(found, axis=0)))
    assert radii == pytest.approx([0.5, radius, radius], rel=0.02)


@pytest.mark.parametrize(("radius", "tolerance"), [(6.0, 0.03), (8.0, 0.03), (12.0, 0.03), (20.0, 0.02)])
def test_flat_voxels_and_small_parts_keep_their_size(radius, tolerance):
    """Spheres in voxels of 4 x 1 x 1, reduced to 0.4 as centre parts: half-axes down to 0.6 voxels."""
    rng, side = np.random.default_rng(9), 2 * int(radius) + 5
    found = []
    for _ in range(60):
        middle = np.array([4.0, 1, 1]) * (rng.uniform(-0.5, 0.5, 3) + side // 2)
        shape, edges = (side, side, side), (4.0, 1.0, 1.0)
        flat, owner = runs_of(*sphere(0.4 * radius, middle), shape, voxel_size=edges).voxels()
        found.append(equivalent_radius(ellipsoids_from_voxels(flat, owner, shape, voxel_size=edges).covariance)[0])
    assert np.mean(found) / 0.4 == pytest.approx(radius, rel=tolerance)


@pytest.mark.parametrize(
    "block", [np.s_[2:3, 2:3, 2:3], np.s_[2:3, 1:6, 3:4], np.s_[1:6, 1:6, 2:3], np.s_[2:4, 3:5, 3:5]]
)
def test_thin_objects_have_the_volume_of_their_voxels(block):
    labels = np.zeros((7, 7, 7), dtype=np.uint16)
    labels[block] = 1
    found = ellipsoids_from_labels(labels, voxel_size=(2.0, 1.0, 0.5))
    assert volume(found.covariance) == pytest.approx(found.n_voxels * 1.0)
    plane = ellipsoids_from_labels(labels[2:3])
    assert np.pi * np.sqrt(np.linalg.det(plane.covariance[0, 1:, 1:])) == pytest.approx(plane.n_voxels[0])
    assert plane.covariance[0, 0].tolist() == [0.25, 0, 0]


@pytest.mark.parametrize(
    "block", [np.s_[2:3, 2:3, 2:3], np.s_[2:3, 1:6, 3:4], np.s_[1:6, 1:6, 2:3], np.s_[2:3, :, :], np.s_[:, 2:3, 3:5]]
)
def test_degenerate_objects_are_still_ellipsoids(block):
    labels = np.zeros((7, 7, 7), dtype=np.uint16)
    labels[block] = 5
    found = ellipsoids_from_labels(labels, voxel_size=(2.0, 1.0, 0.5))
    np.linalg.cholesky(found.covariance)
    assert (np.sqrt(np.diagonal(found.covariance[0])) >= np.array([1.0, 0.5, 0.25]) - 1e-9).all()
    assert found.label.tolist() == [5]


def test_labels_with_gaps_and_huge_numbers_keep_their_names():
    labels = np.zeros((3, 6, 9), dtype=np.uint32)
    labels[:, :2, :2], labels[:, 4:, 6:], labels[1, 4, 1] = 7, 3_000_000_000, 2
    found = ellipsoids_from_labels(labels)
    assert found.label.tolist() == [2, 7, 3_000_000_000]
    assert found.n_voxels.tolist() == [1, 12, 18]
    assert found.centre[1] == pytest.approx([1.0, 0.5, 0.5])
    assert np.isnan(found.quality).all()


def test_probability_gives_components_with_their_mean():
    probability = np.zeros((4, 8, 8), dtype=np.float32)
    probability[1:3, 1:3, 1:3] = 0.75
    probability[0, 6, 6] = 0.5
    probability[3, 5:7, 5:7] = [[0.6, 1.0], [0.6, 1.0]]
    found = ellipsoids_from_probability(probability, 0.5, voxel_size=(2.0, 1.0, 1.0))
    assert found.quality == pytest.approx([0.75, 0.8])
    assert found.centre[0] == pytest.approx([3.0, 1.5, 1.5])
    assert len(ellipsoids_from_probability(probability, 0.5, min_voxels=5).centre) == 1
    nothing = ellipsoids_from_probability(probability, 1.0)
    assert nothing.centre.shape == (0, 3)
    assert nothing.covariance.shape == (0, 3, 3)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(DataError, match="labels\\[None\\]"):
        ellipsoids_from_labels(np.zeros((4, 4), dtype=int))
    with pytest.raises(DataError, match="label -3"):
        ellipsoids_from_labels(np.full((1, 2, 2), -3))
    ones = np.ones(2, dtype=np.int64)
    with pytest.raises(DataError, match="ndim is 4"):
        ellipsoids_from_voxels(ones, ones, (2, 2, 2), ndim=4)
    with pytest.raises(DataError, match="within the image"):
        ellipsoids_from_voxels(ones * 8, ones, (2, 2, 2))
    with pytest.raises(DataError, match="owners"):
        ellipsoids_from_voxels(ones, ones[:1], (2, 2, 2))
