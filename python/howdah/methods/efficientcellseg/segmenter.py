"""EfficientCellSeg as what other parts of Howdah ask a method for: labels of a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.instances import find_cells
from howdah.methods.efficientcellseg.predict import Network
from howdah.nn.checkpoint import Weights

F64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

__all__ = ["EfficientCellSegmenter"]


class EfficientCellSegmenter:
    """Trained weights as a :class:`howdah.methods.Segmenter`.

    Args:
        weights: See :class:`howdah.methods.efficientcellseg.predict.Network`.
        config: Settings; what they leave open comes from the weights.

    Raises:
        WeightsError, ConfigError: See :class:`howdah.methods.efficientcellseg.predict.Network`.
    """

    def __init__(self, weights: Weights, config: EfficientCellSegConfig | None = None) -> None:
        self.network = Network(weights, config)
        self.config = self.network.config

    def predict_labels(self, frame: Array, affine: F64) -> npt.NDArray[np.uint32]:
        """Find the cells of a frame. One frame alone: where colours carry time, it has no neighbours.

        Args:
            frame: (Z, Y, X), any real type; 2D is Z = 1.
            affine: 4x4, voxels to world; only the ratio of the voxel's edges matters.

        Returns:
            (Z, Y, X) labels, 1..N without gaps, 0 background.

        Raises:
            DataError, ConfigError: See :meth:`howdah.methods.efficientcellseg.predict.Network.maps`.
        """
        z, y, x = (float(edge) for edge in np.linalg.norm(np.asarray(affine)[:3, :3], axis=0))
        cells = find_cells(self.network.maps(frame), self.config, voxel_size=(z, y, x), diameter=self.network.diameter)
        return cells.labels.astype(np.uint32)
