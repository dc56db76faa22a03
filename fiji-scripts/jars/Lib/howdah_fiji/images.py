"""ImageJ's images as bytes, plane by plane, and back. Axes are named: the bytes run TZCYX, little-endian."""

import os

from ij import IJ, CompositeImage, ImagePlus, ImageStack
from ij.io import TiffDecoder
from ij.process import ByteProcessor, FloatProcessor, ShortProcessor
from jarray import zeros
from java.lang import Runtime
from java.nio import ByteBuffer, ByteOrder

from howdah_fiji.problems import Problem

LITTLE = ByteOrder.LITTLE_ENDIAN
SECONDS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "seconds": 1,
    "ms": 0.001,
    "msec": 0.001,
    "min": 60,
    "minute": 60,
    "minutes": 60,
    "h": 3600,
}
SECONDS.update({"hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400})
SIZES = {"|u1": 1, "|b1": 1, "<u2": 2, "<i2": 2, "<f4": 4, "<i4": 4, "<u4": 4, "<f8": 8}
FLIP = 0x8000  # signed 16-bit values lie in ImageJ as unsigned ones, moved by this


def header_of(imp):
    """Describe an image: {"shape", "dtype", "axes", "voxel_size", "unit", "interval_s"} as the backend takes it."""
    channels = 3 if imp.getType() == ImagePlus.COLOR_RGB else imp.getNChannels()
    if imp.getType() == ImagePlus.COLOR_RGB and imp.getNChannels() > 1:
        raise Problem("The image '%s' is RGB with channels; make it a composite (Image > Type)." % imp.getTitle())
    shape = [imp.getNFrames(), imp.getNSlices(), channels, imp.getHeight(), imp.getWidth()]
    header = {"shape": shape, "dtype": _dtype(imp), "axes": "TZCYX"}
    header.update(calibration_of(imp))
    return header


def calibration_of(imp):
    """Return {"voxel_size": [z, y, x] or None, "unit", "interval_s": seconds or None} of an image."""
    cal = imp.getCalibration()
    scaled = cal.scaled()
    unit = cal.getUnit() if scaled else "pixel"
    unit = {"um": "\u00b5m", "micron": "\u00b5m", "microns": "\u00b5m", "\u03bcm": "\u00b5m"}.get(unit, unit)
    size = [cal.pixelDepth, cal.pixelHeight, cal.pixelWidth] if scaled else None
    interval = cal.frameInterval * SECONDS.get(cal.getTimeUnit(), 0)
    return {"voxel_size": size, "unit": unit, "interval_s": interval if interval > 0 else None}


def _dtype(imp):
    kind = imp.getType()
    if kind == ImagePlus.COLOR_RGB or (
        kind in (ImagePlus.GRAY8, ImagePlus.COLOR_256) and not imp.getCalibration().calibrated()
    ):
        return "|u1"
    if kind == ImagePlus.GRAY16:
        if imp.getCalibration().isSigned16Bit():
            return "<i2"
        return "<f4" if imp.getCalibration().calibrated() else "<u2"
    return "<f4"


def count_of(header):
    """Return how many planes a described array has."""
    planes = 1
    for length in header["shape"][:-2]:
        planes *= length
    return planes


def plane_bytes(header):
    """Return the size of one plane in bytes."""
    return header["shape"][-2] * header["shape"][-1] * SIZES[header["dtype"]]


def planes_of(imp, header=None):
    """Yield the planes of an image as Java byte arrays, in the order of its header (T, Z, C)."""
    header = header or header_of(imp)
    dtype, stack = header["dtype"], imp.getStack()
    if stack.getSize() != imp.getNFrames() * imp.getNSlices() * imp.getNChannels():
        raise Problem(
            "The image '%s' holds %d planes, its dimensions say otherwise." % (imp.getTitle(), stack.getSize())
        )
    table = imp.getCalibration().getCTable() if dtype == "<f4" else None
    for t in range(imp.getNFrames()):
        for z in range(imp.getNSlices()):
            for c in range(imp.getNChannels()):
                ip = stack.getProcessor(imp.getStackIndex(c + 1, z + 1, t + 1))
                if imp.getType() == ImagePlus.COLOR_RGB:
                    for band in range(3):
                        yield ip.getChannel(band + 1, None).getPixels()
                else:
                    yield _bytes(ip, dtype, table)


def _bytes(ip, dtype, table):
    if dtype == "|u1":
        return ip.getPixels()
    size = ip.getWidth() * ip.getHeight()
    buffer = ByteBuffer.allocate(size * SIZES[dtype]).order(LITTLE)
    if dtype == "<f4":
        if not isinstance(ip, FloatProcessor):
            ip.setCalibrationTable(table)
            ip = ip.convertToFloatProcessor()
        buffer.asFloatBuffer().put(ip.getPixels())
        return buffer.array()
    if dtype == "<i2":
        ip = ip.duplicate()
        ip.xor(FLIP)
    buffer.asShortBuffer().put(ip.getPixels())
    return buffer.array()


def image_from(title, header, read_plane):
    """Build an image from bytes.

    Args:
        title: Its title.
        header: As of header_of; any order of T, Z and C before YX.
        read_plane: read_plane(byte array) fills the array with the next plane, or raises.

    Raises:
        Problem: The heap cannot hold it, or its type is none of ImageJ's.
    """
    axes, shape, dtype = header["axes"], header["shape"], header["dtype"]
    if axes[-2:] != "YX" or dtype not in SIZES:
        raise Problem("An image with the axes %s and the type %s cannot be shown in ImageJ." % (axes, dtype))
    width, height, planes = shape[-1], shape[-2], count_of(header)
    sizes = dict(zip(axes, shape))
    check_memory(planes * width * height * {"|u1": 1, "|b1": 1, "<u2": 2, "<i2": 2}.get(dtype, 4), title)
    order = list(axes[:-2])
    slots = [None] * planes
    for number in range(planes):
        data = ByteBuffer.allocate(plane_bytes(header))
        read_plane(data.array())
        slots[_slot(number, order, sizes)] = _processor(data.order(LITTLE), dtype, width, height)
    stack = ImageStack(width, height)
    for ip in slots:
        stack.addSlice("", ip)
    imp = ImagePlus(title, stack)
    imp.setDimensions(sizes.get("C", 1), sizes.get("Z", 1), sizes.get("T", 1))
    check_planes(imp, planes, title)
    _calibrate(imp, header)
    if planes > 1:
        imp.setOpenAsHyperStack(True)
    imp.resetDisplayRange()
    return CompositeImage(imp, CompositeImage.COMPOSITE) if 1 < sizes.get("C", 1) <= 7 else imp


def _slot(number, order, sizes):
    """Return ImageJ's place (channel fastest, then z, then t) of a plane, from its number in the order of the axes."""
    at = {"T": 0, "Z": 0, "C": 0}
    for axis in reversed(order):
        number, at[axis] = divmod(number, sizes[axis])
    return (at["T"] * sizes.get("Z", 1) + at["Z"]) * sizes.get("C", 1) + at["C"]


def _processor(data, dtype, width, height):
    if dtype in ("|u1", "|b1"):
        ip = ByteProcessor(width, height, data.array())
        if dtype == "|b1":
            ip.multiply(255)
        return ip
    if dtype in ("<u2", "<i2"):
        ip = ShortProcessor(width, height)
        data.asShortBuffer().get(ip.getPixels())
        if dtype == "<i2":
            ip.xor(FLIP)
        return ip
    if dtype == "<f4":
        ip = FloatProcessor(width, height)
        data.asFloatBuffer().get(ip.getPixels())
        return ip
    values = zeros(width * height, "d" if dtype == "<f8" else "i")
    (data.asDoubleBuffer() if dtype == "<f8" else data.asIntBuffer()).get(values)
    return FloatProcessor(width, height, values)


def _calibrate(imp, header):
    cal = imp.getCalibration()
    if header.get("voxel_size"):
        cal.pixelDepth, cal.pixelHeight, cal.pixelWidth = header["voxel_size"]
        cal.setUnit(header.get("unit") or "pixel")
    if header.get("interval_s"):
        cal.frameInterval = header["interval_s"]
        cal.setTimeUnit("sec")
    if header["dtype"] == "<i2":
        cal.setSigned16BitCalibration()


def check_planes(imp, expected, name):
    """Compare an image's number of planes with what was expected; ImageJ loses planes silently when its heap is full."""
    found = imp.getStackSize() if imp is not None else 0
    if found != expected:
        raise Problem("ImageJ holds %d of %d planes of %s: %s" % (found, expected, name, heap_sentence()))


def heap_sentence():
    """Say how full Java's heap is, and where to raise it."""
    runtime = Runtime.getRuntime()
    used = (runtime.totalMemory() - runtime.freeMemory()) / 1e9
    return "Java's heap is %.1f of %.1f GB full. Raise it in Edit > Options > Memory & Threads, or close images." % (
        used,
        runtime.maxMemory() / 1e9,
    )


def check_memory(n_bytes, name):
    """Refuse an image that Java's heap cannot hold, before ImageJ loses planes of it."""
    runtime = Runtime.getRuntime()
    if n_bytes > runtime.maxMemory() - runtime.totalMemory() + runtime.freeMemory():
        runtime.gc()
        if n_bytes > runtime.maxMemory() - runtime.totalMemory() + runtime.freeMemory():
            raise Problem("%s needs %.1f GB. %s" % (name, n_bytes / 1e9, heap_sentence()))


def planes_in(path):
    """Return how many planes a TIFF file says it has, or None if it is no TIFF."""
    if not path.lower().endswith((".tif", ".tiff")):
        return None
    folder, name = os.path.split(os.path.abspath(path))
    infos = TiffDecoder(folder + os.sep, name).getTiffInfo()
    if not infos:
        return None
    for line in (infos[0].description or "").split("\n"):
        if line.startswith("images="):
            return int(line[len("images=") :])
    return max(len(infos), infos[0].nImages)


def open_image(path):
    """Open an image file in ImageJ, and check that no plane is missing."""
    if not os.path.isfile(path):
        raise Problem("There is no file %s." % path)
    expected = planes_in(path)
    imp = IJ.openImage(path)
    if imp is None:
        raise Problem("ImageJ cannot open %s." % path)
    if expected is not None:
        check_planes(imp, expected, path)
    return imp


def place_of(imp):
    """Return the file that an image was opened from or saved as, whether it was changed since or not; '' if there is none."""
    info = imp.getOriginalFileInfo()
    path = os.path.join(info.directory, info.fileName) if info is not None and info.directory and info.fileName else ""
    return path if path and os.path.isfile(path) else ""


def file_of(imp):
    """Return the TIFF file that an open image came from, if it was not changed since and has the same dimensions; else None."""
    info = imp.getOriginalFileInfo()
    if info is None or imp.changes or not info.directory or not info.fileName:
        return None
    path = os.path.join(info.directory, info.fileName)
    if not os.path.isfile(path) or planes_in(path) != imp.getStackSize():
        return None
    stored = {"channels": 1, "slices": 1, "frames": 1}
    for line in (info.description or "").split("\n"):
        name, sign, value = line.partition("=")
        if sign and name in stored:
            stored[name] = int(value)
    now = {"channels": imp.getNChannels(), "slices": imp.getNSlices(), "frames": imp.getNFrames()}
    return path if stored == now and (info.width, info.height) == (imp.getWidth(), imp.getHeight()) else None
