"""The methods, and what each can do. Importing this loads no torch; :func:`method` imports one method when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.errors import ConfigError
from howdah.progress import Progress

F64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

__all__ = [
    "METHODS",
    "FlowEstimator",
    "FrameEmbedder",
    "Segmenter",
    "SpotDetector",
    "Spots",
    "Trainable",
    "method",
]

METHODS = {
    "elephant": "howdah.methods.elephant",
    "embedtrack": "howdah.methods.embedtrack",
    "efficientcellseg": "howdah.methods.efficientcellseg",
    "tap": "howdah.methods.tap",
}


def method(name: str) -> ModuleType:
    """Import a method by its name.

    Raises:
        ConfigError: There is no method of this name.
    """
    if name not in METHODS:
        raise ConfigError(f"There is no method '{name}'. Known are: {', '.join(METHODS)}.")
    return importlib.import_module(METHODS[name])


@dataclass(frozen=True, eq=False)
class Spots:
    """What a detector found in one frame.

    Attributes:
        centre: (N, 3) float64 (z, y, x), world units.
        covariance: (N, 3, 3) float64, squared world units; eigenvalues are squared half-axes.
        quality: (N,) float64, confidence 0..1.
    """

    centre: F64
    covariance: F64
    quality: F64

    def __len__(self) -> int:
        return len(self.centre)

    def take(self, rows: npt.NDArray[np.intp]) -> Self:
        """Return some of the spots."""
        return type(self)(self.centre[rows], self.covariance[rows], self.quality[rows])

    @classmethod
    def none(cls) -> Self:
        """Return no spots."""
        return cls(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty(0))


@runtime_checkable
class SpotDetector(Protocol):
    """Finds nuclei as ellipsoids."""

    def predict_spots(self, frame: Array, affine: F64) -> Spots:
        """Find the nuclei of a frame (Z, Y, X); ``affine`` is 4x4, voxels to world. Results are in world units."""


@runtime_checkable
class Segmenter(Protocol):
    """Finds objects with their outlines."""

    def predict_labels(self, frame: Array, affine: F64) -> npt.NDArray[np.uint32]:
        """Return the label image (Z, Y, X) of a frame (Z, Y, X); 0 is background."""


@runtime_checkable
class FlowEstimator(Protocol):
    """Estimates where things were one frame earlier."""

    def predict_flow(self, earlier: Array, later: Array, affine: F64) -> npt.NDArray[np.float32]:
        """Return (3, Z, Y, X) displacements (z, y, x) in voxels from each voxel of ``later`` to its place in ``earlier``."""


@runtime_checkable
class FrameEmbedder(Protocol):
    """Describes places of a movie by vectors."""

    def predict_embedding(self, frames: Array) -> npt.NDArray[np.float32]:
        """Return (T, C, Z, Y, X) features of frames (T, Z, Y, X)."""


class Trainable(Protocol):
    """A module that learns from an annotation."""

    def train(self, frames: Any, marks: Tracks, config: Any, *, affine: Any) -> Generator[Progress, None, Any]:
        """Train step by step; the generator's return value are the weights."""
