import numpy as np
import pytest

from howdah.methods.embedtrack.enlarge import enlarged, finer, reduced, repeated


@pytest.mark.parametrize("shape", [(6, 5), (3, 6, 5)])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_reducing_undoes_repeating(shape, times):
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    np.testing.assert_allclose(reduced(repeated(values, times), times), values, rtol=1e-6)


def test_enlarging_keeps_a_ramp_in_its_place():
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    large = enlarged(ramp, 2)
    assert large.shape == (16, 16)
    np.testing.assert_allclose(large[5, 2:14], (np.arange(2, 14) + 0.5) / 2 - 0.5)  # the place of each small pixel
    np.testing.assert_allclose(reduced(large, 2)[:, 1:-1], ramp[:, 1:-1])


def test_z_is_left_alone():
    assert enlarged(np.zeros((3, 4, 5), dtype=np.float32), 2).shape == (3, 8, 10)
    assert finer((4.0, 1.0, 1.0), 2) == (4.0, 0.5, 0.5)
