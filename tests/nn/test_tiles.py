from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import ConfigError
from howdah.nn import tiles


def weight_sum(shape, plan):
    total = np.zeros(shape, dtype=np.float32)
    for tile in plan:
        weight = tile.weights[0]
        for axis in tile.weights[1:]:
            weight = weight[..., None] * axis
        assert weight.shape == total[tile.region].shape
        assert (weight >= 0).all()
        total[tile.region] += weight
    return total


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 400), st.integers(1, 120), st.floats(0, 0.5))
def test_weights_sum_to_exactly_one_along_an_axis(size, tile, share):
    plan = tiles.plan((size,), (tile,), overlap=(int(tile * share),))
    assert (weight_sum((size,), plan) == 1).all()


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.integers(1, 40)] * 3), st.tuples(*[st.integers(1, 16)] * 3))
def test_weights_sum_to_exactly_one_in_a_volume(shape, tile):
    assert (weight_sum(shape, tiles.plan(shape, tile)) == 1).all()


def test_no_more_tiles_than_needed():
    assert len(tiles.plan((512,), (256,), overlap=(0,))) == 2  # the reference needs 3
    assert len(tiles.plan((256,), (256,), overlap=(64,))) == 1
    assert len(tiles.plan((257,), (256,), overlap=(64,))) == 2
    assert len(tiles.plan((448,), (256,), overlap=(64,))) == 2
    assert len(tiles.plan((449,), (256,), overlap=(64,))) == 3


def test_edges_of_a_tile_inside_the_whole_weigh_nothing():
    first, second = tiles.plan((100,), (60,), overlap=(20,))
    assert first.weights[0][0] == 1
    assert second.weights[0][-1] == 1
    assert not first.weights[0][-5:].any()
    assert not second.weights[0][:5].any()


def test_blending_identity_gives_the_image_back():
    image = np.random.default_rng(0).random((1, 9, 50, 41), dtype=np.float32)
    plan = tiles.plan(image.shape[1:], (4, 16, 20), overlap=(2, 8, 5))
    *_, whole = tiles.blend(plan, lambda region: image[(slice(None), *region)], shape=image.shape)
    np.testing.assert_allclose(whole, image, rtol=1e-6)


def test_a_constant_comes_back_exactly():
    plan = tiles.plan((30, 47), (16, 16), overlap=(7, 5))
    *_, whole = tiles.blend(plan, lambda _: np.full((1, 16, 16), 0.5, np.float32), shape=(1, 30, 47))
    assert (whole == 0.5).all()


def test_overlap_larger_than_half_a_tile_is_refused():
    with pytest.raises(ConfigError, match=r"cannot overlap by \(9,\)"):
        tiles.plan((100,), (16,), overlap=(9,))


def test_tile_size_follows_the_memory():
    size = tiles.size_for_memory((100, 2000, 2000), multiple=(4, 16, 16), bytes_per_voxel=700, memory_mb=2000)
    assert np.prod(size) * 700 <= 2000 * 2**20
    assert np.prod(size) * 700 > 500 * 2**20  # and uses a good part of it
    assert all(n % m == 0 for n, m in zip(size, (4, 16, 16), strict=True))
    assert tiles.size_for_memory((10, 90, 90), multiple=(4, 16, 16), bytes_per_voxel=700, memory_mb=2000) == (
        12,
        96,
        96,
    )


@pytest.mark.parametrize(
    ("tile", "multiple", "overlap"), [(32, 16, 16), (64, 16, 16), (128, 16, 32), (256, 16, 64), (8, 4, 4), (9, 1, 2)]
)
def test_a_quarter_of_a_tile_overlaps_but_at_least_one_multiple(tile, multiple, overlap):
    assert tiles.overlap_of(tile, multiple) == overlap


def test_tiles_compute_little_twice():
    plan = tiles.plan((128, 512, 512), (64, 128, 128), multiple=(16, 16, 16))
    computed = sum(np.prod([s.stop - s.start for s in tile.region]) for tile in plan)
    assert computed < 3 * 128 * 512 * 512  # half of every tile shared with the next would be 7 times


def test_tiles_of_one_multiple_overlap():
    plan = tiles.plan((64,), (16,), multiple=(16,))
    starts = [t.region[0] for t in plan]
    assert all(before.stop > after.start for before, after in pairwise(starts))
    assert (weight_sum((64,), plan) == 1).all()


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(1, 400)] * 3), st.sampled_from([(1, 16, 16), (4, 16, 16), (16, 16, 16)]))
def test_planned_tiles_keep_to_the_memory(shape, multiple):
    rounded = tuple(-(-n // m) * m for n, m in zip(shape, multiple, strict=True))
    size = tiles.size_for_memory(shape, multiple=multiple, bytes_per_voxel=700, memory_mb=300)
    for tile in tiles.plan(rounded, size, multiple=multiple):
        assert np.prod([s.stop - s.start for s in tile.region]) * 700 <= 300 * 2**20


def test_too_little_memory_is_a_sentence():
    with pytest.raises(ConfigError, match="A memory of 1 MiB is too little"):
        tiles.size_for_memory((100, 2000, 2000), multiple=(16, 16, 16), bytes_per_voxel=700, memory_mb=1)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.integers(1, 12), st.floats(0, 0.5), st.integers(1, 16))
def test_tiles_start_at_multiples(size, tile, share, unit):
    plan = tiles.plan((size * unit,), (tile * unit,), overlap=(int(tile * unit * share),), multiple=(unit,))
    assert all(t.region[0].start % unit == 0 for t in plan)
    assert (weight_sum((size * unit,), plan) == 1).all()


def test_sizes_that_are_no_multiple_are_refused():
    with pytest.raises(ConfigError, match=r"cannot start at multiples of \(16,\)"):
        tiles.plan((100,), (32,), multiple=(16,))
