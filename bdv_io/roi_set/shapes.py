"""One ImageJ ROI and its rings: what each type of ROI looks like, and which one fits to an outline. No files.

Coordinates are ImageJ's: (x, y) in pixels, (0, 0) is the upper left corner of the first pixel.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from bdv_io.errors import FormatError

F64 = npt.NDArray[np.float64]

__all__ = ["encoded", "parsed", "rings_of", "roi_of_ellipse", "roi_of_rings"]

POLYGONS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
RATIO_AT = 52  # where ImageJ keeps the aspect ratio of an ellipse, as a float
FLATNESS = 0.02  # how far, in pixels, a polygon may be from the curve that it stands for
WHOLE = 1e-6
INT16 = (-5000, 60535)  # coordinates that ImageJ can store as whole numbers
ARGUMENTS = {0: 2, 1: 2, 2: 4, 3: 6, 4: 0}  # numbers after each operation of a path


def parsed(data: bytes, name: str) -> ImagejRoi:
    """Parse the bytes of a ROI.

    Raises:
        FormatError: They are no ROI, or damaged; ``name`` says which.
    """
    try:
        return ImagejRoi.frombytes(data)
    except (ValueError, TypeError, struct.error, OverflowError, IndexError, MemoryError) as error:
        raise FormatError(f"Reading the ROI {name} failed: it is no ImageJ ROI, or damaged ({error}).") from error


def rings_of(roi: ImagejRoi, data: bytes, name: str) -> list[F64] | None:
    """Return the rings of an area ROI, each (K, 2) (x, y), to be joined by the even-odd rule; None if it has no area.

    Raises:
        FormatError: The path of a composite ROI is damaged, or a coordinate is not finite.
    """
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE):
        return None
    if roi.multi_coordinates is not None:
        with np.errstate(invalid="ignore"):  # a signalling NaN is found below
            numbers = roi.multi_coordinates.astype(np.float64)
        rings = _path(numbers, name)
    elif roi.roitype == ROI_TYPE.FREEHAND and roi.subtype == ROI_SUBTYPE.ELLIPSE and len(data) >= RATIO_AT + 4:
        rings = [_ellipse(roi, struct.unpack_from(">f", data, RATIO_AT)[0])]
    elif roi.roitype in POLYGONS:
        with np.errstate(invalid="ignore"):
            rings = [np.asarray(roi.coordinates(), dtype=np.float64)]
    elif roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        rings = [_box(roi)]
    else:
        return None
    if not all(np.isfinite(ring).all() for ring in rings):
        raise FormatError(f"Reading the ROI {name} failed: a coordinate is not a finite number.")
    return [ring for ring in map(_without_repeats, rings) if len(ring) >= 3]


def _without_repeats(ring: F64) -> F64:
    if len(ring) < 2:
        return ring
    return np.compress((ring != np.roll(ring, 1, axis=0)).any(axis=1), ring, axis=0)


def _box(roi: ImagejRoi) -> F64:
    x, y, width, height = map(float, (roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top))
    if roi.subpixelrect:
        x, y, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
    if not np.isfinite([x, y, width, height]).all():
        return np.array([[x, y], [width, height]])
    if roi.roitype == ROI_TYPE.OVAL:
        angle = _angles(max(width, height) / 2)
        return np.stack([x + width / 2 * (1 + np.cos(angle)), y + height / 2 * (1 + np.sin(angle))], axis=1)
    corner = np.array([[1, 1], [0, 1], [0, 0], [1, 0]])
    radius = min(roi.rounded_rect_arc_size / 2, width / 2, height / 2)
    if radius <= 0:
        return np.asarray([x, y] + corner * [width, height], dtype=np.float64)
    quarter = _angles(radius, part=0.25)
    angle = quarter + np.arange(4)[:, None] * np.pi / 2
    middle = [x + radius, y + radius] + corner * [width - 2 * radius, height - 2 * radius]
    arcs = middle[:, None] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return np.asarray(arcs, dtype=np.float64).reshape(-1, 2)


def _ellipse(roi: ImagejRoi, ratio: float) -> F64:
    """Polygon of an ellipse that is given by the ends of its long axis and the ratio of its axes."""
    ends = np.array([[roi.x1, roi.y1], [roi.x2, roi.y2]])
    half = (ends[1] - ends[0]) / 2
    if not np.isfinite([*half, ratio]).all():
        return np.full((2, 2), np.nan)  # refused by who asked for it
    angle = _angles(float(np.hypot(*half)))
    across = np.array([-half[1], half[0]]) * ratio
    ring: F64 = ends.mean(axis=0) + np.cos(angle)[:, None] * half + np.sin(angle)[:, None] * across
    return ring


def _angles(radius: float, part: float = 1.0) -> F64:
    """Angles of a circle's polygon that is nowhere further than FLATNESS from it."""
    count = int(np.clip(np.ceil(np.pi * np.sqrt(max(radius, 0.0) / (2 * FLATNESS))), 16, 720) * part) + (part < 1)
    return np.linspace(0, 2 * np.pi * part, count, endpoint=part < 1)


