"""Checks of images with the real ImageJ and ImgLib2; `test_images.py` runs them in one child process."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import tifffile

from howdah.bridge.images import exact_for_imagej, from_imageplus, open_imageplus, to_imageplus
from howdah.bridge.imglib import from_imglib, to_dataset, to_imglib
from howdah.bridge.java_classes import java_class, java_errors
from howdah.errors import BridgeError, DataError

RNG = np.random.default_rng(5)


def random(shape, dtype):
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def longs(*numbers):
    import jpype

    return jpype.JArray(jpype.JLong)(list(numbers))


def check_every_type_comes_back_with_its_axes(fiji):
    for dtype in ("uint8", "uint16", "int16", "float32"):
        array = random((2, 3, 4, 5, 7), dtype)
        image = to_imageplus(array, voxel_size=(2.0, 0.5, 0.25), unit="µm", interval=(30.0, "s"), title=dtype)
        assert [int(n) for n in image.getDimensions()] == [7, 5, 3, 4, 2]
        back = from_imageplus(image, planes=24)
        assert back.pixels.dtype == array.dtype
        np.testing.assert_array_equal(back.pixels, array)
        assert (back.voxel_size, back.unit, back.interval, back.title) == ((2.0, 0.5, 0.25), "µm", (30.0, "s"), dtype)
        assert back.movie.n_frames == 2
        assert len(back.movie.setups) == 3


def check_a_voxel_lies_where_imagej_says(fiji):
    array = np.zeros((2, 3, 4, 5, 7), np.uint16)
    array[1, 2, 3, 4, 6] = 60000
    image = to_imageplus(array)
    plane = image.getStack().getProcessor(image.getStackIndex(3, 4, 2))  # c, z, t from 1
    assert plane.get(6, 4) == 60000
    assert int(image.getStack().getProcessor(1).getStatistics().max) == 0


def check_signed_16_bit_is_signed_for_imagej(fiji):
    image = to_imageplus(np.array([[-32768, -1], [0, 32767]], np.int16))
    assert image.getCalibration().isSigned16Bit()
    assert image.getCalibration().getCValue(image.getProcessor().get(1, 0)) == -1.0


def check_other_axes_and_a_view(fiji):
    array = random((6, 5, 3, 4), "uint8")  # Y, X, T, Z
    back = from_imageplus(to_imageplus(array, axes="YXTZ"))
    np.testing.assert_array_equal(back.pixels[:, 0], array.transpose(2, 3, 0, 1))
    np.testing.assert_array_equal(
        from_imageplus(to_imageplus(array[::2, ::-1, 0, 0])).pixels[0, 0, 0], array[::2, ::-1, 0, 0]
    )


def check_a_mask_and_colours(fiji):
    mask = np.eye(4, dtype=bool)
    np.testing.assert_array_equal(from_imageplus(to_imageplus(mask)).pixels[0, 0, 0], mask * 255)
    colours = random((2, 3, 2, 4, 5), "uint8")
    image = to_imageplus(colours, rgb=True)
    assert int(image.getBitDepth()) == 24
    red = java_class("java.awt.Color")(image.getStack().getProcessor(1).get(2, 1)).getRed()
    assert red == colours[0, 0, 0, 1, 2]
    back = from_imageplus(image)
    assert back.rgb
    np.testing.assert_array_equal(back.pixels, colours)


def check_a_colour_table_is_read_as_colours(fiji):
    image = to_imageplus(np.array([[0, 255]], np.uint8))
    java_class("ij.process.ImageConverter")(
        to_imageplus(np.zeros((3, 1, 2), np.uint8), axes="CYX", rgb=True)
    ).convertRGBtoIndexedColor(8)
    image.getProcessor().setLut(java_class("ij.process.LUT").createLutFromColor(java_class("java.awt.Color").red))
    image.setTypeToColor256() if hasattr(image, "setTypeToColor256") else None
    assert from_imageplus(image).pixels.shape[-2:] == (1, 2)


def check_types_that_imagej_lacks_are_refused_or_made_exact(fiji):
    labels = np.array([[0, 1], [2, 70000]])
    with pytest.raises(DataError, match=r"no images of int64.*exact_for_imagej"):
        to_imageplus(labels)
    assert exact_for_imagej(labels).dtype == np.float32
    assert exact_for_imagej(labels[:1]).dtype == np.uint8
    assert exact_for_imagej(np.array([-3, 500])).dtype == np.int16
    assert exact_for_imagej(np.array([0.5])).dtype == np.float32
    with pytest.raises(DataError, match="fit no type of ImageJ exactly"):
        exact_for_imagej(np.array([2**24 + 1]))
    with pytest.raises(DataError, match="float64 fits no type"):
        exact_for_imagej(np.array([0.1]))


def check_wrong_axes_are_a_sentence(fiji):
    with pytest.raises(DataError, match="without its axes"):
        to_imageplus(np.zeros((2, 3, 4, 5), np.uint8))
    for axes in ("TZYX", "ZZX", "ABC", "TZY"):
        with pytest.raises(DataError, match="were given for an array of shape"):
            to_imageplus(np.zeros((2, 3, 4), np.uint8), axes=axes)
    with pytest.raises(DataError, match="three channels of uint8"):
        to_imageplus(np.zeros((2, 3, 4), np.uint8), rgb=True)
    with pytest.raises(DataError, match="cannot be one of ImageJ"):
        to_imageplus(np.zeros((0, 3, 4), np.uint8))


def check_missing_planes_are_found(fiji):
    image = to_imageplus(np.zeros((4, 3, 3), np.uint8))
    with pytest.raises(BridgeError, match=r"ImageJ returned 4 of 9 planes of .*heap is probably full"):
        from_imageplus(image, planes=9)


def check_an_image_larger_than_the_heap_is_refused_before(fiji):
    huge = np.broadcast_to(np.zeros(1, np.uint16), (900, 1024, 1024))
    with pytest.raises(BridgeError, match=r"needs 1\.76 GB of Java's heap"):
        to_imageplus(huge)


def check_a_tiff_of_ours_opens_with_all_its_planes(fiji, folder: Path):
    array = random((2, 3, 2, 6, 5), "uint16")  # T, Z, C, Y, X
    path = folder / "a µ.tif"
    tifffile.imwrite(
        path,
        array,
        imagej=True,
        metadata={"axes": "TZCYX", "spacing": 2.0, "unit": "um", "finterval": 1.5},
        resolution=(4, 4),
    )
    back = from_imageplus(open_imageplus(path))
    np.testing.assert_array_equal(back.pixels, array.transpose(0, 2, 1, 3, 4))
    assert back.voxel_size == (2.0, 0.25, 0.25)
    assert back.interval == (1.5, "s")


def check_a_tiff_that_does_not_fit_the_heap_is_an_error_and_not_a_shorter_stack(fiji, folder: Path):
    path = folder / "large.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(90):
            writer.write(np.zeros((2048, 1024), np.uint16), contiguous=True)
    with pytest.raises(BridgeError, match=r"ImageJ returned [0-9]+ of 90 planes"):
        open_imageplus(path)
    path.unlink()
    java_class("java.lang.System").gc()


def check_a_java_exception_is_a_sentence_with_its_cause(fiji):
    words = r"Counting failed in Java: NumberFormatException: For input string: \"x\""
    with pytest.raises(BridgeError, match=words) as caught, java_errors("Counting"):
        java_class("java.lang.Integer").parseInt("x")
    assert "parseInt" in "".join(caught.value.__notes__)
    with pytest.raises(BridgeError, match=r"no class org\.mastodon\.Nothing.*Mastodon"):
        java_class("org.mastodon.Nothing")


def check_imglib2_shares_memory_both_ways(fiji):
    for dtype in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"):
        array = random((2, 3, 4), dtype)
        image = to_imglib(array)
        assert [int(image.dimension(d)) for d in range(3)] == [4, 3, 2]
        np.testing.assert_array_equal(from_imglib(image), array)
        assert np.shares_memory(from_imglib(image), array), dtype
    array = np.zeros((2, 3, 4), np.uint16)
    image = to_imglib(array)
    array[1, 2, 3] = 65535
    place = image.randomAccess()
    place.fwd(0), place.fwd(0), place.fwd(0), place.fwd(1), place.fwd(1), place.fwd(2)
    assert place.get().get() == 65535
    place.get().set(7)
    assert array[1, 2, 3] == 7


def check_the_memory_lives_as_long_as_java_needs_it(fiji):
    class Watched(np.ndarray):
        pass

    array = np.arange(1000, dtype=np.uint16).view(Watched)
    watch = weakref.ref(array)
    image = to_imglib(array)
    del array
    gc.collect()
    java_class("java.lang.System").gc()
    assert watch() is not None
    assert from_imglib(image)[999] == 999


def check_images_of_other_kinds_are_copied(fiji):
    array = random((3, 4, 5), "float32")
    views = java_class("net.imglib2.view.Views")
    np.testing.assert_array_equal(from_imglib(views.hyperSlice(to_imglib(array), 2, 1)), array[1])
    np.testing.assert_array_equal(from_imglib(views.translate(to_imglib(array), longs(10, 20, 30))), array)
    planar = java_class("net.imglib2.img.planar.PlanarImgs").unsignedShorts(longs(5, 4, 3))
    assert from_imglib(planar).shape == (3, 4, 5)
    assert from_imglib(java_class("net.imglib2.img.array.ArrayImgs").doubles(longs(5, 4))).dtype == np.float64


def check_what_cannot_be_shared_is_a_sentence(fiji):
    with pytest.raises(DataError, match="complex128 cannot be shared"):
        to_imglib(np.zeros((2, 2), complex))
    with pytest.raises(DataError, match="C-contiguous"):
        to_imglib(np.zeros((4, 4))[:, ::2])
    with pytest.raises(DataError, match="native byte order"):
        to_imglib(np.zeros((4, 4), ">u2"))
    with pytest.raises(DataError, match=r"2\.00 GiB cannot be shared"):
        to_imglib(np.empty((2, 2**30), np.uint8))
    with pytest.raises(DataError, match=r"NativeBoolType|BitType"):
        from_imglib(java_class("net.imglib2.img.array.ArrayImgs").booleans(longs(2, 2)))


def check_a_dataset_needs_imagej2(fiji):
    with pytest.raises(BridgeError, match="needs ImageJ2, and this is ImageJ alone"):
        to_dataset(fiji, np.zeros((2, 2), np.uint8))
    with pytest.raises(BridgeError, match="without SciJava's context"):
        _ = fiji.context


def check_windows_are_refused_in_headless_mode(fiji):
    with pytest.raises(BridgeError, match="needs windows, and this Fiji runs headless"):
        fiji.need_windows("BigDataViewer")


def check_a_blur_that_leaves_a_pool_of_threads(fiji):
    image = to_imageplus(random((8, 64, 64), "uint16"))
    before = from_imageplus(image).pixels
    java_class("ij.plugin.GaussianBlur3D").blur(image, 2, 2, 1)
    assert from_imageplus(image).pixels.std() < before.std() / 2
    assert java_class("ij.util.ThreadUtil").threadPoolExecutor.getPoolSize() > 0


def check_advice_is_given_on_what_lies_below_an_exception(fiji):
    runtime, full = (fiji.jimport(f"java.lang.{name}") for name in ("RuntimeException", "OutOfMemoryError"))
    with (
        pytest.raises(BridgeError, match=r"because of OutOfMemoryError.*Java's heap is full: start with more"),
        java_errors("It"),
    ):
        raise runtime("outside", full("Java heap space"))
    with pytest.raises(BridgeError, match="The disk is full: make room"), java_errors("It"):
        raise fiji.jimport("java.io.IOException")("No space left on device")
