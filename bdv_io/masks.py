"""Between annotations and label images: spots from labelled frames, and frames painted from spots. No files.

A spot that has outlines is painted by them, any other by its ellipsoid. A voxel in several ellipsoids goes to the one whose
centre is nearest, measured in its own half-axes, so cores win whatever the order of spots. Every spot has at least one voxel: one that is
thinner than the grid, or lies wholly under later spots, gets the voxel nearest to its centre. That cannot be done for a
spot outside of the image; then nothing is painted, and the error names the spot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError, ValidationError
from bdv_io.image import ImageSeries
from bdv_io.moments import measure
from bdv_io.outlines import Outlines
from bdv_io.raster import Rings, ellipsoids_in_voxels, runs_of_rings, trace
from bdv_io.runs import Runs, Shape, paint, runs_of_ellipsoids
from bdv_io.tracks import Carried, Tracks

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
Frame = tuple[int, Array, F64]

__all__ = [
    "ENTRY",
    "Grid",
    "Painter",
    "Spots",
    "grid_of",
    "outlines_of_rings",
    "rings_of_outlines",
    "spots_of_frames",
    "whole",
]

ENTRY = "grid"
SETTLED_AT_ONCE = 1_000_000  # voxels


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels that spots are painted on.

    Attributes:
        shape: Voxels (Z, Y, X) of a frame.
        affine: 4x4 matrix from indices (z, y, x, 1) to the world.
        n_frames: Number of frames.
        unit: Unit of length. interval: Time between frames and its unit, None if unknown.
    """

    shape: Shape
    affine: F64
    n_frames: int
    unit: str = "pixel"
    interval: tuple[float, str] | None = None

    def carried(self, name: str) -> Carried:
        """Return the grid as what a format carries, so that :func:`grid_of` finds it when writing back."""
        said = {"shape": self.shape, "n_frames": self.n_frames, "affine": self.affine.tolist()}
        return Carried(format=name, entries={ENTRY: json.dumps(said).encode()})


def grid_of(tracks: Tracks, image: ImageSeries | None, what: str) -> Grid:
    """Return the grid of the movie, or where there is none, of the masks that the annotation was read from.

    Args:
        tracks: The annotation.
        image: The movie that it belongs to, if known.
        what: What is to be written, for the message: ``"Writing /folder/01_RES"``.

    Raises:
        MissingDataError: Neither says how large the image is.
        ValidationError: A spot is later than the last frame of the movie.
    """
    if image is not None:
        shape, affine = image.shape(0), image.affine(0)
        grid = Grid(shape, affine, image.n_frames, image.setups[0].unit, image.interval)
    elif ENTRY in tracks.carried.entries:
        said = json.loads(tracks.carried.entries[ENTRY])
        z, y, x = said["shape"]
        interval = None if tracks.interval is None else (tracks.interval, tracks.time_unit)
        frames = max(said["n_frames"], tracks.n_frames)
        grid = Grid((z, y, x), np.array(said["affine"]), frames, tracks.space_unit, interval)
    else:
        raise MissingDataError(
            f"{what} failed: a mask needs the size of the image in pixels, which the annotation does not say. "
            "Name the image with --image."
        )
    if tracks.n_frames > grid.n_frames:
        raise ValidationError(
            f"{what} failed: a spot is in frame {tracks.n_frames - 1}, but the image has {grid.n_frames} frames (0 to "
            f"{grid.n_frames - 1}). Check that it is the right image."
        )
    return grid


# ---- labels -> spots -----------------------------------------------------------------------------------------------


class Spots(NamedTuple):
    """Columns of the spots found in label images, frame by frame, ascending by label: t, label, ellipsoid, outlines."""

    t: I32
    label: I64
    centre: F64
    covariance: F64
    outlines: Outlines


