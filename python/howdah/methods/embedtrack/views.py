"""Test-time augmentation: the frame mirrored and turned, and what the network says of it turned back (paper, section 4.4).

A view swaps y and x, or not, then mirrors some axes: that makes all four quarter turns and their mirror images. Turned
back, offsets are vectors: their components swap and change sign. Bandwidths belong to axes: they swap and keep their sign (the
published code leaves them where they are, so that quarter turns average the bandwidths of y and x).
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
    """One way to look at a frame. S is (Y, X) or (Z, Y, X), D their number; all tensors end in S.

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

    def vectors_back(self, vectors: Tensor) -> Tensor:
        """Turn offsets (..., D, *S) back, before or after tanh (which is odd): component i runs along axis i."""
        dims = len(self.mirror)
        back = self.turned_back(vectors)
        signs = torch.tensor([-1.0 if mirrored else 1.0 for mirrored in self.mirror], dtype=back.dtype)
        back = back * signs.to(back.device).reshape(dims, *(1 for _ in range(dims)))
        return back.index_select(-dims - 1, self._order(back)) if self.swap else back

    def widths_back(self, widths: Tensor) -> Tensor:
        """Turn bandwidths (..., D, *S) back, before or after the sigmoid: one for each axis, without direction."""
        back = self.turned_back(widths)
        return back.index_select(-len(self.mirror) - 1, self._order(back)) if self.swap else back

    def segmentation_back(self, found: Tensor) -> Tensor:
        """Turn (B, 2 D + 1, *S) back: offsets, bandwidths, seediness."""
        dims = len(self.mirror)
        offset, width, seed = found[:, :dims], found[:, dims : 2 * dims], found[:, 2 * dims :]
        return torch.cat([self.vectors_back(offset), self.widths_back(width), self.turned_back(seed)], dim=1)

    def _flipped(self, image: Tensor) -> Tensor:
        axes = [axis - len(self.mirror) for axis, mirrored in enumerate(self.mirror) if mirrored]
        return image.flip(axes) if axes else image

    def _order(self, like: Tensor) -> Tensor:
        """Components with y and x, the last two, in each other's place."""
        dims = len(self.mirror)
        return torch.tensor([*range(dims - 2), dims - 1, dims - 2], device=like.device)


def views_of(which: Literal["none", "flips", "all"], n_dims: int, *, unit: Sequence[float] | None = None) -> list[View]:
    """Return the views to average over; the first one is the frame as it is.

    Args:
        which: ``none``: 1. ``flips``: mirrored along each axis and all together, 4 (3D: 8). ``all``: with quarter turns in xy,
            8 (3D: 16). The paper's are ``all``.
        n_dims: 2 or 3.
        unit: Length of a voxel along each axis. Where y and x differ by more than a twentieth there are no quarter turns,
            for a turned cell would have another shape.
    """
    if which == "none":
        return [View(swap=False, mirror=(False,) * n_dims)]
    square = unit is None or abs(unit[-1] / unit[-2] - 1) <= 0.05
    swaps = (False, True) if which == "all" and square else (False,)
    return [View(swap, mirror) for swap in swaps for mirror in itertools.product((False, True), repeat=n_dims)]
