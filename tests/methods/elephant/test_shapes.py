import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from howdah.methods.elephant import shapes

SHAPE = (9, 14, 17)


def some(seed, n):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 3, 3)) * rng.uniform(0.3, 3)
    return rng.uniform(-3, 17, (n, 3)), root @ root.transpose(0, 2, 1) + 0.05 * np.eye(3)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_voxels_inside_equal_the_test_of_every_voxel(seed):
    centre, covariance = some(seed, 3)
    flat, row = shapes.inside(centre, covariance, SHAPE)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    for i in range(3):
        offset = grid - centre[i]
        d = np.einsum("ki,ij,kj->k", offset, np.linalg.inv(covariance[i]), offset)
        clear = np.abs(d - 1) > 1e-9  # rounding may decide on the surface itself
        found = np.isin(np.arange(len(grid)), flat[row == i])
        np.testing.assert_array_equal(found[clear], (d < 1)[clear])


def test_world_and_voxels_are_inverse():
    centre, covariance = some(1, 5)
    affine = np.array([[5.0, 0, 0, 2], [0, 0.5, 0.2, -1], [0, -0.2, 0.5, 3], [0, 0, 0, 1]])
    there = shapes.to_world(centre, covariance, affine)
    back = shapes.to_voxels(*there, affine)
    np.testing.assert_allclose(back[0], centre)
    np.testing.assert_allclose(back[1], covariance)


def test_moments_of_components():
    mask = np.zeros((4, 6, 8), dtype=bool)
    mask[1, 1:4, 1] = True  # a bar
    mask[3, 5, 7] = True
    weight = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    count, mean, moments, quality = shapes.component_moments(mask, weight)
    assert count.tolist() == [3, 1]
    np.testing.assert_allclose(mean, [[1, 2, 1], [3, 5, 7]])
    np.testing.assert_allclose(moments[0], np.diag([0, 2 / 3, 0]))
    np.testing.assert_allclose(quality, [weight[1, 2, 1], weight[3, 5, 7]])


def test_components_touch_over_corners():
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert len(shapes.component_moments(mask, mask.astype(np.float32))[0]) == 1


def test_many_components_equal_those_of_scipy():
    mask = np.random.default_rng(0).random((10, 30, 30)) < 0.05
    count, mean, _, _ = shapes.component_moments(mask, mask.astype(np.float32))
    labels, n = ndimage.label(mask, np.ones((3, 3, 3)))
    np.testing.assert_array_equal(count, np.bincount(labels.ravel())[1:])
    np.testing.assert_allclose(mean, ndimage.center_of_mass(mask, labels, np.arange(1, n + 1)))


def test_half_axes():
    np.testing.assert_allclose(shapes.half_axes(np.diag([9.0, 1, 4])[None]), [[1, 2, 3]])
