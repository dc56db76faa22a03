"""The self-check of images: exact, whatever the type and the order in memory."""

from __future__ import annotations

import numpy as np
import pytest

from howdah.service.self_check import BLOCK, answered, seen


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"])
def test_of_each_type(dtype: str) -> None:
    rng = np.random.default_rng(5)
    data = (rng.integers(-100, 100, (3, 300, 400)) if dtype[0] != "u" else rng.integers(0, 200, (3, 300, 400))).astype(
        dtype
    )
    assert data.size > BLOCK
    found = seen(data)
    assert found == (data.min(), data.max(), data.astype(np.float64).sum())
    inverse = answered(data, "inverse", found)
    assert inverse.dtype == data.dtype
    assert np.array_equal(inverse.astype(np.float64), found[1] + found[0] - data.astype(np.float64))
    threshold = answered(data, "threshold", found)
    assert threshold.dtype == np.uint8
    assert np.array_equal(threshold, 255 * (data > data.mean(dtype=np.float64)).astype(np.uint8))


def test_of_the_whole_range_of_a_type() -> None:
    data = np.array([[0, 65535], [65535, 1]], np.uint16)
    found = seen(data)
    assert found[2] == 131071
    assert answered(data, "inverse", found).tolist() == [[65535, 0], [0, 65534]]
    signed = np.array([[-32768, 32767]], np.int16)
    assert answered(signed, "inverse", seen(signed)).tolist() == [[32767, -32768]]
    assert answered(signed, "threshold", seen(signed)).tolist() == [[0, 255]]


def test_of_a_view_in_another_order() -> None:
    data = np.arange(24, dtype=np.uint16).reshape(2, 3, 4).transpose(2, 0, 1)
    found = seen(data)
    assert found == (0, 23, 276)
    assert np.array_equal(answered(data, "inverse", found), 23 - data)
    assert np.array_equal(answered(data, "threshold", found), 255 * (data > 11.5).astype(np.uint8))
