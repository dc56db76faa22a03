"""Events marked pixel by pixel, from label images and from tagged spots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from methods.tap import flashes

from howdah.errors import DataError
from howdah.methods.tap.dense import (
    EventTruth,
    events_of,
    predict_events,
    read_events,
    train_events,
    truth_of_spots,
)
from howdah.methods.tap.head_config import HeadConfig
from howdah.methods.tap.heads import EventHead
from howdah.nn.checkpoint import save_weights
from howdah.progress import finish

QUICK = {"n_steps": 2, "batch_size": 4, "folds": 2, "width": 4, "patch": 16, "min_size": 4}
SHAPE = (1, flashes.SIZE, flashes.SIZE)


def learned(truth: EventTruth, *, judge: bool = True, **settings):
    return finish(
        train_events(
            truth,
            [flashes.frames()],
            network=flashes.network(),
            config=flashes.CONFIG,
            head=HeadConfig.of(QUICK | settings),
            judge=judge,
        )
    )


def disc(t: int) -> np.ndarray:
    y, x = np.mgrid[:48, :48]
    frame, centre, flash = flashes.places()
    rows = np.flatnonzero((frame == t) & flash)
    return sum(((y - centre[r, 1]) ** 2 + (x - centre[r, 2]) ** 2 < 16).astype(int)[None] * (r + 1) for r in rows)


def whole(n: int = 6) -> EventTruth:
    return EventTruth(tuple((0, t) for t in range(n)), lambda movie, t: (disc(t), None))


def test_flashes_are_marked_and_judged() -> None:
    weights = learned(whole(4), n_steps=25, learning_rate=2e-2, mode="pixels")
    assert weights.header["crossed"]["pixel_average_precision"] > 3 * weights.header["crossed"]["pixel_chance"]
    assert 0 <= weights.header["crossed"]["f1"] <= 1
    chance = predict_events(weights, flashes.frames(), 8)
    assert chance.shape == SHAPE
    event = disc(8) > 0
    assert chance[event].mean() > 2 * chance[~event].mean()


@pytest.mark.parametrize("mode", ["finetune", "scratch", "pixels"])
def test_each_mode_learns_and_lies_in_one_file(mode: str, tmp_path) -> None:
    weights = learned(whole(2), mode=mode, augment=mode != "scratch")
    save_weights(tmp_path / "e.safetensors", weights)
    back = read_events(tmp_path / "e.safetensors")
    first, second = (predict_events(one, flashes.frames(), 1) for one in (weights, back))
    assert first == pytest.approx(second, abs=1e-6)


def test_of_tagged_spots_only_their_surroundings_are_known() -> None:
    truth = truth_of_spots(flashes.examples().take([0, 1, 2]), "flash", SHAPE)
    labels, known = truth.read(0, 0)
    assert len(np.unique(labels[labels > 0])) == 2
    assert known is not None
    assert 0 < known.mean() < 0.5
    assert truth_of_spots(flashes.examples(), "flash", SHAPE, complete=True).read(0, 0)[1] is None
    weights = learned(truth_of_spots(flashes.examples(), "flash", SHAPE))
    assert "f1" not in weights.header["crossed"]
    with pytest.raises(DataError, match="no spot is 'death'; classes are still, flash"):
        truth_of_spots(flashes.examples(), "death", SHAPE)


@pytest.mark.parametrize("mode", ["frozen", "pixels"])
def test_tiles_make_no_difference(mode: str, monkeypatch) -> None:
    weights = learned(whole(2), mode=mode, judge=False)
    once = predict_events(weights, flashes.frames(), 3)
    monkeypatch.setattr("howdah.methods.tap.dense.MOST_AT_ONCE", 12 * 20)
    assert predict_events(weights, flashes.frames(), 3) == pytest.approx(once, abs=1e-5)


def test_small_events_are_left_out() -> None:
    chance = np.zeros((1, 8, 8), np.float32)
    chance[0, 1:4, 1:4], chance[0, 6, 6], chance[0, 4, 4] = 0.9, 0.9, 0.5
    found = events_of(chance, HeadConfig.of({"min_size": 2}))
    assert found.max() == 1
    assert np.count_nonzero(found) == 10
    assert not events_of(chance, HeadConfig.of({"min_size": 20})).any()


@pytest.mark.parametrize("pools", [[[2, 2], [2, 2]], [[1, 2, 2], [2, 2, 2]]])
def test_the_head_takes_any_size(pools: list[list[int]]) -> None:
    head = EventHead(3, width=2, pools=pools)
    size = (5, 7, 9)[-len(pools[0]) :]
    assert head(torch.zeros(2, 1, 3, *size)).shape == (2, *size)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (EventTruth(((0, 0),), lambda m, t: (np.zeros(SHAPE, int), None)), "1 frames are annotated, but none"),
        (EventTruth(((0, 12),), lambda m, t: (np.ones(SHAPE, int), None)), "1 frames are annotated, but none"),
        (EventTruth(((0, 0),), lambda m, t: (np.ones((1, 4, 4), int), None)), r"labels of frame 0 have \(1, 4, 4\)"),
    ],
)
def test_what_cannot_be_learned_is_said(truth: EventTruth, message: str) -> None:
    with pytest.raises(DataError, match=message):
        learned(truth)
    with pytest.raises(DataError, match="frame 13 of its sample is not there"):
        predict_events(learned(whole(1)), flashes.frames(), 12)
