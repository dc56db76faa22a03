"""The two sides of an evaluation: spots, the challenge's tracks, and frames of numbered cells, of any format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import MissingDataError, Tracks
from bdv_io.ctc.layout import Folder, find, read_mask
from bdv_io.ctc.read import read_ctc
from bdv_io.ctc.table import TRACK, chains_of, read_table
from bdv_io.formats import Format, identify, open_image, read_tracks
from bdv_io.image import Hints
from bdv_io.label_image import LABEL, LabelSeries, tracks_of_labels
from bdv_io.masks import Grid, grid_of, whole
from bdv_io.ngff import length_in
from howdah.errors import DataError
from howdah.metrics.challenge_cells import NOBODY, Cells
from howdah.pipeline.error_tags import without_evaluation
from howdah.pipeline.sources import movie_of

Array = npt.NDArray[Any]
I64 = npt.NDArray[np.int64]

MOST_FRAMES = 10_000_000  # of a movie; what is counted by frame must fit in memory

__all__ = ["Labelled", "Side", "in_unit_of", "labelled", "painted", "read_side"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Frames of numbered cells, read or painted one at a time.

    Attributes:
        n_frames: Number of frames.
        read: Returns the labels (Z, Y, X) of a frame, or None where there is none.
        rows: Returns the spots (rows of the annotation) that some labels of a frame stand for; -1 for none.
    """

    n_frames: int
    read: Callable[[int], Array | None]
    rows: Callable[[I64, int], I64]


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two.

    Attributes:
        path: The file or folder.
        format: What it is.
        tracks: Its spots and links.
        cells: The same as the challenge sees them; rows are those of ``tracks``.
        folder: Where it is a challenge's folder: its files.
        merges: Links to a spot with another parent, which the challenge does not know.
    """

    path: Path
    format: Format
    tracks: Tracks
    cells: Cells
    folder: Folder | None
    merges: int = 0

    @property
    def with_table(self) -> bool:
        """Whether it is a challenge's folder with a table of tracks."""
        return self.folder is not None and self.folder.table is not None

    @property
    def has_masks(self) -> bool:
        """Whether it holds cells as pixels or outlines, not as points or ellipsoids."""
        return self.has_pixels or bool(len(self.tracks.outlines.spot))

    @property
    def has_pixels(self) -> bool:
        """Whether it is a label image or a challenge's folder."""
        return self.format.kind == "image" or self.folder is not None


def read_side(path: Path, hints: Hints, *, outlines: bool = False) -> Side:
    """Read an annotation, a label image or a challenge's folder.

    Args:
        path: The file or folder.
        hints: What it does not say itself.
        outlines: Trace the borders of masks, which costs time, for somebody wants to draw or write them.

    Raises:
        BdvIoError: As the sentence says.
        DataError: It has a spot in a frame that no movie has.
    """
    known = identify(path)
    given = hints if hints.given else None
    if known.kind == "image":
        image = open_image(path, hints=given)
        try:
            tracks = tracks_of_labels(image, outlines=outlines)
            n_frames = image.n_frames
        finally:
            image.close()
        return _side(path, known, tracks, n_frames)
    if known.key == "ctc":
        tracks, folder = read_ctc(path, hints=given, outlines=outlines), find(path)
        n_frames = _n_frames(folder) if folder is not None else tracks.n_frames
        return _side(path, known, tracks, n_frames, folder)
    tracks = without_evaluation(read_tracks(path, hints=given if known.hints else None))
    if tracks.n_frames > MOST_FRAMES:
        raise DataError(
            f"Comparing {path} failed: it has a spot in frame {tracks.n_frames - 1:,}, where no movie ends (at most "
            f"{MOST_FRAMES:,} frames). Its column of frames is damaged, or holds times: frames count from 0."
        )
    return _side(path, known, tracks, tracks.n_frames)


