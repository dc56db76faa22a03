"""What a TIFF says of itself in ImageJ's header, in tifffile's, or in the resolution tags alone.

Three kinds of files are told apart here (OME-XML has :mod:`bdv_io.tiff.ome`); none is silently guessed at: an axis whose
meaning the file does not say is called ``"?"``, and opening it needs the hint ``axes``.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from bdv_io.errors import FormatError
from bdv_io.tiff.directories import Skeleton, damaged
from bdv_io.tiff.units import METRES, length_unit, time_unit

__all__ = ["Axes", "Said", "imagej_said", "plain_said", "shaped_said"]

log = logging.getLogger(__name__)

Axes = tuple[tuple[str, int], ...]

DOTS = (72, 96, 100, 120, 150, 180, 200, 240, 300, 360, 400, 600, 720, 1200, 2400)  # an inch, as printers have them
COARSEST_CALIBRATION = 5000.0  # dots an inch: below, only printers and scanners are meant
NOT_READ = {"Overlays": "overlay", "ROI": "selection (ROI)", "LUTs": "set of colour tables", "Info": "text of notes (Info)",
            "Properties": "list of properties"}  # fmt: skip
MAX_PLANES = 1 << 24


@dataclass(frozen=True)
class Said:
    """What a TIFF says of itself; None or ``"?"`` where it is silent.

    Attributes:
        source: Who said it, for messages.
        axes: Letter and length of the axes that count planes, slowest first, of T, C, Z or ``"?"``.
        voxel_size: Edge lengths (z, y, x) of a voxel.
        unit: Unit of length.
        interval: Time between frames and its unit.
        channels: Names of the channels; empty if they have none.
        block: Whether all planes are one block of bytes that the first page alone describes.
        signed: Whether 16-bit values are meant minus 32768, ImageJ's way of signed numbers.
        unread: What else the file holds that a movie has no place for, as sentences.
    """

    source: str
    axes: Axes
    voxel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    unit: str | None = None
    interval: tuple[float, str] | None = None
    channels: tuple[str, ...] = ()
    block: bool = False
    signed: bool = False
    unread: tuple[str, ...] = ()


def imagej_said(
    path: Path, skeleton: Skeleton, page: tifffile.TiffPage, header: Mapping[str, Any], *, trust: bool
) -> Said:
    """Read ImageJ's header.

    Args:
        path: For messages.
        skeleton: The pages of the file.
        page: The first page.
        header: The header, as tifffile has it: both tags.
        trust: Whether the user leaves the axes to the header; then it must agree with the pages.

    Raises:
        FormatError: Header and pages disagree in the number of planes.
    """
    sizes = {axis: _whole(path, header, key) for axis, key in (("C", "channels"), ("Z", "slices"), ("T", "frames"))}
    images, n_pages = _whole(path, header, "images"), len(skeleton.pages)
    samples = page.shaped[0] * page.shaped[4]
    if sizes["C"] == samples > 1 and sizes["Z"] * sizes["T"] in (images, n_pages):
        sizes["C"] = 1  # colours of a pixel, counted as channels
    axes: Axes = tuple((axis, sizes[axis]) for axis in reversed(_plane_order(header)))
    planes = math.prod(sizes.values())
    if planes == 1 and max(images, n_pages) > 1:
        axes, planes = (("?", max(images, n_pages)),), max(images, n_pages)
    block = n_pages == 1 and planes > 1 and page.compression == 1
    said = f"{sizes['C']} channels x {sizes['Z']} slices x {sizes['T']} frames = {planes} planes"
    if planes > MAX_PLANES or (trust and (planes not in (images, n_pages) or (n_pages != planes and not block))):
        raise FormatError(
            f"Reading the TIFF file {path} failed: ImageJ's header says {said} in {images} images, but the file has {n_pages} pages. "
            f"Copy it again; or, to take its {n_pages} pages as they are, say what they mean: --axes TYX if they are time points, "
            "--axes ZYX if they are planes of a stack."
        )
    if not trust and n_pages != planes and not block:
        axes = (("?", n_pages),)
    size, unit = _imagej_calibration(page, header)
    interval = _number(header.get("finterval"))
    if interval is None and sizes["T"] > 1 and _number(header.get("fps")):
        log.info("%s: its %s frames a second are a speed to play at, no interval.", path.name, header["fps"])
    return Said(
        source="ImageJ's header",
        axes=axes,
        voxel_size=size,
        unit=unit,
        interval=(interval, time_unit(str(header.get("tunit", "sec")))) if interval else None,
        channels=_imagej_channels(header, axes),
        block=block,
        signed=page.dtype == "uint16" and [header.get(key) for key in ("cf", "c0", "c1")] == [0, -32768, 1],
        unread=_imagej_unread(header),
    )


def _imagej_unread(header: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about what ImageJ keeps in a file besides pixels."""
    found = [f"The TIFF's {what} is not carried over." for key, what in NOT_READ.items() if header.get(key) is not None]
    function = header.get("cf"), header.get("c0"), header.get("c1")
    if function[0] is not None and function != (0, -32768, 1):
        unit = header.get("vunit", "Gray Value")
        found.append(f"The TIFF's calibration of pixel values (to '{unit}') is not applied; values are as stored.")
    if any(header.get(f"{axis}origin") for axis in "xyz"):
        found.append("The TIFF's origin of coordinates is not used; the first voxel is at 0.")
    return tuple(found)


