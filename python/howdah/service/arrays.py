"""Images as raw bytes: the header that says what they are, and the TIFF around them that the pipeline opens lazily.

What a client sends goes to the disk as it comes, behind the header of an uncompressed OME-BigTIFF: nothing is converted, nothing is
held in memory, and what is read back is a part of that file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bdv_io import BdvIoError
from bdv_io.image import Hints, Vector
from bdv_io.tiff.units import OME_LENGTHS, length_unit
from howdah.errors import ServiceError
from howdah.service.parameters import Image

__all__ = ["DTYPES", "NOTE", "ArrayHeader", "begin_tiff", "mapped_upload", "npy_offset"]

DTYPES = ("|u1", "<u2", "<u4", "|i1", "<i2", "<i4", "<f4", "<f8")
KEYS = ("shape", "dtype", "axes", "voxel_size", "unit", "interval_s")
NOTE = "upload.json"
LONGEST_HEADER = 4096
MOST_PLANES = 500_000
EXAMPLE = '{"shape": [3, 512, 512], "dtype": "<u2", "axes": "TYX", "voxel_size": [1, 0.2, 0.2], "unit": "µm", "interval_s": 30}'


@dataclass(frozen=True)
class ArrayHeader:
    """What the bytes of an image are.

    Attributes:
        shape: Length of each axis, slowest first.
        dtype: One of :data:`DTYPES`: little-endian.
        axes: A letter (T, C, Z, Y, X) for each axis; ends in YX.
        voxel_size: Edge lengths (z, y, x) of a voxel in ``unit``, or None.
        unit: Unit of length.
        interval_s: Seconds between frames, or None.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: str
    voxel_size: Vector | None = None
    unit: str = "pixel"
    interval_s: float | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of the image."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def to_text(self) -> str:
        """Return the header as ASCII JSON."""
        return json.dumps({key: getattr(self, key) for key in KEYS})

    @classmethod
    def of(cls, array: Any, axes: str, **calibration: Any) -> ArrayHeader:
        """Return the header of a numpy array (``shape`` and ``dtype`` are asked of it)."""
        dtype = np.dtype(array.dtype)
        little = "|u1" if dtype == np.bool_ else dtype.newbyteorder("<").str
        return cls.checked({"shape": list(array.shape), "dtype": little, "axes": axes, **calibration})

    @classmethod
    def parse(cls, text: str | None) -> ArrayHeader:
        """Read the header from ASCII JSON.

        Raises:
            ServiceError: It is missing, no JSON, or says what cannot be.
        """
        if not text:
            raise ServiceError(f"The header X-Howdah-Array is missing; it says what the bytes are: {EXAMPLE}")
        if len(text) > LONGEST_HEADER:
            raise ServiceError(f"The header X-Howdah-Array has {len(text)} letters; expected at most {LONGEST_HEADER}.")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise ServiceError(f"The header X-Howdah-Array is no JSON object; expected for example {EXAMPLE}")
        return cls.checked(said)

    @classmethod
    def checked(cls, said: Mapping[str, Any]) -> ArrayHeader:
        """Build from a mapping of JSON values.

        Raises:
            ServiceError: A key is unknown or missing, or a value cannot be.
        """
        unknown = sorted(set(said) - set(KEYS))
        missing = [key for key in KEYS[:3] if key not in said]
        if unknown or missing:
            what = f"lacks {', '.join(missing)}" if missing else f"has the unknown key {str(unknown[0])[:40]!r}"
            raise ServiceError(f"The header X-Howdah-Array {what}. Example: {EXAMPLE}")
        shape, dtype, axes = said["shape"], said["dtype"], said["axes"]
        if not (isinstance(shape, list) and shape and len(shape) <= 5 and all(_is_length(n) for n in shape)):
            raise ServiceError("The header X-Howdah-Array: 'shape' must be a list of 2 to 5 whole numbers above 0.")
        if dtype in ("<u1", "<i1", "|b1"):
            dtype = "|i1" if dtype == "<i1" else "|u1"
        if dtype not in DTYPES:
            raise ServiceError(
                f"The header X-Howdah-Array: 'dtype' must be one of {', '.join(DTYPES)} (little-endian)."
            )
        if not isinstance(axes, str) or len(axes) != len(shape) or not re.fullmatch(r"[TCZ]{0,3}YX", axes.upper()):
            raise ServiceError(
                "The header X-Howdah-Array: 'axes' must have one letter (T, C, Z) for each axis of 'shape' and end in YX, for "
                "example TZYX. Turn the array before it is sent."
            )
        if math.prod(shape[:-2]) > MOST_PLANES:
            raise ServiceError(f"The image has {math.prod(shape[:-2])} planes; at most {MOST_PLANES} are taken.")
        size, unit, interval = said.get("voxel_size"), said.get("unit") or "pixel", said.get("interval_s")
        return cls(tuple(shape), dtype, axes.upper(), *_calibration(axes, size, unit, interval))


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _calibration(axes: str, size: Any, unit: Any, interval: Any) -> tuple[Vector | None, str, float | None]:
    vector = None
    if size is not None:
        if not (isinstance(size, list | tuple) and len(size) == 3 and all(map(_is_number, size))):
            raise ServiceError("The header X-Howdah-Array: 'voxel_size' must be three numbers z, y, x, or null.")
        vector = (float(size[0]), float(size[1]), float(size[2]))
    if interval is not None and not _is_number(interval):
        raise ServiceError("The header X-Howdah-Array: 'interval_s' must be a number, or null.")
    if not isinstance(unit, str):
        raise ServiceError("The header X-Howdah-Array: 'unit' must be text such as µm.")
    try:
        Hints(axes=axes, voxel_size=vector, unit=unit, interval=None if interval is None else (float(interval), "s"))
    except (BdvIoError, OverflowError) as error:
        raise ServiceError(f"The header X-Howdah-Array: {error}") from None
    name = length_unit(unit)
    if name not in OME_LENGTHS:
        raise ServiceError(
            f"The header X-Howdah-Array: there is no unit of length {unit!r}; known are {', '.join(OME_LENGTHS)}."
        )
    return vector, name, None if interval is None else float(interval)


