"""Test-time augmentation of vectors (paper, section 4.4): what the network says of a turned frame, turned back.

Offsets are vectors: their components swap and change sign. Bandwidths belong to axes: they swap and keep their sign (the
published code leaves them where they are, so that quarter turns average the bandwidths of y and x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from howdah.nn import views

__all__ = ["View", "views_of"]

Tensor = torch.Tensor


class View(views.View):
    """One way to look at a frame, see :class:`howdah.nn.views.View`, that knows how fields turn."""

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

    def _order(self, like: Tensor) -> Tensor:
        """Components with y and x, the last two, in each other's place."""
        dims = len(self.mirror)
        return torch.tensor([*range(dims - 2), dims - 1, dims - 2], device=like.device)


def views_of(which: Literal["none", "flips", "all"], n_dims: int, *, unit: Sequence[float] | None = None) -> list[View]:
    """Return the views to average over, see :func:`howdah.nn.views.views_of`. The paper's are ``all``."""
    return [View(view.swap, view.mirror) for view in views.views_of(which, n_dims, unit=unit)]
