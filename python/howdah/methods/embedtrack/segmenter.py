"""EmbedTrack as what other parts of Howdah ask a method for: labels of a frame, and the movement between two."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.embedtrack.cluster import Cells, find_cells
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.link import movements
from howdah.methods.embedtrack.predict import Network
from howdah.nn.checkpoint import Weights

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

__all__ = ["EmbedTrack"]


class EmbedTrack:
    """Trained weights as a :class:`howdah.methods.Segmenter` and a :class:`howdah.methods.FlowEstimator`.

    Args:
        weights: See :class:`howdah.methods.embedtrack.predict.Network`.
        config: Settings; what they leave open comes from the weights.
    """

    def __init__(self, weights: Weights, config: EmbedTrackConfig | None = None) -> None:
        self.network = Network(weights, config)
        self.config = self.network.config

    def predict_labels(self, frame: Array, affine: F64) -> npt.NDArray[np.uint32]:
        """Find the cells of a frame.

        Args:
            frame: (Z, Y, X), any real type; Z = 1 for a 2D network.
            affine: 4x4, voxels to world; only the ratio of the voxel's edges matters.

        Returns:
            (Z, Y, X) labels, 1..N without gaps, 0 background.
        """
        fields = dict(self._at(affine).fields(lambda _: frame, [0]))[0]
        return self._cells(fields).labels.reshape(frame.shape).astype(np.uint32)

    def predict_flow(self, earlier: Array, later: Array, affine: F64) -> F32:
        """Estimate how cells moved: (3, Z, Y, X) displacements (z, y, x) in voxels, from ``later`` back to ``earlier``.

        All voxels of a cell have one displacement (:func:`howdah.methods.embedtrack.link.movements`); where there is no cell it is 0.

        Raises:
            DataError: The frames differ in shape, or see :meth:`howdah.methods.embedtrack.predict.Network.fields`.
        """
        if earlier.shape != later.shape:
            raise DataError(f"Estimating movement failed: the frames have shapes {earlier.shape} and {later.shape}.")
        fields = dict(self._at(affine).fields(lambda time: later if time else earlier, [0, 1]))[1]
        labels = self._cells(fields).labels
        steps = np.vstack([np.zeros((1, labels.ndim)), np.nan_to_num(movements(labels, fields))])
        flow = np.zeros((3, *later.shape), dtype=np.float32)
        flow[3 - labels.ndim :] = np.moveaxis(steps[labels], -1, 0).reshape(labels.ndim, *later.shape)
        return flow

    def _at(self, affine: F64) -> Network:
        z, y, x = (float(edge) for edge in np.linalg.norm(np.asarray(affine)[:3, :3], axis=0))
        return self.network.with_voxels((z, y, x))

    def _cells(self, fields: Fields) -> Cells:
        return find_cells(fields, self.config, min_size=self.config.min_size or 0)
