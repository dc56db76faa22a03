"""Depth and peaks: against scipy, against a slow greedy search, and plateaus by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from howdah.methods.efficientcellseg.peaks import depth, peaks, smoothed


def at(found, shape) -> list[tuple[int, ...]]:
    return [tuple(int(x) for x in np.unravel_index(i, shape)) for i in found]


class TestDepth:
    @given(
        arrays(np.bool_, st.tuples(*[st.integers(1, 9)] * 3)),
        st.sampled_from([(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (2.5, 1.0, 1.5)]),
    )
    @settings(deadline=None, max_examples=60)
    def test_equals_the_general_transform(self, mask, sampling):
        if not mask.all():
            expected = ndimage.distance_transform_edt(mask, sampling=sampling)
            np.testing.assert_allclose(depth(mask, sampling), expected, atol=1e-5)

    def test_thick_and_thin_cells(self):
        rng = np.random.default_rng(0)
        for width in (2, 6, 20):
            mask = ndimage.gaussian_filter(rng.normal(size=(150, 170)), width) > 0
            np.testing.assert_allclose(depth(mask, (1.0, 1.0)), ndimage.distance_transform_edt(mask), atol=1e-4)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 200), (4, 5, 6)])
    def test_everything_foreground_is_finite(self, shape):
        assert np.isfinite(depth(np.ones(shape, bool), (1.0,) * len(shape))).all()


class TestPeaks:
    def test_a_plateau_is_one_peak_in_its_middle(self):
        height = np.zeros((7, 9), np.float32)
        height[2:5, 2:7] = 1
        assert at(peaks(height, (height > 0).astype(np.int32), (1.0, 1.0), 0), height.shape) == [(3, 4)]

    def test_a_plateau_that_leads_upwards_is_none(self):
        height = np.array([[1, 1, 1, 1, 2, 1]], np.float32)
        assert at(peaks(height, np.ones((1, 6), np.int32), (1.0, 1.0), 0), height.shape) == [(0, 4)]

    def test_the_lower_of_two_near_peaks_goes(self):
        height = np.array([[0, 2, 0, 3, 0, 0, 0, 1]], np.float32)
        one = np.ones(height.shape, np.int32)
        assert at(peaks(height, one, (1.0, 1.0), 2.5), height.shape) == [(0, 3), (0, 7)]
        assert len(peaks(height, one, (1.0, 1.0), 2.0)) == 3  # exactly the distance is far enough

    def test_a_peak_that_went_does_not_take_others_with_it(self):
        height = np.array([[3, 0, 2, 0, 1]], np.float32)
        assert at(peaks(height, np.ones((1, 5), np.int32), (1.0, 1.0), 3.0), height.shape) == [(0, 0), (0, 4)]

    def test_components_do_not_compete(self):
        height = np.array([[0, 2, 0, 3, 0]], np.float32)
        assert len(peaks(height, np.array([[1, 1, 0, 2, 2]], np.int32), (1.0, 1.0), 4)) == 2

    def test_distance_is_in_world_units(self):
        height = np.zeros((3, 1, 4), np.float32)
        height[0, 0, 0] = height[2, 0, 0] = 1
        one = np.ones(height.shape, np.int32)
        assert len(peaks(height, one, (5.0, 1.0, 1.0), 9)) == 2
        assert len(peaks(height, one, (1.0, 1.0, 1.0), 9)) == 1

    @given(arrays(np.uint8, (6, 7), elements=st.integers(0, 5)), st.floats(0, 6))
    @settings(deadline=None, max_examples=25)
    def test_kept_peaks_are_apart_and_dropped_ones_are_near_a_higher(self, height, distance):
        height = height.astype(np.float32)
        component = ndimage.label(height > 0, np.ones((3, 3)))[0].astype(np.int32)
        everything = peaks(height, component, (1.0, 1.0), 0)
        kept = peaks(height, component, (1.0, 1.0), distance)
        assert np.isin(kept, everything).all()
        owner, values = component.reshape(-1), height.reshape(-1)
        place = np.stack(np.unravel_index(np.arange(height.size), height.shape), axis=1)
        for peak in everything:
            near = [
                k
                for k in kept
                if k != peak and owner[k] == owner[peak] and np.linalg.norm(place[k] - place[peak]) < distance
            ]
            if peak in kept:
                assert not near
            else:
                assert any(values[k] >= values[peak] for k in near)
        assert set(owner[kept]) == set(range(1, component.max() + 1))


def test_smoothing_leaves_single_planes_and_thick_axes():
    height = np.zeros((1, 9, 9), np.float32)
    height[0, 4, 4] = 1
    np.testing.assert_allclose(
        smoothed(height, (1.0, 1.0, 1.0), 1.0)[0], ndimage.gaussian_filter(height[0], 1.0, truncate=3.0), atol=1e-6
    )
    assert smoothed(height, (1.0, 1.0, 1.0), 0.0) is height