def _path(numbers: F64, name: str) -> list[F64]:
    """Rings of a composite ROI; curves become short lines."""
    rings: list[list[list[float]]] = []
    values = numbers.tolist()
    at = 0
    while at < len(values):
        operation = int(values[at]) if np.isfinite(values[at]) else -1
        count = ARGUMENTS.get(operation)
        if count is None or at + 1 + count > len(values) or (operation in (1, 2, 3) and not rings):
            raise FormatError(f"Reading the ROI {name} failed: the path of the composite ROI is damaged.")
        points = np.array(values[at + 1 : at + 1 + count]).reshape(-1, 2)
        if operation == 0:
            rings.append([points[0].tolist()])
        elif operation == 1:
            rings[-1].append(points[0].tolist())
        elif operation in (2, 3):
            rings[-1] += _curve(np.array([rings[-1][-1], *points.tolist()]))
        at += 1 + count
    return [np.array(ring) for ring in rings]


def _curve(control: F64) -> list[Any]:
    """Points of a Bézier curve after its first, by de Casteljau's rule."""
    length = float(np.hypot(*np.diff(control, axis=0).T).sum())
    steps = np.linspace(0, 1, int(np.clip(length, 4, 64)) + 1)[1:, None, None]
    points = np.broadcast_to(control, (len(steps), *control.shape))
    while points.shape[1] > 1:
        points = points[:, :-1] * (1 - steps) + points[:, 1:] * steps
    return list(points[:, 0].tolist())


# ---- the other way -------------------------------------------------------------------------------------------------


def roi_of_rings(rings: list[F64]) -> ImagejRoi:
    """Return a ROI of rings (x, y): a traced polygon where one ring has whole coordinates, else freehand, or composite."""
    points = np.concatenate(rings)
    roi = ImagejRoi()
    low, high = np.floor(points.min(axis=0) + WHOLE), np.ceil(points.max(axis=0) - WHOLE)
    roi.left, roi.top, roi.right, roi.bottom = (int(n) for n in np.clip([*low, *high], *INT16))
    if len(rings) > 1:
        roi.roitype = ROI_TYPE.RECT
        parts = []
        for ring in rings:
            steps = np.concatenate([np.full((len(ring), 1), 1.0), ring], axis=1)
            steps[0, 0] = 0.0
            parts += [steps.reshape(-1), np.array([4.0])]
        roi.multi_coordinates = np.concatenate(parts).astype(np.float32)
        roi.shape_roi_size = len(roi.multi_coordinates)
        return roi
    whole = np.rint(points)
    inside = low.min() >= INT16[0] and high.max() <= INT16[1]
    roi.n_coordinates = len(points)
    roi.integer_coordinates = (whole - [roi.left, roi.top]).astype(np.int32)
    if inside and np.abs(points - whole).max() < WHOLE:
        roi.roitype = ROI_TYPE.TRACED
        return roi
    roi.roitype = ROI_TYPE.FREEHAND
    roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    roi.subpixel_coordinates = points.astype(np.float32)
    return roi


def roi_of_ellipse(centre: F64, covariance: F64) -> ImagejRoi:
    """Return an ellipse ROI of a centre (x, y) and a (2, 2) covariance in x, y order: its eigenvalues are squared half-axes."""
    values, axes = np.linalg.eigh(covariance)
    short, long = np.sqrt(np.maximum(values, 0.0))
    half = axes[:, 1] * long
    roi = ImagejRoi()
    roi.roitype, roi.subtype = ROI_TYPE.FREEHAND, ROI_SUBTYPE.ELLIPSE
    roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    (roi.x1, roi.y1), (roi.x2, roi.y2) = (centre - half).tolist(), (centre + half).tolist()
    reach = np.sqrt(np.diag(covariance))
    low, high = np.floor(centre - reach), np.ceil(centre + reach)
    roi.left, roi.top, roi.right, roi.bottom = (int(n) for n in np.clip([*low, *high], *INT16))
    # The library knows the four bytes of the ratio as three smaller fields.
    parts = struct.unpack(">BBh", struct.pack(">f", short / long if long > 0 else 1.0))
    roi.arrow_style_or_aspect_ratio, roi.arrow_head_size, roi.rounded_rect_arc_size = parts
    # ImageJ draws the ellipse from the above, but needs a polygon in the file too.
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    ring = centre + np.stack([np.cos(angle), np.sin(angle)], axis=1) @ np.linalg.cholesky(covariance).T
    roi.n_coordinates = len(ring)
    roi.integer_coordinates = np.rint(ring - [roi.left, roi.top]).astype(np.int32)
    roi.subpixel_coordinates = ring.astype(np.float32)
    return roi


def encoded(roi: ImagejRoi) -> bytes:
    """Return the bytes of a ROI, also where its name has characters of two UTF-16 units, which the library miscounts."""
    name = roi.name
    roi.name = "".join("\ue000\ue000" if ord(letter) > 0xFFFF else letter for letter in name)
    data: bytes = roi.tobytes()
    if roi.name != name:
        data = data.replace(roi.name.encode("utf-16-be"), name.encode("utf-16-be"))
        roi.name = name
    return data
