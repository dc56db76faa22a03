"""The challenge's field of interest."""

from __future__ import annotations

import numpy as np
from methods.embedtrack.fakes import drawn

from howdah.methods.embedtrack.postprocess import inside_field


def test_a_cell_is_in_the_field_if_one_pixel_is():
    labels = drawn("1...2 .3.22 ..4.. ..... 55...")
    assert inside_field(labels, 0).tolist() == [True] * 5
    assert inside_field(labels, 1).tolist() == [False, True, True, True, False]
    assert inside_field(labels, 2).tolist() == [False, False, False, True, False]
    assert inside_field(labels, 3).tolist() == [False] * 5
    assert inside_field(np.stack([labels]), 1).tolist() == [False, True, True, True, False]  # not along z