def _plane_order(header: Mapping[str, Any]) -> str:
    """Letters of the axes of planes, the fastest first: ImageJ's own, or what ImageJ2 (SCIFIO) says in ``axes``."""
    order = str(header.get("order", "czt")).upper()
    if "SCIFIO" in header and "axes" in header:
        names = {"CHANNEL": "C", "Z": "Z", "TIME": "T", "X": "", "Y": ""}
        order = "".join(names.get(name.strip(), "?") for name in str(header["axes"]).upper().split(","))
        order += "".join(letter for letter in "CZT" if letter not in order)
    return order if sorted(order) == ["C", "T", "Z"] else "CZT"


def _whole(path: Path, header: Mapping[str, Any], key: str) -> int:
    value = header.get(key, 1)
    if not isinstance(value, int) or value < 1:
        raise damaged(path, f"ImageJ's header says {key}={value}")
    return value


def _imagej_calibration(
    page: tifffile.TiffPage, header: Mapping[str, Any]
) -> tuple[tuple[float | None, float | None, float | None], str | None]:
    """Voxel size (z, y, x) and unit, by ImageJ's own rules."""
    per_x, per_y, resolution_unit = _resolution(page)
    unit = str(header["unit"]) if "unit" in header else {3: "cm"}.get(resolution_unit, "")
    known = length_unit(unit) if unit.strip() else None
    x, y = (1 / per if per else None for per in (per_x, per_y))
    if resolution_unit == 3 and known == "µm":  # ImageJ's rule for files of some cameras
        x, y = (None if edge is None else edge * 1e4 for edge in (x, y))
    if known is None and resolution_unit == 2:
        x = y = None  # dots an inch
    z = _number(header.get("spacing"))
    if z is not None and "zunit" in header and known in METRES:
        z *= METRES.get(length_unit(str(header["zunit"])), METRES[known]) / METRES[known]
    if y is not None and "yunit" in header and known in METRES:
        y *= METRES.get(length_unit(str(header["yunit"])), METRES[known]) / METRES[known]
    if z is None and known is not None:
        z = 1.0  # ImageJ leaves out a spacing of 1
    if known is None and x is not None and y is not None and (x, y) != (1.0, 1.0):
        log.warning("%s: pixels have the size %g x %g without a unit; give --unit.", page.parent.filename, y, x)
    return (abs(z) if z else None, y, x), known


def _imagej_channels(header: Mapping[str, Any], axes: Axes) -> tuple[str, ...]:
    """Names of the channels, where the labels of the planes are the same throughout each channel."""
    labels, sizes = header.get("Labels"), dict(axes)
    labels = [labels] if isinstance(labels, str) else labels
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels) or "?" in sizes:
        return ()
    n_channels = sizes.get("C", 1)
    if len(labels) != math.prod(sizes.values()) or axes[-1][0] != "C":
        return ()
    names = [set(labels[channel::n_channels]) for channel in range(n_channels)]
    if any(len(texts) != 1 for texts in names) or len(set().union(*names)) < n_channels:
        return ()
    found = tuple(texts.pop() for texts in names)
    counted = n_channels > 1 and found == tuple(str(channel + 1) for channel in range(n_channels))
    return () if counted else found


