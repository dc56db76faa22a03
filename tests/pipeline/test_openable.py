"""Movies that Mastodon and TrackMate will open, those that they will not, and hints that are for the movie alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bdv_io import FormatError, Tracks
from bdv_io.formats import format_named, open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage, Hints
from howdah.errors import DataError
from howdah.pipeline import Conversion, Job, convert, link, train
from howdah.pipeline.openable import warn_unopenable
from howdah.progress import finish

MOVIE = ArrayImage(np.zeros((3, 4, 16, 16), np.uint16))


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    write_tracks(tmp_path / "marks.geff", Tracks.build([0, 1], np.full((2, 3), 2.0), radius=1.0, links=[[0, 1]]))
    return tmp_path / "marks.geff"


@pytest.mark.parametrize(
    ("name", "mastodon", "trackmate"),
    [
        ("a.xml", "", "is no TIFF"),
        ("a.tif", "", ""),
        ("a.ome.tif", "", ""),
        ("a.ome.zarr", "is no BigDataViewer XML or TIFF", "is no TIFF"),
    ],
)
def test_what_each_program_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, mastodon: str, trackmate: str
) -> None:
    write_image(tmp_path / name, MOVIE)
    movie = open_image(tmp_path / name)
    for key, expected in (("mastodon", mastodon), ("trackmate", trackmate), ("geff", "")):
        caplog.clear()
        warn_unopenable(format_named(key), movie)
        assert expected in caplog.text
        assert bool(caplog.text) == bool(expected)
    movie.close()


def test_a_project_names_the_xml_of_an_hdf5_file(tmp_path: Path, marks: Path) -> None:
    write_image(tmp_path / "a.xml", MOVIE)
    finish(convert(marks, tmp_path / "a.mastodon", Conversion(image=tmp_path / "a.h5")))
    assert read_tracks(tmp_path / "a.mastodon").attributes["image"] == str(tmp_path / "a.xml")
    with pytest.raises(DataError, match="is a movie without marks"):
        finish(train(Job(tmp_path / "a.h5"), tmp_path / "w.safetensors", settings={}))


def test_hints_of_a_named_movie_are_not_those_of_the_annotation(
    tmp_path: Path, marks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, np.zeros((12, 16, 16), np.uint16), metadata=None)
    hints = Hints(axes="TYX", voxel_size=(1, 0.5, 0.5))
    finish(convert(marks, tmp_path / "a.mastodon", Conversion(image=plain, hints=hints)))
    assert "does not know the axes and voxel size that the options gave" in caplog.text
    finish(link(Job(plain, hints=hints), tmp_path / "b.mastodon", settings={}))
    with pytest.raises(FormatError, match="axes and voxel size was given"):
        finish(convert(marks, tmp_path / "c.mastodon", Conversion(hints=hints)))
