"""Writing TIFF, frame by frame: for ImageJ, or as OME-TIFF where the name ends in ``.ome.tif`` or ``.ome.tiff``.

**ImageJ**: a hyperstack in one uncompressed block, for ImageJ opens that at once, virtually too, and beyond 4 GB, where it
can read neither BigTIFF nor compressed pages; so the option ``compression`` does nothing here. Calibration, frame
interval, names of channels (as labels of the planes) and display ranges are in it. ImageJ's types are 8 and 16 bits
without sign, 16 bits with sign and 32-bit float.

**OME-TIFF**: all integer types up to 32 bits and both float types, compressed with deflate, BigTIFF beyond 4 GB.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from bdv_io.errors import FormatError, UnsupportedError
from bdv_io.image import Array, Hints, ImageSeries, WriteOptions
from bdv_io.safe_write import replacing
from bdv_io.tiff.losses import Plan, lost_in_tiff, plan
from bdv_io.tiff.read import open_file
from bdv_io.tiff.units import OME_LENGTHS, OME_TIMES, escaped, length_unit, time_unit

__all__ = ["lost_in_tiff", "writing_tiff"]

log = logging.getLogger(__name__)

OME_SUFFIXES = (".ome.tif", ".ome.tiff")
IMAGEJ_TYPES = ("uint8", "uint16", "int16", "float32")
WIDENED = {"bool": "uint8", "int8": "int16", "float16": "float32"}  # nothing of their values is lost
OME_TYPES = {"int8": "int8", "int16": "int16", "int32": "int32", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32",
             "float32": "float", "float64": "double"}  # fmt: skip
UNCALIBRATED = (1.0, "frame")  # an interval that says nothing
CLASSIC_LIMIT = (1 << 32) - (1 << 25)


def writing_tiff(path: Path, image: ImageSeries, *, options: WriteOptions) -> Iterator[int]:
    """Write a movie as TIFF; yield the number of frames that are done. Memory: the channels of one time point.

    Args:
        path: The target; ``.ome.tif`` and ``.ome.tiff`` become OME-TIFF, all else a TIFF for ImageJ. What stood there
            before is kept as ``name~1~``. Nothing is there until the iterator is exhausted.
        image: The movie; its channels must be alike. Missing views are written as zeros (:func:`lost_in_tiff` says so).
        options: ``compression`` and ``workers`` count for OME-TIFF only; ``levels`` and ``chunks`` for neither.

    Raises:
        UnsupportedError: The setups differ, or the kind of TIFF has no such type of voxels or unit.
        FormatError: A frame differs from the first in shape or type.
        WriteError: The disk is full, or the folder is missing or may not be written to; the old file is intact.
        BusyError: Another Howdah is writing the same file.
    """
    target = Path(path)
    is_ome = target.name.lower().endswith(OME_SUFFIXES)
    what = plan(target, image)
    stored = _stored_type(target, what.dtype, is_ome=is_ome)
    frames = _Frames(target, image, what, stored)
    with replacing(target, verify=frames.verify) as temporary:
        yield from _writing_ome(temporary, frames, options) if is_ome else _writing_imagej(temporary, frames)


def _stored_type(path: Path, dtype: np.dtype[Any], *, is_ome: bool) -> np.dtype[Any]:
    name = dtype.name
    if name in (OME_TYPES if is_ome else IMAGEJ_TYPES):
        return dtype.newbyteorder("=")
    if name in WIDENED and (not is_ome or WIDENED[name] in OME_TYPES):
        log.info("%s: voxels of %s are written as %s; their values stay.", path.name, name, WIDENED[name])
        return np.dtype(WIDENED[name])
    kinds = OME_TYPES if is_ome else IMAGEJ_TYPES
    advice = (
        "Write OME-TIFF (.ome.tif), OME-Zarr or BigDataViewer"
        if name in OME_TYPES
        else "Write OME-Zarr or BigDataViewer"
    )
    raise UnsupportedError(
        f"Writing {path} failed: {'OME-TIFF' if is_ome else 'ImageJ'} has no voxels of type {name}, only {', '.join(kinds)}. "
        f"{advice}, or convert the movie."
    )


class _Frames:
    """Hands out the frames of a movie in the type that is written, and knows them again when they are read back."""

    def __init__(self, path: Path, image: ImageSeries, what: Plan, dtype: np.dtype[Any]) -> None:
        self.path, self.image, self.plan, self.dtype = path, image, what, dtype
        self.sums: dict[tuple[int, int], int] = {}
        self.ends = {0, what.n_frames - 1}

    def frame(self, frame: int) -> Array:
        """One time point as (Z, C, Y, X), the order in which ImageJ stacks planes."""
        z, y, x = self.plan.shape
        out = np.empty((z, self.plan.n_channels, y, x), dtype=self.dtype)
        for channel in range(self.plan.n_channels):
            if self.image.is_missing(frame, channel):
                out[:, channel] = 0
            else:
                view = self.image.read(frame, channel)
                if view.shape != self.plan.shape or view.dtype != self.plan.dtype:
                    raise FormatError(
                        f"Writing frame {frame}, setup {channel} to {self.path} failed: it is {view.shape} {view.dtype}, expected "
                        f"{self.plan.shape} {self.plan.dtype}. All frames of a TIFF must be alike. Nothing was written."
                    )
                out[:, channel] = view
            if frame in self.ends:
                self.sums[frame, channel] = zlib.crc32(np.ascontiguousarray(out[:, channel]).data)
        return out

    def ranges(self) -> list[tuple[float, float]]:
        """Display range of each channel: as the image declares it, else least and largest value of the first, middle and last frame."""
        declared: tuple[float, float] | None = getattr(self.image, "display_range", None)
        if declared is not None:
            return [declared] * self.plan.n_channels
        found = []
        for channel in range(self.plan.n_channels):
            low, high = np.inf, -np.inf
            for frame in sorted({0, self.plan.n_frames // 2, self.plan.n_frames - 1}):
                if not self.image.is_missing(frame, channel):
                    view = self.image.read(frame, channel)
                    finite = view[np.isfinite(view)] if view.dtype.kind == "f" else view
                    if finite.size:
                        low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            found.append((low, high if high > low else low + 1) if np.isfinite(low) else (0.0, 1.0))
        return found

    def verify(self, written: Path) -> None:
        """Read the file back: axes, type, calibration, first and last frame.

        Raises:
            FormatError: It is not what was written.
        """
        again = open_file(written, hints=Hints())
        try:
            what, first = self.plan, again.setups[0]
            found = (again.n_frames, len(again.setups), first.shape, first.dtype)
            expected = (what.n_frames, what.n_channels, what.shape, self.dtype)
            same = found == expected and np.allclose(first.voxel_size[1:], what.voxel_size[1:], rtol=1e-5)
            for (frame, channel), checksum in self.sums.items() if same else ():
                same &= zlib.crc32(np.ascontiguousarray(again.read(frame, channel)).data) == checksum
            if not same:
                raise FormatError(
                    f"Reading {self.path} back after writing failed: it holds {found} (frames, channels, voxels, type), expected "
                    f"{expected} with the same pixels. The disk may be faulty; write elsewhere."
                )
        finally:
            again.close()


# ---- for ImageJ ----------------------------------------------------------------------------------------------------


def _writing_imagej(path: Path, frames: _Frames) -> Iterator[int]:
    what = frames.plan
    z, y, x = what.shape
    shape = (what.n_frames, z, what.n_channels, y, x, 1)  # the 1 is said so that a width of 1 is not taken for it
    size = int(np.prod(shape, dtype=np.int64)) * frames.dtype.itemsize
    header, per_unit = _imagej_header(frames)
    # ImageJ 1.54p reads labels in a little-endian file byte by byte: the second half of such a letter is lost.
    order: Literal["<", ">"] = ">" if any(ord(letter) > 255 for name in what.names for letter in name) else "<"
    with tifffile.TiffWriter(path, imagej=True, bigtiff=False, byteorder=order) as file:
        place = file.write(
            shape=shape,
            dtype=frames.dtype,
            photometric="minisblack",
            resolution=per_unit,
            resolutionunit="NONE",
            metadata=header,
            software="Howdah",
            truncate=size > CLASSIC_LIMIT,
            returnoffset=True,
        )
    offset = place[0] if place else 0
    if not offset or path.stat().st_size < offset + size:
        raise FormatError(
            f"Writing {frames.path} failed: there is no room for {size} bytes of pixels after its header."
        )
    with path.open("rb+") as file:
        file.seek(offset)
        for frame in range(what.n_frames):
            file.write(frames.frame(frame).astype(frames.dtype.newbyteorder(order), copy=False).data)
            yield frame + 1


def _imagej_header(frames: _Frames) -> tuple[dict[str, Any], tuple[float, float]]:
    """Return what ImageJ's header says, and pixels (x, y) a unit."""
    what, ranges = frames.plan, frames.ranges()
    size_z, size_y, size_x = what.voxel_size
    unit = length_unit(what.unit)
    header: dict[str, Any] = {
        "axes": "TZCYXS",
        "ImageJ": "1.54p",
        "hyperstack": True,
        "mode": "composite" if 1 < what.n_channels <= 7 else "grayscale",
        "unit": escaped(unit),
        "spacing": repr(float(size_z)),
        "min": repr(ranges[0][0]),
        "max": repr(ranges[0][1]),
    }
    if what.interval is not None:
        step, name = what.interval
        header["finterval"] = repr(float(step))
        header["tunit"] = {"s": "sec"}.get(time_unit(name), escaped(time_unit(name)))
    if what.n_channels > 1:
        header["Ranges"] = [value for pair in ranges for value in pair]
    if any(what.names) and what.names != tuple(f"channel {i + 1}" for i in range(what.n_channels)):
        header["Labels"] = list(what.names) * (what.n_frames * what.shape[0])
    return header, (1 / size_x, 1 / size_y)


