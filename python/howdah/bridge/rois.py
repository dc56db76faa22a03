"""Outlines as ImageJ's ROIs in memory: on an image, in an overlay, in the ROI Manager; and label images.

The same rules as for ROI files (:mod:`bdv_io.roi_set`): pixel outlines become traced polygons with whole coordinates, others
have sub-pixel ones, parts and holes make a composite, a spot without an outline becomes the ellipse of its middle plane. Each ROI has
its position in the stack, the label as its name (``ID7`` where there is none), and the property ``howdah_spot`` with the spot's id.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.image import Hints
from bdv_io.label_image import LabelSeries, numbers_of, tracks_of_labels
from bdv_io.masks import Grid, rings_of_outlines
from bdv_io.roi_set import tracks_of_rois
from bdv_io.roi_set.read import CHANNEL, COLOUR, GROUP, SPOT
from bdv_io.tags import TagSet
from bdv_io.tracks import Tracks
from howdah.bridge.images import calibration_of, exact_for_imagej, from_imageplus, to_imageplus
from howdah.bridge.java_classes import java_class, java_errors
from howdah.bridge.swing import need_display
from howdah.errors import BridgeError

F64 = npt.NDArray[np.float64]

__all__ = [
    "from_manager",
    "from_rois",
    "label_image_of",
    "overlay_of",
    "rois_of",
    "to_manager",
    "tracks_of_label_image",
]

FREEHAND, TRACED = 3, 4  # types of PolygonRoi
MOVE, LINE, CLOSE = 0.0, 1.0, 4.0  # operations in the path of a composite ROI
WHOLE = 1e-6
GOLDEN = 0.618033988749895  # steps of hue that never repeat: neighbours in number differ in colour
MOST_GROUP = 255


def rois_of(tracks: Tracks, image: Any = None, *, by_track: bool = False) -> list[Any]:
    """Return a ``ij.gui.Roi`` for each spot and plane, in order of frame.

    Args:
        tracks: The annotation, in the units of the image.
        image: The ``ij.ImagePlus`` that they are for: it says how large a pixel is and what a position means. Without one,
            spots are in pixels, and positions those of a hyperstack.
        by_track: Give each track a colour (which comes back as a tag in the set "ROI colour"); otherwise ROIs have that of their tag
            in this set, if any.

    Raises:
        BdvIoError: The annotation is not consistent.
        BridgeError: No Java runs, or spots are calibrated and there is no image.
    """
    tracks.validate()
    made = _Maker(tracks, image, by_track=by_track)
    with java_errors(f"Making ROIs of {tracks.n_spots} spots"):
        return list(made.rois())


def overlay_of(tracks: Tracks, image: Any = None, *, by_track: bool = False) -> Any:
    """Return an ``ij.gui.Overlay``; ``image.setOverlay(...)`` shows it, and saving the image as TIFF keeps it. As :func:`rois_of`."""
    rois = rois_of(tracks, image, by_track=by_track)
    with java_errors("Making an overlay"):
        overlay = java_class("ij.gui.Overlay")()
        for roi in rois:
            overlay.add(roi)
    return overlay


def from_rois(rois: Any, image: Any = None, *, axes: str | None = None) -> Tracks:
    """Return the spots of ROIs: one for each ROI that has an area, or for all that Howdah made of one spot. No links.

    Args:
        rois: An ``ij.gui.Overlay``, or ``ij.gui.Roi`` in any order; lines, points and texts are left out, which a log line says.
        image: Their ``ij.ImagePlus``: pixel size, unit, interval, and whether a plain position is a frame or a slice.
        axes: Say it yourself: ``"TYX"`` for a movie that ImageJ took for a stack of slices.

    Raises:
        FormatError: No ROI has an area, or positions are ambiguous.
        BridgeError: No Java runs, or ImageJ cannot say what a ROI is.
    """
    hints = _hints(image, axes)
    found = tracks_of_rois(_encoded(rois), "ImageJ's ROIs", hints=hints)
    named = [f"ID{number}" for number in found.id.tolist()]
    labels = [None if label == name else label for label, name in zip(found.label.tolist(), named, strict=True)]
    return found.relabelled(labels) if found.n_spots else found


def to_manager(tracks: Tracks, image: Any = None, *, keep: bool = False, by_track: bool = False) -> Any:
    """Put ROIs into the ROI Manager, and return it; arguments as for :func:`rois_of`.

    Args:
        tracks: The annotation.
        image: Its image.
        keep: Keep the ROIs that are there; otherwise they are replaced.
        by_track: As for :func:`rois_of`.

    Raises:
        BridgeError: There is no display: the ROI Manager is a window.
    """
    need_display("The ROI Manager")
    rois = rois_of(tracks, image, by_track=by_track)
    with java_errors("Filling the ROI Manager"):
        manager = java_class("ij.plugin.frame.RoiManager").getRoiManager()
        if not keep:
            manager.reset()
        for roi in rois:
            manager.addRoi(roi)
    return manager


def from_manager(image: Any = None, *, axes: str | None = None, selected: bool = False) -> Tracks:
    """Return the spots of the ROIs in the ROI Manager, with a person's corrections; arguments as for :func:`from_rois`.

    Raises:
        BridgeError: The ROI Manager is not open or empty.
    """
    with java_errors("Reading the ROI Manager"):
        manager = java_class("ij.plugin.frame.RoiManager").getInstance2()
        rois = [] if manager is None else manager.getSelectedRoisAsArray() if selected else manager.getRoisAsArray()
    if not len(rois):
        raise BridgeError("Reading the ROI Manager failed: it is not open, or holds no ROI. Add ROIs with [t] first.")
    return from_rois(rois, image, axes=axes)


def label_image_of(tracks: Tracks, image: Any) -> Any:
    """Return an ``ij.ImagePlus`` in which each cell has its number, as large as ``image``; 0 is background.

    A cell has one number from division to division, or the numbers of the feature "LABEL" where they can be kept.

    Raises:
        DataError: Numbers are beyond what ImageJ's pixels hold exactly.
        ValidationError: A spot lies outside of the image.
    """
    size, unit, interval = calibration_of(image)
    shape = (int(image.getNSlices()), int(image.getHeight()), int(image.getWidth()))
    frames = max(int(image.getNFrames()), 1)
    if tracks.n_frames > frames:
        raise BridgeError(
            f"Painting labels failed: the tracks have {tracks.n_frames} frames, the image '{image.getTitle()}' has {frames} frames and "
            f"{shape[0]} slices. If its slices are frames, say image.setDimensions(1, 1, {shape[0]}) first."
        )
    grid = Grid(shape, np.diag([*size, 1.0]), frames, unit, interval)
    series = LabelSeries(tracks, grid, values=numbers_of(tracks))
    painted = np.stack([series.read(t) for t in range(frames)])
    return to_imageplus(
        exact_for_imagej(painted),
        axes="TZYX",
        voxel_size=size,
        unit=unit,
        interval=interval,
        title=f"labels of {image.getTitle()}",
    )


def tracks_of_label_image(image: Any, *, links_by_id: bool = True, outlines: bool = True) -> Tracks:
    """Return a spot for each number of each frame of an ``ij.ImagePlus``; see :func:`bdv_io.label_image.tracks_of_labels`.

    Raises:
        FormatError: Pixels are no whole numbers, or there are several channels.
        BridgeError: Planes are missing.
    """
    return tracks_of_labels(from_imageplus(image).movie, links_by_id=links_by_id, outlines=outlines)


# ---- to Java ---------------------------------------------------------------------------------------------------------


class _Maker:
    """Makes ROIs of spots: coordinates in numpy at once, then a few Java calls each."""

    def __init__(self, tracks: Tracks, image: Any, *, by_track: bool) -> None:
        import jpype

        self.tracks = tracks
        self.affine = np.diag([*_voxel_size(tracks, image), 1.0])
        self.floats, self.ints = jpype.JArray(jpype.JFloat), jpype.JArray(jpype.JInt)
        self.polygon, self.shape = java_class("ij.gui.PolygonRoi"), java_class("ij.gui.ShapeRoi")
        self.ellipse = java_class("ij.gui.EllipseRoi")
        self.place = _places(image)
        self.colours = _track_colours(tracks) if by_track else _tag_colours(tracks.tag_set(COLOUR), tracks.n_spots)
        self.groups = _groups(tracks.tag_set(GROUP), tracks.n_spots)
        channel = tracks.feature(CHANNEL)
        known = np.zeros(tracks.n_spots) if channel is None else np.nan_to_num(channel.values.astype(np.float64))
        self.channel = known.astype(np.int64).tolist()

    def rois(self) -> Iterator[Any]:
        """Yield the ROIs spot by spot, in order of frame."""
        tracks = self.tracks
        rings = rings_of_outlines(tracks.outlines, self.affine)
        corners = rings.vertices[:, ::-1] + 0.5  # ImageJ counts from the corner of the first pixel
        self.x, self.y = np.ascontiguousarray(corners.T.astype(np.float32))
        whole = np.rint(corners)
        near = (np.abs(corners - whole) < WHOLE).all(axis=1)
        self.whole = np.ascontiguousarray(whole.T.astype(np.int32))
        self.start = rings.start.tolist()
        self.traced = np.logical_and.reduceat(near, rings.start[:-1]).tolist() if len(rings.start) > 1 else []
        first = np.searchsorted(tracks.outlines.spot, np.arange(tracks.n_spots + 1)).tolist()
        plane = rings.plane.tolist()
        names = [
            f"ID{i}" if label is None else label
            for i, label in zip(tracks.id.tolist(), tracks.label.tolist(), strict=True)
        ]
        ids, frames = tracks.id.tolist(), tracks.t.tolist()
        plain = self._ellipses(np.flatnonzero(np.diff(first) == 0))
        for row in np.argsort(tracks.t, kind="stable").tolist():
            own = range(first[row], first[row + 1])
            made = {z: [i for i in own if plane[i] == z] for z in dict.fromkeys(plane[own.start : own.stop])}
            shapes = [(z, self._outline(some)) for z, some in made.items()] or [plain[row]]
            for z, roi in shapes:
                roi.setName(names[row])
                roi.setProperty(SPOT, str(ids[row]))
                self.place(roi, self.channel[row], max(z, 0) + 1, frames[row] + 1)
                if self.colours is not None and self.colours[row] is not None:
                    roi.setStrokeColor(self.colours[row])
                if self.groups is not None and self.groups[row]:
                    roi.setGroup(self.groups[row])
                yield roi

    def _outline(self, rings: list[int]) -> Any:
        if len(rings) > 1:
            return self.shape(self.floats(np.concatenate([self._path(ring) for ring in rings])))
        start, end = self.start[rings[0]], self.start[rings[0] + 1]
        if self.traced[rings[0]]:
            x, y = self.whole[:, start:end]
            return self.polygon(self.ints(x), self.ints(y), end - start, TRACED)
        return self.polygon(self.floats(self.x[start:end]), self.floats(self.y[start:end]), FREEHAND)

    def _path(self, ring: int) -> npt.NDArray[np.float32]:
        start, end = self.start[ring], self.start[ring + 1]
        path = np.full((end - start, 3), LINE, dtype=np.float32)
        path[0, 0] = MOVE
        path[:, 1], path[:, 2] = self.x[start:end], self.y[start:end]
        return np.append(path.ravel(), np.float32(CLOSE))

    def _ellipses(self, rows: npt.NDArray[np.intp]) -> dict[int, tuple[int, Any]]:
        """The middle plane of some spots and their section with it: the inverse of the in-plane part of the inverse."""
        if not len(rows):
            return {}
        to_index = np.linalg.inv(self.affine)[:3, :3]
        middle = self.tracks.centre[rows] @ to_index.T
        covariance = to_index @ self.tracks.covariance[rows] @ to_index.T
        section = np.linalg.inv(np.linalg.inv(covariance)[:, 1:, 1:])
        values, axes = np.linalg.eigh(section[:, ::-1, ::-1])
        short, long = np.sqrt(np.maximum(values, 0.0)).T
        half = axes[:, :, 1] * long[:, None]
        centre = middle[:, :0:-1] + 0.5
        ends = np.concatenate([centre - half, centre + half, (short / long)[:, None]], axis=1)
        planes = np.rint(middle[:, 0]).astype(np.int64).tolist()
        return {
            row: (z, self.ellipse(*numbers))
            for row, z, numbers in zip(rows.tolist(), planes, ends.tolist(), strict=True)
        }


def _voxel_size(tracks: Tracks, image: Any) -> tuple[float, float, float]:
    if image is not None:
        return calibration_of(image)[0]
    if tracks.n_spots and tracks.space_unit not in ("pixel", "pixels", "px", ""):
        raise BridgeError(
            f"Making ROIs failed: they are in pixels, the spots in '{tracks.space_unit}', and nothing says how large a pixel is. "
            "Give the image."
        )
    return 1.0, 1.0, 1.0


def _places(image: Any) -> Callable[[Any, int, int, int], None]:
    """How a ROI gets its position (channel, slice, frame, from 1). Outside of hyperstacks ImageJ heeds the plane's number only."""
    if image is None or image.isHyperStack() or int(image.getStackSize()) == 1:
        return lambda roi, c, z, t: roi.setPosition(c, z, t)
    return lambda roi, c, z, t: roi.setPosition(int(image.getStackIndex(max(c, 1), z, t)))


