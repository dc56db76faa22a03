"""What weights say of themselves, and who wins: the person, then what was learned, then the defaults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from howdah.errors import WeightsError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.learned import continued, diameter_of, maps_of, settled
from howdah.nn.checkpoint import Weights

NOTED: dict[str, Any] = {
    "config": {
        "encoder": "b5",
        "percentiles": [1.0, 99.0],
        "enlarge": None,
        "colour": "auto",
        "compat": ["plain_grid"],
    },
    "resolved": {
        "enlarge": 2,
        "colour": "context",
        "colour_area": 0.1,
        "min_size": 7,
        "threshold": 0.4,
        "split": "distance",
    },
    "network": {"encoder": "lite0", "filters": [8, 8, 8, 8], "outputs": [["cell"], ["centre"]]},
    "cells": {"diameter": 15.0},
}


def weights_of(members: int = 2, **header: Any) -> Weights:
    return Weights(({"last.bias": torch.zeros(1)},) * members, {**NOTED, **header})


def test_what_is_left_open_comes_from_the_training() -> None:
    found = settled(weights_of(), EfficientCellSegConfig(overlap=0.1))
    assert (found.percentiles, found.enlarge, found.colour, found.colour_area) == ((1, 99), 2, "context", 0.1)
    assert (found.min_size, found.threshold, found.split) == (7, 0.4, "distance")
    assert (found.overlap, found.compat) == (0.1, ("plain_grid",))


def test_what_a_person_gives_wins_and_is_said_where_it_may_harm(caplog: pytest.LogCaptureFixture) -> None:
    asked = EfficientCellSegConfig(percentiles=(0, 100), enlarge=1, threshold=0.7, min_size=0)
    found = settled(weights_of(), asked)
    assert (found.percentiles, found.enlarge, found.threshold, found.min_size) == ((0, 100), 1, 0.7, 0)
    assert "trained with percentiles = [1.0, 99.0], but [0.0, 100.0] is set" in caplog.text
    assert "threshold" not in caplog.text


def test_the_form_of_the_network_is_that_of_the_weights() -> None:
    found = settled(weights_of(), EfficientCellSegConfig(encoder="b3", filters=(1, 2, 3, 4)))
    assert (found.encoder, found.filters) == ("lite0", (8, 8, 8, 8))


def test_weights_that_say_nothing_leave_the_settings() -> None:
    config = EfficientCellSegConfig(threshold=0.3)
    assert settled(Weights(()), config) == config
    assert settled(Weights(())) == EfficientCellSegConfig()


def test_training_goes_on_with_the_same_pictures_but_not_with_what_was_found() -> None:
    found = continued(weights_of(), EfficientCellSegConfig(percentiles=(2, 98), encoder="b0"))
    assert (found.encoder, found.percentiles, found.enlarge, found.threshold) == ("lite0", (2, 98), 2, None)


def test_maps_of_members() -> None:
    assert maps_of(weights_of()) == [("cell",), ("centre",)]
    with pytest.raises(WeightsError, match="header of the weights is damaged: 'outputs' is None"):
        maps_of(weights_of(1, network={}))


def test_diameter() -> None:
    config = EfficientCellSegConfig(enlarge=2)
    assert diameter_of(weights_of(), config) == 15
    assert diameter_of(weights_of(cells={}), config) == 16


@pytest.mark.parametrize(
    "header",
    [{"network": 3}, {"config": "x"}, {"resolved": [1]}, {"cells": {"diameter": -1}}, {"cells": {"diameter": "9"}}],
)
def test_damaged_headers_are_told(header: dict[str, Any]) -> None:
    weights = weights_of(**header)
    with pytest.raises(WeightsError, match="header of the weights is damaged"):
        diameter_of(weights, settled(weights))


def test_a_default_that_a_person_gives_wins_too(caplog: pytest.LogCaptureFixture) -> None:
    default = EfficientCellSegConfig().percentiles
    given = EfficientCellSegConfig.of({"percentiles": default, "colour": "auto", "threshold": None})
    for asked in (given, given.but(overlap=0.1)):
        found = settled(weights_of(), asked)
        assert (found.percentiles, found.colour, found.threshold) == (default, "context", 0.4)
        assert continued(weights_of(), asked).percentiles == default
    assert "trained with percentiles = [1.0, 99.0], but [0.5, 99.8] is set" in caplog.text
