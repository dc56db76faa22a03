"""Percentile normalisation of frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import DataError
from howdah.nn.normalise import limits, limits_of_planes, normalised

USUAL = (1.0, 99.0)
TYPES = [np.uint8, np.int16, np.uint16, np.uint32, np.int64, np.float16, np.float32, np.float64]


def frame_of(dtype: Any, shape: tuple[int, ...] = (3, 40, 30)) -> npt.NDArray[Any]:
    return (np.random.default_rng(0).gamma(2, 20, shape)).clip(0, 250).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_becomes_numpys_percentiles(dtype: Any) -> None:
    frame = frame_of(dtype)
    low, high = np.percentile(frame.astype(float), (1, 99))
    found = normalised(frame, USUAL)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, np.clip((frame.astype(float) - low) / (high - low), 0, 1), atol=2e-3 if dtype == np.float16 else 1e-5
    )


@given(st.integers(1, 400), st.integers(0, 1000), st.floats(0, 49), st.floats(51, 100))
@settings(deadline=None, max_examples=60)
def test_percentiles_of_counted_integers(size: int, seed: int, low: float, high: float) -> None:
    frame = np.random.default_rng(seed).integers(0, 40, size).astype(np.uint16)
    counted, sorted_ = normalised(frame, (low, high)), normalised(frame.astype(np.float64), (low, high))
    np.testing.assert_allclose(counted, sorted_, atol=1e-5)


@pytest.mark.parametrize("dtype", TYPES)
def test_constant_frame_is_zero(dtype: Any) -> None:
    assert (normalised(np.full((4, 5), 7, dtype), USUAL) == 0).all()


def test_few_bright_pixels_show() -> None:
    frame = np.full((100, 100), 5, np.uint8)
    frame[3, 4] = 90
    found = normalised(frame, USUAL)
    assert found[3, 4] == 1
    assert found.sum() == 1


def test_large_integers_keep_their_differences() -> None:
    frame = np.arange(101, dtype=np.int64) + 2**40
    np.testing.assert_allclose(normalised(frame, (0, 100)), np.linspace(0, 1, 101), atol=1e-6)


def test_does_not_change_its_input() -> None:
    frame = frame_of(np.float32)
    kept = frame.copy()
    normalised(frame, USUAL)
    np.testing.assert_array_equal(frame, kept)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_numbers_are_told(bad: float) -> None:
    frame = frame_of(np.float32)
    frame[0, 3, 4] = bad
    with pytest.raises(DataError, match=r"Normalising frame 7 failed.*NaN or infinite"):
        normalised(frame, USUAL, time=7)


@pytest.mark.parametrize("frame", [np.empty((0, 3)), np.zeros((2, 2), complex)])
def test_no_image_is_told(frame: npt.NDArray[Any]) -> None:
    with pytest.raises(DataError, match=r"Normalising the frame failed: it has shape"):
        normalised(frame, USUAL)


@given(
    kind=st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64"]),
    seed=st.integers(0, 99),
    planes=st.integers(1, 4),
)
@settings(deadline=None, max_examples=40)
def test_limits_of_planes_are_those_of_the_volume(kind, seed, planes):
    rng = np.random.default_rng(seed)
    volume = (rng.random((planes, 20, 30)) ** 3 * 250).astype(kind)
    expected = limits(volume, (1.0, 99.0))
    found = limits_of_planes(volume.__getitem__, planes, (1.0, 99.0))
    assert found == pytest.approx(
        expected, abs=0 if kind.startswith("u") else 3
    )  # of the next value, 600 to 2400 of them


def test_black_and_white_images_of_one_bit() -> None:
    frame = np.zeros((2, 20, 30), dtype=bool)
    frame[:, 5:9] = True
    assert np.array_equal(normalised(frame, USUAL), frame.astype(np.float32))
    assert limits_of_planes(lambda z: frame[z], 2, USUAL) == (0.0, 1.0)
