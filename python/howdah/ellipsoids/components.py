"""Connected components of a mask, at the cost of its foreground.

Nuclei fill a percent of a volume, so one fast pass finds the foreground and everything after it touches foreground only:
runs along x, neighbours among runs by binary search, components of the graph of runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from howdah.errors import DataError

I64 = npt.NDArray[np.int64]
Shape = tuple[int, int, int]

__all__ = ["Components", "components_of", "connected_components"]

# Above this part of run starts among all voxels (noise), a labelling pass over the whole volume is faster.
DENSE = 0.02


@dataclass(frozen=True, eq=False)
class Components:
    """The foreground of a mask, sorted into components.

    Attributes:
        shape: Voxels (Z, Y, X) of the mask.
        flat: (K,) int64, foreground voxels: ascending indices of the flattened mask.
        owner: (K,) int64, component of each voxel, 0..n-1 in the order of their first voxels.
        n: Number of components.
    """

    shape: Shape
    flat: I64
    owner: I64
    n: int

    def labels(self) -> npt.NDArray[np.int32]:
        """Return the (Z, Y, X) int32 label volume: component + 1, background 0."""
        volume = np.zeros(self.shape, dtype=np.int32)
        volume.reshape(-1)[self.flat] = self.owner + 1
        return volume


def connected_components(mask: npt.NDArray[Any]) -> Components:
    """Find the 26-connected components of a (Z, Y, X) mask (bool; anything not 0 counts as foreground).

    The components and their order equal those of ``scipy.ndimage.label`` with a full 3x3x3 structure.

    Raises:
        DataError: The mask is not three-dimensional.
    """
    if mask.ndim != 3:
        raise DataError(
            f"Finding components needs a (Z, Y, X) mask; found shape {mask.shape}. Give a 2D mask as mask[None]."
        )
    n_z, n_y, n_x = mask.shape
    shape = (n_z, n_y, n_x)
    flat = np.flatnonzero(mask)
    if not flat.size:
        return Components(shape, flat, np.empty(0, dtype=np.int64), 0)
    begins = _begins(flat, n_x)
    if np.count_nonzero(begins) > DENSE * mask.size and mask.size > 10_000:
        labels, n = scipy.ndimage.label(mask, np.ones((3, 3, 3), dtype=bool))
        return Components(shape, flat, labels.reshape(-1)[flat].astype(np.int64) - 1, int(n))
    return components_of(flat, shape, begins=begins)


def components_of(flat: I64, shape: Shape, *, begins: npt.NDArray[np.bool_] | None = None) -> Components:
    """Find the 26-connected components of listed voxels, in the order of :func:`connected_components`.

    Args:
        flat: (K,) int64, ascending indices of the flattened image.
        shape: Voxels (Z, Y, X) of the image.
        begins: (K,) whether a run along x begins at a voxel, where that is known.
    """
    if not flat.size:
        return Components(shape, flat, np.empty(0, dtype=np.int64), 0)
    first = np.flatnonzero(_begins(flat, shape[2]) if begins is None else begins)
    length = np.diff(first, append=len(flat))
    run = _components_of_runs(flat[first], length, shape)
    return Components(shape, flat, np.repeat(run, length), int(run.max()) + 1)


def _begins(flat: I64, n_x: int) -> npt.NDArray[np.bool_]:
    begins = np.ones(len(flat), dtype=bool)
    begins[1:] = (flat[1:] - flat[:-1] != 1) | (flat[1:] % n_x == 0)
    return begins


def _components_of_runs(start: I64, length: I64, shape: Shape) -> I64:
    """Component (R,) of each run, counted by first run."""
    _, n_y, n_x = shape
    row, x = np.divmod(start, n_x)
    z, y = np.divmod(row, n_y)
    # A gap of one voxel between rows and of one row between planes: what touches here touches in the image.
    width = n_x + 1
    plane = (n_y + 1) * width
    begin = z * plane + y * width + x
    last = begin + length - 1
    sources, targets = [], []
    for step in (-width, -plane - width, -plane, -plane + width):  # the neighbours that come earlier
        low = np.searchsorted(last, begin + step - 1, side="left")
        high = np.searchsorted(begin, last + step + 1, side="right")
        touching = np.maximum(high - low, 0)
        sources.append(np.repeat(np.arange(len(start)), touching))
        offset = np.repeat(low - (np.cumsum(touching) - touching), touching)
        targets.append(offset + np.arange(len(offset)))
    source, target = np.concatenate(sources), np.concatenate(targets)
    ones = np.ones(len(source), dtype=np.int8)
    graph = scipy.sparse.coo_array((ones, (source, target)), shape=(len(start), len(start))).tocsr()
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[inverse]
