"""What the network is trained against: which pixel belongs to which cell, where its centre is, and where it was before.

A batch of B pairs of crops is 2B images, the later frames first, then the earlier ones, as the network gives them. S stands for
the spatial axes, (Y, X) or (Z, Y, X), D for their number. Cells are rows of flat tables, so that no step loops over cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import DataError
from howdah.methods.embedtrack.medoid import cell_centres, medoids

Tensor = torch.Tensor
Labels = npt.NDArray[Any]
Table = npt.NDArray[Any]

__all__ = ["Targets", "medoids", "targets_of"]

LOOKUP = 1 << 24  # entries of the table from label to row; larger labels are numbered anew first


@dataclass(frozen=True, eq=False)
class Targets:
    """The cells of a batch of B pairs: 2B images, the later frames first. N cells, in the order of the images.

    Attributes:
        objects: (2B, *S) int64, the row of each pixel's cell; -1: no cell.
        known: (2B, *S) bool; False where nobody knows what the pixel is. Pixels of cells are known.
        image: (N,) int64, the image of each cell.
        centre: (N, D) float32, pixels: the centre c_m. It may lie outside of the crop.
        earlier: (N, D) float32, pixels: the centre one frame before (of the mother, after a division). Only where ``tracked``.
        seen: (N,) bool: the centre lies in the crop. Without that a cell takes part in no term, but is no background either.
        tracked: (N,) bool: a cell of a later frame that has a tracking target, and is seen.
    """

    objects: Tensor
    known: Tensor
    image: Tensor
    centre: Tensor
    earlier: Tensor
    seen: Tensor
    tracked: Tensor

    @property
    def n_pairs(self) -> int:
        """B."""
        return len(self.objects) // 2

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str) -> Self:
        """Return the same on another device."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return type(self)(**moved)


def targets_of(
    later: Labels,
    earlier: Labels,
    pairs: Sequence[Table],
    *,
    voxel_size: Sequence[float],
    centres: tuple[Sequence[Table], Sequence[Table]] | None = None,
    known: tuple[Labels | None, Labels | None] = (None, None),
    complete: bool | Sequence[bool] = True,
    kind: str = "medoid",
) -> Targets:
    """Turn label images of B pairs of crops into the tables that the loss needs.

    Args:
        later: (B, *S) labels at t; 0 is no cell.
        earlier: (B, *S) labels at t-1.
        pairs: For each of the B items (K, 2) labels: at t, at t-1 (the predecessor, or the mother of each daughter).
            Labels that are in neither crop do no harm.
        voxel_size: Of the D axes, for medoids; only the ratios count.
        centres: For the later and for the earlier frames, for each item (K, 1 + D): label, and its centre in the whole frame, in pixels
            of the crop (so it may be negative or beyond the crop, and name cells that the crop does not show).
            None: the centres of what the crops show.
        known: (B, *S) bool for the later and the earlier frames: where a pixel without label is known to be no cell. None: everywhere.
        complete: Whether a cell without predecessor has none; then it is its own centre that its pixels point to, as in the
            published code. Else nobody knows, and there is no tracking target. One for all items, or one each.
        kind: "medoid" (paper) or "centroid": used where no centres are given.

    Raises:
        DataError: Sizes do not fit each other, or a label of a crop has no row in ``centres``.
    """
    _check(later, earlier, pairs, voxel_size)
    n_pairs, n_dims = len(later), later.ndim - 1
    labels = np.concatenate([later, earlier])
    rows, image, label = _numbered(labels)
    if centres is None:
        place = cell_centres(rows + 1, len(image), voxel_size=(1.0, *voxel_size), kind=kind)[:, 1:]
        tables = [np.column_stack([label[image == i], place[image == i]]) for i in range(2 * n_pairs)]
    else:
        tables = [np.asarray(table, dtype=np.float64).reshape(-1, 1 + n_dims) for table in (*centres[0], *centres[1])]
        if len(tables) != 2 * n_pairs:
            raise DataError(
                f"Targets of {n_pairs} pairs of crops need as many tables of centres twice, but {len(tables)} came."
            )
        place = _looked_up(tables, image, label, what="centre")
    before, has = _before(tables, pairs, image, label, place, complete=complete)
    shape = np.array(labels.shape[1:])
    nearest = np.round(place)
    seen = ((nearest >= 0) & (nearest < shape)).all(axis=1)
    clear = np.concatenate([_known(later, known[0]), _known(earlier, known[1])])
    return Targets(
        torch.from_numpy(rows),
        torch.from_numpy(clear),
        torch.from_numpy(image),
        torch.from_numpy(place.astype(np.float32)),
        torch.from_numpy(before.astype(np.float32)),
        torch.from_numpy(seen),
        torch.from_numpy(seen & has),
    )


