"""Reading Cell Tracking Challenge annotations."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.ctc.layout import Folder, find, read_mask
from bdv_io.ctc.table import PARENT, TRACK, read_table
from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import Hints
from bdv_io.masks import Grid, Spots, spots_of_frames
from bdv_io.runs import Shape
from bdv_io.tags import Feature
from bdv_io.tracks import Tracks

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["GOLD", "GOLD_PLANES", "GOLD_WHOLE", "LABEL", "is_ctc", "read_ctc"]

log = logging.getLogger(__name__)

GOLD, LABEL = "CTC gold", "LABEL"
GOLD_WHOLE, GOLD_PLANES = 1, 2
MOST_COUNTED = 1 << 24  # numbers up to this are counted in a table, which is much faster than sorting them


def is_ctc(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a Cell Tracking Challenge annotation: a folder with a table of tracks or masks, or the table."""
    try:
        found = find(Path(path))
    except (OSError, FormatError):
        return False
    return found is not None


def read_ctc(path: str | os.PathLike[str], *, hints: Hints | None = None, outlines: bool = True) -> Tracks:
    """Read spots from the masks, and links from the table of tracks.

    A spot is a label in a frame; its outline follows the pixels. Spots of a track are linked from frame to frame, and the
    last one of a parent with the first one of each child, over the gap where there is one. The feature "CTC track" keeps
    the label. Where there are gold masks (``SEG`` beside ``TRA``), each takes the place of the marker that it covers most;
    the feature "CTC gold" is 1 there, 2 where only some planes have one, and 0 elsewhere. Segmentation masks alone
    (``01_ST``) give spots without links, and the feature "LABEL". The files hold no calibration: without hints the unit is
    one pixel, and the frame.

    Args:
        path: ``01_GT``, ``01_GT/TRA``, ``01_RES``, ``01_ST``, or the table of tracks.
        hints: Voxel size, unit, interval.
        outlines: Trace the borders of the masks; without, spots are ellipsoids only, which is faster.

    Raises:
        MissingDataError: There is no such folder, or no mask in it.
        FormatError: The table or a mask is damaged or contradicts itself, or masks differ in shape.
    """
    folder = find(Path(path))
    known = hints or Hints()
    if folder is None:
        raise MissingDataError(
            f"Reading {path} failed: it is no annotation of the Cell Tracking Challenge. Give the folder with res_track.txt "
            "(01_RES), with TRA/man_track.txt (01_GT), or with segmentation masks (01_ST)."
        )
    if folder.table is None and any(plane is not None for _, plane in folder.segmented):
        raise FormatError(
            f"Reading {path} failed: it holds masks of single planes, which do not say how deep the image is. Give the folder "
            "above it that has TRA too."
        )
    masks = folder.masks or {frame: file for (frame, _), file in folder.segmented.items() if folder.table is None}
    if not masks:
        raise MissingDataError(
            f"Reading {path} failed: there is a table of tracks, but no masks (mask000.tif or man_track000.tif) beside it."
        )
    affine = np.diag([*(known.voxel_size or (1.0, 1.0, 1.0)), 1.0])
    frames = _Frames(folder, masks, affine)
    spots = spots_of_frames(frames, outlines=outlines)
    grid = Grid(frames.shape, affine, max(masks) + 1)
    interval = known.interval or (None, "frame")
    tracks = Tracks.build(
        spots.t,
        spots.centre,
        covariance=spots.covariance,
        outlines=spots.outlines,
        space_unit=known.unit or "pixel",
        interval=interval[0],
        time_unit=interval[1],
        attributes={"image": str(folder.movie)} if folder.movie else {},
        carried=grid.carried("ctc"),
    )
    if folder.table is None:
        return tracks.with_feature(Feature(LABEL, "", spots.label))
    links, parental = _links(spots, read_table(folder.table), folder.table)
    tracks = replace(tracks, links=links, carried=replace(tracks.carried, links={PARENT: parental}))
    tracks = tracks.with_feature(Feature(TRACK, "", spots.label))
    return tracks.with_feature(Feature(GOLD, "", frames.gold_of(spots))) if folder.segmented else tracks


