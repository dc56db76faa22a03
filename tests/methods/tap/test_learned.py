"""What weights say of themselves."""

from __future__ import annotations

import logging

import pytest

from howdah.errors import WeightsError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.learned import continued, settled
from howdah.nn.checkpoint import Weights

HEADER = {
    "config": {"shrink": 2},
    "resolved": {"shrink": 2, "percentiles": [2.0, 99.0], "delta": [3], "event_distance": 4.0, "crop_size": 32},
    "network": {
        "channels": 1,
        "width": 8,
        "features": 4,
        "frames": 2,
        "head": "equivariant",
        "pools": [[1, 2, 2], [2, 2, 2], [2, 2, 2]],
    },
}


def test_what_a_person_left_open_comes_from_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    found = settled(Weights((), HEADER), TapConfig.of({"event_quality": 0.5}))
    assert (found.shrink, found.percentiles, found.delta, found.event_distance) == (2, (2.0, 99.0), (3,), 4.0)
    assert (found.dimensions, found.width, found.features, found.event_quality) == (3, 8, 4, 0.5)
    assert not caplog.records


def test_what_a_person_says_counts_but_for_the_form_of_the_network(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "howdah"):
        found = settled(Weights((), HEADER), TapConfig.of({"shrink": 1, "delta": [5], "width": 99}))
    assert (found.shrink, found.delta, found.width) == (1, (5,), 8)
    assert "trained with shrink = 2, but 1 is set" in caplog.text


def test_weights_that_say_nothing_leave_the_defaults() -> None:
    assert settled(Weights((), {})) == TapConfig.of({})


def test_training_that_goes_on_keeps_form_and_picture_but_not_the_times() -> None:
    found = continued(Weights((), HEADER), TapConfig.of({"delta": [1]}))
    assert (found.shrink, found.width, found.delta, found.crop_size) == (2, 8, (1,), 96)


def test_a_damaged_header_is_a_sentence() -> None:
    with pytest.raises(WeightsError, match="'resolved' shall be a table"):
        settled(Weights((), {"resolved": [1]}))
