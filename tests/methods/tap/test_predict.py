"""Dense features: those of the network, whatever the tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from methods.tap.networks import movie_of, network, weights_of

from howdah.errors import ConfigError, DataError
from howdah.methods import FrameEmbedder
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.embedder import TapEmbedder
from howdah.methods.tap.folded import FoldedNet
from howdah.methods.tap.movies import Frames
from howdah.methods.tap.network import Tap, pooling
from howdah.methods.tap.predict import Embedder
from howdah.nn.device import Place

EXACT = TapConfig.of({"precision": "float32"})
DOUBLE = Place(torch.device("cpu"), torch.float64, "")
CASES: list[tuple[dict[str, Any], tuple[int, ...], float]] = [
    ({"channels": 2}, (2, 1, 139, 101), 1.418),
    ({}, (1, 2, 130, 20), 0.307),
    ({"pools": pooling(3, (5.0, 1.0, 1.0)), "width": 2}, (1, 5, 125, 22), 0.867),
    ({"pools": pooling(3), "width": 2}, (1, 121, 12, 17), 2.364),
]


def plain(made: Tap, frame: np.ndarray[Any, Any]) -> torch.Tensor:
    """What the network itself says, in float64."""
    x = torch.from_numpy(frame).double()
    with torch.no_grad():
        if len(made.form["pools"][0]) == 2:
            return made.double().dense(x.movedim(1, 0)).movedim(0, 1)
        return made.double().dense(x[None])[0]


@pytest.mark.parametrize(("form", "shape", "little"), CASES)
def test_tiles_make_no_difference(form: dict[str, Any], shape: tuple[int, ...], little: float) -> None:
    made = network(**form)
    frame = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = {}
    for memory in (None, little):
        embedder = Embedder(weights_of(made), EXACT, memory_mb=memory)
        embedder._net = FoldedNet(made, DOUBLE)
        parts = list(embedder.regions(lambda at: frame[(slice(None), *at)], shape[1:]))
        assert (len(parts) > (2 if shape[1] == 2 else 1)) == (memory is not None)
        found[memory] = np.zeros((4, *shape[1:]))
        seen = np.zeros(shape[1:], dtype=int)
        for region, values in parts:
            found[memory][(slice(None), *region)] = values
            seen[region] += 1
        assert (seen == 1).all()
    want = plain(made, frame).numpy()
    assert np.abs(found[None] - want).max() < 1e-10
    assert np.abs(found[little] - found[None]).max() < 1e-10


def test_float32_and_bfloat16() -> None:
    made = network(width=8)
    frame = np.random.default_rng(0).normal(size=(1, 1, 64, 50)).astype(np.float32)
    want = plain(made, frame).numpy()
    exact = Embedder(weights_of(made), EXACT).features(frame)
    assert exact.shape == (4, 1, 64, 50)
    assert exact.dtype == np.float32
    assert np.abs(exact - want).max() < 1e-5 * np.abs(want).max()
    coarse = Embedder(weights_of(made), TapConfig.of({"precision": "bfloat16"})).features(frame)
    assert np.linalg.norm(coarse - want) < 0.1 * np.linalg.norm(want)


def test_what_cannot_be_described() -> None:
    embedder = Embedder(weights_of(network()), EXACT, memory_mb=0.01)
    with pytest.raises(ConfigError, match="smallest tile"):
        embedder.features(np.zeros((1, 1, 300, 300), dtype=np.float32))
    with pytest.raises(DataError, match="2 channels, and the network was trained with 1"):
        Embedder(weights_of(network()), EXACT).features(np.zeros((2, 1, 20, 20), dtype=np.float32))
    with pytest.raises(DataError, match="found shape"):
        embedder.features(np.zeros((20, 20), dtype=np.float32))


def test_planes_are_seen_one_by_one() -> None:
    embedder = Embedder(weights_of(network()), EXACT)
    assert embedder.stride == (1, 8, 8)
    assert embedder.reach[0] == 0
    frame = np.random.default_rng(1).random((1, 2, 20, 24), dtype=np.float32)
    both = embedder.features(frame)
    np.testing.assert_allclose(both[:, 1:], embedder.features(frame[:, 1:]), atol=1e-6)


def test_the_protocol() -> None:
    embedder = TapEmbedder(weights_of(network(), shrink=2, percentiles=(0.0, 100.0)), EXACT)
    assert isinstance(embedder, FrameEmbedder)
    images = np.random.default_rng(0).integers(0, 999, (2, 1, 21, 32)).astype(np.uint16)
    found = embedder.predict_embedding(images)
    assert found.shape == (2, 4, 1, 11, 16)
    frames = Frames(movie_of(images[:, None]), embedder.embedder.config)
    np.testing.assert_array_equal(found[1], embedder.embedder.features(frames.frame(1)))
    with pytest.raises(DataError, match=r"\(T, Z, Y, X\) is needed"):
        embedder.predict_embedding(images[0])