def _check(later: Labels, earlier: Labels, pairs: Sequence[Table], voxel_size: Sequence[float]) -> None:
    if later.shape != earlier.shape or len(pairs) != len(later) or later.ndim not in (3, 4):
        raise DataError(
            f"Targets need labels (B, Y, X) or (B, Z, Y, X) of the same shape, and B tables of pairs; found {later.shape}, "
            f"{earlier.shape} and {len(pairs)} tables."
        )
    if len(voxel_size) != later.ndim - 1:
        raise DataError(f"Targets of crops {later.shape[1:]} need as many voxel sizes, but {len(voxel_size)} came.")


def _known(labels: Labels, known: Labels | None) -> npt.NDArray[np.bool_]:
    return np.ones(labels.shape, dtype=bool) if known is None else np.asarray(known, dtype=bool) | (labels > 0)


def _numbered(labels: Labels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the row of each pixel's cell (-1: none), and image and label of each row."""
    wide = labels.astype(np.int64)
    values = None
    if (int(wide.max(initial=0)) + 1) * len(labels) > LOOKUP:
        values, inverse = np.unique(wide, return_inverse=True)
        if values[0] != 0:
            values, inverse = np.concatenate([[0], values]), inverse + 1
        wide = inverse.reshape(labels.shape)
    width = int(wide.max(initial=0)) + 1
    code = wide + width * np.arange(len(labels)).reshape(-1, *[1] * (labels.ndim - 1))
    there = np.zeros(width * len(labels), dtype=bool)
    there[code.ravel()] = True
    there[::width] = False
    number = np.where(there, np.cumsum(there) - 1, -1)
    found = np.flatnonzero(there)
    image, label = found // width, found % width
    return number[code], image, label if values is None else values[label]


def _looked_up(
    tables: Sequence[Table], image: npt.NDArray[np.int64], label: npt.NDArray[np.int64], *, what: str
) -> npt.NDArray[np.float64]:
    """Return the place of each (image, label)."""
    found, place = _found(tables, image, label)
    if not found.all():
        at = int(np.flatnonzero(~found)[0])
        raise DataError(
            f"Label {label[at]} of image {image[at]} of the batch has no {what}; give one for each label of a crop."
        )
    return place


def _found(
    tables: Sequence[Table], image: npt.NDArray[np.int64], label: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return which (image, label) are in the tables (label, place), and their places; 0 for the others."""
    n_dims = tables[0].shape[1] - 1
    owner = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    every = np.concatenate(tables)
    if len(every) == 0 or len(image) == 0:
        return np.zeros(len(image), dtype=bool), np.zeros((len(image), n_dims))
    width = max(int(every[:, 0].max()), int(label.max())) + 1
    key = owner * width + every[:, 0].astype(np.int64)
    order = np.argsort(key, kind="stable")
    wanted = image * width + label
    at = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
    found = key[order][at] == wanted
    return found, np.where(found[:, None], every[order][at, 1:], 0.0)


def _before(
    tables: Sequence[Table],
    pairs: Sequence[Table],
    image: npt.NDArray[np.int64],
    label: npt.NDArray[np.int64],
    place: npt.NDArray[np.float64],
    *,
    complete: bool | Sequence[bool],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return where each cell of a later frame was one frame before, and whether that is known."""
    n_pairs = len(pairs)
    mothers = [np.asarray(table, dtype=np.int64).reshape(-1, 2) for table in pairs]
    paired, mother = _found(mothers, np.where(image < n_pairs, image, -1), label)
    known, before = _found(tables, np.where(paired, image + n_pairs, -1), mother[:, 0].astype(np.int64))
    whole = np.full(n_pairs, complete) if isinstance(complete, bool) else np.asarray(complete, dtype=bool)
    new = (image < n_pairs) & ~paired & whole[image % n_pairs]
    return np.where(new[:, None], place, before), known | new
