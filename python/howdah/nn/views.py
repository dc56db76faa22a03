"""Test-time augmentation: an image mirrored and turned, and what a network says of it turned back.

A view swaps y and x, or not, then mirrors some axes: that makes all four quarter turns and their mirror images.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["View", "views_of"]

Tensor = torch.Tensor


@dataclass(frozen=True)
class View:
    """One way to look at an image. S is (Y, X) or (Z, Y, X), D their number; all tensors end in S.

    Attributes:
        swap: Whether y and x change places, first of all.
        mirror: For each of the D axes, whether it is mirrored, after that.
    """

    swap: bool
    mirror: tuple[bool, ...]

    def turned(self, image: Tensor) -> Tensor:
        """Turn something without direction, (..., *S): what the network is shown."""
        return self._flipped(image.transpose(-1, -2) if self.swap else image)

    def turned_back(self, image: Tensor) -> Tensor:
        """Undo :meth:`turned`."""
        image = self._flipped(image)
        return image.transpose(-1, -2) if self.swap else image

    def _flipped(self, image: Tensor) -> Tensor:
        axes = [axis - len(self.mirror) for axis, mirrored in enumerate(self.mirror) if mirrored]
        return image.flip(axes) if axes else image


def views_of(which: Literal["none", "flips", "all"], n_dims: int, *, unit: Sequence[float] | None = None) -> list[View]:
    """Return the views to average over; the first one is the image as it is.

    Args:
        which: ``none``: 1. ``flips``: mirrored along each axis and all together, 4 (3D: 8). ``all``: with quarter turns in xy,
            8 (3D: 16).
        n_dims: 2 or 3.
        unit: Length of a voxel along each axis. Where y and x differ by more than a twentieth there are no quarter turns,
            for a turned cell would have another shape.
    """
    if which == "none":
        return [View(swap=False, mirror=(False,) * n_dims)]
    square = unit is None or abs(unit[-1] / unit[-2] - 1) <= 0.05
    swaps = (False, True) if which == "all" and square else (False,)
    return [View(swap, mirror) for swap in swaps for mirror in itertools.product((False, True), repeat=n_dims)]
