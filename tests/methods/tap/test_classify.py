"""From labelled spots to a classifier in a file, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from methods.tap import flashes

from howdah.errors import ConfigError, DataError, WeightsError
from howdah.methods.tap.classify import classes_of, predict_classes, read_classifier, train_classifier
from howdah.methods.tap.examples import tagged_examples
from howdah.methods.tap.head_config import HeadConfig
from howdah.methods.tap.weights import read_weights
from howdah.progress import finish

QUICK = {"n_steps": 3, "batch_size": 4, "folds": 2, "width": 4, "crop_size": 16}


def learned(examples=None, *, show=None, network=True, **rest):
    settings = {name: rest.pop(name) for name in list(rest) if name in HeadConfig.model_fields}
    return finish(
        train_classifier(
            examples or flashes.examples(),
            [flashes.frames()],
            network=flashes.network() if network else None,
            config=flashes.CONFIG,
            head=HeadConfig.of(QUICK | settings),
            **rest,
        ),
        show,
    )


def test_a_linear_classifier_finds_flashes_and_lies_in_one_file(tmp_path) -> None:
    file = tmp_path / "light.safetensors"
    weights = learned(save_to=file)
    assert weights.header["metrics"]["average_precision flash"] > 0.95
    assert weights.header["data"]["labels"] == {"still": 24, "flash": 24}
    back = read_classifier(file)
    assert classes_of(back) == ("still", "flash")
    assert back.header["task"]["tag_set"] == "light"
    t, centre, flash = flashes.places()
    covariance = np.tile(np.diag([1.0, 9, 9]), (len(t), 1, 1))
    found = predict_classes(back, flashes.frames(), t, centre, covariance)
    assert ((found[:, 1] > 0.5) == flash).mean() > 0.95
    assert found.sum(axis=1) == pytest.approx(np.ones(len(t)), abs=1e-5)
    assert not any(key.startswith("head.") for key in read_weights(file).members[0])


def test_training_is_the_same_each_time() -> None:
    for settings in ({}, {"head": "resnet"}):
        first, second = (learned(judge=False, **settings) for _ in range(2))
        assert first.sha256 == second.sha256


@pytest.mark.parametrize(
    "settings",
    [
        {"head": "resnet"},
        {"head": "resnet", "mode": "finetune"},
        {"head": "resnet", "mode": "scratch", "per": "frame"},
        {"head": "resnet", "mode": "pixels"},
        {"head": "linear", "mode": "scratch", "class_weights": "none", "augment": False},
    ],
)
def test_each_head_learns_and_predicts(settings, tmp_path) -> None:
    file = tmp_path / "c.safetensors"
    weights = learned(save_to=file, judge=False, network=settings.get("mode") != "scratch", **settings)
    t, centre, _ = flashes.places(2)
    covariance = np.tile(np.eye(3), (len(t), 1, 1))
    found = [predict_classes(one, flashes.frames(), t, centre, covariance) for one in (weights, read_classifier(file))]
    assert np.isfinite(found[0]).all()
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    given, own = flashes.network().members[0], weights.members[0]
    same = all(np.array_equal(given[key], own[key]) for key in given)
    assert same == (settings.get("mode", "frozen") in ("frozen", "pixels"))


def test_other_modes_are_judged_on_the_same_folds() -> None:
    said = []
    weights = learned(head="resnet", n_steps=1, compare=["pixels"], show=lambda p: said.append(p.message))
    assert set(weights.header["compared"]) == {"pixels"}
    assert weights.header["compared"]["pixels"]["folds"] == weights.header["crossed"]["folds"] == 2
    assert any(text.startswith("pixels, on frames that were not learned from (2 folds)") for text in said)


def test_spots_that_cannot_be_seen_are_left_out_and_said() -> None:
    examples = flashes.examples()
    examples.centre[0, 1] = 500
    examples.t[1] = 12
    said = []
    weights = learned(examples, judge=False, show=lambda p: said.append(p.message))
    assert weights.header["data"]["labels"] == {"still": 24, "flash": 22}
    assert "flashes: Left out: 1 spots lie outside of the image and of 1 spots the frame, or the one 1 later" in said[0]
    examples.centre[:] = 500
    with pytest.raises(DataError, match="none of the 48 labelled spots can be used"):
        learned(examples)
    found = predict_classes(weights, flashes.frames(), [0, 12], [[0, 99, 9], [0, 9, 9]], [np.eye(3)] * 2)
    assert np.isnan(found).all()


def test_labels_of_one_frame_are_learned_but_not_judged() -> None:
    examples = flashes.examples()
    said = []
    weights = learned(examples.take(examples.t == 3), show=lambda p: said.append(p.message))
    assert weights.header["metrics"] == {}
    assert any("How good the classes are is not known" in text for text in said)


def test_several_movies_and_three_classes() -> None:
    t, centre, _ = flashes.places()
    covariance = np.tile(np.eye(3), (len(t), 1, 1))
    examples = tagged_examples(t, centre, covariance, np.arange(len(t)) % 3, classes=("a", "b", "c"))
    both = replace(examples, movie=np.arange(len(t)) % 2)
    weights = finish(
        train_classifier(
            both,
            [flashes.frames(), flashes.frames()],
            network=flashes.network(),
            config=flashes.CONFIG,
            head=HeadConfig.of(QUICK | {"per": "frame"}),
        )
    )
    assert weights.header["task"]["classes"] == ["a", "b", "c"]
    assert np.sum(weights.header["crossed"]["confusion"]) == len(t)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ConfigError, match="mode 'frozen' needs a network"):
        learned(network=False)
    with pytest.raises(DataError, match="examples name movie 3, but there are 1 movies"):
        learned(replace(flashes.examples(), movie=np.full(48, 3)))
    with pytest.raises(WeightsError, match="it is no trained classifier of TAP"):
        classes_of(flashes.network())


def test_many_spots_are_told_in_portions(monkeypatch) -> None:
    weights = learned(head="resnet", judge=False)
    t, centre, _ = flashes.places()
    place = (t[::-1], centre[::-1], np.tile(np.diag([1.0, 9, 9]), (len(t), 1, 1)))
    whole = predict_classes(weights, flashes.frames(), *place)
    monkeypatch.setattr("howdah.methods.tap.material.PORTION_GB", 7 * 4 * 2 * 4 * 16 * 16 / 2**30)  # seven spots
    assert predict_classes(weights, flashes.frames(), *place) == pytest.approx(whole, abs=1e-6)
