"""Masks of any source, frame by frame, and their scores: SEG, average precision, IoU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import MissingDataError, Tracks
from bdv_io.ctc.layout import find, read_mask
from bdv_io.formats import Format, open_image
from bdv_io.image import Hints
from bdv_io.label_image import LabelSeries
from bdv_io.masks import grid_of, whole
from howdah.errors import DataError
from howdah.metrics import overlaps
from howdah.pipeline.sources import movie_of

Array = npt.NDArray[Any]
Key = tuple[int, int | None]

__all__ = ["MaskScore", "Masks", "masks_of"]

HALF = 0.5  # IoU of a pair; above it no cell has two partners


@dataclass(frozen=True, eq=False)
class Masks:
    """Label images that are read when they are asked for.

    Attributes:
        keys: (frame, plane) of each mask; plane None for whole frames.
        frames: Reads a frame (Z, Y, X), or one of the planes (1, Y, X) that there are.
    """

    keys: tuple[Key, ...]
    frames: Callable[[int, int | None], Array]

    def read(self, frame: int, plane: int | None) -> Array:
        """Return the labels of a frame (Z, Y, X), or of one plane of it (1, Y, X).

        Raises:
            DataError: There is no such frame or plane.
        """
        if (frame, plane) in self.keys:
            return self.frames(frame, plane)
        if (frame, None) not in self.keys:
            raise DataError(
                f"The truth has a mask of frame {frame}, which the result has not (it has {len(self.keys)} frames). Do they belong "
                "together?"
            )
        whole_frame = self.frames(frame, None)
        if plane is None or plane >= len(whole_frame):
            raise DataError(
                f"The truth has a mask of plane {plane} of frame {frame}; the result has {len(whole_frame)} planes."
            )
        return whole_frame[plane : plane + 1]


def masks_of(path: Path, known: Format, tracks: Tracks, *, hints: Hints | None, beside: Tracks) -> Masks | None:
    """Return the masks of a source, or None where it has none that could be compared pixel by pixel.

    Of a challenge's truth these are the gold or silver masks in ``SEG``; markers are none. Of an annotation they are its outlines,
    painted on the frames of its movie, or where nobody knows that, on those of what it is compared with (``beside``).
    """
    if known.kind == "image":
        return _of_image(path, hints)
    if known.key == "ctc":
        found = find(path)
        files: Mapping[Key, Path] = {} if found is None else found.segmented
        if found is not None and not files and not any(f.name.startswith("man_track") for f in found.masks.values()):
            files = {(frame, None): file for frame, file in found.masks.items()}
        return Masks(tuple(sorted(files, key=str)), lambda t, z: read_mask(files[t, z])) if files else None
    return _painted(path, tracks, beside) if len(np.unique(tracks.outlines.spot)) else None


def _of_image(path: Path, hints: Hints | None) -> Masks:
    movie = open_image(path, hints=hints)
    try:
        keys = tuple((t, None) for t in range(movie.n_frames) if not movie.is_missing(t, 0))
    finally:
        movie.close()

    def read(frame: int, plane: int | None) -> Array:
        try:
            return whole(movie.read(frame, 0), str(path))
        finally:
            movie.close()

    return Masks(keys, read)


def _painted(path: Path, tracks: Tracks, beside: Tracks) -> Masks | None:
    """Paint the spots of an annotation; None where nothing says how large its frames are."""
    outlined = tracks.select(np.unique(tracks.outlines.spot))
    what = "Comparing masks"
    image = None
    try:
        grid = grid_of(outlined, None, what)
    except MissingDataError:
        try:
            image = open_image(movie_of(path, tracks, None))
            grid = grid_of(outlined, image, what)
        except MissingDataError:
            try:
                grid = grid_of(beside, None, what)
            except MissingDataError:
                return None
            if beside.space_unit != tracks.space_unit or outlined.n_frames > grid.n_frames:
                return None
    series = LabelSeries(outlined, grid, values=np.arange(1, outlined.n_spots + 1, dtype=np.int64), image=image)
    if image is not None:
        image.close()
    return Masks(tuple((t, None) for t in range(grid.n_frames)), lambda t, _: np.asarray(series.read(t)))


@dataclass(frozen=True)
class MaskScore:
    """Sums over frames, from which measures are made; add two for both.

    Attributes:
        n_true: True cells.
        n_found: Predicted cells.
        jaccard: Sum of the scores of SEG over true cells.
        pairs: True and predicted cells with an IoU above one half.
        iou: Sum of the IoU of these pairs.
        both: Pixels that are cell in both.
        either: Pixels that are cell in one.
    """

    n_true: int = 0
    n_found: int = 0
    jaccard: float = 0.0
    pairs: int = 0
    iou: float = 0.0
    both: int = 0
    either: int = 0

    @classmethod
    def of(cls, truth: Array, predicted: Array) -> MaskScore:
        """Compare two label images of one shape.

        Raises:
            DataError: They are no labels, or differ in shape.
        """
        table = overlaps(truth, predicted)
        good = table.iou > HALF
        both = int(table.shared.sum())
        return cls(
            n_true=len(table.truth_label),
            n_found=len(table.predicted_label),
            jaccard=float(table.jaccard().sum()),
            pairs=int(good.sum()),
            iou=float(table.iou[good].sum()),
            both=both,
            either=int(table.truth_size.sum() + table.predicted_size.sum()) - both,
        )

    def __add__(self, other: MaskScore) -> MaskScore:
        """Return the sums of both."""
        return MaskScore(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def to_dict(self) -> dict[str, float]:
        """Return SEG (mean Jaccard index of true cells), AP50 = TP / (TP + FP + FN) and F1 at an IoU above one half,
        the mean IoU of these pairs, the IoU of cell against background, and the counts; NaN where there is nothing.
        """
        nan = float("nan")
        total = self.n_true + self.n_found
        return {
            "SEG": self.jaccard / self.n_true if self.n_true else nan,
            "AP50": self.pairs / (total - self.pairs) if total else nan,
            "F1": 2 * self.pairs / total if total else nan,
            "IoU_of_pairs": self.iou / self.pairs if self.pairs else nan,
            "IoU_of_pixels": self.both / self.either if self.either else nan,
            "cells_true": self.n_true,
            "cells_found": self.n_found,
        }
