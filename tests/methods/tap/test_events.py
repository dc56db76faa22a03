"""Events: peaks in space and time, ranked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.methods.tap.attribution import Attribution
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.events import find_events, strongest

FLAT = (1.0, 1.0, 1.0)


def blobs(
    *spots: tuple[int, tuple[int, int, int], float], n: int = 6, shape: Any = (1, 60, 60)
) -> Iterator[Attribution]:
    """Maps of zeros with Gaussian spots (time, (z, y, x), height)."""
    grid = np.indices(shape)
    for time in range(n):
        values = np.zeros(shape, dtype=np.float32)
        for t, place, height in spots:
            if t == time:
                far = sum((g - p) ** 2 for g, p in zip(grid, place, strict=True))
                values += (height * np.exp(-far / 8)).astype(np.float32)
        yield Attribution(time, values, 0.0)


def test_peaks_are_ranked_over_the_movie() -> None:
    maps = blobs((0, (0, 10, 10), 1.0), (0, (0, 40, 40), 3.0), (4, (0, 20, 50), 2.0))
    found = find_events(maps, TapConfig.of({"event_distance": 8.0, "event_smoothing": 0.0}), FLAT)
    assert found.t.tolist() == [0, 4, 0]
    np.testing.assert_allclose(found.centre, [[0, 40, 40], [0, 20, 50], [0, 10, 10]])
    np.testing.assert_allclose(found.strength, [3, 2, 1], rtol=1e-5)
    np.testing.assert_allclose(found.quality, [3 / 5, 1 / 2, 1 / 3], rtol=1e-5)
    assert len(found.take(slice(1))) == 1


def test_near_peaks_count_once_in_space_and_time() -> None:
    config = TapConfig.of({"event_distance": 10.0, "event_smoothing": 0.0})
    spots = [
        (1, (0, 30, 30), 1.0),
        (2, (0, 31, 33), 2.0),
        (2, (0, 38, 30), 1.5),
        (3, (0, 30, 30), 1.9),
        (4, (0, 30, 30), 1.2),
    ]
    found = find_events(
        blobs(*spots), config, FLAT
    )  # 1, 3 and the second of 2 are near the strongest, 4 is not any more
    assert found.t.tolist() == [2, 4]
    assert find_events(blobs(*spots), config.but(event_frames=2), FLAT).t.tolist() == [2]
    assert find_events(blobs(*spots), config.but(event_frames=0), FLAT).t.tolist() == [2, 3, 4, 1]


def test_distance_along_z_is_in_pixels_of_x() -> None:
    spots = [(0, (2, 20, 20), 2.0), (0, (5, 20, 20), 1.0)]
    config = TapConfig.of({"event_distance": 8.0, "event_smoothing": 0.0})
    for z, n in ((1.0, 1), (5.0, 2)):
        values = np.zeros((8, 40, 40), dtype=np.float32)
        for _, place, height in spots:
            values[place] = height
        assert len(find_events([Attribution(0, values, 0.0)], config, (z, 1.0, 1.0))) == n


def test_quality_is_a_threshold_and_nothing_is_found_in_nothing() -> None:
    config = TapConfig.of({"event_distance": 8.0, "event_quality": 0.5})
    found = find_events(blobs((0, (0, 10, 10), 1.0), (2, (0, 40, 40), 3.0), (4, (0, 20, 50), 2.0)), config, FLAT)
    assert len(found) == 2
    assert len(find_events([], config, FLAT)) == 0
    assert len(find_events(blobs(), config, FLAT)) == 0
    negative = [Attribution(0, -np.ones((1, 9, 9), dtype=np.float32), -1.0)]
    assert len(find_events(negative, config, FLAT)) == 0


def test_a_flat_top_is_one_event() -> None:
    values = np.zeros((1, 30, 30), dtype=np.float32)
    values[0, 10:14, 10:14] = 1
    config = TapConfig.of({"event_distance": 8.0, "event_smoothing": 0.0})
    found = find_events([Attribution(0, values, 0.0)], config, FLAT)
    assert len(found) == 1
    assert np.abs(found.centre[0] - [0, 11.5, 11.5]).max() <= 0.5


def test_a_large_flat_area_takes_no_time() -> None:
    values = np.ones((1, 400, 400), dtype=np.float32)  # as beyond the border of a registered movie
    values[0, :, 200] = 0
    assert len(find_events([Attribution(0, values, 0.0)], TapConfig.of({"event_smoothing": 0.0}), FLAT)) == 2


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 3))
def test_the_strongest_are_kept_first(seed: int, n: int, frames: int) -> None:
    random = np.random.default_rng(seed)
    t, place = random.integers(0, 6, n), random.integers(0, 30, (n, 3)).astype(float)
    strength = random.integers(0, 10, n).astype(float)
    kept: list[int] = []
    for one in np.argsort(-strength, kind="stable"):
        near = [abs(t[one] - t[k]) <= frames and np.linalg.norm(place[one] - place[k]) <= 9 for k in kept]
        if not any(near):
            kept.append(int(one))
    assert strongest(t, place, strength, distance=9.0, frames=frames).tolist() == sorted(kept)


@pytest.mark.parametrize("smoothing", [0.0, None])
def test_smoothing_moves_no_single_peak(smoothing: float | None) -> None:
    config = TapConfig.of({"event_distance": 8.0, "event_smoothing": smoothing})
    found = find_events(blobs((3, (0, 22, 31), 1.0)), config, FLAT)
    assert found.t.tolist() == [3]
    np.testing.assert_allclose(found.centre, [[0, 22, 31]])
