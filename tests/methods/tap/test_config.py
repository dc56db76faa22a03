"""Settings of TAP as a person types them."""

from __future__ import annotations

import pytest

from howdah.errors import ConfigError
from howdah.methods.tap.config import TapConfig


def test_one_number_is_a_list_of_one() -> None:
    config = TapConfig.of({"delta": 4, "channels": 1})
    assert (config.delta, config.channels) == ((4,), (1,))
    assert TapConfig.of({"delta": [4, 8]}).delta == (4, 8)


def test_a_number_out_of_range_is_told_as_such() -> None:
    with pytest.raises(ConfigError, match=r"greater than or equal to 1 \(found: 0\)"):
        TapConfig.of({"delta": 0})
