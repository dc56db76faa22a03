"""Reading ImageJ ROI sets."""

from __future__ import annotations

import logging
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import Hints
from bdv_io.masks import outlines_of_rings
from bdv_io.moments import measure_polygons
from bdv_io.raster import Rings
from bdv_io.tags import UNTAGGED, Feature, Tag, TagSet
from bdv_io.tracks import LABEL_DTYPE, Tracks

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["CHANNEL", "COLOUR", "GROUP", "SPOT", "is_roi_set", "read_rois", "tracks_of_rois"]

log = logging.getLogger(__name__)

MAX_ENTRIES = 2_000_000
MAX_ENTRY = 64 * 2**20
MAX_TOTAL = 2 * 2**30
MAGIC = b"Iout"
COLOUR, GROUP, CHANNEL = "ROI colour", "ROI group", "ROI channel"
PLAIN = re.compile(r"howdah_plain: ([TZ])")
SPOT = "howdah_spot"  # the property by which the ROIs of one spot in several planes know each other
NUMBER = re.compile(rf"^{SPOT}[:=]\s*(-?\d{{1,18}})\s*$", re.MULTILINE)
NO_COLOUR = b"\0\0\0\0"


def is_roi_set(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an ImageJ ROI, or a zip file with one."""
    try:
        with Path(path).open("rb") as file:
            if file.read(4) == MAGIC:
                return True
        with zipfile.ZipFile(path) as archive:
            return any(entry.filename.lower().endswith(".roi") for entry in archive.infolist()[:100])
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read_rois(path: str | os.PathLike[str], *, hints: Hints | None = None) -> Tracks:
    """Read area ROIs as spots with outlines, one a ROI; there are no links.

    Polygons, freehand and traced areas, rectangles, ovals, ellipses and composites are read; lines, points and texts have
    no area and are left out, which a log line says. The name becomes the label, the stroke colour a tag of the set
    "ROI colour", the group one of "ROI group", the channel the feature "ROI channel". ROIs that Howdah wrote for one spot
    in several planes become one spot again.

    A ROI says its frame by a hyperstack position; without one it is in frame 0. A position in a plain stack may be a
    frame or a slice: then ``hints.axes`` must say which, TYX or ZYX. Axes without Z also turn slices into frames, for
    ROIs that were drawn on a movie that ImageJ took for a z stack. There is no calibration: without hints the unit is
    one pixel.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is damaged or absurdly large, no ROI has an area, or its positions are ambiguous.
    """
    file = Path(path)
    return tracks_of_rois(_entries(file), file, hints=hints)


def tracks_of_rois(rois: Iterable[tuple[str, bytes]], source: str | Path, *, hints: Hints | None = None) -> Tracks:
    """Turn ROIs, each given by its name and in the bytes of a ``.roi`` file, into spots, as :func:`read_rois` does.

    Args:
        rois: The ROIs.
        source: Where they are from, for messages.
        hints: As for :func:`read_rois`.

    Raises:
        FormatError: As for :func:`read_rois`.
    """
    file, known = source, hints or Hints()
    columns = _Columns()
    for name, data in rois:
        columns.take(name, data)
    columns.report(file)
    affine = np.diag([*(known.voxel_size or (1.0, 1.0, 1.0)), 1.0])
    t, z = _positions(columns.position, known.axes or columns.axes, file)
    interval = known.interval or (None, "frame")
    units: dict[str, Any] = {"space_unit": known.unit or "pixel", "interval": interval[0], "time_unit": interval[1]}
    if not len(t):
        return Tracks.empty(**units)
    spot, first, number = _spots(t, columns.spot)
    count = np.array(columns.n_rings, dtype=np.int64)
    ring_spot, ring_z = np.repeat(spot, count), np.repeat(z, count)
    order = np.lexsort((ring_z, ring_spot))
    pieces = [columns.rings[i] for i in order.tolist()]
    start = np.concatenate([[0], np.cumsum([len(ring) for ring in pieces])]).astype(np.int64)
    corners = np.concatenate(pieces)
    rings = Rings(ring_spot[order] + 1, ring_z[order], start, corners[:, ::-1] - 0.5)
    centre, covariance, _ = measure_polygons(
        ring_spot[order],
        ring_z[order].astype(np.float64),
        start=start,
        vertices=rings.vertices,
        n_objects=len(first),
        affine=affine,
    )
    tracks = Tracks.build(
        t[first],
        centre,
        covariance=covariance,
        label=np.array([columns.label[i] for i in first.tolist()], dtype=LABEL_DTYPE),
        id=number,
        outlines=outlines_of_rings(rings, ring_spot[order], affine),
        **units,
    )
    return _with_extras(tracks, columns, first)


@dataclass
class _Columns:
    """What the ROIs say, one row a ROI that has an area."""

    rings: list[F64] = field(default_factory=list)
    n_rings: list[int] = field(default_factory=list)
    position: list[tuple[int, int, int, int]] = field(default_factory=list)
    label: list[str | None] = field(default_factory=list)
    spot: list[int | None] = field(default_factory=list)
    colour: list[str] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    splines: int = 0
    axes: str | None = None  # what plain positions mean, where Howdah wrote the ROIs

    def take(self, name: str, data: bytes) -> None:
        """Add a ROI."""
        from roifile import ROI_OPTIONS

        from bdv_io.roi_set.shapes import parsed, rings_of

        roi = parsed(data, name)
        rings = rings_of(roi, data, name)
        if not rings:
            self.left_out[roi.roitype.name.lower() if rings is None else "area of size 0"] += 1
            return
        own, counted = NUMBER.search(roi.props), PLAIN.search(roi.props)
        self.axes = f"{counted[1]}YX" if counted else self.axes
        self.rings += rings
        self.n_rings.append(len(rings))
        # The order of the row: position in a plain stack, channel, slice, frame; negative numbers mean nothing.
        place = (roi.position, roi.c_position, roi.z_position, roi.t_position)
        self.position.append((max(place[0], 0), max(place[1], 0), max(place[2], 0), max(place[3], 0)))
        self.spot.append(int(own[1]) if own else None)
        self.label.append((roi.name or None) if own else (roi.name or re.sub(r"\.roi$", "", name, flags=re.I) or None))
        self.colour.append("" if roi.stroke_color == NO_COLOUR else "#" + roi.stroke_color.hex())
        self.group.append(roi.group)
        self.splines += bool(roi.options & ROI_OPTIONS.SPLINE_FIT)

    def report(self, file: str | Path) -> None:
        """Say what was left out; that nothing is left is an error."""
        found = ", ".join(f"{count} {kind}" for kind, count in self.left_out.items())
        if self.left_out and not self.rings:
            raise FormatError(
                f"Reading {file} failed: none of its ROIs is an area (found: {found}). Outlines come from polygons, freehand and "
                "traced areas, rectangles, ovals and composites."
            )
        if self.left_out:
            log.warning("%s: ROIs without an area were left out: %s.", file, found)
        if self.splines:
            log.warning("%s: %d ROIs are splines; their control points are read as polygons.", file, self.splines)


def _entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each ROI in a file."""
    try:
        with path.open("rb") as file:
            if file.read(4) == MAGIC:
                file.seek(0)
                data = file.read(MAX_ENTRY + 1)
                if len(data) > MAX_ENTRY:
                    raise FormatError(f"Reading {path} was refused: a single ROI of more than {MAX_ENTRY} bytes.")
                yield path.name, data
                return
        with zipfile.ZipFile(path) as archive:
            yield from _of_zip(archive, path)
    except FileNotFoundError:
        raise MissingDataError(f"Reading {path} failed: there is no such file.") from None
    except FormatError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as error:
        raise FormatError(
            f"Reading {path} failed: it is no ImageJ ROI and no zip file of ROIs, or damaged ({str(error)[:200]})."
        ) from error


def _of_zip(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, bytes]]:
    entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".roi")]
    if len(entries) > MAX_ENTRIES:
        raise FormatError(f"Reading {path} was refused: it claims to hold {len(entries)} ROIs.")
    total = 0
    for entry in entries:
        with archive.open(entry) as file:
            data = file.read(MAX_ENTRY + 1)
        total += len(data)
        if len(data) > MAX_ENTRY or total > MAX_TOTAL:
            raise FormatError(
                f"Reading {path} was refused: unpacked, '{entry.filename}' or all ROIs together are larger than any ROI set."
            )
        yield Path(entry.filename).name, data