def begin_tiff(path: Path, header: ArrayHeader) -> int:
    """Make an OME-BigTIFF with room for the image and return the offset at which its bytes begin.

    The room is a hole in the file, where the disk knows holes.

    Raises:
        OSError: The disk is full, or the file cannot be written.
        ServiceError: There is no TIFF of such an image.
    """
    planes, (y, x) = math.prod(header.shape[:-2]), header.shape[-2:]
    facts: dict[str, Any] = {}
    for axis, edge in zip("ZYX", header.voxel_size or (), strict=False):
        facts[f"PhysicalSize{axis}"], facts[f"PhysicalSize{axis}Unit"] = edge, OME_LENGTHS[header.unit]
    if header.interval_s is not None:
        facts["TimeIncrement"], facts["TimeIncrementUnit"] = header.interval_s, "s"
    xml = tifffile.OmeXml(Creator="Howdah")
    try:
        xml.addimage(np.dtype(header.dtype), header.shape, (planes, 1, 1, y, x, 1), axes=header.axes, **facts)
        with tifffile.TiffWriter(path, bigtiff=True, byteorder="<") as file:
            place = file.write(
                shape=(planes, y, x),
                dtype=np.dtype(header.dtype),
                photometric="minisblack",
                description=xml.tostring(declaration=True).encode(),
                metadata=None,
                software="Howdah",
                returnoffset=True,
            )
    except (tifffile.OmeXmlError, ValueError) as error:
        raise ServiceError(
            f"An image of shape {header.shape} and type {header.dtype} cannot be kept: {error}"
        ) from error
    if place is None:
        raise ServiceError(f"An image of shape {header.shape} cannot be kept in one block.")
    return int(place[0])


def mapped_upload(path: Path) -> Image | None:
    """Return what a client sent as an array, mapped from the disk with the axes that it named; None for any other file."""
    try:
        said = json.loads((path.parent / NOTE).read_text(encoding="ascii"))
        if said["kind"] != "array" or said["file"] != path.name:
            return None
        header = ArrayHeader.checked(said["header"])
        data = np.memmap(path, dtype=header.dtype, mode="r", offset=said["offset"], shape=header.shape)
    except (OSError, ValueError, KeyError, TypeError, ServiceError):
        return None
    return Image(data, header.axes, header.voxel_size, header.unit, header.interval_s)


def npy_offset(path: Path) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Return where the numbers of a .npy file begin, their shape and type; objects (pickles) are refused.

    Raises:
        ServiceError: It is no .npy file in row order of plain numbers.
    """
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise ServiceError(f"Reading the result {path.name} failed: {error}") from None
    if not mapped.flags.c_contiguous or mapped.dtype.hasobject:
        raise ServiceError(f"Reading the result {path.name} failed: it is not in row order.")
    return int(mapped.offset), mapped.shape, mapped.dtype