def _colour(argb: int) -> Any:
    return java_class("java.awt.Color")(argb - (argb >> 31 << 32), True)  # Java's int has a sign


def _track_colours(tracks: Tracks) -> list[Any]:
    count, track = tracks.tracks()
    table = []
    for number in range(count):
        red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1.0, 0.8, 1.0)
        table.append(_colour(255 << 24 | int(red * 255) << 16 | int(green * 255) << 8 | int(blue * 255)))
    return [table[number] for number in track.tolist()]


def _tag_colours(tags: TagSet | None, n_spots: int) -> list[Any] | None:
    if tags is None:
        return None
    table = [_colour(tag.colour & 0xFFFFFFFF) for tag in tags.tags]
    return [table[i] if i >= 0 else None for i in tags.spots.tolist()]


def _groups(tags: TagSet | None, n_spots: int) -> list[int] | None:
    if tags is None:
        return None
    numbers = [int(tag.name) if tag.name.isascii() and tag.name.isdigit() else 0 for tag in tags.tags]
    return [numbers[i] if i >= 0 and numbers[i] <= MOST_GROUP else 0 for i in tags.spots.tolist()]


# ---- from Java -------------------------------------------------------------------------------------------------------


def _encoded(rois: Iterable[Any]) -> Iterator[tuple[str, bytes]]:
    """Each ROI in the bytes of a file, by ImageJ's own writer. TrackMate's overlay, which is no shape, is left out."""
    encode = java_class("ij.io.RoiEncoder").saveAsByteArray
    with java_errors("Reading ImageJ's ROIs"):
        for roi in rois:
            if not str(roi.getClass().getName()).startswith("fiji.plugin.trackmate."):
                yield "", bytes(encode(roi))


def _hints(image: Any, axes: str | None) -> Hints:
    if image is None:
        return Hints(axes=axes)
    size, unit, interval = calibration_of(image)
    if axes is None:
        frames, slices = int(image.getNFrames()), int(image.getNSlices())
        axes = "ZYX" if slices > 1 and frames == 1 else "TYX" if frames > 1 and slices == 1 else None
    return Hints(axes=axes, voxel_size=size, unit=unit.strip() or "pixel", interval=interval)
