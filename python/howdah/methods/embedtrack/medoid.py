"""The centres of cells: the medoid is the pixel with the smallest sum of distances to the cell's other pixels (section 3.2).

That sum is, at all pixels at once, the convolution of the cell's mask with the distance, which a Fourier transform gives to about
13 digits in memory proportional to the cell's box: exact, without the n x n table of distances of n pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from howdah.errors import DataError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["cell_centres", "centroids", "medoids"]

CHUNK = 1 << 22  # voxels of padded boxes that are transformed at once: 32 MB, a few times over
TIE = 1e-10  # sums that differ by less, relatively, count as equal; the transform is good to 1e-13


def medoids(labels: npt.NDArray[Any], voxel_size: Sequence[float]) -> F64:
    """Return the medoid of each label, (N, D) pixels, in the order of ``np.unique(labels)`` without 0.

    Exact for cells of any shape; of several equal pixels it is the first one in the order of the array.

    Args:
        labels: (*S) integers; 0 is no cell.
        voxel_size: Of the D axes; only the ratios count.
    """
    return _centres(labels, voxel_size, "medoid")


def centroids(labels: npt.NDArray[Any]) -> F64:
    """Return the mean place of each label, (N, D) pixels, in the order of ``np.unique(labels)`` without 0."""
    return _centres(labels, (1.0,) * labels.ndim, "centroid")


def _centres(labels: npt.NDArray[Any], voxel_size: Sequence[float], kind: str) -> F64:
    values, inverse = np.unique(labels, return_inverse=True)
    rows = inverse.reshape(labels.shape).astype(np.int64)
    if len(values) == 0 or values[0] != 0:
        rows = rows + 1
    return cell_centres(rows, len(values) - int((values == 0).any()), voxel_size=voxel_size, kind=kind)


def cell_centres(rows: I64, n: int, *, voxel_size: Sequence[float], kind: str = "medoid") -> F64:
    """Return the centres (n, D) in pixels of cells numbered 1 to n without gaps in ``rows`` (*S).

    Raises:
        DataError: The numbers of axes differ.
    """
    if len(voxel_size) != rows.ndim:
        raise DataError(f"Centres of cells in {rows.ndim} axes need as many voxel sizes, but {len(voxel_size)} came.")
    flat = np.flatnonzero(rows)
    cell = rows.ravel()[flat] - 1
    order = np.argsort(
        cell.astype(np.uint16) if n < 1 << 16 else cell, kind="stable"
    )  # by radix where there are few cells
    flat, cell = flat[order], cell[order]
    place = np.stack(np.unravel_index(flat, rows.shape), axis=1)
    if n == 0:
        return np.zeros((0, rows.ndim))
    if kind == "centroid":
        counts = np.bincount(cell, minlength=n)
        return np.stack([np.bincount(cell, weights=axis, minlength=n) for axis in place.T], axis=1) / counts[:, None]
    starts = np.searchsorted(cell, np.arange(n))
    low = np.minimum.reduceat(place, starts)
    size = np.maximum.reduceat(place, starts) - low + 1
    place = place - low[cell]
    result = np.empty((n, rows.ndim))
    for box, members in _alike(size):
        for chunk in np.array_split(members, max(1, -(-len(members) * int(np.prod(2 * np.array(box))) // CHUNK))):
            inside = np.isin(cell, chunk) if len(chunk) < n else np.ones(len(cell), dtype=bool)
            number = np.searchsorted(chunk, cell[inside])
            result[chunk] = low[chunk] + _of_boxes(number, place[inside], len(chunk), box, voxel_size)
    return result


def _alike(size: I64) -> list[tuple[tuple[int, ...], I64]]:
    """Group boxes by their size, rounded up so that there are few groups."""
    step = np.maximum(1, 2 ** np.maximum(0, np.ceil(np.log2(size)) - 2)).astype(np.int64)
    rounded = -(-size // step) * step
    boxes, which = np.unique(rounded, axis=0, return_inverse=True)
    return [(tuple(int(v) for v in box), np.flatnonzero(which.ravel() == i)) for i, box in enumerate(boxes)]


def _of_boxes(number: I64, place: I64, n: int, box: tuple[int, ...], voxel_size: Sequence[float]) -> I64:
    """Return the medoids (n, D) of n cells in boxes of one size; ``place`` (P, D) are the pixels of cell ``number`` (P,)."""
    mask = np.zeros((n, *box))
    at = (number, *place.T)
    mask[at] = 1.0
    padded = [scipy.fft.next_fast_len(2 * edge - 1, real=True) for edge in box]
    apart = [
        np.minimum(np.arange(edge), edge - np.arange(edge)) * step
        for edge, step in zip(padded, voxel_size, strict=True)
    ]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*apart, indexing="ij", sparse=True)))
    axes = tuple(range(1, len(box) + 1))
    spectrum = scipy.fft.rfftn(mask, s=padded, axes=axes) * scipy.fft.rfftn(distance)
    total = scipy.fft.irfftn(spectrum, s=padded, axes=axes)[(slice(None), *(slice(edge) for edge in box))]
    total = np.where(mask > 0, total, np.inf).reshape(n, -1)
    smallest = total.min(axis=1, keepdims=True)
    first = (total <= smallest * (1 + TIE) + TIE).argmax(axis=1)
    return np.stack(np.unravel_index(first, box), axis=1)
