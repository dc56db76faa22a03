"""Writing ImageJ ROI sets."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from roifile import ImagejRoi

from bdv_io.errors import MissingDataError, UnsupportedError, WriteError
from bdv_io.image import ImageSeries
from bdv_io.masks import ENTRY, grid_of, rings_of_outlines
from bdv_io.roi_set.read import CHANNEL, COLOUR, GROUP, SPOT
from bdv_io.roi_set.shapes import encoded, roi_of_ellipse, roi_of_rings
from bdv_io.safe_write import replacing
from bdv_io.tracks import Tracks

F64 = npt.NDArray[np.float64]

__all__ = ["lost_in_rois", "write_rois"]

PLAIN_KEY = "howdah_plain"  # the property that says what a plain position counts
UNSAFE = re.compile(r'[\x00-\x1f/\\:*?"<>|]')
NAME_LENGTH = 100


def lost_in_rois(tracks: Tracks) -> list[str]:
    """Return sentences about what of an annotation a ROI set cannot hold."""
    lost = []
    if tracks.n_links:
        lost.append(f"{tracks.n_links} links: ROIs know nothing of each other.")
    plain = tracks.n_spots - len(np.unique(tracks.outlines.spot))
    if plain:
        lost.append(f"{plain} spots have no outline: of their ellipsoids the ellipse in the middle plane is written.")
    if np.isfinite(tracks.quality).any():
        lost.append("The quality of spots.")
    tags = [tag_set.name for tag_set in tracks.tag_sets if tag_set.name not in (COLOUR, GROUP)]
    if tags:
        lost.append(f"Tags: {', '.join(tags)}.")
    features = [feature.name for feature in tracks.features if feature.name != CHANNEL]
    if features:
        lost.append(f"Features: {', '.join(dict.fromkeys(features))}.")
    if tracks.space_unit != "pixel" or tracks.interval is not None:
        lost.append("Voxel size, unit and frame interval: ROIs are in pixels.")
    return lost


def write_rois(path: str | os.PathLike[str], tracks: Tracks, *, image: ImageSeries | None = None) -> None:
    """Write a ROI for each spot and plane: its outline, or without one the ellipse of its middle plane.

    Pixel outlines become traced polygons with whole coordinates, others have sub-pixel coordinates; parts and holes become
    a composite ROI. Each has a position: slice and frame in a hyperstack, the
    number of the plane in a plain stack; the label as its name, and the property
    ``howdah_spot`` with the id, by which the planes of a spot find together when read back.

    Args:
        path: ``.zip``, or ``.roi`` where there is exactly one ROI; what was there before is kept beside it.
        tracks: The annotation.
        image: The movie, which says how large a voxel is; without it, the masks that were read, or one pixel.

    Raises:
        MissingDataError: Coordinates are calibrated, and nothing says how large a pixel is.
        UnsupportedError: More than one ROI for a file ``.roi``.
        WriteError: The disk is full or the folder is missing; the old file is intact.
    """
    target = Path(path)
    tracks.validate()
    affine, plain = _affine(tracks, image, target), _plain_axis(tracks, image)
    if target.suffix.lower() == ".roi":
        rois = [roi for _, roi in zip(range(2), _rois(tracks, affine, plain), strict=False)]
        if len(rois) != 1:
            raise UnsupportedError(
                f"Writing {target} is not possible: a file .roi holds one ROI, and there are {'several' if rois else 'none'}. "
                "Choose a name that ends in .zip."
            )
        with replacing(target) as temporary:
            temporary.write_bytes(encoded(rois[0]))
        return
    count = 0

    def verify(temporary: Path) -> None:
        with zipfile.ZipFile(temporary) as archive:
            if len(archive.infolist()) != count:
                raise WriteError(
                    f"Writing {target} failed: {count} ROIs were written, but they could not be read back."
                )

    with (
        replacing(target, verify=verify) as temporary,
        zipfile.ZipFile(temporary, "w", compression=zipfile.ZIP_DEFLATED) as archive,
    ):
        names: dict[str, int] = {}
        for roi in _rois(tracks, affine, plain):
            archive.writestr(zipfile.ZipInfo(_entry_name(roi, names)), encoded(roi), zipfile.ZIP_DEFLATED)
            count += 1


def _affine(tracks: Tracks, image: ImageSeries | None, target: Path) -> F64:
    if image is None and ENTRY not in tracks.carried.entries:
        if tracks.space_unit in ("pixel", "pixels", "px", ""):
            return np.eye(4)
        raise MissingDataError(
            f"Writing {target} failed: ROIs are in pixels, the spots in '{tracks.space_unit}', and nothing says how large a pixel "
            "is. Name the image with --image."
        )
    return grid_of(tracks, image, f"Writing {target}").affine


def _plain_axis(tracks: Tracks, image: ImageSeries | None) -> str:
    """The only axis, T or Z, besides y and x; empty for a hyperstack (ImageJ calls so what has two such axes or more)."""
    if image is not None:
        n_frames, n_planes, n_channels = (
            image.n_frames,
            max(setup.shape[0] for setup in image.setups),
            len(image.setups),
        )
    else:
        n_frames, n_channels = tracks.n_frames, 1
        n_planes = 2 if tracks.centre[:, 0].any() or tracks.outlines.z.any() else 1
    longer = [axis for axis, n in (("T", n_frames), ("Z", n_planes), ("C", n_channels)) if n > 1]
    return longer[0] if longer in (["T"], ["Z"]) else ""


def _rois(tracks: Tracks, affine: F64, plain: str) -> Iterator[ImagejRoi]:
    """ROIs spot by spot, in order of frame."""
    rings = rings_of_outlines(tracks.outlines, affine)
    to_index = np.linalg.inv(affine)
    middle = tracks.centre @ to_index[:3, :3].T + to_index[:3, 3]
    covariance = to_index[:3, :3] @ tracks.covariance @ to_index[:3, :3].T
    first = np.searchsorted(tracks.outlines.spot, np.arange(tracks.n_spots + 1))
    corners = rings.vertices[:, ::-1] + 0.5
    extras = _Extras(tracks, plain)
    for row in np.argsort(tracks.t, kind="stable").tolist():
        own = np.arange(first[row], first[row + 1])
        if not len(own):
            # The section through the centre: the inverse of the in-plane part of the inverse.
            section = np.linalg.inv(np.linalg.inv(covariance[row])[1:, 1:])
            roi = roi_of_ellipse(middle[row, :0:-1] + 0.5, section[::-1, ::-1])
            yield extras.added(roi, row, round(float(middle[row, 0])))
            continue
        for plane in np.unique(rings.plane[own]).tolist():
            chosen = own[rings.plane[own] == plane].tolist()
            roi = roi_of_rings([corners[rings.start[i] : rings.start[i + 1]] for i in chosen])
            yield extras.added(roi, row, plane)


class _Extras:
    """Position, name, colour and group of ROIs."""

    def __init__(self, tracks: Tracks, plain: str) -> None:
        self._tracks, self._plain = tracks, plain
        self._colour, self._group = tracks.tag_set(COLOUR), tracks.tag_set(GROUP)
        self._channel = tracks.feature(CHANNEL)

    def added(self, roi: ImagejRoi, row: int, plane: int) -> ImagejRoi:
        tracks = self._tracks
        z, t = max(plane, 0) + 1, int(tracks.t[row]) + 1
        if self._plain:  # without a hyperstack, ImageJ shows a ROI with a position of three numbers everywhere
            roi.position = t if self._plain == "T" else z
        else:
            roi.z_position, roi.t_position = z, t
        if not self._plain and self._channel is not None and np.isfinite(self._channel.values[row]):
            roi.c_position = max(int(self._channel.values[row]), 0)
        label = tracks.label[row]
        roi.name = "" if label is None else label.encode("utf-16", "replace").decode("utf-16")[:1000]
        roi.props = f"{SPOT}: {tracks.id[row]}\n" + (f"{PLAIN_KEY}: {self._plain}\n" if self._plain else "")
        if self._colour is not None and self._colour.spots[row] >= 0:
            roi.stroke_color = (self._colour.tags[self._colour.spots[row]].colour & 0xFFFFFFFF).to_bytes(4, "big")
        if self._group is not None and self._group.spots[row] >= 0:
            text = self._group.tags[self._group.spots[row]].name
            roi.group = int(text) if text.isascii() and text.isdigit() and int(text) <= 65535 else 0
        return roi


def _entry_name(roi: ImagejRoi, names: dict[str, int]) -> str:
    """A name for the zip file that no other ROI has; ImageJ shows it in the ROI Manager."""
    spot = roi.props.split(":")[1].split()[0]
    wanted = UNSAFE.sub("_", roi.name).strip(" .")[:NAME_LENGTH]
    place = f"{roi.position:04d}" if roi.position > 0 else f"t{roi.t_position:04d}-z{roi.z_position:04d}"
    name = wanted or f"{place}-spot{spot}"
    while name in names:
        names[name] += 1
        name = f"{wanted or 'spot' + spot}-{names[name]}"
    names[name] = 1
    return f"{name}.roi"
