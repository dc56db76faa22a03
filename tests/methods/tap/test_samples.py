"""Samples of movies: what is drawn, from which frames, and how it is read."""

import logging

import numpy as np
import pytest
import torch

from howdah.errors import DataError
from howdah.methods.tap import TapConfig
from howdah.methods.tap.augment import augmented, margin
from howdah.methods.tap.movies import Frames, Movie
from howdah.methods.tap.network import pooling
from howdah.methods.tap.samples import Samples, crop_shape
from howdah.nn.device import pick

SMALL = {"crop_size": 16, "batch_size": 12, "validation_samples": 16, "epoch_samples": 120, "memory_mb": 100.0}


def movie_of(frames, name="movie", *, missing=(), reads=None, voxel_size=(1.0, 1.0, 1.0)):
    def read(time, region):
        if reads is not None:
            reads.append(time)
        return frames[time] if region is None else frames[time][(slice(None), *region)]

    return Movie(name, len(frames), frames.shape[2:], voxel_size, frames.shape[1], read, frozenset(missing))


def some(shape=(20, 1, 1, 40, 50), seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def samples_of(*movies, dimensions=2, channels=1, **settings):
    form = {"channels": channels, "pools": pooling(dimensions)}
    return Samples(movies, TapConfig(**{**SMALL, **settings}), form=form, place=pick("cpu"))


def test_a_step_follows_from_seed_and_number_alone():
    one, other = samples_of(movie_of(some())), samples_of(movie_of(some()), memory_mb=1e-4)
    for step in (0, 7):
        one.batch(step)
    for a, b in zip(one.batch(3), other.batch(3), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.batch(3)[0], one.batch(4)[0])
    assert not torch.equal(one.batch(3)[0], samples_of(movie_of(some()), seed=1).batch(3)[0])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_batch_is_its_crops_changed_and_rolled(dimensions):
    samples = samples_of(movie_of(some((12, 2, 9, 30, 30))), dimensions=dimensions, channels=2, frames=3)
    x, y = samples.batch(5)
    rng = np.random.default_rng([0, 5, 1])
    rng.integers(3, size=12)  # where the first frame comes to lie
    wanted = augmented(samples.crops(5), samples.config, size=samples.size, rng=rng)
    back = torch.stack([torch.roll(one, -int(by), 0) for one, by in zip(x, y, strict=True)])
    assert x.shape == (12, 3, 2, *samples.size)
    assert len(samples.size) == dimensions
    np.testing.assert_allclose(back, wanted, rtol=0, atol=2e-4)


def test_without_augmentation_crops_are_regions_of_the_frames():
    movie = movie_of(some())
    samples = samples_of(movie, augment=0, delta=(1, 3))
    frames = Frames(movie, samples.config)
    drawn, x = samples._drawn(2), samples.crops(2)
    for n in range(12):
        z, y, low = drawn.low[n]
        part = (slice(z, z + 1), slice(y, y + 16), slice(low, low + 16))
        for t in range(2):
            time = int(drawn.start[n] + t * drawn.delta[n])
            np.testing.assert_allclose(x[n, t], frames.region(time, part)[:, 0], atol=1e-6)
    assert set(drawn.delta.tolist()) == {1, 3}


def test_crops_with_a_margin_are_mirrored_at_the_border():
    movie = movie_of(some())
    samples = samples_of(movie)
    more = margin(samples.config, (16, 16))[0]
    frames = Frames(movie, samples.config)
    drawn, x = samples._drawn(0), samples.crops(0)
    assert x.shape[3:] == (16 + 2 * more, 16 + 2 * more)
    for n in range(4):
        whole = np.pad(frames.frame(int(drawn.start[n]))[0, 0], more, mode="reflect")
        _, y, low = drawn.low[n]
        np.testing.assert_allclose(x[n, 0, 0], whole[y : y + 16 + 2 * more, low : low + 16 + 2 * more], atol=1e-6)


@pytest.mark.parametrize("held", [(0.9, 1.0), (0.0, 0.1), (0.4, 0.6)])
@pytest.mark.parametrize("frames", [2, 3])
def test_what_is_held_out_is_never_learned_from(held, frames):
    reads = []
    samples = samples_of(movie_of(some(), reads=reads), validation=held, frames=frames, delta=(1, 2), memory_mb=1e-4)
    for step in range(15):
        samples.crops(step)
    learned = set(reads)
    first, last = samples.held_frames[0]
    assert not learned & set(range(first, last))
    assert len(learned) > 10
    del reads[:]
    samples.held()
    assert set(reads) <= set(range(first, last))
    for one in samples._training:  # nor does one of them lie between the frames of a sample
        end = one.start + (frames - 1) * one.delta
        assert all(e < first or s >= last for s, e in zip(one.start, end, strict=True))


def test_held_samples_are_fixed_and_balanced_and_not_changed():
    samples = samples_of(movie_of(some()), frames=4, validation=(0.7, 1.0))
    held, again = samples.held(), samples_of(movie_of(some()), frames=4, validation=(0.7, 1.0)).held()
    assert sum(len(y) for _, y in held) == 16
    assert torch.bincount(torch.cat([y for _, y in held])).tolist() == [4, 4, 4, 4]
    for (x, y), (x2, y2) in zip(held, again, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_a_short_movie_holds_out_what_one_sample_needs():
    samples = samples_of(movie_of(some((6, 1, 1, 40, 40))), delta=(2,))
    assert samples.held_frames == [(3, 6)]


def test_missing_and_blank_frames_are_avoided_and_blank_ones_are_named(caplog):
    frames = some()
    frames[4] = 9
    samples = samples_of(movie_of(frames, missing=(7,)))
    with caplog.at_level(logging.WARNING, logger="howdah"):
        for step in range(20):
            drawn = samples._drawn(step)
            times = np.concatenate([drawn.start, drawn.start + 1])
            assert not np.isin(times, (4, 7)).any()
    assert [record.message for record in caplog.records] == ["Frame 4 of movie is blank and is left out."]


def test_movies_count_by_their_places():
    long, small = movie_of(some((40, 1, 1, 64, 64)), "long"), movie_of(some((12, 1, 1, 16, 16)), "small")
    samples = samples_of(long, small, batch_size=400)
    share = np.mean(samples._drawn(0).movie == 0)
    assert share > 0.95
    assert samples.held_frames == [(36, 40), (10, 12)]


def test_background_is_drawn_again():
    rng = np.random.default_rng(0)
    frames = rng.poisson(40, (12, 1, 1, 160, 160)).astype(np.uint16)
    frames[..., 70:86, 70:86] += 100
    shares = []
    for reject in (0.0, 1.0):
        samples = samples_of(movie_of(frames), reject_background=reject, batch_size=200)
        low = samples._drawn(0).low[:, 1:]
        shares.append(np.mean(((low > 52) & (low < 88)).all(1)))
    assert shares[0] < 0.15
    assert shares[1] > 0.5


def test_an_image_smaller_than_a_crop_is_mirrored_and_said_so(caplog):
    with caplog.at_level(logging.WARNING, logger="howdah"):
        samples = samples_of(movie_of(some((10, 1, 1, 12, 40))))
    assert "fewer than a crop (16 x 16): they are mirrored" in caplog.text
    assert samples.batch(0)[0].isfinite().all()
    assert samples.held()[0][0].shape[3:] == (16, 16)


def test_depth_of_a_crop_is_its_width_in_world_units_as_far_as_there_are_planes():
    pools = pooling(3, (4.0, 1.0, 1.0))
    movie = movie_of(some((4, 1, 30, 20, 20)), voxel_size=(4.0, 1.0, 1.0))
    config = TapConfig(crop_size=64)
    assert crop_shape([movie], config, pools) == (16, 64, 64)
    assert crop_shape([movie], config.but(crop_depth=5), pools) == (5, 64, 64)
    assert crop_shape([movie], config, pooling(2)) == (64, 64)
    flat = movie_of(some((4, 1, 9, 20, 20)))
    assert crop_shape([flat], config, pooling(3)) == (8, 64, 64)


@pytest.mark.parametrize(
    ("movies", "settings", "says"),
    [
        ([], {}, "no movie was given"),
        ([some((3, 1, 1, 20, 20))], {}, r"movie has 3 frame\(s\), but at least 4 are needed"),
        ([some((20, 2, 1, 20, 20))], {}, "movie has 2 channels, but the network takes 1"),
        ([some()], {"validation": (0.0, 1.0)}, "are left to learn from"),
        ([np.full((20, 1, 1, 20, 20), 3, np.uint8)], {}, "frames are blank"),
    ],
)
def test_what_cannot_be_learned_from_is_said(movies, settings, says):
    with pytest.raises(DataError, match=says):
        samples_of(*map(movie_of, movies), **settings).crops(0)


def test_a_delta_that_is_too_long_is_left_out_with_a_word(caplog):
    with caplog.at_level(logging.WARNING, logger="howdah"):
        samples = samples_of(movie_of(some((8, 1, 1, 20, 20))), delta=(1, 6))
    assert "too few for samples of 2 frames at a distance of 6" in caplog.text
    assert set(samples._drawn(0).delta.tolist()) == {1}
