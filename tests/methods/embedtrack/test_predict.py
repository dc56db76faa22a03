"""Prediction: fields of a movie, the same whether in tiles, pairs, views or at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from howdah.errors import ConfigError, DataError, WeightsError
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.folded import folded
from howdah.methods.embedtrack.learned import settled
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.methods.embedtrack.predict import Network
from howdah.nn.checkpoint import Weights
from howdah.nn.normalise import normalised

EXACT = {"device": "cpu", "precision": "float32"}
Frames = Callable[[int], npt.NDArray[Any]]


def network_of(n_dims: int = 2, *, seed: int = 0, keep_axials: int = 0) -> BranchedERFNet:
    """A network of random weights whose norms and outputs do something."""
    torch.manual_seed(seed)
    network = BranchedERFNet(n_dims, 1, keep_axials).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
    for decoder in network.decoders:
        nn.init.normal_(decoder.output_conv.weight, 0, 0.2)  # type: ignore[arg-type, union-attr]
    return network


def weights_of(*networks: BranchedERFNet, keep_axials: int = 0, **header: Any) -> Weights:
    form = {"n_dims": networks[0].n_dims, "n_channels": 1, "keep_axials": keep_axials}
    return Weights(tuple(n.state_dict() for n in networks), {"method": "embedtrack", "network": form, **header})


def movie(*shape: int, seed: int = 0) -> Frames:
    pixels = np.random.default_rng(seed).integers(0, 1000, shape).astype(np.uint16)
    return lambda time: np.asarray(pixels[time])


def predicted(weights: Weights, frames: Frames, times: Any, **settings: Any) -> dict[int, Fields]:
    config = EmbedTrackConfig.of({**EXACT, **settings})
    return dict(Network(weights, config).fields(frames, times))


def same(a: Fields, b: Fields, atol: float = 1e-5) -> None:
    for name in ("offset", "bandwidth", "seediness", "tracking"):
        one, other = getattr(a, name), getattr(b, name)
        if one is None or other is None:
            assert one is other
        else:
            np.testing.assert_allclose(one, other, atol=atol, err_msg=name)


@pytest.mark.parametrize("n_dims", [2, 3])
def test_folded_network_says_the_same(n_dims: int) -> None:
    network = network_of(n_dims)
    shape = (32, 40) if n_dims == 2 else (8, 16, 24)
    a, b = torch.rand(2, 1, 1, *shape)
    with torch.inference_mode():
        for found, expected in zip(folded(network)(a, b), network(a, b), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 32, 40), (1, 37, 41), (1, 5, 3), (1, 1, 1)])
def test_fields_are_those_of_the_network_applied_to_pairs(shape: tuple[int, ...]) -> None:
    network, frames = network_of(), movie(3, *shape)
    found = predicted(weights_of(network), frames, range(3))
    config = EmbedTrackConfig()
    _, height, width = shape
    margin = [(0, -height % 8), (0, -width % 8)]
    images = [np.pad(normalised(frames(t)[0], config.percentiles), margin, mode="reflect") for t in range(3)]
    assert found[0].tracking is None
    for time in (1, 2):
        later, earlier = (torch.from_numpy(images[t])[None, None] for t in (time, time - 1))
        with torch.inference_mode():
            one, other, tracking = (out[0, :, :height, :width] for out in network(later, earlier))
        for fields, logits in ((found[time], one), (found[time - 1], other)):
            np.testing.assert_allclose(fields.offset, logits[:2].tanh(), atol=1e-5)
            np.testing.assert_allclose(fields.bandwidth, logits[2:4].sigmoid(), atol=1e-5)
            np.testing.assert_allclose(fields.seediness, logits[4].sigmoid(), atol=1e-5)
            assert fields.shape == (height, width)
        np.testing.assert_allclose(found[time].tracking, tracking.tanh(), atol=1e-5)


def test_both_estimates_of_a_frame_are_the_same() -> None:
    """As the later frame of one pair and the earlier one of the next: so segmenting once is enough."""
    network = network_of()
    first, middle, last = torch.rand(3, 1, 1, 32, 32)
    with torch.inference_mode():
        as_later = network(middle, first)[0]
        as_earlier = network(last, middle)[1]
    torch.testing.assert_close(as_later, as_earlier, rtol=0, atol=1e-6)


def test_each_frame_is_read_once_and_gaps_break_pairs() -> None:
    frames, asked = movie(8, 1, 16, 16), []

    def reading(time: int) -> npt.NDArray[Any]:
        asked.append(time)
        return frames(time)

    found = predicted(weights_of(network_of()), reading, [5, 1, 2, 6, 7, 1])
    assert asked == [1, 2, 5, 6, 7]
    assert list(found) == asked
    assert [time for time, fields in found.items() if fields.tracking is None] == [1, 5]


@pytest.mark.parametrize(
    "settings", [{}, {"tile_size": (16, 16), "test_time": "all"}], ids=["whole", "tiles and views"]
)
def test_features_computed_again_are_the_same(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    weights, frames = weights_of(network_of(), network_of(seed=1)), movie(2, 1, 16, 24)
    kept = predicted(weights, frames, range(2), **settings)
    monkeypatch.setattr("howdah.methods.embedtrack.predict.KEPT_SHARE", 0.0)
    again = predicted(weights, frames, range(2), **settings)
    for time in range(2):
        same(kept[time], again[time])


def test_tiles_stay_as_they_are_when_free_memory_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, frames = weights_of(network_of()), movie(3, 1, 64, 96)
    expected = predicted(weights, frames, range(3), tile_size=(64, 96))
    # MiB of a whole frame, then of a part of one, and always enough to keep the features
    free = iter([100.0, 100.0, *[0.7] * 20])
    monkeypatch.setattr("howdah.methods.embedtrack.predict.free_memory_mb", lambda _=None: next(free))
    found = predicted(weights, frames, range(3))
    for time in range(3):
        same(found[time], expected[time])


def test_each_tile_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encode, n_encoded = BranchedERFNet.encode, 0

    def counted(self: BranchedERFNet, image: torch.Tensor) -> torch.Tensor:
        nonlocal n_encoded
        n_encoded += 1
        return encode(self, image)

    monkeypatch.setattr(BranchedERFNet, "encode", counted)
    predicted(weights_of(network_of()), movie(3, 1, 16, 24), range(3), tile_size=(16, 16), test_time="flips")
    assert n_encoded == 3 * 2 * 4  # frames, tiles, views


def test_members_are_averaged_before_activation() -> None:
    one, other, frames = network_of(), network_of(seed=1), movie(2, 1, 16, 16)
    parts = [predicted(weights_of(n), frames, range(2))[1] for n in (one, other)]
    both = predicted(weights_of(one, other), frames, range(2))[1]
    logits = [np.arctanh(part.tracking.astype(np.float64)) for part in parts if part.tracking is not None]
    np.testing.assert_allclose(both.tracking, np.tanh(np.mean(logits, axis=0)), atol=1e-4)
    seeds = [np.log(part.seediness / (1 - part.seediness)) for part in parts]
    np.testing.assert_allclose(both.seediness, 1 / (1 + np.exp(-np.mean(seeds, axis=0))), atol=1e-4)


def test_plane_of_many_and_volume_of_one_are_told() -> None:
    with pytest.raises(
        DataError, match=r"frame 0 failed: the weights are those of a 2D network, but the frame has 3 planes"
    ):
        predicted(weights_of(network_of()), movie(1, 3, 16, 16), [0])
    with pytest.raises(DataError, match=r"3D network, but the frame has 1 plane. Train on 2D frames"):
        predicted(weights_of(network_of(3)), movie(1, 1, 16, 16), [0])
    with pytest.raises(DataError, match=r"a frame \(Z, Y, X\) is needed; found shape \(16, 16\)"):
        predicted(weights_of(network_of()), movie(1, 16, 16), [0])


def test_frames_of_two_sizes_are_told() -> None:
    def frames(time: int) -> npt.NDArray[Any]:
        return np.zeros((1, 16, 16 + 8 * time))

    with pytest.raises(DataError, match=r"frame 1 failed: it has 16 x 24 pixels, and the frame before it 16 x 16"):
        predicted(weights_of(network_of()), frames, range(2))


def test_values_that_are_no_numbers_are_told_with_their_frame() -> None:
    with pytest.raises(DataError, match=r"Normalising frame 4 failed"):
        predicted(weights_of(network_of()), lambda _: np.full((1, 8, 8), np.nan), [4])


def test_no_weights_are_told() -> None:
    with pytest.raises(WeightsError, match="hold no network"):
        Network(Weights(()))


def test_too_little_memory_is_told() -> None:
    with pytest.raises(ConfigError, match="Allow more memory"):
        predicted(weights_of(network_of()), movie(1, 1, 64, 64), [0], memory_mb=0.01)


def test_constant_frames_give_numbers() -> None:
    found = predicted(weights_of(network_of()), lambda _: np.zeros((1, 16, 16), np.uint8), range(2))
    assert all(np.isfinite(fields.seediness).all() for fields in found.values())


def test_what_gives_numbers_their_meaning_comes_from_the_training(caplog: pytest.LogCaptureFixture) -> None:
    weights = weights_of(network_of(), config={"grid_size": 512, "percentiles": [0.1, 99.9]}, resolved={"min_size": 7})
    found = settled(weights, EmbedTrackConfig(grid_size=128))
    assert (found.grid_size, found.percentiles, found.min_size) == (512, (0.1, 99.9), 7)
    assert "trained with grid_size = 512; that is used" in caplog.text
    found = settled(weights, EmbedTrackConfig(percentiles=(2, 98), min_size=3))
    assert (found.grid_size, found.percentiles, found.min_size) == (512, (2, 98), 3)
    assert "but [2.0, 98.0] are set" in caplog.text
    assert Network(weights, EmbedTrackConfig(device="cpu")).unit == (1 / 511, 1 / 511)


@pytest.mark.parametrize(
    "header", [{"network": {"n_dims": 3}}, {"network": {"keep_axials": 9}}, {"network": "x"}, {"config": 3}]
)
def test_damaged_headers_are_told(header: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="header of the weights is damaged"):
        Network(Weights((network_of().state_dict(),), header))
