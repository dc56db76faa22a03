"""Frames as the networks see them."""

import numpy as np
import pytest

from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.preprocess import level_slices, normalise, prepare, resample


def test_normalising():
    frame = np.array([[[5, 10, 15]]], dtype=np.uint16)
    np.testing.assert_allclose(normalise(frame), [[[0, 0.5, 1]]])
    assert normalise(frame).dtype == np.float32
    assert not normalise(np.full((2, 2, 2), 7)).any()
    np.testing.assert_allclose(normalise(frame, "percentile", percentiles=(0, 50)), [[[0, 1, 1]]])


def test_slices_get_the_same_median():
    frame = np.random.default_rng(0).normal(100, 5, (4, 20, 20)) + 30 * np.arange(4)[:, None, None]
    even = level_slices(frame)
    np.testing.assert_allclose(np.median(even, axis=(1, 2)), np.median(frame), rtol=1e-5)


def test_nothing_to_do_leaves_the_grid():
    frame = np.arange(24.0).reshape(2, 3, 4)
    image, affine = prepare(frame, np.diag([2.0, 1, 1, 1]), ElephantConfig())
    assert image.shape == (2, 3, 4)
    np.testing.assert_array_equal(affine, np.diag([2.0, 1, 1, 1]))


@pytest.mark.parametrize("factors", [(1, 0.5, 0.5), (2, 1, 1), (1, 0.37, 1.6)])
def test_a_ball_keeps_its_place_in_the_world(factors):
    z, y, x = np.indices((20, 60, 50))
    ball = np.exp(-(((z - 9) / 3) ** 2 + ((y - 31) / 6) ** 2 + ((x - 20) / 6) ** 2)).astype(np.float32)
    world = np.diag([4.0, 2.0, 2.0, 1.0])
    image, affine = resample(ball, world, factors)
    where = np.stack(np.indices(image.shape), axis=-1).reshape(-1, 3)
    middle = (where * image.reshape(-1, 1)).sum(axis=0) / image.sum()
    np.testing.assert_allclose(affine[:3, :3] @ middle + affine[:3, 3], [36, 62, 40], atol=0.1)