def whole(labels: Array, where: str) -> Array:
    """Return a label image as integers; floats are taken if all are whole numbers (ImageJ stores large labels so).

    Raises:
        FormatError: A value is negative, no whole number, or beyond 63 bits; ``where`` names file and frame.
    """
    if labels.dtype.kind == "f":
        if labels.size and not (np.isfinite(labels).all() and (labels == np.floor(labels)).all()):
            raise FormatError(
                f"{where} failed: the image has values that are no whole numbers, so it is no label image. "
                "Give the image of the labels, not of the intensities."
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iub":
        raise FormatError(f"{where} failed: voxels are of type {labels.dtype}; labels are whole numbers.")
    if labels.size and labels.dtype.kind == "i" and int(labels.min()) < 0:
        raise FormatError(f"{where} failed: found the label {int(labels.min())}; labels are 0 (background) or above.")
    if labels.dtype == np.uint64 and labels.size and int(labels.max()) > np.iinfo(np.int64).max:
        raise FormatError(f"{where} failed: found the label {int(labels.max())}, which is beyond 63 bits.")
    return labels


def spots_of_frames(frames: Iterable[Frame], *, outlines: bool = True) -> Spots:
    """Turn label images into spots: one for each label of each frame.

    Args:
        frames: (frame number, (Z, Y, X) labels, 4x4 affine from indices to the world), one at a time in memory.
        outlines: Trace the borders; without, spots have their ellipsoids only, which is faster.
    """
    t: list[Array] = []
    label: list[Array] = []
    centre: list[Array] = []
    covariance: list[Array] = []
    found: list[Outlines] = []
    rings = Outlines.empty()
    n = 0
    for frame, labels, affine in frames:
        shapes = measure(labels, affine)
        t.append(np.full(len(shapes.label), frame, dtype=np.int32))
        label.append(shapes.label)
        centre.append(shapes.centre)
        covariance.append(shapes.covariance)
        if outlines:
            traced = trace(labels)
            row = np.searchsorted(shapes.label, traced.label)
            made = outlines_of_rings(traced, row, affine)
            found.append(replace(made, spot=made.spot + n))
        n += len(shapes.label)
    if found:
        counts = np.concatenate([part.n_vertices for part in found])
        rings = Outlines(
            np.concatenate([part.spot for part in found]),
            np.concatenate([part.z for part in found]),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.concatenate([part.vertices for part in found]),
        )
    return Spots(
        np.concatenate([np.empty(0, np.int32), *t]),
        np.concatenate([np.empty(0, np.int64), *label]),
        np.concatenate([np.empty((0, 3)), *centre]),
        np.concatenate([np.empty((0, 3, 3)), *covariance]),
        rings,
    )


def outlines_of_rings(rings: Rings, row: I64, affine: F64) -> Outlines:
    """Return rings in index coordinates as outlines in the world; ``row`` (R,) is the spot of each ring."""
    _check_planar(affine)
    z = affine[0, 0] * rings.plane + affine[0, 3]
    vertices = rings.vertices @ affine[1:3, 1:3].T + affine[1:3, 3]
    return Outlines.build(row, z, n_vertices=np.diff(rings.start), vertices=vertices)


def rings_of_outlines(outlines: Outlines, affine: F64) -> Rings:
    """Return outlines as rings in index coordinates, each in the nearest plane; ``label`` is the row of the spot + 1."""
    _check_planar(affine)
    to_index = np.linalg.inv(affine)
    plane = np.clip(np.rint((outlines.z - affine[0, 3]) / affine[0, 0]), -1, 2**31)
    vertices = outlines.vertices @ to_index[1:3, 1:3].T + to_index[1:3, 3]
    return Rings(outlines.spot + 1, plane.astype(np.int64), outlines.start, vertices)


def _check_planar(affine: F64) -> None:
    if affine[0, 1:3].any() or affine[1:3, 0].any():
        raise UnsupportedError(
            "Outlines lie in planes of constant z, but this image is registered with a rotation out of its planes. "
            "Use an image that is not tilted, or leave the outlines out."
        )


# ---- spots -> labels -----------------------------------------------------------------------------------------------


class Painter:
    """Paints the frames of an annotation as label images.

    Args:
        tracks: The annotation.
        grid: The voxels.
        values: (N,) label of each spot, above 0; spots of one label in one frame become one object.
        dtype: Integer type of the images.
    """

    def __init__(self, tracks: Tracks, grid: Grid, *, values: I64, dtype: npt.DTypeLike = np.uint16) -> None:
        order = np.argsort(tracks.t, kind="stable")
        self.grid = grid
        self.overlapping = 0
        self._tracks = tracks.select(order)
        self._values = values[order].astype(dtype)
        self._first = np.searchsorted(self._tracks.t, np.arange(grid.n_frames + 1))
        self._has_outline = np.zeros(tracks.n_spots, dtype=bool)
        self._has_outline[self._tracks.outlines.spot] = True

    def frame(self, t: int, affine: F64 | None = None) -> Array:
        """Return the (Z, Y, X) labels of a frame; ``overlapping`` grows by the voxels that spots lost to others.

        Raises:
            ValidationError: A spot has no voxel in the image.
        """
        rows = slice(int(self._first[t]), int(self._first[t + 1]))
        matrix = self.grid.affine if affine is None else affine
        canvas = np.zeros(self.grid.shape, dtype=np.int32)
        n = rows.stop - rows.start
        claimed = 0
        for runs in self._runs(rows, matrix):
            paint(canvas, runs)
            claimed += runs.n_voxels
        if claimed > np.count_nonzero(canvas):
            self._settle(canvas, rows, matrix)
        size = np.bincount(canvas.reshape(-1), minlength=n + 1)
        self._rescue(canvas, size, rows, matrix)
        self.overlapping += max(claimed - int(np.count_nonzero(canvas)), 0)
        return np.concatenate([np.zeros(1, self._values.dtype), self._values[rows]])[canvas]

    def _runs(self, rows: slice, affine: F64) -> Iterator[Runs]:
        """The voxels of spots, their owners counted from the first."""
        if self._has_outline[rows].any():
            yield from self._outlined(rows, affine)
        plain = np.arange(rows.start, rows.stop)[~self._has_outline[rows]]
        if len(plain):
            middle, factor = ellipsoids_in_voxels(self._tracks.centre[plain], self._tracks.covariance[plain], affine)
            runs = runs_of_ellipsoids(middle, factor, np.ones(len(plain)), self.grid.shape)
            yield replace(runs, owner=plain[runs.owner] - rows.start)

    def _settle(self, canvas: I32, rows: slice, affine: F64) -> None:
        """Give each voxel that lies in several ellipsoids to the nearest by Mahalanobis distance; outlines keep theirs."""
        plain = np.arange(rows.start, rows.stop)[~self._has_outline[rows]]
        if len(plain) < 2:
            return
        place = np.full(rows.stop - rows.start + 1, -1, dtype=np.int64)  # of a painted value in ``plain``
        place[plain - rows.start + 1] = np.arange(len(plain))
        middle, factor = ellipsoids_in_voxels(self._tracks.centre[plain], self._tracks.covariance[plain], affine)
        painted = canvas.reshape(-1)
        claims: list[tuple[I64, I64]] = []
        for part in runs_of_ellipsoids(middle, factor, np.ones(len(plain)), self.grid.shape).parts(SETTLED_AT_ONCE):
            flat, owner = part.voxels()
            winner = place[painted[flat]]
            lost = np.flatnonzero((winner != owner) & (winner >= 0))
            claims += [(flat[lost], owner[lost]), (flat[lost], winner[lost])]
        flat, owner = (np.concatenate(column) for column in zip(*claims, strict=True))
        offset = np.stack(np.unravel_index(flat, self.grid.shape), axis=-1) - middle[owner]
        steps = np.einsum("nij,nj->ni", np.linalg.inv(factor)[owner], offset)
        # Distances that are equal by symmetry differ in their last digits; then the first centre in (z, y, x) wins.
        first = np.empty(len(plain), dtype=np.int64)
        first[np.lexsort(middle.T[::-1])] = np.arange(len(plain))
        order = np.lexsort((first[owner], np.round((steps**2).sum(axis=1), 9), flat))
        best = np.ones(len(order), dtype=bool)
        best[1:] = flat[order][1:] != flat[order][:-1]
        painted[flat[order][best]] = plain[owner[order][best]] - rows.start + 1

    def _outlined(self, rows: slice, affine: F64) -> Iterator[Runs]:
        """Runs of the frame's outlines, their owners counted from the frame's first spot."""
        outlines = self._tracks.outlines
        first, last = np.searchsorted(outlines.spot, [rows.start, rows.stop])
        start = outlines.start[first : last + 1]
        part = Outlines(
            outlines.spot[first:last] - rows.start,
            outlines.z[first:last],
            start - start[0],
            outlines.vertices[start[0] : start[-1]],
        )
        # Rings of one spot at one z belong together, even where two such planes fall into one of the grid.
        order = np.lexsort((part.z, part.spot))
        part = part.reordered(order)
        new = np.ones(len(part), dtype=bool)
        new[1:] = (part.spot[1:] != part.spot[:-1]) | (part.z[1:] != part.z[:-1])
        spot_of = part.spot[new]
        for runs in runs_of_rings(rings_of_outlines(part, affine), np.cumsum(new) - 1, self.grid.shape):
            yield replace(runs, owner=spot_of[runs.owner])

    def _rescue(self, canvas: I32, size: I64, rows: slice, affine: F64) -> None:
        """Give each spot without a voxel one: of its own the nearest to its centre, or the one at its centre."""
        hidden = np.flatnonzero(size[1 : rows.stop - rows.start + 1] == 0)
        to_index = np.linalg.inv(affine)
        middle = self._tracks.centre[rows][hidden] @ to_index[:3, :3].T + to_index[:3, 3]
        nearest = np.floor(middle + 0.5)
        inside = ((nearest >= 0) & (nearest < self.grid.shape)).all(axis=1)
        flat_canvas = canvas.reshape(-1)
        n_z, n_y, n_x = self.grid.shape
        for spot, centre, near, has_centre in zip(hidden.tolist(), middle, nearest, inside.tolist(), strict=True):
            row = rows.start + spot
            own = np.concatenate([np.empty(0, np.int64), *(r.flat() for r in self._runs(slice(row, row + 1), affine))])
            if not len(own) and has_centre:
                z, y, x = near.astype(np.int64).tolist()
                own = np.array([(z * n_y + y) * n_x + x])
            taken = flat_canvas[own]
            may_have = own[(taken == 0) | (size[taken] > 1)]
            if not len(may_have):
                raise ValidationError(self._hidden(row, outside=not len(own)))
            away = ((np.stack(np.unravel_index(may_have, (n_z, n_y, n_x)), axis=1) - centre) ** 2).sum(axis=1)
            chosen = may_have[np.argmin(away)]
            size[flat_canvas[chosen]] -= 1
            flat_canvas[chosen] = spot + 1
            size[spot + 1] = 1

    def _hidden(self, row: int, *, outside: bool) -> str:
        tracks = self._tracks
        name = f" ('{tracks.label[row]}')" if tracks.label[row] is not None else ""
        z, y, x = (f"{number:.6g}" for number in tracks.centre[row])
        why = (
            f"it lies outside of the image, which has (Z, Y, X) = {self.grid.shape} voxels. Check that it is the right image"
            if outside
            else "other spots with a single voxel cover it wholly. Move or remove one of them"
        )
        return (
            f"Painting spot {tracks.id[row]}{name} in frame {tracks.t[row]} at z, y, x = {z}, {y}, {x} failed: {why}; a mask "
            "cannot say that a cell is there without a voxel."
        )
