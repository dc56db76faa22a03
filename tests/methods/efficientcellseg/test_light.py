import numpy as np
import pytest

from howdah.methods.efficientcellseg.augment import Light
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig

PICTURE = np.random.default_rng(0).random((3, 24, 24), dtype=np.float32)


def test_nothing_changes_where_nothing_is_asked_for():
    config = EfficientCellSegConfig(intensity_range=0.0, blur_probability=0.0, noise_probability=0.0)
    rng = np.random.default_rng(1)
    assert Light.drawn(rng, config).of(PICTURE, rng) == pytest.approx(PICTURE, abs=1e-6)


def test_pictures_stay_within_0_and_1_and_are_not_changed_in_place():
    rng, before = np.random.default_rng(2), PICTURE.copy()
    for _ in range(20):
        changed = Light.drawn(rng, EfficientCellSegConfig()).of(PICTURE, rng)
        assert changed.dtype == np.float32
        assert 0 <= changed.min() <= changed.max() <= 1
    assert np.array_equal(before, PICTURE)


def test_colours_of_a_grey_picture_stay_equal():
    grey = np.repeat(PICTURE[:1], 3, axis=0)
    changed = Light(0.8, 1.2, 0.1, 1.0, 0.05).of(grey, np.random.default_rng(3))
    assert np.array_equal(changed[0], changed[1])
    assert np.array_equal(changed[0], changed[2])
    assert changed.std() < grey.std()
