"""Cutting components into their parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from howdah.ellipsoids import connected_components, split_components


def hill(shape, centre, width=3.0, height=1.0):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return height * np.exp(-((grid - np.array(centre)) ** 2).sum(-1) / (2 * width**2))


def cut(landscape, threshold=0.5, **options):
    found = connected_components(landscape > threshold)
    return found, split_components(found, landscape.reshape(-1)[found.flat], **options)


def test_two_hills_that_touch_are_two():
    found, parts = cut(np.maximum(hill((9, 20, 30), (4, 10, 10)), hill((9, 20, 30), (4, 10, 16))))
    assert (found.n, parts.n) == (1, 2)
    labels = parts.labels()
    assert labels[4, 10, 10] != labels[4, 10, 16]
    assert labels[4, 10, :13].max() == labels[4, 10, 10]
    assert abs(np.bincount(parts.owner) - len(parts.flat) / 2).max() <= (labels[:, :, 13] > 0).sum()


def test_a_valley_less_deep_than_asked_is_none():
    landscape = np.maximum(hill((9, 20, 30), (4, 10, 10)), hill((9, 20, 30), (4, 10, 14)))
    assert cut(landscape)[1].n == 2
    assert cut(landscape, depth=0.3)[1].n == 1


def test_a_part_that_is_too_small_is_not_cut_off():
    landscape = np.maximum(hill((9, 20, 30), (4, 10, 10)), hill((9, 20, 30), (4, 10, 16), width=1.2))
    landscape = np.maximum(landscape, 0.55 * (hill((9, 20, 30), (4, 10, 13), width=4) > 0.8))
    assert cut(landscape)[1].n == 2
    assert cut(landscape, least_voxels=40)[1].n == 1


def dumbbell():
    mask = (hill((11, 24, 40), (5, 12, 10)) > 0.3) | (hill((11, 24, 40), (5, 12, 22)) > 0.3)
    mask[5, 12, 10:22] = True
    return mask.astype(float)


def test_a_large_component_with_a_waist_is_cut_and_a_small_one_is_not():
    flat = dumbbell()
    assert cut(flat)[1].n == 1
    assert cut(flat, large=np.array([True]))[1].n == 2
    assert cut(flat[5:6], large=np.array([True]))[1].n == 2


def test_a_large_ball_stays_whole():
    assert cut((hill((25, 25, 25), (12, 12, 12)) > 0.02).astype(float), large=np.array([True]))[1].n == 1


def test_other_components_keep_their_voxels_and_numbers():
    landscape = np.maximum(hill((9, 20, 60), (4, 10, 10)), hill((9, 20, 60), (4, 10, 16)))
    landscape = np.maximum(landscape, hill((9, 20, 60), (4, 10, 40)))
    found, parts = cut(landscape)
    assert (parts.flat == found.flat).all()
    assert (found.n, parts.n) == (2, 3)
    assert (parts.owner[found.owner == 1] == 1).all()
    assert set(parts.owner[found.owner == 0]) == {0, 2}


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_parts_are_within_components_connected_and_mirror_with_the_image(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(8, 24, 24)), 1.5)
    landscape = noise / noise.max()
    found, parts = cut(landscape, 0.2)
    assert len(np.unique(parts.owner)) == parts.n >= found.n
    for number in range(parts.n):
        assert len(np.unique(found.owner[parts.owner == number])) == 1
    labels = parts.labels()
    assert sum(ndimage.label(labels == i + 1, np.ones((3, 3, 3)))[1] for i in range(parts.n)) == parts.n
    assert cut(landscape[:, ::-1], 0.2)[1].n == parts.n


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
def test_nothing_gives_nothing(shape):
    assert cut(np.zeros(shape))[1].n == 0
