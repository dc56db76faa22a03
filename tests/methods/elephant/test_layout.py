"""The size of tiles with which the fewest voxels are computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import ConfigError
from howdah.methods.elephant.layout import least_work
from howdah.nn import tiles


def work(shape, size, unit):
    return len(tiles.plan(shape, size, multiple=unit)) * np.prod(size)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 30), st.integers(2, 60), st.integers(2, 60)),
    st.sampled_from([(1, 16, 16), (4, 16, 16), (16, 16, 16)]),
    st.integers(20, 800),
)
def test_it_fits_and_is_never_more_work_than_the_usual_size(counts, unit, memory):
    shape = tuple(n * m for n, m in zip(counts, unit, strict=True))
    try:
        usual = tiles.size_for_memory(shape, multiple=unit, bytes_per_voxel=262, memory_mb=memory)
    except ConfigError:  # not even the smallest fits
        return
    usual = tuple(max(n, min(2 * m, whole)) for n, m, whole in zip(usual, unit, shape, strict=True))
    found = least_work(shape, unit, usual, most=max(memory * 2**20 / 262, np.prod(usual)))
    assert np.prod(found) * 262 <= max(memory * 2**20, 262 * np.prod(usual))
    assert all(n % m == 0 and n <= whole for n, m, whole in zip(found, unit, shape, strict=True))
    assert work(shape, found, unit) <= 1.02 * work(shape, usual, unit)


@pytest.mark.parametrize(("size", "tile", "multiple"), [(4096, 144, 16), (448, 120, 8), (64, 64, 16), (100, 7, 1)])
def test_tiles_are_counted_as_they_are_laid(size, tile, multiple):
    size, tile = -(-size // multiple) * multiple, -(-tile // multiple) * multiple
    assert tiles.count(size, tile, multiple=multiple) == len(tiles.plan((size,), (tile,), multiple=(multiple,)))


def test_a_frame_of_two_thousand_million_voxels():
    shape, unit = (448, 2176, 2432), (8, 16, 16)
    usual = tiles.size_for_memory(shape, multiple=unit, bytes_per_voxel=262, memory_mb=1747)
    found = least_work(shape, unit, usual, most=1747 * 2**20 / 262)
    assert work(shape, usual, unit) > 2.4 * np.prod(shape)
    assert work(shape, found, unit) < 2.0 * np.prod(shape)