def in_unit_of(side: Side, other: Side) -> Side:
    """Return a side in the unit of the other where both name the same one (um, micron, µm); else as it is."""
    units = side.tracks.space_unit, other.tracks.space_unit
    if units[0] == units[1] or length_in(*units) != 1.0:
        return side
    return replace(side, tracks=replace(side.tracks, space_unit=units[1]))


def _n_frames(folder: Folder) -> int:
    frames = [*folder.masks, *(frame for frame, _ in folder.segmented if not folder.masks)]
    return max(frames, default=-1) + 1


def _side(path: Path, known: Format, tracks: Tracks, n_frames: int, folder: Folder | None = None) -> Side:
    label, table, merges = _chains(tracks, folder)
    cells = Cells(tracks.t.astype(np.int64), label, table, max(n_frames, tracks.n_frames))
    return Side(path, known, tracks, cells, folder, merges)


def _chains(tracks: Tracks, folder: Folder | None) -> tuple[I64, I64, int]:
    """Number of the track of each spot, and the table: as the folder says them, else made as if it were written as a folder."""
    feature = tracks.feature(TRACK)
    if folder is not None and folder.table is not None and feature is not None:
        return feature.values.astype(np.int64), read_table(folder.table), 0
    chains = chains_of(tracks)
    merges = int((tracks.n_parents() > 1).sum())
    return chains.label.astype(np.int64), chains.table, merges


def labelled(side: Side) -> Labelled | None:
    """Return the cells of a side as it stores them: markers or masks of a folder, a label image; None for annotations.

    Of a challenge's truth these are the markers in ``TRA``, which say where cells are, not what shape they have.
    """
    if side.folder is not None:
        files = side.folder.masks or {
            frame: file for (frame, plane), file in side.folder.segmented.items() if plane is None
        }
        name = TRACK if side.folder.table is not None else LABEL

        def read_file(frame: int) -> Array | None:
            return read_mask(files[frame]) if frame in files else None

        return Labelled(side.cells.n_frames, read_file, _by_number(side.tracks, name))
    if side.format.kind == "image":
        movie = open_image(side.path)
        missing = [movie.is_missing(t, 0) for t in range(movie.n_frames)]
        movie.close()

        def read_image(frame: int) -> Array | None:
            if frame >= len(missing) or missing[frame]:
                return None
            try:
                return whole(movie.read(frame, 0), str(side.path))
            finally:
                movie.close()

        return Labelled(len(missing), read_image, _by_number(side.tracks, LABEL))
    return None


def _by_number(tracks: Tracks, name: str) -> Callable[[I64, int], I64]:
    """Return which rows of spots the numbers in a feature stand for."""
    feature = tracks.feature(name)
    number = np.zeros(tracks.n_spots, np.int64) if feature is None else feature.values.astype(np.int64)
    return Cells(tracks.t.astype(np.int64), number, np.empty((0, 4), np.int64), tracks.n_frames).rows


def painted(side: Side, beside: Side) -> Labelled | None:
    """Paint the outlines or ellipsoids of an annotation on the frames of its movie, or on those of what it is compared with.

    None where nothing says how large the frames are.
    """
    tracks, what = side.tracks, "Comparing masks"
    image = None
    grid: Grid
    try:
        grid = grid_of(tracks, None, what)
    except MissingDataError:
        try:
            image = open_image(movie_of(side.path, tracks, None))
            grid = grid_of(tracks, image, what)
        except MissingDataError:
            try:
                grid = grid_of(beside.tracks, None, what)
            except MissingDataError:
                return None
            if beside.tracks.space_unit != tracks.space_unit or tracks.n_frames > grid.n_frames:
                return None
    series = LabelSeries(tracks, grid, values=np.arange(1, tracks.n_spots + 1, dtype=np.int64), image=image)
    if image is not None:
        image.close()

    def read(frame: int) -> Array | None:
        return np.asarray(series.read(frame)) if frame < grid.n_frames else None

    def rows(label: I64, frame: int) -> I64:
        return np.where(label > 0, label - 1, NOBODY)

    return Labelled(grid.n_frames, read, rows)
