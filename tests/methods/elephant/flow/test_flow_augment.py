import numpy as np
import pytest
from scipy import ndimage

from howdah.methods.elephant.augment import Augmentation
from howdah.methods.elephant.flow import prior
from howdah.methods.elephant.flow.augment import Crop, random_crop
from howdah.methods.elephant.flow.targets import render_flow

SHAPE = (12, 40, 48)
CENTRE = np.array([[5.1, 14.2, 20.3], [6.2, 25.1, 30.4]])
WAY = np.array([[1.0, 4, -3], [-1.0, 2, 5]])
COVARIANCE = np.array([np.diag([4.1, 16.3, 9.7]), np.diag([4.3, 9.9, 25.7])])
HOW = Augmentation(flip=True, scale=((0.9, 1.1), (0.7, 1.3), (0.7, 1.3)), rotation_degrees=180)


def blobs(centre, width=2.0):
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    image = np.zeros(SHAPE, np.float32)
    for place in centre:
        image += np.exp(-((grid - place) ** 2).sum(-1) / (2 * width**2))
    return image.astype(np.float32)


def dense(labels, shape):
    volume = np.full((*shape, 3), np.nan, np.float32)
    volume.reshape(-1, 3)[labels.voxel] = labels.displacement
    return volume


def crop_of(linear, size=(12, 40, 40), middle=(5.5, 19.5, 23.5)):
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.asarray(middle) - linear @ ((np.asarray(size) - 1) / 2)
    return Crop(size, matrix)


def turn(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize(
    "linear",
    [
        np.eye(3),
        np.diag([1, -1, 1]),
        np.diag([-1, 1, -1]),
        np.diag([1, 1.3, 0.8]),
        turn(90),
        turn(37) @ np.diag([1, 1.2, -1]),
    ],
    ids=["none", "flip y", "flip z x", "scale", "quarter turn", "all"],
)
def test_the_way_back_ends_where_the_earlier_nucleus_is_in_the_crop(linear):
    crop = crop_of(linear)
    for one in range(2):
        later, earlier = blobs(CENTRE[[one]]), blobs((CENTRE + WAY)[[one]])
        at = np.array(ndimage.center_of_mass(crop.image(later) ** 4))
        was = np.array(ndimage.center_of_mass(crop.image(earlier) ** 4))
        labels = dense(crop.labels(CENTRE[[one]], COVARIANCE[[one]], WAY[[one]]), crop.size)
        found = labels[tuple(np.rint(at).astype(int))]
        np.testing.assert_allclose(at + found, was, atol=0.3)


def test_a_quarter_turn_of_labels_is_the_label_of_the_turned():
    crop = crop_of(turn(90), size=(12, 40, 40), middle=(5.5, 19.5, 23.5))
    whole = dense(render_flow(CENTRE, COVARIANCE, WAY, SHAPE), SHAPE)[:, :, 4:44]
    turned = np.rot90(whole, -1, axes=(1, 2))
    turned = np.stack([turned[..., 0], turned[..., 2], -turned[..., 1]], -1)
    other = np.rot90(whole, 1, axes=(1, 2))
    other = np.stack([other[..., 0], -other[..., 2], other[..., 1]], -1)
    found = dense(crop.labels(CENTRE, COVARIANCE, WAY), crop.size)
    fits = [np.array_equal(np.isfinite(volume), np.isfinite(found)) for volume in (turned, other)]
    assert sum(fits) == 1
    np.testing.assert_allclose(found, (turned, other)[fits.index(True)], atol=1e-5)


def test_without_changes_a_crop_is_cut_out():
    rng = np.random.default_rng(0)
    image = rng.random(SHAPE).astype(np.float32)
    crop = random_crop(SHAPE, (6, 16, 16), around=CENTRE[0], reach=np.ones(3), how=Augmentation(flip=False), rng=rng)
    z, y, x = crop.matrix[:3, 3].astype(int)
    np.testing.assert_array_equal(crop.image(image), image[z : z + 6, y : y + 16, x : x + 16])


@pytest.mark.parametrize("seed", range(20))
def test_the_place_and_what_is_around_it_lie_in_the_crop(seed):
    rng = np.random.default_rng(seed)
    around = rng.uniform(0, np.array(SHAPE) - 1)
    reach = np.array([1.0, 3, 3])
    crop = random_crop(SHAPE, (8, 24, 24), around=around, reach=reach, how=HOW, rng=rng)
    at = np.linalg.solve(crop.matrix[:3, :3], around - crop.matrix[:3, 3])
    assert (at > -0.51).all()
    assert (at < np.array(crop.size) - 0.49).all()


def test_crops_of_a_turned_frame_have_no_empty_corners():
    image = np.ones(SHAPE, np.float32)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        crop = random_crop(SHAPE, (8, 64, 64), around=CENTRE[0], reach=np.ones(3), how=HOW, rng=rng)
        assert crop.image(image).min() == pytest.approx(1)


def test_a_frame_of_one_slice():
    crop = random_crop(
        (1, 40, 48), (1, 16, 16), around=np.array([0, 9.0, 9]), reach=np.ones(3), how=HOW, rng=np.random.default_rng(3)
    )
    assert crop.image(np.ones((1, 40, 48), np.float32)).shape == (1, 16, 16)
    assert len(crop.labels(np.array([[0, 9.0, 9]]), COVARIANCE[:1], WAY[:1]).voxel) > 9


@pytest.mark.parametrize("size", [(8, 24, 24), (1, 24, 24)])
def test_a_moved_pair_has_the_flow_that_it_says(size, monkeypatch):
    monkeypatch.setattr(prior, "NOISE", 0)
    monkeypatch.setattr(prior, "BRIGHTNESS", 0)
    rng = np.random.default_rng(2)
    frame = ndimage.gaussian_filter(rng.random((size[0] + 4, 60, 60)), (2, 4, 4)).astype(np.float32)
    frame = (frame - frame.min()) / np.ptp(frame)
    crop = crop_of(turn(30), size=size, middle=(size[0] / 2 + 1.5, 30, 30))
    flow = prior.smooth_flow(size, np.array([1.0, 4, 4]), rng)
    pair, voxel, value = prior.moved_pair(frame, crop, flow, rng)
    assert len(voxel) > 50
    at = np.stack(np.unravel_index(voxel, size)) + value.T
    back = ndimage.map_coordinates(pair[0], at, order=1)
    here = pair[1].reshape(-1)[voxel]
    with_flow, without = (np.abs(image - here).mean() for image in (back, pair[0].reshape(-1)[voxel]))
    assert without > 4 * with_flow
    assert size[0] > 1 or not value[:, 0].any()
