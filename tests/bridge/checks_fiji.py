"""Checks in a real Fiji, headless; `test_start_fiji.py` runs them in one child process."""

import numpy as np
import pytest

import howdah.bridge
from howdah.bridge.images import from_imageplus, to_imageplus
from howdah.bridge.imglib import from_dataset, from_imglib, to_dataset, to_imglib
from howdah.errors import BridgeError

RNG = np.random.default_rng(3)
CALIBRATION = {"voxel_size": (2.0, 0.5, 0.25), "unit": "µm", "interval": (30.0, "s"), "title": "ours"}


def image(dtype="uint16"):
    return RNG.integers(0, 120, (2, 3, 4, 5, 7)).astype(dtype)


def facts(picture):
    return {
        "voxel_size": picture.voxel_size,
        "unit": picture.unit,
        "interval": picture.interval,
        "title": picture.title,
    }


def check_it_is_a_whole_fiji_headless_and_offline(fiji):
    assert "/1.54" in fiji.version
    assert fiji.headless
    assert fiji.ij.legacy.isActive()
    assert fiji.heap[1] <= 2**30
    assert str(fiji.jimport("java.lang.System").getProperty("imagej.dir")) == str(fiji.folder)
    assert howdah.bridge.join() is fiji


def check_menu_commands_run(fiji):
    array = RNG.integers(0, 60000, (1, 1, 1, 64, 64)).astype(np.uint16)
    plus = to_imageplus(array)
    fiji.jimport("ij.IJ").run(plus, "Gaussian Blur...", "sigma=3")
    assert from_imageplus(plus).pixels.std() < array.std() / 3


def check_datasets_keep_type_axes_and_calibration(fiji):
    for dtype in ("uint8", "int16", "uint16", "float32", "float64"):
        array = image(dtype)
        dataset = to_dataset(fiji, array, **CALIBRATION)
        back = from_dataset(dataset)
        assert back.pixels.dtype == dtype
        np.testing.assert_array_equal(back.pixels, array)
        assert facts(back) == CALIBRATION
    flat = from_dataset(to_dataset(fiji, image()[0, 0, 0], axes="XY"))
    assert flat.pixels.shape == (1, 1, 1, 7, 5)


def check_datasets_and_imageplus_agree(fiji):
    array = image()
    plus, dataset = fiji.jimport("ij.ImagePlus"), fiji.jimport("net.imagej.Dataset")
    there = from_imageplus(fiji.ij.convert().convert(to_dataset(fiji, array, **CALIBRATION), plus))
    np.testing.assert_array_equal(there.pixels, array)
    back = from_dataset(fiji.ij.convert().convert(to_imageplus(array, **CALIBRATION), dataset))
    np.testing.assert_array_equal(back.pixels, array)
    assert facts(there) == facts(back) == CALIBRATION


def check_pyimagej_reads_a_dataset_of_ours_in_its_own_order(fiji):
    array = image()
    theirs = fiji.ij.py.from_java(to_dataset(fiji, array))
    assert theirs.dims == ("t", "pln", "row", "col", "ch")
    np.testing.assert_array_equal(theirs.values, array.transpose(0, 2, 3, 4, 1))


def check_imglyb_and_buffers_share_memory(fiji):
    for imglyb in (True, False):
        array = image()
        shared = to_imglib(array, imglyb=imglyb)
        array[1, 2, 3, 4, 6] = 77
        place = shared.randomAccess()
        for axis, steps in enumerate((6, 4, 3, 2, 1)):
            place.move(steps, axis)
        assert place.get().get() == 77
        place.get().set(78)
        assert array[1, 2, 3, 4, 6] == 78
        np.testing.assert_array_equal(from_imglib(shared), array)


def check_scripts_run_and_parameters_arrive(fiji):
    result = fiji.ij.py.run_script("jython", "#@ Integer n\n#@output Integer m\nm = n + 1\n", {"n": 4})
    assert int(result.getOutput("m")) == 5


def check_windows_are_refused(fiji):
    from howdah.bridge.bdv import show_array

    with pytest.raises(BridgeError, match="BigDataViewer needs windows, and this Fiji runs headless"):
        show_array(fiji, image())
