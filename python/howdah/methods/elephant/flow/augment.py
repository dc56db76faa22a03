"""Where a crop lies in a frame, and how it is turned: one affine map for both images, the ellipsoids and the displacements.

Paper: random crop, scaling and rotation. Labels are not resampled: the ellipsoids go through the map and are drawn in the
crop, so they are as sharp there as in the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.ellipsoids import transform
from howdah.methods.elephant.augment import Augmentation
from howdah.methods.elephant.flow.targets import FlowLabels, render_flow

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Size = tuple[int, int, int]

__all__ = ["Crop", "random_crop"]


@dataclass(frozen=True, eq=False)
class Crop:
    """A crop.

    Attributes:
        size: Voxels (z, y, x) of the crop.
        matrix: (4, 4), voxels of the crop -> voxels of the frame.
    """

    size: Size
    matrix: F64

    def image(self, frame: F32) -> F32:
        """Cut the crop out of a frame (Z, Y, X), linearly; edges of the frame are repeated outside."""
        linear, start = self.matrix[:3, :3], self.matrix[:3, 3]
        corners = np.stack(np.meshgrid(*[[0, n - 1] for n in self.size], indexing="ij"), axis=-1).reshape(-1, 3)
        reached = corners @ linear.T + start
        low = np.clip(np.floor(reached.min(axis=0)).astype(int), 0, np.asarray(frame.shape) - 1)
        high = np.clip(np.ceil(reached.max(axis=0)).astype(int) + 1, low + 1, frame.shape)
        part = frame[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        cut: F32 = ndimage.affine_transform(
            part,
            linear,
            start - low,
            output_shape=self.size,
            output=np.float32,
            order=1,
            mode="nearest",
            prefilter=False,
        )
        return cut

    def labels(self, centre: F64, covariance: F64, displacement: F64) -> FlowLabels:
        """Draw labels into the crop; (N, 3) centres, (N, 3, 3) covariances, (N, 3) displacements in voxels of the frame."""
        inverse = np.linalg.inv(self.matrix)
        centre, covariance = transform(centre, covariance, inverse)
        reach = np.sqrt(np.einsum("nii->ni", covariance)) + 2
        near = ((centre > -reach) & (centre < np.asarray(self.size) + reach)).all(axis=1)
        moved = displacement[near] @ inverse[:3, :3].T
        return render_flow(centre[near], covariance[near], moved, self.size)


def random_crop(
    shape: tuple[int, ...], size: Size, *, around: F64, reach: F64, how: Augmentation, rng: np.random.Generator
) -> Crop:
    """Choose a crop.

    Args:
        shape: Voxels (Z, Y, X) of the frame.
        size: Voxels (z, y, x) of the crop.
        around: (z, y, x) place in the frame that lies in the crop.
        reach: (z, y, x) voxels of the frame around it that lie in the crop too, as far as that is possible.
        how: Flips, scale and rotation.
        rng: Where randomness comes from.
    """
    zoom = np.array([1 / rng.uniform(low, high) if low < high else 1 / low for low, high in how.scale])
    angle = np.deg2rad(rng.uniform(-how.rotation_degrees, how.rotation_degrees)) if how.rotation_degrees else 0.0
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    sign = np.where(rng.integers(0, 2, size=3) == 1, -1.0, 1.0) if how.flip else np.ones(3)
    linear = turn @ np.diag(zoom * sign)
    extent = np.asarray(size) - 1.0
    wanted = np.abs(np.linalg.inv(linear)) @ reach  # along the axes of the crop
    room = np.maximum(extent / 2 - wanted, 0)
    middle = np.asarray(around) + linear @ rng.uniform(-room, room)
    # little of the crop hangs over the edge of the frame, but the place stays in it
    half = np.abs(linear) @ extent / 2
    last = np.asarray(shape) - 1.0
    inside = np.where(2 * half < last, np.clip(middle, half, np.maximum(last - half, half)), last / 2)
    held = np.maximum(extent / 2 - 0.5, 0)
    middle = around - linear @ np.clip(np.linalg.solve(linear, around - inside), -held, held)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = middle - linear @ (extent / 2)
    if not angle and np.all(zoom == 1):
        matrix[:3, 3] = np.rint(matrix[:3, 3])  # whole voxels: nothing is interpolated
    return Crop(size, matrix)