class _Frames:
    """The masks of a folder one by one, with gold masks in the place of markers."""

    def __init__(self, folder: Folder, masks: dict[int, Path], affine: F64) -> None:
        self.shape: Shape = (0, 0, 0)
        self._folder, self._masks, self._affine = folder, masks, affine
        self._gold: dict[int, list[tuple[I64, int]]] = {}

    def __iter__(self) -> Iterator[tuple[int, Array, F64]]:
        for number, frame in enumerate(sorted(self._masks)):
            mask = read_mask(self._masks[frame])
            self._check(mask.shape, self._masks[frame], first=not number)
            if self._folder.table is not None:
                mask = self._with_gold(mask, frame)
            yield frame, mask, self._affine

    def gold_of(self, spots: Spots) -> npt.NDArray[np.int32]:
        """(N,) whether spots have a gold mask."""
        gold = np.zeros(len(spots.t), dtype=np.int32)
        for frame, found in self._gold.items():
            first, last = np.searchsorted(spots.t, [frame, frame + 1])
            for labels, value in found:
                gold[first:last][np.isin(spots.label[first:last], labels)] = value
        return gold

    def _check(self, shape: tuple[int, ...], file: Path, *, first: bool) -> None:
        z, y, x = shape
        if first:
            self.shape = (z, y, x)
        elif (z, y, x) != self.shape:
            raise FormatError(
                f"Reading the mask {file} failed: it has (Z, Y, X) = {(z, y, x)} voxels, the first one {self.shape}. All masks "
                "of a movie have the same shape."
            )

    def _with_gold(self, mask: Array, frame: int) -> Array:
        files = self._folder.segmented
        found = self._gold.setdefault(frame, [])
        for plane in sorted(p for f, p in files if f == frame and p is not None):
            segmented = read_mask(files[frame, plane])
            part = mask[plane : plane + 1]
            self._fits(segmented.shape, part.shape, files[frame, plane])
            mask = mask.astype(np.int64)
            mask[plane : plane + 1], labels = _replaced(part, segmented, files[frame, plane])
            found.append((labels, GOLD_PLANES))
        if (frame, None) in files:
            segmented = read_mask(files[frame, None])
            self._fits(segmented.shape, mask.shape, files[frame, None])
            mask, labels = _replaced(mask, segmented, files[frame, None])
            found.append((labels, GOLD_WHOLE))
        return mask

    def _fits(self, found: tuple[int, ...], expected: tuple[int, ...], file: Path) -> None:
        if found != expected:
            raise FormatError(
                f"Reading the mask {file} failed: it has (Z, Y, X) = {found} voxels, but the marker image {expected}."
            )


