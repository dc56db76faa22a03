"""Views and tiles of a stand-in for the network that turns with its input by construction, and looks one pixel far."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.methods.embedtrack.predict import Network
from howdah.nn.checkpoint import Weights

EXACT = {"device": "cpu", "precision": "float32"}
TURNING = [(2, (1, 43, 30)), (3, (9, 18, 26))]


class Turning(nn.Module):
    """Fields from differences of neighbours; outside of the frame is 0."""

    def __init__(self, n_dims: int) -> None:
        super().__init__()
        self.axes = range(-n_dims, 0)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image * 2

    def _slopes(self, image: torch.Tensor) -> torch.Tensor:
        wide = nn.functional.pad(image, (1, 1) * len(self.axes))
        inner = [slice(1, -1) for _ in self.axes]
        both = [(wide.roll(-1, axis), wide.roll(1, axis)) for axis in self.axes]
        return torch.cat([(ahead - behind)[(..., *inner)] for ahead, behind in both], dim=1)

    def segment(self, features: torch.Tensor) -> torch.Tensor:
        slopes = self._slopes(features)
        return torch.cat([slopes, slopes**2, features], dim=1)

    def track(self, later: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
        return self._slopes(earlier) - 3 * self._slopes(later)


def stand_in(n_dims: int, **settings: Any) -> Network:
    weights = Weights((BranchedERFNet(n_dims).state_dict(),), {"network": {"n_dims": n_dims}})
    network = Network(weights, EmbedTrackConfig.of({**EXACT, **settings}))
    network.networks = [Turning(n_dims)]  # type: ignore[list-item]
    return network


def turning(n_dims: int, shape: tuple[int, ...], **settings: Any) -> dict[int, Fields]:
    pixels = np.random.default_rng(0).integers(0, 1000, (2, *shape)).astype(np.uint16)
    return dict(stand_in(n_dims, **settings).fields(lambda time: np.asarray(pixels[time]), range(2)))


def same(one: dict[int, Fields], other: dict[int, Fields]) -> None:
    assert list(one) == list(other)
    for time, fields in one.items():
        for name in ("offset", "bandwidth", "seediness", "tracking"):
            a, b = getattr(fields, name), getattr(other[time], name)
            assert (a is None) == (b is None) == (name == "tracking" and time == 0)
            if a is not None:
                np.testing.assert_allclose(a, b, atol=2e-6, err_msg=f"{name} of frame {time}")


@pytest.mark.parametrize(("n_dims", "shape"), TURNING)
@pytest.mark.parametrize("which", ["flips", "all"])
def test_views_change_nothing(n_dims: int, shape: tuple[int, ...], which: str) -> None:
    same(turning(n_dims, shape), turning(n_dims, shape, test_time=which))


@pytest.mark.parametrize(("n_dims", "shape"), TURNING)
@pytest.mark.parametrize("tile", [(16, 16), (16, 16, 16), (24, 16)])
def test_tiles_change_nothing(n_dims: int, shape: tuple[int, ...], tile: tuple[int, ...]) -> None:
    same(turning(n_dims, shape), turning(n_dims, shape, tile_size=tile))


def test_tiles_and_views_together_change_nothing() -> None:
    n_dims, shape = TURNING[1]
    same(turning(n_dims, shape), turning(n_dims, shape, tile_size=(24, 16), test_time="all"))


def test_quarter_turns_are_left_out_where_pixels_are_oblong() -> None:
    weights = Weights((BranchedERFNet().state_dict(),))
    network = Network(weights, EmbedTrackConfig.of({**EXACT, "test_time": "all"}), voxel_size=(1, 1, 2))
    assert len(network.views) == 4
    assert network.unit == (1 / 255, 2 / 255)


def test_tiles_normalised_one_by_one_as_the_published_code_does() -> None:
    """A dark half and a bright half: by tiles, both fill the range."""
    dark = np.random.default_rng(0).integers(0, 50, (1, 32, 32))
    frame = np.concatenate([dark, 1000 + 10 * dark], axis=2).astype(np.uint16)

    def seediness(*compat: str) -> Any:
        network = stand_in(2, tile_size=(32, 32), compat=compat)
        return dict(network.fields(lambda _: frame, [0]))[0].seediness

    assert seediness()[:, :16].max() < 0.6
    assert seediness("crop_percentiles")[:, :16].max() > 0.85
