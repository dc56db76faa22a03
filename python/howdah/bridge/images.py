"""numpy and ImageJ's ImagePlus: hyperstacks with axes, calibration and plane counts that are checked. Only ``ij.*`` classes are used.

ImageJ keeps every plane as a Java array, so pixels are copied, plane by plane, at memory speed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ArrayImage, FormatError, UnsupportedError
from bdv_io.formats import open_image
from bdv_io.image import Hints, Vector
from howdah.bridge.axes import five, from_planes, to_planes
from howdah.bridge.java_classes import java_class, java_errors
from howdah.errors import BridgeError, DataError

__all__ = ["Picture", "calibration_of", "exact_for_imagej", "from_imageplus", "open_imageplus", "to_imageplus"]

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

MOST_PLANE = 2**31 - 1  # pixels of a plane: the longest Java array
EXACT_FLOAT32 = 2**24
SIGNED_OFFSET = 32768
RGB, COLOUR_TABLE = 4, 3  # ImagePlus.COLOR_RGB, COLOR_256
BITS = {8: "uint8", 16: "uint16", 32: "float32"}
JAVA_TYPE = {"uint8": "JByte", "uint16": "JShort", "float32": "JFloat"}
STORED_AS = {"uint8": np.int8, "uint16": np.int16, "float32": np.float32}
SECONDS = {"sec": "s", "seconds": "s", "second": "s"}


@dataclass(frozen=True)
class Picture:
    """An image that came from Java.

    Attributes:
        pixels: (T, C, Z, Y, X): uint8, uint16, int16 (ImageJ's "signed 16-bit") or float32; an RGB image has C = 3, uint8.
        voxel_size: Edge lengths (z, y, x) of a voxel in ``unit``.
        unit: Unit of length as ImageJ says it; ``"pixel"`` where there is no calibration.
        interval: Time between frames and its unit, or None.
        title: The image's name.
        rgb: Whether the three channels are one colour image.
    """

    pixels: Array
    voxel_size: Vector = (1.0, 1.0, 1.0)
    unit: str = "pixel"
    interval: tuple[float, str] | None = None
    title: str = ""
    rgb: bool = False

    @property
    def movie(self) -> ArrayImage:
        """As a movie in memory, which Howdah's functions take."""
        return ArrayImage(self.pixels, voxel_size=self.voxel_size, unit=self.unit, interval=self.interval)


def exact_for_imagej(array: Array) -> Array:
    """Return an array in a type that ImageJ has, without changing a value: labels of int32 become uint16, for example.

    Raises:
        DataError: No type of ImageJ (uint8, uint16, int16, float32) holds all values exactly.
    """
    if array.dtype in (np.uint8, np.uint16, np.int16, np.float32):
        return array
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu":
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        for kind in (np.uint8, np.uint16, np.int16):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return array.astype(kind)
        if low >= -EXACT_FLOAT32 and high <= EXACT_FLOAT32:
            return array.astype(np.float32)
        raise DataError(
            f"Values from {low} to {high} ({array.dtype}) fit no type of ImageJ exactly (whole numbers up to {EXACT_FLOAT32} do, as "
            "float32). Relabel them from 1, or hand them over as a file."
        )
    if array.dtype.kind == "f":
        as_float = array.astype(np.float32)
        if np.array_equal(as_float, array, equal_nan=True):
            return as_float
    raise DataError(
        f"An array of {array.dtype} fits no type of ImageJ exactly. Round it yourself: array.astype(numpy.float32)."
    )


def to_imageplus(
    array: Array,
    *,
    axes: str | None = None,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    unit: str = "pixel",
    interval: tuple[float, str] | None = None,
    title: str = "",
    rgb: bool = False,
) -> Any:
    """Copy an array into a new ImagePlus, a hyperstack with calibration.

    Args:
        array: uint8, uint16, int16 (kept as ImageJ's signed 16-bit), float32 or bool (0 and 255); any axes.
        axes: Meaning of its axes, slowest first, of T, C, Z, Y, X; None for YX, ZYX and TCZYX by their number.
        voxel_size: Edge lengths (z, y, x) of a voxel in ``unit``.
        unit: Unit of length.
        interval: Time between frames and its unit, for example ``(30.0, "s")``.
        title: Name of the image.
        rgb: The three channels of a uint8 array are red, green and blue of one colour image.

    Returns:
        ``ij.ImagePlus``; it is not shown (``.show()`` does that, not in headless mode).

    Raises:
        DataError: ImageJ has no such type, or the axes do not fit.
        BridgeError: No JVM runs, the image does not fit into Java's heap, or ImageJ made another number of planes of it.
    """
    image = five(np.asarray(array), axes)
    signed = image.dtype == np.int16
    if image.dtype == bool:
        image = image.astype(np.uint8) * np.uint8(255)
    elif signed:
        image = (image.view(np.uint16) ^ np.uint16(SIGNED_OFFSET)).astype(np.uint16)
    if image.dtype.name not in JAVA_TYPE:
        raise DataError(
            f"ImageJ has no images of {image.dtype} (only uint8, uint16, signed 16-bit and float32). Convert first; "
            "howdah.bridge.images.exact_for_imagej(array) does it where no value changes."
        )
    frames, channels, slices, height, width = image.shape
    if not image.size or height * width > MOST_PLANE:
        raise DataError(
            f"An image of shape (T, C, Z, Y, X) = {image.shape} cannot be one of ImageJ: a plane has 1 to {MOST_PLANE} pixels."
        )
    if rgb and (channels != 3 or image.dtype != np.uint8):
        raise DataError(f"A colour image needs three channels of uint8; found {channels} of {image.dtype}.")
    _fits(image.nbytes // 3 * 4 if rgb else image.nbytes, f"An image of shape {image.shape}, {image.dtype},")
    with java_errors(f"Handing an image of shape {image.shape} to ImageJ"):
        stack = java_class("ij.ImageStack")(width, height)
        planes = _coloured(image) if rgb else to_planes(image)
        _fill(stack, planes, "JInt" if rgb else JAVA_TYPE[image.dtype.name])
        result = java_class("ij.ImagePlus")(title, stack)
        n_channels = 1 if rgb else channels
        result.setDimensions(n_channels, slices, frames)
        result.setOpenAsHyperStack(True)
        _calibrate(result, voxel_size, unit, interval)
        if signed:
            result.getCalibration().setSigned16BitCalibration()
        if image.dtype != np.uint8:
            result.resetDisplayRange()
    _same(result, (n_channels, slices, frames), "Handing an image to ImageJ")
    return result


def from_imageplus(image: Any, *, planes: int | None = None) -> Picture:
    """Copy an ImagePlus into numpy, with its axes and calibration.

    Args:
        image: ``ij.ImagePlus``; a virtual stack is read from its file.
        planes: How many planes it must have (for example those that its file has); None not to check.

    Raises:
        BridgeError: Planes are missing (ImageJ drops them silently when its heap is full), or its dimensions contradict each other.
    """
    title = str(image.getTitle())
    with java_errors(f"Reading the image {title!r}"):
        width, height, channels, slices, frames = (int(n) for n in image.getDimensions())
        found = int(image.getStackSize())
        kind, bits = int(image.getType()), int(image.getBitDepth())
        stack = image.getStack()
    if planes is not None and found != planes:
        raise BridgeError(_lost(found, planes, repr(title)))
    _same(image, (channels, slices, frames), f"Reading the image {title!r}")
    coloured = kind in (RGB, COLOUR_TABLE)
    data = np.empty((found, height, width), dtype=np.uint32 if coloured else BITS[bits])
    with java_errors(f"Reading the image {title!r}"):
        for number in range(found):
            pixels = _looked_up(stack, number + 1) if kind == COLOUR_TABLE else stack.getPixels(number + 1)
            if pixels is None or len(pixels) != height * width:
                raise BridgeError(
                    f"Reading the image {title!r} failed: plane {number + 1} of {found} has no pixels. Is Java's heap full?"
                )
            data[number] = np.frombuffer(memoryview(pixels), dtype=data.dtype).reshape(height, width)
        size, unit, interval, signed = _calibration(image)
    if coloured:
        data = np.ascontiguousarray(data)
        hyper = np.stack(
            [
                from_planes((data >> shift & 255).astype(np.uint8), channels=channels, slices=slices, frames=frames)
                for shift in (16, 8, 0)
            ]
        )
        cube = hyper.transpose(1, 2, 0, 3, 4, 5).reshape(frames, channels * 3, slices, height, width)
    else:
        if signed:
            data = (data ^ np.uint16(SIGNED_OFFSET)).view(np.int16)
        cube = from_planes(data, channels=channels, slices=slices, frames=frames)
    return Picture(cube, size, unit, interval, title, rgb=coloured)


def open_imageplus(path: str | Path) -> Any:
    """Open an image file with ImageJ, and compare the number of planes with that of the file: ImageJ drops planes when its heap is full.

    Raises:
        BridgeError: ImageJ cannot open it, or returns fewer planes than the file has.
        MissingDataError: There is no such file.
    """
    expected = _planes_of(path)
    with java_errors(f"Opening {path} with ImageJ"):
        image = java_class("ij.IJ").openImage(str(path))
    if image is None:
        raise BridgeError(
            f"ImageJ could not open {path}. Open it with Howdah (`howdah convert`), or in Fiji with Plugins > Bio-Formats."
        )
    found = int(image.getStackSize())
    if int(image.getType()) == RGB and expected == 3 * found:
        expected = found
    if expected is not None and found != expected:
        raise BridgeError(_lost(found, expected, str(path)))
    return image


def _looked_up(stack: Any, number: int) -> Any:
    """The pixels of a plane with a colour table as 0xFFRRGGBB."""
    return stack.getProcessor(number).convertToRGB().getPixels()


def _planes_of(path: str | Path) -> int | None:
    """Planes that a file has; None for a format that Howdah does not read."""
    for hints in (None, Hints(axes="TYX")):  # a stack that does not say its axes still has a number of planes
        try:
            movie = open_image(path, hints=hints)
        except (FormatError, UnsupportedError) as error:
            log.debug("counting the planes of %s: %s", path, error)
            continue
        planes = sum(movie.n_frames * setup.shape[0] for setup in movie.setups)
        movie.close()
        return planes
    log.warning("The planes of %s could not be counted, so nothing tells whether ImageJ opened all of them.", path)
    return None


def _fill(stack: Any, planes: Array, java_type: str) -> None:
    import jpype

    array_type = jpype.JArray(getattr(jpype, java_type))
    stored = np.dtype(np.int32) if java_type == "JInt" else np.dtype(STORED_AS[planes.dtype.name])
    for plane in planes:
        pixels = array_type(plane.size)
        pixels[:] = np.ascontiguousarray(plane).view(stored).reshape(-1)
        stack.addSlice("", pixels)


def _coloured(image: Array) -> Array:
    """(T, 3, Z, Y, X) uint8 -> (T*Z, Y, X) int32 of 0xFFRRGGBB."""
    red, green, blue = (image[:, channel].astype(np.uint32) for channel in range(3))
    packed = np.uint32(0xFF000000) | red << 16 | green << 8 | blue
    return packed.view(np.int32).reshape(-1, *image.shape[3:])


def _calibrate(image: Any, voxel_size: Vector, unit: str, interval: tuple[float, str] | None) -> None:
    calibration = image.getCalibration()
    calibration.pixelDepth, calibration.pixelHeight, calibration.pixelWidth = (float(edge) for edge in voxel_size)
    calibration.setUnit(unit)
    if interval is not None:
        calibration.frameInterval = float(interval[0])
        calibration.setTimeUnit(interval[1])
    image.setCalibration(calibration)


def _calibration(image: Any) -> tuple[Vector, str, tuple[float, str] | None, bool]:
    calibration = image.getCalibration()
    size = (float(calibration.pixelDepth), float(calibration.pixelHeight), float(calibration.pixelWidth))
    unit, time_unit = str(calibration.getUnit()), str(calibration.getTimeUnit())
    step = float(calibration.frameInterval)
    signed = bool(calibration.isSigned16Bit())
    if calibration.calibrated() and not signed:
        log.warning("%s has a calibration of its grey values; the stored values are used.", image.getTitle())
    return size, unit, (step, SECONDS.get(time_unit, time_unit)) if step > 0 else None, signed


def _same(image: Any, expected: tuple[int, int, int], doing: str) -> None:
    """Raise if channels, slices and frames are not these, or the planes are not their product."""
    found = (int(image.getNChannels()), int(image.getNSlices()), int(image.getNFrames()))
    n_planes = int(image.getStackSize())
    if found != expected or n_planes != expected[0] * expected[1] * expected[2]:
        raise BridgeError(
            f"{doing} failed: {expected[0]} channels x {expected[1]} slices x {expected[2]} frames were expected, ImageJ has {found} in "
            f"{n_planes} planes. Is Java's heap full?"
        )


def _lost(found: int, expected: int, what: str) -> str:
    used, most = _heap()
    return (
        f"ImageJ returned {found} of {expected} planes of {what}: Java's heap is probably full ({used / 2**30:.1f} of "
        f"{most / 2**30:.1f} GB). Raise it (memory='8g'; in Fiji Edit > Options > Memory & Threads), or open it as a virtual stack."
    )


def _heap() -> tuple[int, int]:
    runtime = java_class("java.lang.Runtime").getRuntime()
    return int(runtime.totalMemory() - runtime.freeMemory()), int(runtime.maxMemory())


def _fits(n_bytes: int, what: str) -> None:
    used, most = _heap()
    if n_bytes > most - used:
        java_class("java.lang.System").gc()
        used, most = _heap()
    if n_bytes > most - used:
        raise BridgeError(
            f"{what} needs {n_bytes / 2**30:.2f} GB of Java's heap; {(most - used) / 2**30:.2f} of {most / 2**30:.2f} GB are free. Start "
            "with more (memory='8g'; in Fiji Edit > Options > Memory & Threads), or hand it over as a file or as BigDataViewer source."
        )


def calibration_of(image: Any) -> tuple[Vector, str, tuple[float, str] | None]:
    """Return what an ImagePlus says of its voxels: edge lengths (z, y, x), unit, and time between frames with its unit or None."""
    with java_errors(f"Reading the calibration of {image.getTitle()}"):
        size, unit, interval, _ = _calibration(image)
    return size, unit, interval
