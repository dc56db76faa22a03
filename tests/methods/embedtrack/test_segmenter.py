"""EmbedTrack behind the protocols of the methods, with a stand-in for the network that knows two squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from howdah.errors import DataError
from howdah.methods import FlowEstimator, Segmenter
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.methods.embedtrack.segmenter import EmbedTrack
from howdah.nn.checkpoint import Weights

MOVE = (0.0, 3.0, -5.0)  # (z, y, x) voxels from a frame to the next


class Squares(nn.Module):
    """Bright squares of side 7, one every 16 pixels: every pixel sees the middle of its 16 pixels, and how all move."""

    def __init__(self, n_dims: int, unit: tuple[float, ...]) -> None:
        super().__init__()
        self.n_dims, self.unit = n_dims, torch.tensor(unit)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def _column(self, values: torch.Tensor) -> torch.Tensor:
        return values.reshape(-1, *(1 for _ in range(self.n_dims)))

    def _to_centre(self, image: torch.Tensor) -> torch.Tensor:
        axes = [torch.arange(float(n)) for n in image.shape[2:]]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        return (8 + 16 * (grid // 16) - grid) * self._column(self.unit)

    def segment(self, features: torch.Tensor) -> torch.Tensor:
        offset = torch.atanh(self._to_centre(features))[None]
        return torch.cat([offset, torch.ones_like(offset), (features - 0.5) * 20], dim=1)

    def track(self, later: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
        move = self._column(torch.tensor(MOVE[-self.n_dims :]) * self.unit)
        return torch.atanh(move - self._to_centre(later))[None]


def squares(n_dims: int) -> np.ndarray:
    shape = (1, 48, 32) if n_dims == 2 else (16, 48, 32)
    inside = np.ones(shape, dtype=bool)
    for axis in range(3 - n_dims, 3):
        near = abs(np.arange(shape[axis]) % 16 - 8) <= 3
        inside &= near.reshape([-1 if i == axis else 1 for i in range(3)])
    return inside.astype(np.uint8) * 200


def method_of(n_dims: int) -> EmbedTrack:
    weights = Weights((BranchedERFNet(n_dims).state_dict(),))
    method = EmbedTrack(weights, EmbedTrackConfig.of({"device": "cpu", "precision": "float32"}))
    method.network.networks = [Squares(n_dims, method.network.unit)]  # type: ignore[list-item]
    return method


@pytest.mark.parametrize("n_dims", [2, 3])
def test_labels_are_the_squares(n_dims: int) -> None:
    frame = squares(n_dims)
    labels = method_of(n_dims).predict_labels(frame, np.eye(4))
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels > 0, frame > 0)
    assert len(np.unique(labels)) == 6 + 1


@pytest.mark.parametrize("n_dims", [2, 3])
def test_flow_leads_to_where_cells_were(n_dims: int) -> None:
    frame = squares(n_dims)
    flow = method_of(n_dims).predict_flow(frame, frame, np.eye(4))
    assert flow.shape == (3, *frame.shape)
    assert flow.dtype == np.float32
    for axis, move in enumerate(MOVE):
        np.testing.assert_allclose(flow[axis], np.where(frame > 0, -move, 0), atol=1e-3)


def test_flow_between_frames_of_two_sizes_is_told() -> None:
    with pytest.raises(DataError, match=r"shapes \(1, 8, 8\) and \(1, 8, 16\)"):
        method_of(2).predict_flow(np.zeros((1, 8, 8)), np.zeros((1, 8, 16)), np.eye(4))


def test_voxel_size_comes_from_the_affine() -> None:
    method = method_of(3)
    affine = np.diag([4.0, 2.0, 2.0, 1.0])
    assert method._at(affine).unit == (2 / 255, 1 / 255, 1 / 255)


def test_it_is_what_other_parts_ask_for() -> None:
    method = method_of(2)
    assert isinstance(method, Segmenter)
    assert isinstance(method, FlowEstimator)
