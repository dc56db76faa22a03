"""numpy, ImagePlus and ImgLib2, with the real ImageJ 1.54p and ImgLib2 of Maven Central (not Fiji): one JVM for all checks."""

import pytest
from bridge.in_java import names_of, run_checks

from howdah.bridge.axes import axes_of, five, from_planes, to_planes


@pytest.fixture(scope="module")
def results(java_classpath, tmp_path_factory):
    return run_checks("checks_images.py", "imagej", tmp_path_factory.mktemp("home"), classpath=java_classpath)


@pytest.mark.parametrize("name", [*names_of("checks_images.py"), "the process ends"])
def test_images(results, name):
    assert results.get(name, results["the process ends"]) == "ok"


def test_planes_are_in_imagejs_order():
    import numpy as np

    image = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    planes = to_planes(image)
    assert (planes[1] == image[0, 1, 0]).all()
    assert (planes[3] == image[0, 0, 1]).all()
    assert (planes[12] == image[1, 0, 0]).all()
    assert (from_planes(planes, channels=3, slices=4, frames=2) == image).all()
    assert axes_of(image, None) == "TCZYX"
    assert five(image[0], "CZYX").shape == (1, 3, 4, 5, 6)
