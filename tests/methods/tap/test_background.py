"""Which crops show no cells."""

import numpy as np
import pytest
import tifffile

from howdah.methods.tap import TapConfig
from howdah.methods.tap.background import Background, textured
from howdah.methods.tap.movies import Frames, Movie


def movie_of(frames, name="movie"):
    def read(time, region):
        return frames[time] if region is None else frames[time][(slice(None), *region)]

    return Movie(name, len(frames), frames.shape[2:], (1.0, 1.0, 1.0), frames.shape[1], read)


def noisy(shape=(1, 1, 1, 128, 128), seed=0):
    return np.random.default_rng(seed).poisson(50, shape).astype(np.uint16)


def test_noise_alone_is_background():
    frame = Frames(movie_of(noisy()), TapConfig()).frame(0)
    assert not textured(frame[:, 0], 8).any()


def test_a_flat_image_is_background_and_so_is_a_slope():
    assert not textured(np.zeros((1, 64, 64), np.float32), 8).any()
    slope = np.linspace(0, 1, 256, dtype=np.float32)[None, None].repeat(64, 1)
    assert not textured(slope, 8).any()


def test_a_cell_in_noise_is_found_where_it_is():
    frames = noisy()
    frames[0, 0, 0, 40:56, 64:80] += 60
    background = Background(Frames(movie_of(frames), TapConfig()), 32)
    assert not background.is_empty(0, (0, 32, 56), (1, 32, 32))
    assert background.is_empty(0, (0, 90, 0), (1, 32, 32))
    assert background.is_empty(0, (0, 110, -10), (1, 32, 32))


def test_a_cell_in_one_plane_is_enough_and_a_dark_texture_counts():
    frames = noisy((1, 1, 5, 96, 96))
    rows = np.arange(20) % 4 < 2
    frames[0, 0, 2, 30:50, 30:50] = np.where(rows, 20, 80)[None]
    background = Background(Frames(movie_of(frames), TapConfig()), 32)
    assert not background.is_empty(0, (1, 24, 24), (3, 32, 32))
    assert background.is_empty(0, (3, 24, 24), (2, 32, 32))


def test_any_channel_counts():
    image = np.zeros((2, 64, 64), np.float32)
    image[1, 20:28, 20:28] = 1
    assert textured(image, 8).any()


@pytest.mark.real
def test_in_a_real_movie_black_is_background_and_nuclei_are_not(real_data):
    folder = real_data / "hela-h2b-2d"
    image = tifffile.imread(sorted((folder / "01").glob("*.tif"))[5])
    truth = tifffile.imread(sorted((folder / "01_GT" / "SEG").glob("*.tif"))[5])
    background = Background(Frames(movie_of(image[None, None, None]), TapConfig()), 48)
    found = [
        (background.is_empty(0, (0, y, x), (1, 48, 48)), (truth[y : y + 48, x : x + 48] > 0).mean())
        for y in range(0, 140, 10)
        for x in range(0, 160, 10)
    ]
    assert not any(empty for empty, share in found if share > 0.06)
    assert np.mean([empty for empty, share in found if share == 0]) > 0.6  # the rest touch a nucleus, or debris
