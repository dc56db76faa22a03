"""Gold masks of single planes: in most volumes of the Cell Tracking Challenge only some planes are segmented (``man_seg_000_012.tif``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from bdv_io.ctc.layout import find, read_mask
from bdv_io.masks import Frame, spots_of_frames
from howdah.errors import DataError

I64 = npt.NDArray[np.int64]

__all__ = ["SinglePlanes", "single_planes"]


@dataclass(frozen=True)
class SinglePlanes:
    """Where the masks are.

    Attributes:
        folder: The truth, ``01_GT``.
        files: (frame, plane) -> mask.
        movie: The folder of images, if it is there.
    """

    folder: Path
    files: Mapping[tuple[int, int], Path]
    movie: Path | None

    @property
    def planes(self) -> dict[int, tuple[int, ...]]:
        """Frame -> its planes, growing."""
        found: dict[int, list[int]] = {}
        for frame, plane in sorted(self.files):
            found.setdefault(frame, []).append(plane)
        return {frame: tuple(planes) for frame, planes in found.items()}

    def masks(self) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """Yield frame, plane and mask (Y, X), one at a time.

        Raises:
            DataError: A mask is no single plane.
        """
        for (frame, plane), file in sorted(self.files.items()):
            mask = read_mask(file)
            if mask.shape[0] != 1:
                raise DataError(f"The mask {file} has {mask.shape[0]} planes; its name says that it is plane {plane}.")
            yield frame, plane, mask[0]

    def cells(self, image: ImageSeries, setup: int = 0) -> Tracks:
        """Return the cells as flat spots with outlines, each in its plane; the parts of a cell in two planes are two spots.

        Raises:
            DataError: A mask lies outside of the movie, or differs from it in size.
        """
        spots = spots_of_frames(self._frames(image, setup))
        return Tracks.build(
            spots.t,
            spots.centre,
            covariance=spots.covariance,
            outlines=spots.outlines,
            space_unit=image.setups[setup].unit,
        )

    def _frames(self, image: ImageSeries, setup: int) -> Iterator[Frame]:
        volume, before = np.empty((0, 0, 0), dtype=np.int64), -1
        for frame, plane, mask in self.masks():
            shape = image.shape(frame, setup) if frame < image.n_frames else None
            if shape is None or plane >= shape[0] or mask.shape != shape[1:]:
                raise DataError(
                    f"The mask {self.files[frame, plane]} of frame {frame}, plane {plane} has (Y, X) = {mask.shape} pixels, the frames "
                    f"of {image.path}, {image.n_frames} of them, have (Z, Y, X) = {shape or image.shape(0, setup)}. Do they belong "
                    "together?"
                )
            if frame != before:
                if before >= 0:
                    yield before, volume, image.affine(before, setup)
                volume, before = np.zeros(shape, dtype=np.int64), frame
            volume[plane] = np.where(mask > 0, mask.astype(np.int64) + int(volume.max()), 0)
        if before >= 0:
            yield before, volume, image.affine(before, setup)


def single_planes(given: Path) -> SinglePlanes | None:
    """Return the gold masks of single planes of a challenge sequence, if it has no others.

    Args:
        given: ``01``, with ``01_GT`` beside it, or that folder. Silver masks of whole frames (``01_ST``), where there are some, are
            the better teachers, unless ``01_GT`` itself is named.
    """
    folder = given.parent if given.name.upper() in ("TRA", "SEG") else given
    sequence = re.fullmatch(r"(\d+)(?:_(GT|ST|RES))?", folder.name, re.IGNORECASE)
    gold = folder
    if sequence is not None:
        gold, silver = (folder.with_name(f"{sequence[1]}_{kind}") for kind in ("GT", "ST"))
        if folder != gold and (sequence[2] or find(silver) is not None):
            return None
    found = find(gold) if gold.is_dir() else None
    if found is None:
        return None
    planes = {(frame, plane): file for (frame, plane), file in found.segmented.items() if plane is not None}
    whole = len(planes) < len(found.segmented)
    return None if whole or not planes else SinglePlanes(gold, planes, found.movie)