def shaped_said(path: Path, skeleton: Skeleton, page: tifffile.TiffPage, header: Sequence[Mapping[str, Any]]) -> Said:
    """Read the header that tifffile writes into files of no other kind: a shape, and perhaps letters for its axes.

    Raises:
        FormatError: Header and pages disagree in the number of planes.
    """
    first = header[0] if header else {}
    shape = first.get("shape")
    letters = first.get("axes")
    n_pages = len(skeleton.pages)
    if not isinstance(shape, list | tuple) or not all(isinstance(n, int) and 0 < n <= 1 << 31 for n in shape):
        return plain_said(path, skeleton, page)
    tail = tuple(n for n in page.shape)
    leading = tuple(shape[: len(shape) - len(tail)])
    if tuple(shape[len(leading) :]) != tail:
        return plain_said(path, skeleton, page)
    planes = math.prod(leading)
    block = n_pages == 1 and planes > 1 and page.compression == 1
    if planes > MAX_PLANES or (planes != n_pages and not block):
        raise FormatError(
            f"Reading the TIFF file {path} failed: its header says {' x '.join(map(str, shape))} in {planes} planes, but it has "
            f"{n_pages} pages. It may hold several images, or be cut off; save the one that you want as a file of its own."
        )
    named = letters if isinstance(letters, str) and len(letters) == len(shape) else "?" * len(shape)
    axes: Axes = tuple((c if c in "TCZ" else "?", n) for c, n in zip(named.upper(), leading, strict=False))
    if len({c for c, _ in axes if c != "?"}) < sum(c != "?" for c, _ in axes):
        axes = tuple(("?", n) for n in leading)
    said = plain_said(path, skeleton, page, axes=axes)
    return Said("its header", axes, said.voxel_size, said.unit, block=block)


def plain_said(path: Path, skeleton: Skeleton, page: tifffile.TiffPage, *, axes: Axes | None = None) -> Said:
    """Read a TIFF without a header: pages of unknown meaning, perhaps with pixels a centimetre.

    Raises:
        FormatError: The pages differ in size or type.
    """
    full = [number for number, found in enumerate(skeleton.pages) if not found.reduced]
    if axes is None:
        if not full or full != list(range(len(full))):
            raise damaged(path, "a smaller version comes before its page")
        if len(full) < len(skeleton.pages):
            left_out = len(skeleton.pages) - len(full)
            log.info("%s: %d pages are marked as smaller versions and are left out.", path.name, left_out)
        axes = (("?", len(full)),)
    for number in full:
        if skeleton.pages[number].profile != skeleton.pages[0].profile:
            raise FormatError(
                f"Reading the TIFF file {path} failed: page {number} is {_text(skeleton, number)}, page 0 is {_text(skeleton, 0)}. "
                "It holds several images; save the one that you want as a file of its own, for example in Fiji."
            )
    size = _printed_or_measured(path, page)
    return Said("its resolution tags", axes, (None, *size), "µm" if size[0] else None)


def _text(skeleton: Skeleton, number: int) -> str:
    rows, columns = skeleton.size_of(skeleton.pages[number])
    bits = skeleton.profiles[skeleton.pages[number].profile].get(258, (1,))
    return f"{rows} x {columns} with {'+'.join(map(str, bits))} bits a pixel (tags {skeleton.pages[number].profile})"


def _printed_or_measured(path: Path, page: tifffile.TiffPage) -> tuple[float | None, float | None]:
    """Edge lengths (y, x) of a pixel in µm by the resolution tags, unless they are dots of a printer."""
    per_x, per_y, unit = _resolution(page)
    inch = {2: 1.0, 3: 2.54}.get(unit)
    if per_x is None or per_y is None or (per_x == per_y == 1 and unit != 3):
        return (None, None)
    if inch is None:
        log.info("%s: resolution tags without a unit (%g x %g) are no calibration.", path.name, per_y, per_x)
        return (None, None)
    dots = per_x * inch
    printer = any(abs(dots - usual) <= 0.01 * usual for usual in DOTS) or per_x == 1
    if printer or (unit == 2 and dots < COARSEST_CALIBRATION):
        log.info("%s: %g dots an inch are a printer's setting, no calibration; left out.", path.name, dots)
        return (None, None)
    return (25400.0 / (per_y * inch), 25400.0 / dots)


def _resolution(page: tifffile.TiffPage) -> tuple[float | None, float | None, int]:
    """Pixels (x, y) a unit of resolution, and the tag of that unit (1 none, 2 inch, 3 cm)."""
    found = []
    for name in ("XResolution", "YResolution"):
        value = page.tags[name].value if name in page.tags else None
        fraction = value if isinstance(value, tuple) and len(value) == 2 else (0, 0)
        found.append(fraction[0] / fraction[1] if fraction[0] and fraction[1] else None)
    unit = page.tags["ResolutionUnit"].value if "ResolutionUnit" in page.tags else 2
    return found[0], found[1], int(unit) if isinstance(unit, int) else 1


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value != 0:
        return abs(float(value))
    return None


def shaped_header(page: tifffile.TiffPage) -> list[dict[str, Any]] | None:
    """Return the header that tifffile writes, or None."""
    text = page.description
    if not text.startswith('{"shape"'):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return [found] if isinstance(found, dict) else None
