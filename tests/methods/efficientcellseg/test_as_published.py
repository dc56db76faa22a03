"""Golden numbers: the published function, run under OpenCV 5.0 on the same integers."""

import numpy as np
import pytest

from howdah.errors import DataError
from howdah.methods.efficientcellseg import EfficientCellSegConfig
from howdah.methods.efficientcellseg.clahe import clahe_of_integers
from howdah.methods.efficientcellseg.colour import coloured_as_published

CONFIG = EfficientCellSegConfig(compat=("colouring",))

CLAHE = {
    "uint8": [[21, 85, 106, 116], [42, 42, 69, 74], [255, 26, 80, 37], [160, 218, 228, 250]],
    "uint16": [
        [5461, 21845, 27306, 30036],
        [10922, 10922, 16384, 19114],
        [65535, 2730, 13653, 9557],
        [40960, 55978, 58708, 64170],
    ],
}
CLAHE_SUM = {"uint8": 442590, "uint16": 113159682}
NARROW = {"uint8": [112, 219, 56, 163, 199], "uint16": [28672, 56319, 14336, 41983, 51199]}  # 50 wide: no whole tiles
NARROW_SUM = {"uint8": 336098, "uint16": 86534716}
SUMS = {
    "uint8": [891.9481865284952, 893.6217616580287, 888.9792746113965],
    "uint16": [890.7159630975669, 892.3864970645785, 887.672281241263],
}
CORNER = {"uint8": [0.150259067, 0.150259067, 0.075129534], "uint16": [0.149986022, 0.149986022, 0.074993011]}


def golden(kind):
    z, y, x = np.mgrid[:3, :48, :64]
    values = ((y * 7 + x * 13 + z * 29) % 101) + 100 * np.exp(-((y - 20 - 4 * z) ** 2 + (x - 30) ** 2) / 60)
    return np.rint(values * {"uint8": 1, "uint16": 37}[kind]).astype(kind)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_clahe_is_opencvs(kind):
    plane = golden(kind)[1]
    found = clahe_of_integers(plane, 16, 10.0)
    assert found.dtype == plane.dtype
    assert found[::12, ::16].tolist() == CLAHE[kind]
    assert found.sum(dtype=int) == CLAHE_SUM[kind]
    narrow = clahe_of_integers(plane[:, :50], 16, 10.0)
    assert narrow[5, ::10].tolist() == NARROW[kind]
    assert narrow.sum(dtype=int) == NARROW_SUM[kind]


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_colours_are_the_published_ones(kind):
    found = coloured_as_published(golden(kind), CONFIG)
    assert found[1].sum(axis=(1, 2)) == pytest.approx(SUMS[kind], rel=1e-12)
    assert found[1][:, 0, 0] == pytest.approx(CORNER[kind], abs=1e-9)
    assert found.min() == 0
    assert found.max() == 1


def test_the_published_colours_hang_on_the_type():
    small = golden("uint8")
    config = CONFIG.model_copy(update={"colour_tiles": 2})  # 768 pixels each: 30 of one value are let through, or one
    large = coloured_as_published(small.astype(np.uint16) * 257, config)
    assert np.abs(large - coloured_as_published(small, config)).max() > 0.1


def test_planes_of_one_value_are_black():
    frame = golden("uint8")
    frame[1] = 7
    assert not coloured_as_published(frame, CONFIG)[1].any()


@pytest.mark.parametrize("kind", ["int16", "float32", "uint32"])
def test_other_types_are_refused_with_what_to_do(kind):
    frame = golden("uint8").astype(kind)
    with pytest.raises(DataError, match=f'its numbers are {kind}, .*leave "colouring" out of compat'):
        coloured_as_published(frame, CONFIG)
