"""Nothing that is read, and no folder that holds something else, is ever replaced by a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bdv_io import Tracks, WriteError
from bdv_io.formats import format_named, write_tracks
from howdah.errors import ConfigError
from howdah.pipeline.overwriting import refuse_overwriting


def refuse(target: Path, key: str, *inputs: Path) -> None:
    refuse_overwriting(target, format_named(key), inputs)


@pytest.mark.parametrize(
    ("key", "target", "source"),
    [
        ("bdv", "movie.h5", "movie.xml"),
        ("bdv", "movie.xml", "movie.h5"),
        ("csv", "a.csv", "a-spots.csv"),
        ("csv", "a.csv", "a-links.csv"),
        ("parquet", "a-spots.parquet", "a-links.parquet"),
        ("tiff", "sub/../stack.tif", "stack.tif"),
    ],
)
def test_an_input_is_known_by_all_names_of_its_files(tmp_path: Path, key: str, target: str, source: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / source).touch()
    with pytest.raises(ConfigError, match="same file as the input"):
        refuse(tmp_path / target, key, tmp_path / source)


def test_an_input_is_known_behind_links(tmp_path: Path) -> None:
    (tmp_path / "movie.xml").touch()
    (tmp_path / "link.xml").symlink_to("movie.xml")
    (tmp_path / "folder").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="same file"):
        refuse(tmp_path / "folder" / "movie.h5", "bdv", tmp_path / "link.xml")


def test_a_target_within_a_source_or_around_it_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "01_GT" / "TRA"
    source.mkdir(parents=True)
    with pytest.raises(ConfigError, match="lies in the input"):
        refuse(source / "a.xml", "trackmate", source)
    with pytest.raises(ConfigError, match="holds the input"):
        refuse(tmp_path / "01_GT", "ctc", source)
    refuse(tmp_path / "01_RES", "ctc", source)


def test_a_folder_is_replaced_only_by_its_own_kind(tmp_path: Path) -> None:
    images = tmp_path / "01"
    images.mkdir()
    refuse(images, "ctc")
    (images / "t000.tif").write_bytes(b"a picture")
    for key in ("ctc", "geff", "mastodon", "ome-zarr"):
        with pytest.raises(ConfigError, match="holds something else"):
            refuse(images, key)
    refuse(images, "csv")  # tables go into the folder
    geff = tmp_path / "a.geff"
    write_tracks(geff, Tracks.build(np.array([0]), np.zeros((1, 3)), radius=1.0))
    refuse(geff, "geff")


@pytest.mark.parametrize("name", ["x" * 300 + ".geff", "a\0b.xml"])
def test_a_name_that_cannot_be_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(WriteError, match="not possible"):
        refuse(tmp_path / name, "geff")