def _replaced(markers: Array, segmented: Array, file: Path) -> tuple[I64, I64]:
    """Put each segmented object in the place of the marker that it covers most; return the image and those labels."""
    (names, row), (marked, at) = _ranked(segmented), _ranked(markers)
    both = np.flatnonzero((segmented != 0) & (markers != 0))
    pair, count = _counted(row.reshape(-1)[both] * len(marked) + at.reshape(-1)[both], len(names) * len(marked))
    pairs = np.stack([names[pair // len(marked)], marked[pair % len(marked)]], axis=1)
    order = np.lexsort((-count, pairs[:, 0]))  # the marker that each object covers most
    order = order[np.unique(pairs[order, 0], return_index=True)[1]]
    order = order[np.lexsort((-count[order], pairs[order, 1]))]  # the object that covers each marker most
    order = order[np.unique(pairs[order, 1], return_index=True)[1]]
    objects, labels = pairs[order].T
    left_over = np.setdiff1d(names[names != 0], objects)
    if len(left_over):
        log.warning(
            "%s has %d masks without a marker of their own in TRA, the first with label %d; they are left out.",
            file,
            len(left_over),
            left_over[0],
        )
    value = np.zeros(len(names), dtype=np.int64)
    value[np.searchsorted(names, objects)] = labels
    image = value[row]
    kept = np.where(np.isin(marked, labels), 0, marked)
    others = kept[at]
    image = np.where(image == 0, others, image)
    seen = np.bincount(at[(others != 0) & (image == others)], minlength=len(marked))
    hidden = (kept != 0) & (seen == 0)
    return np.where(hidden[at], others, image), labels


def _ranked(labels: Array) -> tuple[I64, I64]:
    """Return the numbers in an image, growing, and the image of their places among them."""
    highest = int(labels.max(initial=0))
    if highest > MOST_COUNTED:
        names, place = np.unique(labels, return_inverse=True)
        return names.astype(np.int64), place.reshape(labels.shape)
    names = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=highest + 1))
    place = np.zeros(highest + 1, dtype=np.int64)
    place[names] = np.arange(len(names))
    return names, place[labels]


def _counted(keys: I64, n: int) -> tuple[I64, I64]:
    """Return the keys from 0 to ``n`` that there are, growing, and how often."""
    if n > MOST_COUNTED:
        return np.unique(keys, return_counts=True)
    count = np.bincount(keys, minlength=n)
    there = np.flatnonzero(count)
    return there, count[there]


def _links(spots: Spots, table: I64, file: Path) -> tuple[I64, npt.NDArray[np.int8]]:
    """Links (M, 2) along tracks and from parents to children, and which (M,) are the latter."""
    order = np.lexsort((spots.t, spots.label))
    label, t = spots.label[order], spots.t[order].astype(np.int64)
    same = label[1:] == label[:-1]
    along = np.stack([order[:-1][same], order[1:][same]], axis=1)
    first = np.flatnonzero(np.concatenate([[True], ~same])) if len(label) else np.empty(0, np.int64)
    last = np.concatenate([first[1:], [len(label)]]) - 1 if len(label) else first
    names = label[first]
    _compare(names, t[first], t[last], table=table, file=file)
    if (holes := int((np.diff(t)[same] > 1).sum())) and len(t):
        log.warning("%s: %d tracks or more are absent from masks within their range; linked over the gap.", file, holes)
    children = table[table[:, 3] > 0]
    children = children[np.isin(children[:, 0], names) & np.isin(children[:, 3], names)]
    source = last[np.searchsorted(names, children[:, 3])] if len(names) else np.empty(0, np.int64)
    target = first[np.searchsorted(names, children[:, 0])] if len(names) else source
    # A parent that is still in the masks when its child begins divides where it was last seen before.
    for row in np.flatnonzero(t[source] >= t[target]).tolist():
        earlier = np.flatnonzero((label == label[source[row]]) & (t < t[target[row]]))
        if not len(earlier):
            raise FormatError(
                f"Reading {file} failed: track {children[row, 0]} is in the masks before its parent {children[row, 3]} is."
            )
        source[row] = earlier[-1]
    birth = np.stack([order[source], order[target]], axis=1).reshape(-1, 2)
    parental = np.concatenate([np.zeros(len(along), np.int8), np.ones(len(birth), np.int8)])
    return np.concatenate([along, birth]).astype(np.int64), parental


def _compare(names: I64, first: I64, last: I64, *, table: I64, file: Path) -> None:
    """Say in the log where masks and table disagree."""
    absent, unknown = np.setdiff1d(table[:, 0], names), np.setdiff1d(names, table[:, 0])
    if len(absent):
        log.warning(
            "%s names %d tracks that no mask has, the first %d; they are left out.", file, len(absent), absent[0]
        )
    if len(unknown):
        log.warning(
            "The masks beside %s have %d labels that it does not name, the first %d; they are tracks without parents.",
            file,
            len(unknown),
            unknown[0],
        )
    table = table[np.isin(table[:, 0], names)]
    at = np.searchsorted(names, table[:, 0])
    differ = (first[at] != table[:, 1]) | (last[at] != table[:, 2]) if len(table) else np.zeros(0, dtype=bool)
    if differ.any():
        row = int(np.flatnonzero(differ)[0])
        log.warning(
            "%s: %d tracks begin or end in other frames than their masks, the first %d (frames %d to %d); the masks count.",
            file,
            int(differ.sum()),
            table[row, 0],
            first[at][row],
            last[at][row],
        )