# ---- OME-TIFF ------------------------------------------------------------------------------------------------------


def _writing_ome(path: Path, frames: _Frames, options: WriteOptions) -> Iterator[int]:
    what = frames.plan
    size = int(np.prod([what.n_frames, what.n_channels, *what.shape], dtype=np.int64)) * frames.dtype.itemsize
    packed: dict[str, Any] = {}
    if options.compression is not None:
        packed = {
            "compression": "zlib",
            "compressionargs": {"level": options.compression},
            "maxworkers": options.workers,
        }
        packed["predictor"] = frames.dtype.kind in "iu"  # readers in Java know no predictor for float
    xml = _ome_xml(frames)
    with tifffile.TiffWriter(path, bigtiff=size > CLASSIC_LIMIT, byteorder="<") as file:
        for frame in range(what.n_frames):
            file.write(
                frames.frame(frame).reshape(-1, *what.shape[1:]),
                photometric="minisblack",
                description=xml if frame == 0 else None,
                metadata=None,
                software="Howdah" if frame == 0 else False,
                **packed,
            )
            yield frame + 1


def _ome_xml(frames: _Frames) -> bytes:
    what = frames.plan
    unit = length_unit(what.unit)
    if unit not in OME_LENGTHS:
        raise UnsupportedError(
            f"Writing {frames.path} failed: OME-TIFF has no unit of length '{what.unit}', only {', '.join(OME_LENGTHS)}. Give "
            "--unit where the source does not say it, or write .tif, .xml or .ome.zarr."
        )
    facts: dict[str, Any] = {"Name": frames.path.name}
    for axis, edge in zip("ZYX", what.voxel_size, strict=True):
        facts[f"PhysicalSize{axis}"], facts[f"PhysicalSize{axis}Unit"] = float(edge), OME_LENGTHS[unit]
    if what.interval is not None and what.interval != UNCALIBRATED:
        step, name = float(what.interval[0]), time_unit(what.interval[1])
        if name not in OME_TIMES:
            raise UnsupportedError(
                f"Writing {frames.path} failed: OME-TIFF has no unit of time '{name}', only {', '.join(sorted(OME_TIMES))}. Give "
                "--interval where the source does not say it, or write .tif, .xml or .ome.zarr."
            )
        facts["TimeIncrement"], facts["TimeIncrementUnit"] = step, name
    z, y, x = what.shape
    xml = tifffile.OmeXml(Creator="Howdah")
    try:
        xml.addimage(
            frames.dtype,
            (what.n_frames, z, what.n_channels, y, x),
            (what.n_frames * z * what.n_channels, 1, 1, y, x, 1),
            axes="TZCYX",
            Channel={"Name": list(what.names)} if any(what.names) else None,
            **facts,
        )
    except (tifffile.OmeXmlError, ValueError) as error:
        raise UnsupportedError(f"Writing {frames.path} as OME-TIFF failed: {error}.") from error
    return xml.tostring(declaration=True).encode()
