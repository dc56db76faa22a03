import numpy as np
import pytest
from scipy import ndimage

from howdah.ellipsoids import equivalent_radius, runs_of, transform
from howdah.methods.elephant.calibration import Calibration
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.extract import denoised, drawn_size, spots_from_probability
from howdah.methods.elephant.status import Status
from howdah.methods.elephant.targets import render_labels

CONFIG = ElephantConfig(device="cpu", precision="float32")


def through_labels(radius, voxel, *, flat=False, n=30, usual=True, seed=0):
    """Mean size found by true of balls (or discs) that were drawn as labels."""
    rng = np.random.default_rng(seed)
    affine = np.diag([*voxel, 1.0])
    config = CONFIG.but(r_usual=radius) if usual else CONFIG
    found = []
    for _ in range(n):
        shape = (1, 61, 61) if flat else (25, 41, 41)
        centre = ((np.array(shape) - 1) / 2 + rng.uniform(-0.5, 0.5, 3) * (not flat, 1, 1))[None]
        _, covariance = transform(np.zeros((1, 3)), np.eye(3)[None] * radius**2, np.linalg.inv(affine))
        labels = render_labels(centre, covariance, np.array([Status.FN], np.int8), shape)
        spots = spots_from_probability((labels == 6).astype(np.float32), config, affine=affine)
        found.append(equivalent_radius(spots.covariance)[0] / radius)
    return float(np.mean(found))


@pytest.mark.parametrize("radius", [2, 3, 5, 9])
@pytest.mark.parametrize(("voxel", "flat"), [((1, 1, 1), False), ((4, 1, 1), False), ((1, 1, 1), True)])
def test_sizes_are_unbiased_from_label_to_spot(radius, voxel, flat):
    assert through_labels(radius, voxel, flat=flat) == pytest.approx(1, abs=0.03)


def test_without_a_usual_size_a_small_nucleus_is_as_large_as_it_was_drawn():
    assert through_labels(2, (4, 1, 1), usual=False) > 1.5


def test_how_large_nuclei_are_drawn():
    drawn, true = drawn_size(2.0, 0.4, np.diag([4.0, 1, 1, 1]))
    assert true == pytest.approx(4 / 3 * np.pi * 0.8**3 / 4)
    assert drawn == pytest.approx(9, abs=0.5)
    assert drawn_size(20.0, 0.4, np.eye(4))[0] == drawn_size(20.0, 0.4, np.eye(4))[1]
    assert drawn_size(2.0, 0.4, np.diag([7.0, 1, 1, 1]), single=True)[1] == pytest.approx(np.pi * 0.8**2)


def two_nuclei(distance):
    """Centre probability of two nuclei whose centre parts touch, with a valley between them."""
    grid = np.stack(np.meshgrid(*map(np.arange, (16, 32, 48)), indexing="ij"), -1)
    hills = [np.exp(-((grid - np.array([8, 16, x])) ** 2).sum(-1) / 18) for x in (20, 20 + distance)]
    return np.maximum(*hills).astype(np.float32)


def test_touching_nuclei_are_cut_apart():
    one = spots_from_probability(two_nuclei(6), CONFIG.but(split=False), affine=np.eye(4))
    two = spots_from_probability(two_nuclei(6), CONFIG, affine=np.eye(4))
    assert (len(one), len(two)) == (1, 2)
    np.testing.assert_allclose(np.sort(two.centre[:, 2]), [20, 26], atol=0.7)
    assert len(spots_from_probability(two_nuclei(2), CONFIG, affine=np.eye(4))) == 1


def test_a_long_detection_with_a_waist_is_cut_where_r_max_says_that_it_is_too_long():
    mask = np.zeros((16, 32, 64), bool)
    flat, _ = runs_of([[8, 16, 20], [8, 16, 34]], np.tile(np.eye(3) * 25.0, (2, 1, 1)), mask.shape).voxels()
    mask.reshape(-1)[flat] = True
    mask[8, 16, 20:34] = True
    assert len(spots_from_probability(mask.astype(np.float32), CONFIG, affine=np.eye(4))) == 1
    assert len(spots_from_probability(mask.astype(np.float32), CONFIG.but(r_max=20), affine=np.eye(4))) == 2


def test_denoising_subtracts_edges_of_the_background():
    background = np.zeros((2, 30, 40), np.float32)
    background[:, :, 20:] = 1
    centre = np.full_like(background, 0.6)
    less = denoised(centre, background)
    edge = np.exp(-0.5 * (0.5 / 3) ** 2) / (3 * np.sqrt(2 * np.pi)) * 2 / np.sqrt(2)
    assert less[0, 15, [19, 20]] == pytest.approx(0.6 - edge, abs=0.01)
    assert less[0, 15, [2, 37]] == pytest.approx(0.6, abs=1e-3)
    np.testing.assert_array_equal(less[0], less[1])
    assert (denoised(centre * 0, background) == 0).all()
    turned = denoised(centre.transpose(0, 2, 1), background.transpose(0, 2, 1))
    np.testing.assert_allclose(turned.transpose(0, 2, 1), less, atol=1e-6)


def test_denoising_is_that_of_scikit_image_slice_by_slice():
    from skimage.filters import gaussian, prewitt

    background = np.random.default_rng(0).random((3, 25, 31)).astype(np.float32)
    expected = [1 - prewitt(gaussian(plane, 3, mode="nearest", truncate=4)) for plane in background]
    np.testing.assert_allclose(
        denoised(np.ones_like(background), background)[:, 2:-2, 2:-2], np.array(expected)[:, 2:-2, 2:-2], atol=1e-5
    )


def test_denoising_parts_two_nuclei_with_background_between_them():
    """Two blurred centre parts that run together over a cleft of background: its edges are where they touch."""
    background = np.zeros((1, 40, 60), np.float32)
    background[:, :, 27:30] = background[:, :, :14] = background[:, :, 44:] = background[:, :12] = background[
        :, 28:
    ] = 1
    centre = ndimage.gaussian_filter(0.95 * (1 - background), (0, 1.2, 1.2))
    centre[0, 19:22, 24:33] = np.maximum(centre[0, 19:22, 24:33], 0.53)
    plain = spots_from_probability(centre, CONFIG.but(split=False), affine=np.eye(4), background=background)
    asked = CONFIG.but(split=False, denoise_edges=True, r_min=5)  # what is left of the bridge is too small
    parted = spots_from_probability(centre, asked, affine=np.eye(4), background=background)
    assert (len(plain), len(parted)) == (1, 2)
    assert len(spots_from_probability(centre, asked, affine=np.eye(4))) == 1  # nothing to subtract


def test_a_calibration_makes_the_quality():
    probability = two_nuclei(18)
    probability[:, :, 30:] *= 0.7
    plain = spots_from_probability(probability, CONFIG, affine=np.eye(4))
    sure = Calibration((-5.0, 0.0, 5.0, 0.0, 0.0))
    judged = spots_from_probability(probability, CONFIG, affine=np.eye(4), calibration=sure)
    highest = np.array([1.0, 0.7])
    order = np.argsort(plain.centre[:, 2])
    assert judged.quality[order][1] == pytest.approx(1 / (1 + np.exp(5 - 5 * np.log(highest[1] / 0.3))), rel=0.02)
    assert judged.quality[order][0] > 0.99
    assert (plain.quality < 1).all()
