"""What a header says beside what a person says."""

from __future__ import annotations

import pytest

from howdah.errors import ConfigError, WeightsError
from howdah.methods.tap.config import TapConfig
from howdah.nn.checkpoint import Weights
from howdah.nn.learned import changed, given, plain, table


def test_what_a_person_said_and_what_is_open() -> None:
    config = TapConfig.of({"shrink": 1, "width": None, "device": "auto"})
    assert [given(config, name) for name in ("shrink", "width", "device", "features")] == [True, False, False, False]
    other = changed(config, {"features": 8}, "the header")
    assert (other.features, given(other, "features"), given(other, "delta")) == (8, True, False)
    assert changed(config, {}, "the header") is config
    with pytest.raises(ConfigError, match="the header"):
        changed(config, {"features": -1}, "the header")


def test_tables_of_a_header() -> None:
    weights = Weights((), {"config": {"shrink": 2}, "resolved": [1, 2]})
    assert table(weights, "config") == {"shrink": 2}
    assert table(weights, "network") == {}
    assert (plain((1, 2)), plain(3)) == ([1, 2], 3)
    with pytest.raises(WeightsError, match="'resolved' shall be a table"):
        table(weights, "resolved")
