"""Frames of a raw movie: normalised, shrunk, kept in memory or not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import DataError
from howdah.methods.tap import TapConfig
from howdah.methods.tap.movies import Frames, Movie, dimensions_of, shrunk, voxel_of


def movie_of(frames, name="movie", *, missing=(), reads=None):
    def read(time, region):
        if reads is not None:
            reads.append((time, region))
        return frames[time] if region is None else frames[time][(slice(None), *region)]

    return Movie(name, len(frames), frames.shape[2:], (2.0, 0.5, 0.5), frames.shape[1], read, frozenset(missing))


def some(shape=(4, 2, 3, 40, 50), seed=0):
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.uint16)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([1e-6, 1000.0]),
)
def test_a_region_is_that_part_of_the_frame_whatever_the_memory(k, low, size, memory_mb):
    movie, config = movie_of(some()), TapConfig(shrink=k)
    whole = Frames(movie, config, memory_mb=1000.0).frame(2)
    frames = Frames(movie, config, memory_mb=memory_mb)
    region = tuple(slice(a, min(a + n, most)) for a, n, most in zip(low, size, frames.shape, strict=True))
    np.testing.assert_allclose(frames.region(2, region), whole[(slice(None), *region)], rtol=0, atol=1e-5)


def test_percentiles_become_0_and_1_in_each_channel_and_nothing_is_cut():
    frames = some((1, 2, 1, 64, 64))
    frames[0, 1] *= 3
    frames[0, 0, 0, 5, 5] = 60000
    found = Frames(movie_of(frames), TapConfig(percentiles=(10.0, 90.0))).frame(0)
    np.testing.assert_allclose(np.percentile(found, [10, 90], axis=(1, 2, 3)), [[0, 0], [1, 1]], atol=1e-5)
    assert found.dtype == np.float32
    assert found.min() < -0.05
    assert found.max() > 10


def test_shrinking_keeps_the_mean_and_takes_the_rest_at_the_end():
    image = np.arange(35, dtype=np.float32).reshape(1, 1, 5, 7)
    found = shrunk(image, 2)
    assert found.shape == (1, 1, 3, 4)
    assert found[0, 0, 0, 0] == image[0, 0, :2, :2].mean()
    assert found[0, 0, 2, 3] == image[0, 0, 4, 6]
    assert shrunk(image, 1) is image


def test_what_does_not_fit_memory_is_read_by_region_and_the_oldest_frame_goes():
    reads = []
    frames = Frames(movie_of(some((4, 1, 1, 512, 512)), reads=reads), TapConfig(), memory_mb=1.1)
    for time in (0, 1, 2, 1):
        frames.frame(time)
    assert [time for time, region in reads if region is None] == [0, 1, 2]
    del reads[:]
    part = (slice(0, 1), slice(3, 9), slice(4, 8))
    frames.raw(3, part)
    frames.raw(1, part)
    assert reads == [(3, part)]


def test_a_blank_frame_is_0_and_is_said_to_be_blank():
    frames = np.full((2, 1, 1, 20, 20), 7, dtype=np.uint8)
    frames[1, 0, 0, 3, :5] = 9
    store = Frames(movie_of(frames), TapConfig())
    assert store.is_blank(0)
    assert not store.is_blank(1)
    assert not store.frame(0).any()
    assert store.frame(1).max() == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.astype(np.float32) * np.float32(np.nan), "no numbers .NaN or infinite"),
        (lambda f: f.astype(complex), "of type complex128; numbers are needed"),
        (lambda f: f[..., :-1], "All frames of a movie must be of one size"),
    ],
)
def test_what_cannot_be_used_is_said(change, says):
    good = movie_of(some((1, 1, 1, 20, 20)))
    bad = Movie("film", 1, good.shape, good.voxel_size, 1, lambda t, r: change(good.read(t, r)))
    with pytest.raises(DataError, match=says):
        Frames(bad, TapConfig()).frame(0)


def test_a_missing_frame_is_named():
    frames = Frames(movie_of(some(), missing=(1,)), TapConfig())
    assert frames.times == [0, 2, 3]
    with pytest.raises(DataError, match="Frame 1 of movie is not there"):
        frames.frame(1)


def test_planes_or_volumes():
    flat, deep = movie_of(some((2, 1, 1, 20, 20)), "flat"), movie_of(some((2, 1, 4, 20, 20)), "deep")
    assert (dimensions_of(TapConfig(), [flat]), dimensions_of(TapConfig(), [deep])) == (2, 3)
    assert dimensions_of(TapConfig(dimensions=2), [flat, deep]) == 2
    with pytest.raises(DataError, match=r"flat has one\. Set dimensions = 2"):
        dimensions_of(TapConfig(), [flat, deep])
    with pytest.raises(DataError, match="dimensions is 3, but flat has one plane"):
        dimensions_of(TapConfig(dimensions=3), [flat])
    assert voxel_of(deep, TapConfig(shrink=3)) == (2.0, 1.5, 1.5)
