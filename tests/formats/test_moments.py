"""Ellipsoids from labels and outlines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bdv_io.errors import ValidationError
from bdv_io.moments import measure, measure_polygons
from bdv_io.raster import fill_ellipsoids, trace

AFFINE = np.array([[2.0, 0, 0, 10], [0, 0.5, 0, -3], [0, 0, 0.5, 1], [0, 0, 0, 1]])


class TestLabels:
    def test_solid_gives_its_own_half_axes(self):
        covariance = np.array([[80.0, 10, 0], [10, 120, 20], [0, 20, 60]])
        labels = fill_ellipsoids([[15, 15.3, 14.8]], [covariance], (31, 31, 31)).labels
        found = measure(labels)
        assert found.centre[0] == pytest.approx([15, 15.3, 14.8], abs=0.05)
        assert found.covariance[0] == pytest.approx(covariance, abs=1.2)
        assert found.size[0] == pytest.approx(4 / 3 * np.pi * np.sqrt(np.linalg.det(covariance)), rel=0.01)

    def test_disc_has_the_depth_of_a_sphere(self):
        y, x = np.indices((41, 41)) - 20
        disc = ((y / 6.2) ** 2 + (x / 12.2) ** 2 < 1).astype(np.uint8)
        found = measure(disc, AFFINE)
        assert np.diag(found.covariance[0]) == pytest.approx([18.9, 9.61, 37.21], rel=0.06)
        assert found.centre[0] == pytest.approx([10, 7, 11])
        assert found.size[0] == pytest.approx(np.pi * 18.9, rel=0.04)

    def test_a_mask_of_true_and_false_is_one_label(self):
        mask = np.zeros((5, 6), dtype=bool)
        mask[1:3, 2:5] = True
        found, known = measure(mask), measure(mask.astype(np.uint8))
        assert found.label.tolist() == [1]
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, known, strict=True))

    def test_one_plane_of_a_stack_is_measured_as_an_image(self):
        labels = np.kron(np.arange(12).reshape(3, 4), np.ones((4, 5), int))
        found, known = measure(labels), measure(labels[None])
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, known, strict=True))

    def test_single_voxels_are_ellipsoids(self):
        labels = np.zeros((3, 4, 4), dtype=np.int64)
        labels[1, 2, 3], labels[0, 0, 0] = 2**61, 5
        found = measure(labels, AFFINE)
        assert found.label.tolist() == [5, 2**61]
        assert found.centre[1] == pytest.approx([12, -2, 2.5])
        assert found.covariance[1] == pytest.approx(np.diag([1, 1 / 16, 1 / 16]))
        assert found.n_voxels.tolist() == [1, 1]

    def test_nothing(self):
        assert len(measure(np.zeros((2, 3, 4), dtype=np.uint8)).label) == 0
        assert len(measure(np.zeros((0, 4), dtype=np.uint8)).label) == 0

    def test_what_is_no_label_image(self):
        with pytest.raises(ValidationError, match=r"found shape .3,., type int64"):
            measure(np.zeros(3, dtype=np.int64))


class TestEllipsoids:
    def test_small_ones_keep_the_centre_voxel(self):
        found = fill_ellipsoids([[0, 1.4, 2.4], [0, 9, 9]], [np.eye(3) * 1e-4] * 2, (1, 4, 4))
        assert np.argwhere(found.labels).tolist() == [[0, 1, 2]]

    def test_later_over_earlier(self):
        found = fill_ellipsoids([[0, 5, 5], [0, 5, 6]], [np.eye(3) * 4.41] * 2, (1, 11, 11))
        assert np.bincount(found.labels.ravel()).tolist() == [121 - 18, 5, 13]
        assert found.n_overlapping == 8

    def test_world_coordinates(self):
        found = fill_ellipsoids([[14, -3 + 2, 1 + 3]], [np.diag([0.1, 1.1, 1.1])], (4, 10, 10), affine=AFFINE).labels
        assert set(np.argwhere(found)[:, 0]) == {2}
        assert np.argwhere(found).mean(axis=0).tolist() == [2, 4, 6]
        assert found.sum() == 13

    def test_what_is_no_ellipsoid(self):
        with pytest.raises(ValidationError, match="not positive definite"):
            fill_ellipsoids([[0, 0, 0]], [-np.eye(3)], (1, 1, 1))
        with pytest.raises(ValidationError, match="not a finite number"):
            fill_ellipsoids([[0, 0, np.nan]], [np.eye(3)], (1, 1, 1))


def of_rings(rings, **options):
    names, owner = np.unique(rings.label, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    counts = np.diff(rings.start)[order]
    pieces = [rings.vertices[rings.start[i] : rings.start[i + 1]] for i in order]
    start = np.concatenate([[0], np.cumsum(counts)])
    return measure_polygons(
        owner[order],
        rings.plane[order].astype(float),
        start=start,
        vertices=np.concatenate(pieces) if pieces else np.empty((0, 2)),
        n_objects=len(names),
        **options,
    )


class TestPolygons:
    @settings(deadline=None, max_examples=100)
    @given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 2)))
    def test_outlines_measure_as_their_pixels(self, labels):
        found, (centre, covariance, area) = measure(labels), of_rings(trace(labels))
        assert area == pytest.approx(found.n_voxels)
        assert centre == pytest.approx(found.centre)
        pixel = np.eye(2) / 3  # a pixel is a square: 4 times 1/12 more than its centre
        big = np.linalg.eigvalsh(covariance[:, 1:, 1:] - pixel)[:, 0] > 0.25 if len(area) else []
        assert covariance[big][:, 1:, 1:] == pytest.approx(found.covariance[big][:, 1:, 1:] + pixel)

    def test_orientation_does_not_matter(self):
        image = np.ones((5, 6), dtype=int)
        image[2, 2] = 0
        rings = trace(image)
        turned = rings.vertices.copy()
        turned[rings.start[1] :] = turned[rings.start[1] :][::-1]
        start = rings.start
        one = measure_polygons(rings.label - 1, np.zeros(2), start=start, vertices=rings.vertices, n_objects=1)
        two = measure_polygons(rings.label - 1, np.zeros(2), start=start, vertices=turned, n_objects=1)
        assert one[2] == two[2] == pytest.approx([29])
        assert (one[1] == two[1]).all()

    def test_solid_in_planes(self):
        labels = fill_ellipsoids([[10, 10, 10]], [np.diag([64.0, 36, 49])], (21, 21, 21)).labels
        centre, covariance, _ = of_rings(trace(labels))
        assert centre[0] == pytest.approx([10, 10, 10])
        assert np.diag(covariance[0]) == pytest.approx([64, 36, 49], rel=0.04)

    def test_line_without_an_area(self):
        flat = np.array([[0.0, 0], [0, 4], [0, 2]])
        centre, covariance, area = measure_polygons(
            np.array([1]), np.zeros(1), start=np.array([0, 3]), vertices=flat, n_objects=2
        )
        assert area.tolist() == [0, 0]
        assert np.isfinite(centre[1]).all()
        assert np.isnan(centre[0]).all()
        assert (np.linalg.eigvalsh(covariance[1]) > 0).all()
