"""Fixtures of the tests of formats."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from formats.damage import (
    ANNOTATIONS,
    IMAGES,
    movie,
    tracks,
)

from bdv_io.formats import write_image, write_tracks
from bdv_io.image import ArrayImage


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """One whole file of every format, in a folder a format."""
    folder = tmp_path_factory.mktemp("whole")
    canvas = ArrayImage(np.zeros((2, 4, 20, 24), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, name in ANNOTATIONS.items():
            (folder / key).mkdir()
            target = folder / key / name.replace("-spots", "")
            write_tracks(target, tracks(), key=key, image=canvas if key in ("ctc", "rois") else None)
        for key, name in IMAGES.items():
            (folder / key).mkdir()
            write_image(folder / key / name, movie(), key=key)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    def of(key: str) -> Path:
        shutil.copytree(whole / key, tmp_path / key)
        return tmp_path / key / (ANNOTATIONS | IMAGES)[key]

    return of
