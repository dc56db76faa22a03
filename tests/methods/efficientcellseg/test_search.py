"""The search of settings, on drawn maps with a known fault."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from howdah.errors import DataError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.instances import find_cells
from howdah.methods.efficientcellseg.maps import Maps
from howdah.methods.efficientcellseg.search import search
from howdah.metrics.segmentation import seg_score


def frame(n: int = 9, *, blur: float = 0.0, step: int = 14, radius: int = 6) -> tuple[Maps, np.ndarray]:
    """A row of discs; ``blur`` makes the probability wider than the cells."""
    labels = np.zeros((1, 24, n * step + 4), np.int32)
    y, x = np.mgrid[: labels.shape[1], : labels.shape[2]]
    for k in range(n):
        labels[0][np.hypot(y - 11, x - step * k - 8) <= radius] = k + 1
    away = ndimage.distance_transform_edt(labels == 0) - ndimage.distance_transform_edt(labels > 0)
    cell = 1 / (1 + np.exp(np.clip(away - blur, -30, 30)))
    return Maps(cell.astype(np.float32)), labels


def test_a_good_prediction_keeps_the_defaults():
    maps, labels = frame()
    found = search([(maps, labels, None)], EfficientCellSegConfig(), diameter=13)
    assert found.settings == {}
    assert found.before == found.after > 0.95
    assert found.n_cells == 9
    assert found.to_dict()["evaluations"] > 5


def test_finds_the_threshold_of_cells_that_are_too_wide_and_tells_the_gain():
    maps, labels = frame(blur=1.2)
    found = search([(maps, labels, None)], EfficientCellSegConfig(), diameter=13)
    assert found.settings["threshold"] > 0.5
    settled = EfficientCellSegConfig().model_copy(update=found.settings)
    again = seg_score(labels, find_cells(maps, settled, diameter=13).labels).seg
    assert again == found.after > found.before + 0.005


def test_finds_the_split_where_the_predicted_centres_are_worth_nothing():
    maps, labels = frame(step=10)
    found = search([(Maps(maps.cell, np.zeros_like(maps.cell)), labels, None)], EfficientCellSegConfig(), diameter=13)
    assert found.settings["split"] == "distance"
    assert found.after > found.before + 0.5
    kept = search([(maps, labels, None)], EfficientCellSegConfig(split="components"), diameter=13)
    assert "split" not in kept.settings


def test_what_a_person_set_stays():
    maps, labels = frame(blur=1.2)
    config = EfficientCellSegConfig(threshold=0.5, split="distance", split_smoothing=1, split_distance=5)
    found = search([(maps, labels, None)], config, diameter=13)
    assert (found.settings, found.evaluations) == ({}, 1)


@pytest.mark.parametrize(("n", "settings"), [(4, {}), (9, {"search": False})])
def test_few_cells_and_no_search_keep_the_defaults(n, settings):
    maps, labels = frame(n, blur=1.2)
    found = search([(maps, labels, None)], EfficientCellSegConfig(**settings), diameter=13)
    assert found.settings == {}
    assert found.evaluations == 1
    assert found.before == found.after > 0


def test_nothing_outlined():
    maps, labels = frame()
    found = search([(maps, np.zeros_like(labels), None)], EfficientCellSegConfig(), diameter=13)
    assert math.isnan(found.before)
    assert found.n_cells == 0
    assert math.isnan(search([], EfficientCellSegConfig(), diameter=13).after)


def test_cells_where_nothing_is_known_are_not_false():
    """Half of the discs are outlined; found cells elsewhere must not push the settings."""
    maps, labels = frame(12)
    known = np.zeros(labels.shape, bool)
    known[..., : 6 * 14] = True
    sparse = np.where(known, labels, 0)
    found = search([(maps, sparse, known)], EfficientCellSegConfig(), diameter=13)
    assert found.settings == {}
    assert found.n_cells == 6
    assert found.after > 0.95


def test_is_deterministic():
    maps, labels = frame(blur=0.7, step=12)
    first, second = (search([(maps, labels, None)], EfficientCellSegConfig(), diameter=13) for _ in range(2))
    assert first == second


def test_shapes_that_differ_are_a_sentence():
    maps, labels = frame()
    with pytest.raises(DataError, match=r"prediction has shape .* but its outlines"):
        search([(maps, labels[:, 1:], None)], EfficientCellSegConfig(), diameter=13)


def test_cells_that_are_outlined_in_one_plane_are_scored_in_it():
    maps, labels = frame()
    volume = Maps(np.repeat(maps.cell, 5, axis=0))
    truth, known = np.zeros((5, *labels.shape[1:]), np.int32), np.zeros((5, *labels.shape[1:]), bool)
    truth[2], known[2] = labels[0], True
    config = EfficientCellSegConfig(search=False)
    found = search([(volume, truth, known)], config, diameter=13)
    assert found.n_cells == 9
    assert found.before > 0.95
