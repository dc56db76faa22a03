"""Parts of a frame are prepared as the whole frame is, bit for bit, and ranks among many numbers are exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import DataError
from howdah.methods.elephant import parts
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.parts import Frame, Levels, cubes_of, halo_of, levels_of, pieces_of, prepared_part
from howdah.methods.elephant.preprocess import prepare
from howdah.methods.elephant.ranks import median_of, percentiles_of

AFFINE = np.diag([2.0, 1, 1, 1])
TYPES = ("uint8", "uint16", "int16", "int32", "float32", "float64", "uint64")


def numbers(seed, shape, kind):
    rng = np.random.default_rng(seed)
    if kind == "uint8":
        return rng.integers(0, 256, shape).astype(kind)
    return (rng.gamma(2, 300, shape) - (200 if kind[0] in "if" else 0)).astype(kind)


@given(
    seed=st.integers(0, 2**20),
    n=st.integers(1, 300),
    kind=st.sampled_from(TYPES),
    low=st.floats(0, 60),
    high=st.floats(61, 100),
)
@settings(deadline=None, max_examples=60)
def test_ranks_are_those_of_numpy(seed, n, kind, low, high):
    values = numbers(seed, n, kind)
    pieces = [values[i : i + 7] for i in range(0, n, 7)]
    found = percentiles_of(lambda: iter(pieces), (low, high), n, values.dtype)
    assert [float(f) for f in found] == [float(f) for f in np.percentile(values, (low, high))]
    if kind == "float32":
        assert median_of(lambda: iter(pieces), n, values.dtype) == np.median(values)


@st.composite
def frames(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 30), st.integers(1, 30)))
    config = ElephantConfig(
        normalisation=draw(st.sampled_from(["minmax", "percentile", "local"])),
        slice_median=draw(st.booleans()),
        rescale=draw(st.sampled_from([None, (1.0, 0.5, 0.5), (0.37, 0.71, 0.6), (2.0, 1.3, 0.2)])),
        nucleus_size=(4.0, 3.0, 3.0),
        percentiles=draw(st.sampled_from([(0.1, 99.9), (5.0, 80.0)])),
    )
    frame = numbers(draw(st.integers(0, 2**20)), shape, draw(st.sampled_from(TYPES[:6])))
    return frame, config


@given(given_=frames(), seed=st.integers(0, 2**20))
@settings(deadline=None, max_examples=60)
def test_a_part_is_prepared_as_the_whole(given_, seed):
    frame, config = given_
    whole, grid = prepare(frame, AFFINE, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PIECE", 150)
        patch.setattr(parts, "STRIP", 70)
        patch.setattr(parts, "SOURCE", 500)
        some = Frame(lambda region: frame[region], frame.shape, AFFINE, config)
        levels = Levels.from_json(levels_of(some).to_json())
        assert some.working == whole.shape
        assert np.array_equal(some.grid, grid)
        for low, high in np.random.default_rng(seed).random((3, 2, 3)):
            start = np.floor(low * whole.shape).astype(int)
            stop = np.minimum(start + 1 + np.floor(high * (whole.shape - start)), whole.shape).astype(int)
            region = tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))
            np.testing.assert_array_equal(prepared_part(some, levels, region), whole[region])


def test_no_more_is_read_than_filters_reach():
    reads = []
    frame = numbers(0, (40, 60, 80), "uint16")

    def read(region):
        reads.append(region)
        return frame[region]

    config = ElephantConfig(normalisation="local", nucleus_size=(4.0, 2.0, 2.0))
    some = Frame(read, frame.shape, AFFINE, config)
    levels = levels_of(some)
    reads.clear()
    prepared_part(some, levels, (slice(18, 20), slice(30, 32), slice(40, 44)))
    halo = halo_of(some)
    assert reads == [tuple(slice(a - h, b + h) for (a, b), h in zip(((18, 20), (30, 32), (40, 44)), halo, strict=True))]
    assert max(halo) < 20


def test_pieces_cover_a_frame_once():
    for shape in ((5, 7, 9), (1, 7, 9)):
        for voxels in (1, 9, 20, 63, 100, 1000):
            seen = np.zeros(shape, int)
            for part in pieces_of(shape, voxels=voxels):
                seen[part] += 1
                assert seen[part].size <= max(voxels, 9)
            for part in cubes_of(shape, voxels=voxels):
                seen[part] += 1
                assert seen[part].size <= voxels
            assert (seen == 2).all()


def test_numbers_that_are_none_are_refused():
    frame = np.ones((2, 3, 4), np.float32)
    frame[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="values that are no numbers"):
        levels_of(Frame(lambda region: frame[region], frame.shape, AFFINE, ElephantConfig()))
