"""Outlines of label images, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bdv_io.raster as raster
from bdv_io.errors import ValidationError
from bdv_io.raster import Rings, fill, trace

HUGE = 2**62 + 1


def polygons(*rings, label=None, plane=0):
    start = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])])
    labels = np.asarray(label if label is not None else np.arange(1, len(rings) + 1))
    return Rings(labels, np.full(len(rings), plane), start, np.concatenate([np.asarray(r, float) for r in rings]))


def ring(rings, i):
    return rings.vertices[rings.start[i] : rings.start[i + 1]].tolist()


def areas(rings):
    found = []
    for i in range(len(rings)):
        (y, x), following = np.transpose(ring(rings, i)), np.roll(ring(rings, i), -1, axis=0).T
        found.append((y * following[1] - following[0] * x).sum() / 2)
    return found


class TestTracing:
    def test_one_pixel(self):
        rings = trace(np.array([[0, 0], [0, 7]]))
        assert ring(rings, 0) == [[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 1.5]]
        assert (rings.label.tolist(), rings.plane.tolist()) == ([7], [0])

    def test_only_turns_are_vertices(self):
        rings = trace(np.ones((4, 9), dtype=np.uint8))
        assert ring(rings, 0) == [[-0.5, -0.5], [3.5, -0.5], [3.5, 8.5], [-0.5, 8.5]]

    def test_hole_is_a_ring_of_negative_area(self):
        image = np.ones((5, 5), dtype=int)
        image[2, 2] = 0
        assert areas(trace(image)) == [25, -1]

    def test_pixels_that_touch_at_a_corner_are_apart(self):
        assert areas(trace(np.eye(3, dtype=int))) == [1, 1, 1]

    def test_hole_of_two_corner_pixels_is_one_ring(self):
        image = np.ones((4, 4), dtype=int)
        image[1, 1] = image[2, 2] = 0
        assert areas(trace(image)) == [16, -2]

    def test_planes_and_labels_in_order(self):
        image = np.zeros((3, 2, 4), dtype=np.uint16)
        image[0, 0] = [5, 2, 0, 5]
        image[2, 1, 1] = 1
        rings = trace(image)
        assert list(zip(rings.plane.tolist(), rings.label.tolist(), strict=True)) == [(0, 2), (0, 5), (0, 5), (2, 1)]

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 2, 2), (2, 2)])
    def test_nothing_to_trace(self, shape):
        assert len(trace(np.zeros(shape, dtype=np.int32))) == 0

    def test_what_is_no_label_image(self):
        with pytest.raises(ValidationError, match=r"whole numbers; found shape .2, 2., type float64"):
            trace(np.zeros((2, 2)))
        with pytest.raises(ValidationError, match="beyond 63 bits"):
            trace(np.full((1, 1), 2**63, dtype=np.uint64))

    def test_one_long_snake(self):
        image = np.zeros((41, 41), dtype=int)
        image[::2] = 3
        image[1::4, -1] = image[3::4, 0] = 3
        rings = trace(image)
        assert len(rings) == 1
        assert (fill(rings, (1, 41, 41)).labels[0] == image).all()


class TestFilling:
    def test_sub_pixel_polygon(self):
        found = fill(polygons([[0.2, 0.2], [0.2, 3.9], [2.9, 3.9], [2.9, 0.2]]), (1, 4, 5)).labels[0]
        assert found.tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]

    def test_centre_on_a_border_is_in_one_of_two_neighbours(self):
        left, right = [[0, 0], [0, 2], [3, 2], [3, 0]], [[0, 2], [0, 4], [3, 4], [3, 2]]
        found = fill(polygons(left, right), (1, 4, 5))
        assert found.labels[0].tolist() == [[0, 1, 1, 2, 2]] * 3 + [[0] * 5]
        assert found.n_overlapping == 0

    def test_later_over_earlier_and_the_overlap_counted(self):
        big, small = [[-1, -1], [-1, 9], [9, 9], [9, -1]], [[0.5, 0.5], [0.5, 2.5], [1.5, 2.5], [1.5, 0.5]]
        found = fill(polygons(big, small, label=[9, 3]), (1, 3, 4))
        assert found.labels[0].tolist() == [[9, 9, 9, 9], [9, 3, 3, 9], [9, 9, 9, 9]]
        assert found.n_overlapping == 2

    def test_outside_is_cut(self):
        far = [[-1e300, -1e300], [-1e300, 1e300], [1e300, 1e300], [1e300, -1e300]]
        assert (fill(polygons(far), (1, 3, 4)).labels == 1).all()
        assert not fill(polygons(far, plane=5), (2, 3, 4)).labels.any()
        assert not fill(polygons([[-9, -9], [-9, -5], [-5, -5]]), (1, 3, 4)).labels.any()

    def test_even_odd_of_one_object(self):
        outer, inner = [[0, 0], [0, 4], [4, 4], [4, 0]], [[1, 1], [1, 3], [3, 3], [3, 1]]
        found = fill(polygons(outer, inner, label=[1, 1]), (1, 5, 5))
        assert found.labels.sum() == 12
        assert found.n_overlapping == 0

    def test_label_beyond_the_type(self):
        with pytest.raises(ValidationError, match="labels run from 70000 to 70000, which is beyond uint16"):
            fill(polygons([[0, 0], [0, 4], [4, 4]], label=[70000]), (1, 4, 4), dtype=np.uint16)

    def test_bands_give_the_same(self, monkeypatch):
        image = np.random.default_rng(0).integers(0, 4, (3, 40, 30))
        rings = trace(image)
        monkeypatch.setattr(raster, "CROSSINGS_AT_ONCE", 50)
        monkeypatch.setattr("bdv_io.runs.PAINTED_AT_ONCE", 7)
        monkeypatch.setattr(raster, "PIXELS_AT_ONCE", 1)
        assert (fill(rings, image.shape).labels == image).all()
        assert (trace(image).vertices == rings.vertices).all()


def images(max_side=9):
    dtypes = st.sampled_from([np.uint8, np.int32, np.uint16, np.int64])
    shapes = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=max_side)
    return st.tuples(dtypes, shapes).flatmap(lambda ds: hnp.arrays(*ds, elements=st.integers(0, 3)))


@settings(deadline=None, max_examples=300)
@given(images(), st.sampled_from([1, HUGE // 4]))
def test_filling_what_was_traced_gives_the_labels(labels, factor):
    labels = labels.astype(np.int64) * factor
    stack = labels if labels.ndim == 3 else labels[None]
    found = fill(trace(labels), stack.shape, dtype=np.int64)
    assert (found.labels == stack).all()
    assert found.n_overlapping == 0


@settings(deadline=None, max_examples=100)
@given(images(), st.integers(0, 2**32))
def test_rings_of_blobs_have_the_area_of_their_pixels(labels, seed):
    rings = trace(labels)
    assert np.isclose(sum(areas(rings)), np.count_nonzero(labels))
    assert (np.diff(rings.start) >= 4).all()
