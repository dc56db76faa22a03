"""EfficientCellSeg behind the protocols of the methods, with a stand-in for the network that finds what is bright."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from howdah.methods import Segmenter
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.network import EfficientCellSeg
from howdah.methods.efficientcellseg.segmenter import EfficientCellSegmenter
from howdah.nn.checkpoint import Weights


class Bright(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image[:, 1:2] - 0.3) * 20  # green is the plane itself


@pytest.fixture(scope="module")
def method() -> EfficientCellSegmenter:
    form = {"encoder": "lite0", "filters": [4, 4, 4, 4], "outputs": [["cell"]]}
    state = EfficientCellSeg("lite0", filters=(4, 4, 4, 4)).state_dict()
    header = {"method": "efficientcellseg", "network": form, "resolved": {"min_size": 5}, "cells": {"diameter": 7.0}}
    config = EfficientCellSegConfig.of({"device": "cpu", "precision": "float32", "percentiles": (0, 100)})
    found = EfficientCellSegmenter(Weights((state,), header), config)
    found.network.members = [(Bright(), ("cell",))]
    return found


def squares(planes: int) -> np.ndarray:
    """Squares of side 7, one every 16 pixels; in volumes 7 planes deep."""
    shape = (1, 48, 32) if planes == 1 else (planes, 48, 32)
    inside = np.ones(shape, dtype=bool)
    for axis in range(1 if planes == 1 else 0, 3):
        near = abs(np.arange(shape[axis]) % 16 - 8) <= 3
        inside &= near.reshape([-1 if i == axis else 1 for i in range(3)])
    return inside.astype(np.uint8) * 200


@pytest.mark.parametrize("planes", [1, 16])
def test_labels_are_the_squares(method: EfficientCellSegmenter, planes: int) -> None:
    frame = squares(planes)
    labels = method.predict_labels(frame, np.eye(4))
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels > 0, frame > 0)
    assert labels.max() == len(np.unique(labels)) - 1 == 6


def test_an_empty_frame_has_no_cells(method: EfficientCellSegmenter) -> None:
    labels = method.predict_labels(np.zeros((1, 20, 20), np.uint16), np.eye(4))
    assert not labels.any()


def test_it_is_what_other_parts_ask_for(method: EfficientCellSegmenter) -> None:
    assert isinstance(method, Segmenter)
    assert method.config.min_size == 5
