"""Movies of all kinds as TAP sees them: channels, regions, missing frames, chosen frames, folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bdv_io.formats import write_image
from bdv_io.image import ArrayImage
from howdah.errors import ConfigError, DataError
from howdah.methods.tap.config import TapConfig
from howdah.pipeline import Job
from howdah.pipeline.tap_movies import movies_of, open_movie


def movie_at(path: Path, *, channels: int = 1, frames: int = 6, size: tuple[int, int, int] = (1, 12, 10)) -> Path:
    shape = (frames, channels, *size)
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    write_image(path, ArrayImage(pixels, voxel_size=(2.0, 0.5, 0.5), unit="µm", interval=(30.0, "s")))
    return path


@pytest.mark.parametrize("ending", [".tif", ".ome.zarr", ".xml"])
def test_frames_and_regions_are_read_with_their_channels(tmp_path: Path, ending: str) -> None:
    path = movie_at(tmp_path / f"movie{ending}", channels=2, size=(3, 12, 10))
    movie = movies_of(Job(path), TapConfig(channels=(1, 0)))[0]
    assert (movie.n_frames, movie.shape, movie.channels, movie.missing) == (6, (3, 12, 10), 2, frozenset())
    assert movie.voxel_size == pytest.approx((2.0, 0.5, 0.5))
    whole = movie.read(4, None)
    assert whole.shape == (2, 3, 12, 10)
    assert whole[0, 0, 0, 0] > whole[1, 0, 0, 0]
    region = (slice(1, 3), slice(2, 7), slice(0, 4))
    assert np.array_equal(movie.read(4, region), whole[:, *region])


def test_chosen_frames_cut_a_movie_to_learn_from(tmp_path: Path) -> None:
    path = movie_at(tmp_path / "movie.tif")
    whole, part = movies_of([Job(path), Job(path, frames="1-2,4")], TapConfig())
    assert (part.n_frames, part.missing) == (4, {2})
    assert np.array_equal(part.read(3, None), whole.read(4, None))
    assert "frames 1 to 4" in part.name
    opened = open_movie(Job(path, frames="1-2,4"), TapConfig())
    assert (opened.movie.n_frames, opened.frames) == (6, (1, 2, 4))


def test_a_folder_of_pictures_is_a_movie_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    from matplotlib.image import imsave

    for number in (10, 2, 1):
        grey = np.full((8, 9, 3), number * 20, dtype=np.uint8)
        imsave(tmp_path / f"t{number}.png", grey)
    movie = movies_of(Job(tmp_path), TapConfig())[0]
    assert movie.shape == (1, 8, 9)
    assert [int(movie.read(t, None).max()) for t in range(3)] == [20, 40, 200]


def test_frames_of_another_size_are_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from matplotlib.image import imsave

    for number, size in enumerate([(8, 9), (8, 9), (7, 9), (8, 9)]):
        imsave(tmp_path / f"t{number}.png", np.zeros((*size, 3), dtype=np.uint8))
    movie = movies_of(Job(tmp_path), TapConfig())[0]
    assert (movie.shape, movie.missing) == ((1, 8, 9), {2})
    assert "1 frames" in caplog.text
    assert ": 2." in caplog.text


def test_a_channel_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = movie_at(tmp_path / "movie.tif")
    with pytest.raises(ConfigError, match=r"Channel 3 was asked for, but .* has 1"):
        movies_of(Job(path), TapConfig(channels=(0, 3)))


def test_frames_that_are_all_missing_are_an_error(tmp_path: Path) -> None:
    from matplotlib.image import imsave

    for number, size in enumerate([(8, 9), (8, 9), (7, 9)]):
        imsave(tmp_path / f"t{number}.png", np.zeros((*size, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="None of the frames"):
        movies_of(Job(tmp_path, frames="2"), TapConfig())


@pytest.mark.real
def test_real_movies_of_five_kinds(real_data: Path) -> None:
    jobs = [
        Job(real_data / "hela-h2b-2d" / "01"),
        Job(real_data / "tgmm-3d" / "tgmm-mini.mastodon"),
        Job(real_data / "drosophila-h2b-2d" / "sequence1-2.tif"),
        Job(real_data / "mitosis-2d" / "C1-MAX_mitosis.tif"),
        Job(real_data / "parhyale-3d" / "sample.xml"),
    ]
    movies = movies_of(jobs, TapConfig())
    assert [m.shape for m in movies] == [(1, 190, 211), (29, 101, 151), (1, 264, 542), (1, 196, 171), (8, 256, 256)]
    assert [m.n_frames for m in movies] == [30, 31, 41, 51, 5]
    for movie in movies:
        assert movie.read(0, (slice(0, 1), slice(3, 9), slice(4, 8))).shape == (1, 1, 6, 4)
