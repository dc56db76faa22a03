import numpy as np
import pytest

from howdah.methods.efficientcellseg import defaults


@pytest.mark.parametrize(
    ("width", "times"), [(8, 4), (11.4, 3), (30, 1), (44, 1), (56, 1), (70, 1 / 2), (97, 1 / 3), (500, 1 / 4), (3, 4)]
)
def test_cells_become_32_to_64_pixels_wide(width, times):
    assert defaults.enlargement(np.full(5, round(np.pi * width**2 / 4))) == pytest.approx(times)


def test_crops_show_four_cells_and_fit_the_frame():
    areas = np.full(9, 707)  # 30 pixels wide
    assert defaults.crop_size(areas, [(1, 500, 400)], 384) == 128
    assert defaults.crop_size(areas, [(1, 100, 110), (1, 90, 70)], 384) == 112
    assert defaults.crop_size(areas, [(1, 500, 400)], 96) == 96
    assert defaults.crop_size(areas * 100, [(1, 900, 900)], 384) == 256


def test_a_pass_is_neither_short_nor_long():
    assert defaults.n_crops(256**2, 128) == 160
    assert defaults.n_crops(40 * 256**2, 256) == 80
    assert defaults.n_crops(10**9, 256) == 160


def test_the_share_that_is_coloured():
    assert defaults.colour_area(0.05, complete=True) == pytest.approx(0.1)
    assert defaults.colour_area(0.001, complete=False) == pytest.approx(0.03)
    assert defaults.colour_area(0.9, complete=True) == pytest.approx(0.5)


def test_rings_and_smallest_cells():
    assert defaults.ring_width(np.array([314])) == pytest.approx(5, rel=1e-3)
    assert defaults.min_size(np.array([100, 100, 100])) == 50
