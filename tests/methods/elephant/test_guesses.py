import numpy as np
import pytest

from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.guesses import guess_nuclei, hill_height, lift_missed

PLACES = np.array([[8.0, 12, 12], [8, 12, 36], [8, 36, 12], [8, 36, 36]])
SIZE = 4.0
COVARIANCE = np.tile(np.eye(3) * SIZE**2, (4, 1, 1))


def scene(brightness=(1.0, 1.0, 1.0, 0.2)):
    grid = np.stack(np.meshgrid(*map(np.arange, (16, 48, 48)), indexing="ij"), -1)
    image = np.random.default_rng(0).normal(0.1, 0.01, (16, 48, 48))
    for place, bright in zip(PLACES, brightness, strict=True):
        image += bright * np.exp(-((grid - place) ** 2).sum(-1) / SIZE**2)
    return image.astype(np.float32)


def test_the_others_are_guessed_and_the_marked_ones_are_not():
    found, background = guess_nuclei(scene((1, 1, 1, 1)), PLACES[:2], COVARIANCE[:2])
    distance = np.linalg.norm(found[:, None] - PLACES, axis=-1).min(axis=0)
    assert (distance[2:] < 1.5).all()
    assert (distance[:2] > SIZE).all()
    assert not background[tuple(PLACES.astype(int).T)].any()


@pytest.mark.parametrize("image", [-scene(), np.zeros((16, 48, 48), np.float32)])
def test_nothing_is_guessed_where_marks_are_no_hills(image):
    found, background = guess_nuclei(image, PLACES[:2], COVARIANCE[:2])
    assert len(found) == 0
    assert background is None


def test_a_hill_that_the_network_half_sees_becomes_a_nucleus():
    image = scene()
    height = hill_height(image, PLACES, COVARIANCE)
    probability = np.zeros_like(image)
    probability[8, 12, 12] = 0.9  # found
    probability[8, 36, 36] = 0.2  # half seen
    config = ElephantConfig(guess_height=height)
    lifted = lift_missed(probability, image, np.full(3, SIZE), config) > config.threshold
    assert lifted[8, 36, 36]
    assert lifted[:, :24, :24].sum() == 1
    assert not lifted[:, :24, 24:].any()
    np.testing.assert_array_equal(lift_missed(probability, image, np.full(3, SIZE), ElephantConfig()), probability)