def _positions(rows: list[tuple[int, int, int, int]], axes: str | None, file: str | Path) -> tuple[I64, I64]:
    """Frames and planes (K,), from 0, of rows of (position, channel, slice, frame), from 1."""
    stack, channel, z, t = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    hyper = (channel > 0) | (z > 0) | (t > 0)
    plain = ~hyper & (stack > 0)
    meaning = set(axes or "") & {"T", "Z"}
    if (stack[plain] > 1).any() and len(meaning) != 1:
        found = "it is not said whether that is a frame or a slice" if not meaning else f"axes {axes} have both"
        raise FormatError(
            f"Reading {file} failed: {plain.sum()} ROIs have a position in a plain stack (up to {stack[plain].max()}), and {found}. "
            "Give --axes TYX if the stack is a movie, --axes ZYX if it is a volume."
        )
    if meaning == {"T"} and (z > 1).any() and (t <= 1).all():
        log.info("%s: slices are taken as frames, as axes %s have no Z.", file, axes)
        t, z = z, np.zeros_like(z)
    t = np.where(plain & (meaning != {"Z"}), stack, t)
    z = np.where(plain & (meaning == {"Z"}), stack, z)
    return np.maximum(t - 1, 0), np.maximum(z - 1, 0)


def _spots(t: I64, own: list[int | None]) -> tuple[I64, I64, I64 | None]:
    """Spot (K,) of each ROI, first ROI (N,) of each spot, and ids (N,) where all spots have one that is unique."""
    keys: dict[tuple[int, int], int] = {}
    spot = np.empty(len(t), dtype=np.int64)
    first: list[int] = []
    for row, (frame, number) in enumerate(zip(t.tolist(), own, strict=True)):
        key = (-1, row) if number is None else (frame, number)
        if key not in keys:
            keys[key] = len(first)
            first.append(row)
        spot[row] = keys[key]
    numbers = [own[row] for row in first]
    ids = [number for number in numbers if number is not None]
    unique = len(ids) == len(first) and len(set(ids)) == len(ids)
    return spot, np.array(first, dtype=np.int64), np.array(ids, dtype=np.int64) if unique else None


def _with_extras(tracks: Tracks, columns: _Columns, first: I64) -> Tracks:
    rows = first.tolist()
    channel = np.array([columns.position[row][1] for row in rows], dtype=np.int64)
    if channel.any():
        tracks = tracks.with_feature(Feature(CHANNEL, "", channel))
    named = (
        (COLOUR, [columns.colour[row] for row in rows]),
        (GROUP, [str(columns.group[row]) if columns.group[row] else "" for row in rows]),
    )
    for name, texts in named:
        known = [text for text in dict.fromkeys(texts) if text]
        if not known:
            continue
        place = {"": UNTAGGED, **{text: i for i, text in enumerate(known)}}
        tags = tuple(Tag(text, int(text[1:], 16)) if text.startswith("#") else Tag(text) for text in known)
        column = np.array([place[text] for text in texts], dtype=np.int32)
        tracks = tracks.with_tags(TagSet(name, tags, column, np.empty(0, np.int32)))
    return tracks
