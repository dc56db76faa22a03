"""OME-TIFF: what the OME-XML in the first page says of axes, calibration and channels, and in which page each plane lies.

The planes of one image may be spread over several files; a plane that the XML does not place is missing, not black.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from lxml import etree

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.tiff.directories import I64, Skeleton, damaged, read_skeleton
from bdv_io.tiff.metadata import MAX_PLANES, Said
from bdv_io.tiff.units import METRES, length_unit, time_unit
from bdv_io.untrusted import refuse_special

__all__ = ["OmePlanes", "is_ome", "ome_said"]

log = logging.getLogger(__name__)

Element: TypeAlias = etree._Element
MAX_COMPANION = 1 << 28
OVERVIEWS = ("thumbnail", "label", "macro", "overview", "label image", "macro image")
UNEVEN = 0.05  # relative difference of time steps from which there is no one interval


@dataclass(frozen=True, eq=False)
class OmePlanes:
    """In which page of which file each plane lies.

    Attributes:
        files: The files; the first is the one that was opened.
        file: Index into ``files`` of each plane, in the shape of ``Said.axes``.
        page: Its page there; -1 where the XML places none.
    """

    files: tuple[Path, ...]
    file: I64
    page: I64


def is_ome(description: str) -> bool:
    """Whether the description of the first page is OME-XML."""
    head = description[:4096]
    return description.rstrip()[-6:] == "</OME>" or re.search(r"<(\w+:)?OME[ >]", head) is not None


def ome_said(path: Path, skeleton: Skeleton, description: str, samples: int) -> tuple[Said, OmePlanes]:
    """Read the OME-XML.

    Args:
        path: The file.
        skeleton: Its pages.
        description: The text of the first page.
        samples: Numbers a pixel (3 for RGB).

    Raises:
        FormatError: The XML is damaged, or places planes in pages that are not there.
        MissingDataError: A file that it names is not beside this one.
        UnsupportedError: There are several images, and none is plainly the one.
    """
    root = _parse(path, description.encode())
    companion = _child(root, "BinaryOnly")
    if companion is not None:
        beside = _beside(path, companion.get("MetadataFile", ""))
        refuse_special(beside, MAX_COMPANION)
        root = _parse(beside, beside.read_bytes())
    image = _choose(path, root)
    pixels = _child(image, "Pixels")
    if pixels is None:
        raise damaged(path, "its OME-XML describes no pixels")
    letters = pixels.get("DimensionOrder", "")
    if sorted(letters) != ["C", "T", "X", "Y", "Z"] or letters[:2] != "XY":
        raise damaged(path, f"its OME-XML gives the axes '{letters}'")
    sizes = {letter: _whole(path, pixels, f"Size{letter}") for letter in "TCZYX"}
    if (sizes["Y"], sizes["X"]) != skeleton.size_of(skeleton.pages[0]):
        rows, columns = skeleton.size_of(skeleton.pages[0])
        raise FormatError(
            f"Reading the OME-TIFF {path} failed: its OME-XML says {sizes['Y']} x {sizes['X']} pixels, its first page has "
            f"{rows} x {columns}. Save it again with the program that made it."
        )
    if sizes["C"] % samples:
        raise damaged(path, f"its OME-XML says {sizes['C']} channels, but a pixel has {samples} samples")
    sizes["C"] //= samples
    axes = tuple((letter, sizes[letter]) for letter in reversed(letters[2:]))
    if math.prod(n for _, n in axes) > MAX_PLANES:
        raise damaged(path, f"its OME-XML claims {' x '.join(f'{c} {n}' for c, n in axes)} planes")
    planes = _placed(path, skeleton, root, pixels, axes)
    size, unit = _calibration(path, pixels, sizes["Z"])
    names = [channel.get("Name", "") for channel in pixels if _name(channel) == "Channel"]
    said = Said(
        source="its OME-XML",
        axes=axes,
        voxel_size=size,
        unit=unit,
        interval=_interval(path, pixels),
        channels=tuple(names) if any(names) else (),
    )
    return said, planes


def _parse(path: Path, content: bytes) -> Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=len(content) > 9 << 20)
    try:
        root = etree.fromstring(content.strip(b"\0 \r\n\t"), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise damaged(path, f"its OME-XML cannot be read ({error})") from None
    if root.getroottree().docinfo.doctype:
        raise damaged(path, "its OME-XML declares a document type, which OME-XML never has")
    return root


def _choose(path: Path, root: Element) -> Element:
    """Return the image that is meant."""
    images = [element for element in root if _name(element) == "Image"]
    if len(images) > 1:  # those that lie in other files only, as positions of a microscope do
        here = [image for image in images if _is_here(path, root, image)]
        if 0 < len(here) < len(images):
            log.info("%s: its OME-XML names %d images; %d of them here.", path.name, len(images), len(here))
            images = here
    if len(images) > 1:
        plain = [image for image in images if image.get("Name", "").strip().lower() not in OVERVIEWS]
        images = plain if len(plain) == 1 else images
    if len(images) != 1:
        listed = "; ".join(_described(number, image) for number, image in enumerate(images[:8]))
        raise UnsupportedError(
            f"Opening {path} failed: it holds {len(images)} images ({listed or 'none'}), expected one movie. Save the one that you "
            "want as a file of its own, in Fiji with Bio-Formats."
        )
    return images[0]


def _described(number: int, image: Element) -> str:
    pixels = _child(image, "Pixels")
    sizes = {} if pixels is None else {letter: pixels.get(f"Size{letter}", "?") for letter in "TCZYX"}
    return f"{number}: '{image.get('Name', '')}' " + " ".join(f"{c} {n}" for c, n in sizes.items())


def _is_here(path: Path, root: Element, image: Element) -> bool:
    for uuid in image.iter("{*}UUID"):
        if uuid.get("FileName") == path.name or (uuid.text or "").strip() == root.get("UUID"):
            return True
    return next(image.iter("{*}UUID"), None) is None


def _placed(
    path: Path, skeleton: Skeleton, root: Element, pixels: Element, axes: tuple[tuple[str, int], ...]
) -> OmePlanes:
    shape = tuple(n for _, n in axes)
    total = math.prod(shape)
    file, page = np.zeros(total, dtype=np.int64), np.full(total, -1, dtype=np.int64)
    files, skeletons = [path], [skeleton]
    for data in (element for element in pixels if _name(element) == "TiffData"):
        where = _file_of(path, root, data)
        if where not in files:
            files.append(where)
            skeletons.append(read_skeleton(where))
        index = files.index(where)
        here = len(skeletons[index].pages)
        first = _whole(path, data, "IFD", 0)
        start = [_whole(path, data, f"First{letter}", 0) for letter, _ in axes]
        default = 1 if "IFD" in data.attrib else min(here, total)
        count = _whole(path, data, "PlaneCount", _whole(path, data, "NumPlanes", default))
        if any(s >= n for s, n in zip(start, shape, strict=True)):
            raise damaged(
                path, f"its OME-XML places a plane at {dict(zip('TCZ', start, strict=False))}, outside the image"
            )
        begin = int(np.ravel_multi_index(start, shape))
        if begin + count > total or first + count > here:
            raise FormatError(
                f"Reading the OME-TIFF {path} failed: its OME-XML places {count} planes from page {first} of {where.name}, which has "
                f"{here} pages. The file is cut off or was changed; copy it again."
            )
        file[begin : begin + count] = index
        page[begin : begin + count] = np.arange(first, first + count)
    if not (page >= 0).any():
        raise damaged(path, "its OME-XML places no plane in a page")
    placed = (file[page >= 0] << 40) + page[page >= 0]
    if len(np.unique(placed)) < len(placed):
        raise damaged(path, "its OME-XML places several planes in the same page")
    return OmePlanes(tuple(files), file.reshape(shape), page.reshape(shape))


def _file_of(path: Path, root: Element, data: Element) -> Path:
    uuid = _child(data, "UUID")
    if (
        uuid is None
        or (uuid.text and uuid.text.strip() == root.get("UUID"))
        or uuid.get("FileName") in (None, path.name)
    ):
        return path
    return _beside(path, uuid.get("FileName", ""))


def _beside(path: Path, name: str) -> Path:
    if not name or Path(name).name != name or "\\" in name or name in (".", ".."):
        raise damaged(path, f"its OME-XML names the file '{name}', which is not one in the same folder")
    found = path.with_name(name)
    if not found.is_file():
        raise MissingDataError(
            f"Opening {path} failed: its OME-XML says that part of the image is in {name}, but there is no such file beside it. "
            "Copy all files of the image into one folder."
        )
    return found


def _calibration(
    path: Path, pixels: Element, n_planes: int
) -> tuple[tuple[float | None, float | None, float | None], str | None]:
    edges: list[float | None] = []
    units = []
    for axis in "ZYX":
        text = pixels.get(f"PhysicalSize{axis}")
        edges.append(_positive(path, text, f"PhysicalSize{axis}"))
        units.append(length_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
    unit = units[2] if edges[2] is not None else None
    for index in (0, 1):
        edge, own = edges[index], units[index]
        if edge is not None and unit is not None and own != unit:
            if own not in METRES or unit not in METRES:
                raise FormatError(
                    f"Opening {path} failed: its OME-XML gives voxels in {units[2]}, {units[1]} and {units[0]} (x, y, z). Give "
                    "--voxel-size and --unit."
                )
            edges[index] = edge * METRES[own] / METRES[unit]
    if n_planes > 1 and edges[0] is None and unit is not None:
        log.warning(
            "%s: its OME-XML says no distance of planes; 1 %s is taken. Give --voxel-size to say it.", path.name, unit
        )
    return (edges[0], edges[1], edges[2]), unit


def _interval(path: Path, pixels: Element) -> tuple[float, str] | None:
    """Time between frames: as said, or from the times of the planes where these are even."""
    said = _positive(path, pixels.get("TimeIncrement"), "TimeIncrement")
    if said is not None:
        return said, time_unit(pixels.get("TimeIncrementUnit", "s"))
    times, unit = {}, "s"
    for plane in (element for element in pixels if _name(element) == "Plane"):
        delta, frame = plane.get("DeltaT"), plane.get("TheT", "")
        if delta is not None and plane.get("TheC") == "0" and plane.get("TheZ") == "0" and frame.isdecimal():
            unit = time_unit(plane.get("DeltaTUnit", "s"))
            try:
                times[int(frame)] = float(delta)
            except ValueError:
                return None
    frames = sorted(times)
    if len(frames) < 2 or frames != list(range(frames[0], frames[-1] + 1)):
        return None
    steps = np.diff([times[frame] for frame in frames])
    step = float(np.median(steps))
    if not (np.isfinite(steps).all() and step > 0 and np.abs(steps - step).max() <= UNEVEN * step):
        log.info("%s: its frames are unevenly spaced in time; there is no one interval.", path.name)
        return None
    log.info("%s: the interval %g %s is the median of the times of its planes.", path.name, step, unit)
    return step, unit


def _positive(path: Path, text: str | None, name: str) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise damaged(path, f"its OME-XML says {name}='{text}'") from None
    return value if math.isfinite(value) and value > 0 else None


def _whole(path: Path, element: Element, name: str, default: int | None = None) -> int:
    text = element.get(name)
    if text is None and default is not None:
        return default
    least = 0 if default is not None else 1
    if text is None or not text.strip().isdecimal() or not least <= int(text[:19]) <= 1 << 40:
        raise damaged(path, f"its OME-XML says {name}='{text}'")
    return int(text)


def _name(element: Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _child(element: Element, name: str) -> Element | None:
    return next((child for child in element if _name(child) == name), None)
