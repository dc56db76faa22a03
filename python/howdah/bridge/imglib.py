"""numpy and ImgLib2 (shared memory, no copy) and ImageJ2's Dataset.

An array (T, C, Z, Y, X) is an ImgLib2 image of axes X, Y, Z, C, T over the same memory. Where Fiji has imglib2-imglyb, that shares it
(any size); else a direct buffer of Java lies over numpy's memory, at most 2 GiB an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.image import Vector
from howdah.bridge.axes import ALL, FROM_IMAGEJ2, TO_IMAGEJ2, five, java_dimensions
from howdah.bridge.images import Picture
from howdah.bridge.java_classes import has_class, java_class, java_errors
from howdah.bridge.start import Fiji
from howdah.errors import BridgeError, DataError

__all__ = ["LARGEST_BUFFER", "from_dataset", "from_imglib", "to_dataset", "to_imglib"]

Array = npt.NDArray[Any]

LARGEST_BUFFER = 2**31 - 1  # bytes of one direct buffer
# dtype -> (method of ArrayImgs, buffer access, method of ByteBuffer, what ImgLib2 calls an element)
KINDS = {
    "uint8": ("unsignedBytes", "ByteBufferAccess", None, "UnsignedByteType"),
    "int8": ("bytes", "ByteBufferAccess", None, "ByteType"),
    "uint16": ("unsignedShorts", "ShortBufferAccess", "asShortBuffer", "UnsignedShortType"),
    "int16": ("shorts", "ShortBufferAccess", "asShortBuffer", "ShortType"),
    "uint32": ("unsignedInts", "IntBufferAccess", "asIntBuffer", "UnsignedIntType"),
    "int32": ("ints", "IntBufferAccess", "asIntBuffer", "IntType"),
    "uint64": ("unsignedLongs", "LongBufferAccess", "asLongBuffer", "UnsignedLongType"),
    "int64": ("longs", "LongBufferAccess", "asLongBuffer", "LongType"),
    "float32": ("floats", "FloatBufferAccess", "asFloatBuffer", "FloatType"),
    "float64": ("doubles", "DoubleBufferAccess", "asDoubleBuffer", "DoubleType"),
}
DTYPES = {kind[3]: dtype for dtype, kind in KINDS.items()}
GLUE = "net.imglib2.python.NumpyToImgLibConversions"


def to_imglib(array: Array, *, imglyb: bool | None = None) -> Any:
    """Return an ImgLib2 image over the memory of an array; writes are seen on both sides. The memory lives as long as either needs it.

    Args:
        array: Of whole numbers or floats, native byte order, C-contiguous, writable; any shape. Its axes are reversed in ImgLib2.
        imglyb: True or False to use imglyb or a direct buffer; None for imglyb where it is there.

    Raises:
        DataError: The array is of another type or not contiguous, or larger than 2 GiB where imglyb is missing.
        BridgeError: No JVM runs, or it has no ImgLib2.
    """
    if array.dtype.name not in KINDS or not array.dtype.isnative:
        raise DataError(
            f"An array of {array.dtype} cannot be shared with ImgLib2; known are {', '.join(KINDS)}, in native byte order."
        )
    if not array.flags.c_contiguous or not array.flags.writeable or not array.size:
        raise DataError(
            f"An array of shape {array.shape} cannot be shared with Java: it must be C-contiguous, writable and not empty. Use "
            "numpy.ascontiguousarray(array) or array.copy()."
        )
    if has_class(GLUE) if imglyb is None else imglyb:
        import imglyb as glue

        with java_errors("Sharing an array with ImgLib2 by imglyb"):
            return glue.to_imglib(array)
    if array.nbytes > LARGEST_BUFFER:
        raise DataError(
            f"An array of {array.nbytes / 2**30:.2f} GiB cannot be shared with Java in one buffer (2 GiB at most). Share it by time "
            "points, or use a Fiji with imglib2-imglyb."
        )
    return _over_buffer(array)


def from_imglib(image: Any) -> Array:
    """Return the pixels of an ImgLib2 image (any RandomAccessibleInterval), axes reversed: X, Y, Z becomes [z, y, x].

    An image that :func:`to_imglib` made of a direct buffer shares its memory; any other is copied.

    Raises:
        DataError: Its elements are no plain numbers.
        BridgeError: Java failed, or it is so large that one (X, Y) plane exceeds 2 GiB.
    """
    with java_errors("Reading an ImgLib2 image"):
        lengths = [int(image.dimension(axis)) for axis in range(image.numDimensions())]
        element = str(java_class("net.imglib2.util.Util").getTypeFromInterval(image).getClass().getSimpleName())
    dtype = DTYPES.get(element.removeprefix("Volatile"))
    if dtype is None:
        raise DataError(f"An ImgLib2 image of {element} is no image of plain numbers; known are {', '.join(DTYPES)}.")
    shape = tuple(reversed(lengths))
    shared = _shared(image, shape, dtype)
    if shared is not None:
        return shared
    result = np.empty(shape, dtype)
    with java_errors("Copying an ImgLib2 image"):
        _copy(java_class("net.imglib2.view.Views").zeroMin(image), result)
    return result


def to_dataset(
    fiji: Fiji,
    array: Array,
    *,
    axes: str | None = None,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    unit: str = "pixel",
    interval: tuple[float, str] | None = None,
    title: str = "",
) -> Any:
    """Return ImageJ2's Dataset over an array, with named axes and calibration; through PyImageJ. Arguments as for ``to_imageplus``.

    Raises:
        DataError: The axes do not fit.
        BridgeError: This Fiji has no ImageJ2, or the Dataset's axes or shape are not those of the array.
    """
    if fiji.ij is None:
        raise BridgeError(
            "A Dataset needs ImageJ2, and this is ImageJ alone. Start a whole Fiji: howdah.bridge.start(fiji=...)."
        )
    image = np.ascontiguousarray(five(np.asarray(array), axes))
    with java_errors("Making a Dataset of an array"):
        dataset = fiji.ij.dataset().create(to_imglib(image))
        dataset.setName(title)
        scale = {
            "Z": voxel_size[0],
            "Y": voxel_size[1],
            "X": voxel_size[2],
            "C": 1.0,
            "T": interval[0] if interval else 1.0,
        }
        units = {**dict.fromkeys("ZYX", unit), "C": None, "T": interval[1] if interval else None}
        types = java_class("net.imagej.axis.Axes")
        linear = java_class("net.imagej.axis.DefaultLinearAxis")
        for place, letter in enumerate(reversed(ALL)):
            dataset.setAxis(linear(types.get(TO_IMAGEJ2[letter]), units[letter], float(scale[letter])), place)
    found = _letters(dataset)
    lengths = [int(dataset.dimension(axis)) for axis in range(dataset.numDimensions())]
    if found != ALL or lengths != java_dimensions(image.shape):
        raise BridgeError(
            f"A Dataset of an array {ALL} {image.shape} came out as {found} {tuple(reversed(lengths))}. Please report this."
        )
    return dataset


def from_dataset(dataset: Any) -> Picture:
    """Return ImageJ2's Dataset (or ImgPlus) as an array (T, C, Z, Y, X) with its calibration.

    Raises:
        DataError: An axis is none of X, Y, Z, Channel and Time.
    """
    letters = _letters(dataset)
    pixels = five(from_imglib(dataset.getImgPlus() if hasattr(dataset, "getImgPlus") else dataset), letters)
    steps, units = {}, {}
    for place, letter in enumerate(reversed(letters)):
        axis = dataset.axis(place)
        steps[letter], units[letter] = abs(float(axis.averageScale(0, 1))), axis.unit()
    size: Vector = (steps.get("Z", 1.0), steps["Y"], steps["X"])
    interval = (steps["T"], str(units["T"])) if units.get("T") is not None else None
    return Picture(pixels, size, str(units["X"] or "pixel"), interval, str(dataset.getName() or ""))


def _letters(dataset: Any) -> str:
    """Axes of a Dataset, slowest first."""
    names = [str(dataset.axis(place).type().getLabel()) for place in range(dataset.numDimensions())]
    unknown = [name for name in names if name not in FROM_IMAGEJ2]
    if unknown:
        raise DataError(
            f"A Dataset has the axes {', '.join(names)}; {unknown[0]} is none of {', '.join(FROM_IMAGEJ2)}. Rename or remove it."
        )
    return "".join(FROM_IMAGEJ2[name] for name in reversed(names))


def _over_buffer(array: Array) -> Any:
    import jpype

    method, access, view, _ = KINDS[array.dtype.name]
    with java_errors("Sharing an array with ImgLib2 by a direct buffer"):
        order = java_class("java.nio.ByteOrder").nativeOrder()
        buffer = jpype.nio.convertToDirectBuffer(array.reshape(-1).view(np.int8)).order(order)
        typed = buffer if view is None else getattr(buffer, view)()
        pixels = java_class(f"net.imglib2.img.basictypeaccess.nio.{access}")(typed, True)
        dimensions = jpype.JArray(jpype.JLong)(java_dimensions(array.shape))
        return getattr(java_class("net.imglib2.img.array.ArrayImgs"), method)(pixels, dimensions)


def _shared(image: Any, shape: Sequence[int], dtype: str) -> Array | None:
    """The array over the same memory, if the image is one of a direct buffer; else None."""
    if str(image.getClass().getName()) != "net.imglib2.img.array.ArrayImg":
        return None
    access = image.update(None)
    if not str(access.getClass().getName()).startswith("net.imglib2.img.basictypeaccess.nio."):
        return None
    return np.frombuffer(memoryview(access.getCurrentStorageArray()), dtype=dtype).reshape(shape)


def _copy(image: Any, target: Array) -> None:
    """Copy an image that begins at 0 into a contiguous array, in parts of at most 2 GiB."""
    if target.nbytes <= LARGEST_BUFFER:
        java_class("net.imglib2.util.ImgUtil").copy(image, _over_buffer(target))
        return
    if target.ndim <= 2:
        raise BridgeError(f"A plane of {target.nbytes / 2**30:.1f} GiB cannot be copied from Java: 2 GiB is the most.")
    views = java_class("net.imglib2.view.Views")
    for number, part in enumerate(target):
        _copy(views.hyperSlice(image, target.ndim - 1, number), part)
