import numpy as np
import pytest

from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.nn.enlarge import finer, relabelled, resized, resized_shape, restored


@pytest.mark.parametrize("shape", [(6, 5), (3, 6, 5)])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_restoring_undoes_repeating(shape, times):
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert relabelled(values, times).shape == resized_shape(shape, times)
    np.testing.assert_allclose(restored(relabelled(values, times), times, shape), values, rtol=1e-6)


@pytest.mark.parametrize(("shape", "small"), [((8, 6), (4, 3)), ((7, 5), (4, 3)), ((2, 9, 4), (2, 5, 2))])
def test_made_smaller_and_back_a_frame_has_its_shape(shape, small):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert resized_shape(shape, 0.5) == small
    assert resized(image, 0.5).shape == relabelled(image, 0.5).shape == small
    assert restored(resized(image, 0.5), 0.5, shape).shape == shape


def test_a_ramp_keeps_its_place():
    ramp = np.tile(np.arange(12, dtype=np.float32), (12, 1))
    large = resized(ramp, 2)
    np.testing.assert_allclose(large[5, 2:22], (np.arange(2, 22) + 0.5) / 2 - 0.5)  # the place of each small pixel
    np.testing.assert_allclose(restored(large, 2, (12, 12))[:, 1:-1], ramp[:, 1:-1])
    small = resized(ramp, 1 / 3)
    np.testing.assert_allclose(small[0], (np.arange(4) + 0.5) * 3 - 0.5)
    np.testing.assert_allclose(restored(small, 1 / 3, (12, 12))[5, 1:-1], ramp[5, 1:-1], atol=1e-5)


def test_z_is_left_alone():
    assert resized(np.zeros((3, 4, 5), dtype=np.float32), 2).shape == (3, 8, 10)
    assert finer((4.0, 1.0, 1.0), 2) == (4.0, 0.5, 0.5)


def test_labels_are_not_mixed():
    labels = np.arange(24, dtype=np.int32).reshape(4, 6)
    assert np.isin(relabelled(labels, 0.5), labels).all()


def test_only_whole_numbers_and_one_over_them():
    assert EmbedTrackConfig(enlarge=0.333).enlarge == 0.333
    with pytest.raises(ValueError, match="give a whole number, or one over a whole number"):
        EmbedTrackConfig(enlarge=1.5)
