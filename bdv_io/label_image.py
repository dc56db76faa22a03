"""Label images: every cell of a frame has its own number, 0 is background.

The pixels may lie in any image format that :mod:`bdv_io.formats` knows; this module adds what the numbers mean. It stands
above the image formats, so it is the one format that opens others: through :func:`bdv_io.formats.open_image` alone.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError, ValidationError
from bdv_io.formats import open_image, writing_image
from bdv_io.image import Hints, ImageSeries, Region, Setup, WriteOptions
from bdv_io.masks import Frame, Grid, Painter, grid_of, spots_of_frames, whole
from bdv_io.runs import Shape
from bdv_io.tags import Feature
from bdv_io.tracks import Tracks

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["LABEL", "LabelSeries", "lost_in_labels", "read_labels", "tracks_of_labels", "write_labels"]

log = logging.getLogger(__name__)

LABEL = "LABEL"  # the feature that keeps the number of a spot in its image


def read_labels(path: str | os.PathLike[str], *, hints: Hints | None = None) -> Tracks:
    """Read a label image of any image format as spots with outlines; see :func:`tracks_of_labels`.

    Raises:
        FormatError: It is no image of labels, or has several channels.
    """
    image = open_image(path, hints=hints)
    try:
        return tracks_of_labels(image)
    finally:
        image.close()


def tracks_of_labels(image: ImageSeries, *, setup: int = 0, links_by_id: bool = True, outlines: bool = True) -> Tracks:
    """Turn a movie of label images into spots: one for each label of each frame.

    The outline follows the pixels; centre and covariance are measured from them. The feature "LABEL" keeps the number.

    Args:
        image: The opened movie; frames are read one at a time.
        setup: Which setup holds the labels; an image with several needs to be told.
        links_by_id: The same number in consecutive frames is the same cell, and linked.
        outlines: Trace the borders; without, spots are ellipsoids only.

    Raises:
        FormatError: Values are no whole numbers or negative, or the image has several channels.
    """
    if len(image.setups) > 1 and setup == 0:
        names = ", ".join(f"{i} ({s.name})" for i, s in enumerate(image.setups))
        raise FormatError(
            f"Reading labels from {image.path} failed: the image has {len(image.setups)} channels or setups ({names}), so it is "
            "not clear which one holds the labels. Give an image of the labels alone."
        )

    def frames() -> Any:
        for t in range(image.n_frames):
            if not image.is_missing(t, setup):
                yield _frame(image, t, setup)

    spots = spots_of_frames(frames(), outlines=outlines)
    interval = image.interval or (None, "frame")
    unit = image.setups[setup].unit
    grid = Grid(image.shape(0, setup), image.affine(0, setup), image.n_frames)
    links = _same_label(spots.t.astype(np.int64), spots.label) if links_by_id else None
    tracks = Tracks.build(
        spots.t,
        spots.centre,
        covariance=spots.covariance,
        links=links,
        outlines=spots.outlines,
        space_unit=unit,
        interval=interval[0],
        time_unit=interval[1],
        carried=grid.carried("labels"),
    )
    return tracks.with_feature(Feature(LABEL, "", spots.label))


def _frame(image: ImageSeries, t: int, setup: int) -> Frame:
    labels = whole(image.read(t, setup), f"Reading the labels of frame {t} of {image.path}")
    return t, labels, image.affine(t, setup)


def _same_label(t: I64, label: I64) -> I64:
    order = np.lexsort((t, label))
    step = (label[order][1:] == label[order][:-1]) & (np.diff(t[order]) == 1)
    return np.stack([order[:-1][step], order[1:][step]], axis=1)


# ---- writing -------------------------------------------------------------------------------------------------------


class LabelSeries:
    """An annotation as a movie of label images, painted frame by frame when it is read: an :class:`ImageSeries`.

    Args:
        tracks: The annotation.
        grid: The voxels to paint on.
        values: (N,) number of each spot, above 0.
        image: The movie, for the position of each frame in the world; None for the position of the grid.

    Raises:
        UnsupportedError: A number is beyond 32 bits.
    """

    format = "labels"
    path: Path | None = None

    def __init__(self, tracks: Tracks, grid: Grid, *, values: I64, image: ImageSeries | None = None) -> None:
        most = int(values.max()) if len(values) else 0
        if most > np.iinfo(np.uint32).max:
            raise UnsupportedError(
                f"Writing labels failed: the number {most} is beyond 32 bits, which is what images hold. Number the spots anew."
            )
        dtype = np.dtype(np.uint16 if most <= np.iinfo(np.uint16).max else np.uint32)
        self.n_frames = grid.n_frames
        self.timepoints = tuple(range(grid.n_frames)) if image is None else image.timepoints
        self.interval = grid.interval
        z, y, x = np.sqrt((grid.affine[:3, :3] ** 2).sum(axis=0)).tolist()
        size = (z, y, x) if image is None else image.setups[0].voxel_size
        self.setups = (Setup(0, "labels", grid.shape, size, grid.unit, dtype),)
        self.painter = Painter(tracks, grid, values=values, dtype=dtype)
        self._grid, self._image = grid, image

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Return False: a frame without spots is an empty image."""
        return False

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of a frame."""
        return self._grid.shape

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix from voxel indices to world coordinates."""
        return self._grid.affine if self._image is None else self._image.affine(frame)

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Paint a frame, or cut a region from it; (Z, Y, X)."""
        if not 0 <= frame < self.n_frames or setup or level:
            raise MissingDataError(
                f"Frame {frame}, setup {setup}, level {level} of painted labels was asked for; there are {self.n_frames} frames, "
                "one setup and one level."
            )
        labels = self.painter.frame(frame, self.affine(frame))
        return labels if region is None else labels[region]

    def close(self) -> None:
        """Do nothing: there is no file."""


def numbers_of(tracks: Tracks) -> I64:
    """(N,) number of each spot in its image: the feature "LABEL" where it can be kept, else its track from 1.

    The feature is kept if all spots have one, above 0, and no two spots of a frame have the same; so what was read is
    written back with the same numbers. A division gives one number to all cells of a track; then spots of one frame
    would share it, so tracks are cut there: each cell from division to division has its own number.
    """
    feature = tracks.feature(LABEL)
    if feature is not None and (feature.defined is None or feature.defined.all()) and tracks.n_spots:
        kept = np.where(np.isfinite(feature.values), feature.values, 0).astype(np.int64)
        pairs = np.stack([tracks.t.astype(np.int64), kept], axis=1)
        if (kept > 0).all() and len(np.unique(pairs, axis=0)) == tracks.n_spots:
            return kept
    single = tracks.n_children()[tracks.links[:, 0]] == 1
    single &= tracks.n_parents()[tracks.links[:, 1]] == 1
    _, cell = tracks.select_links(single).tracks()
    return cell.astype(np.int64) + 1


def lost_in_labels(tracks: Tracks) -> list[str]:
    """Return sentences about what of an annotation a label image cannot hold."""
    lost = []
    values = numbers_of(tracks)
    source, target = tracks.links.T
    said = (values[source] == values[target]) & (tracks.t[target] - tracks.t[source] == 1)
    if not said.all():
        lost.append(
            f"{int((~said).sum())} links, those of divisions, merges and gaps: a label image only says that a number in "
            "consecutive frames is the same cell."
        )
    plain = tracks.n_spots - len(np.unique(tracks.outlines.spot))
    if plain:
        lost.append(f"{plain} spots have no outline: their ellipsoids become voxels.")
    labels = int(sum(label is not None for label in tracks.label.tolist()))
    if labels:
        lost.append(f"Labels of {labels} spots: an image has numbers only.")
    if np.isfinite(tracks.quality).any():
        lost.append("The quality of spots.")
    if tracks.tag_sets:
        lost.append(f"Tags: {', '.join(tags.name for tags in tracks.tag_sets)}.")
    features = [feature.name for feature in tracks.features if feature.name != LABEL]
    if features:
        lost.append(f"Features: {', '.join(dict.fromkeys(features))}.")
    return lost


def write_labels(path: str | os.PathLike[str], tracks: Tracks, *, image: ImageSeries | None = None) -> None:
    """Write spots as a label image, in the image format that the ending of ``path`` asks for.

    Spots are painted by their outlines, or where there are none by their ellipsoids; each has at least one voxel. Where
    spots overlap the later one has the voxels, and a log line says how many. There is one resolution level: the mean of
    two labels is a third cell.

    Args:
        path: The image; what was there before is kept beside it.
        tracks: The annotation.
        image: The movie, which says how large the image is; without it, it is as large as the one that was read.

    Raises:
        MissingDataError: Nothing says how large the image is.
        ValidationError: A spot has no voxel in the image.
    """
    target = Path(path)
    grid = grid_of(tracks, image, f"Writing {target}")
    if image is not None and any(image.shape(t) != grid.shape for t in range(image.n_frames)):
        raise ValidationError(f"Writing {target} failed: the frames of {image.path} differ in shape.")
    series = LabelSeries(tracks, grid, values=numbers_of(tracks), image=image)
    for _ in writing_image(target, series, options=replace(WriteOptions(), levels=((1, 1, 1),))):
        pass
    if series.painter.overlapping:
        log.warning(
            "%s: voxels lie in several spots; of ellipsoids the nearer has them, of outlines the later.", target
        )
