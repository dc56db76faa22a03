"""The pseudocoloured movie as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bdv_io.formats import open_image
from howdah.errors import ConfigError
from howdah.pipeline import Job, finish
from howdah.pipeline.colouring import colour
from howdah.service.running import run_task

RED, GREEN, BLUE = range(3)


def disc(y: int, x: int, size: int = 64) -> np.ndarray:
    grid = np.indices((size, size))
    return ((grid[0] - y) ** 2 + (grid[1] - x) ** 2 < 36).astype(np.uint16) * 1000


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Two frames of three planes; the cell of the first plane is at (16, 16), of the second everywhere, of the third at (48, 48)."""
    middle = disc(16, 16) + disc(48, 48)
    frame = np.stack([disc(16, 16), middle, disc(48, 48)])
    rng = np.random.default_rng(0)
    movie = np.stack([frame, frame]) + rng.integers(0, 20, (2, 3, 64, 64)).astype(np.uint16)
    path = tmp_path / "volume.tif"
    tifffile.imwrite(
        path,
        movie,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "TZYX", "spacing": 2.0, "unit": "um", "finterval": 30},
    )
    return path


def test_red_is_the_plane_above_and_blue_the_one_below(volume: Path, tmp_path: Path) -> None:
    out = tmp_path / "colour.tif"
    facts = finish(colour(Job(volume), out, settings={"efficientcellseg": {"colour_blur": 2, "colour_area": 0.1}}))
    assert (facts["frames"], facts["planes"], facts["colours"]) == (2, 3, "context")
    with tifffile.TiffFile(out) as file:
        found, header = file.asarray(), file.imagej_metadata
    assert (found.shape, found.dtype) == ((2, 3, 3, 64, 64), np.uint8)  # T, Z, C, Y, X
    upper, lower = found[0, 1, :, 16, 16].astype(int), found[0, 1, :, 48, 48].astype(int)
    assert upper[RED] == pytest.approx(2 * upper[GREEN], abs=2)
    assert upper[BLUE] == upper[GREEN]
    assert lower[BLUE] == pytest.approx(2 * lower[GREEN], abs=2)
    assert lower[RED] == lower[GREEN]
    assert (found[:, 0, RED] == found[:, 0, GREEN]).all()  # there is no plane above the first
    assert header is not None
    assert header["mode"] == "composite"
    assert header["Ranges"] == (0.0, 255.0) * 3  # or a grey pixel would not be grey
    assert header["Labels"][:3] == ["plane above (red)", "plane (green)", "plane below (blue)"]
    movie = open_image(out)
    assert movie.setups[0].voxel_size == pytest.approx((2.0, 0.5, 0.5))
    assert movie.interval == (30.0, "s")
    movie.close()


def test_in_flat_movies_frames_take_the_places_of_planes(tmp_path: Path) -> None:
    frames = np.stack([disc(16, 16), disc(16, 16) + disc(48, 48), disc(48, 48)])
    tifffile.imwrite(tmp_path / "flat.tif", frames, imagej=True, metadata={"axes": "TYX"})
    settings = {"efficientcellseg": {"colour_blur": 2, "colour_area": 0.1}}
    facts = run_task("efficientcellseg.colour", {"source": str(tmp_path / "flat.tif"), "settings": settings})
    assert facts["out"] == str(tmp_path / "flat-colour.tif")
    found = tifffile.imread(facts["out"]).astype(int)  # T, C, Y, X
    assert found[1, RED, 16, 16] == pytest.approx(2 * found[1, GREEN, 16, 16], abs=2)
    assert found[1, BLUE, 48, 48] == pytest.approx(2 * found[1, GREEN, 48, 48], abs=2)


def test_frames_and_missing_neighbours(volume: Path, tmp_path: Path) -> None:
    finish(colour(Job(volume, frames="1"), tmp_path / "one.ome.zarr", settings={}))
    movie = open_image(tmp_path / "one.ome.zarr")
    assert (movie.n_frames, len(movie.setups)) == (1, 3)
    movie.close()
    tifffile.imwrite(tmp_path / "single.tif", disc(16, 16))
    with pytest.raises(ConfigError, match="it has 1 plane and 1 frame"):
        finish(colour(Job(tmp_path / "single.tif"), tmp_path / "x.tif", settings={}))
    with pytest.raises(ConfigError, match="it is an input"):
        finish(colour(Job(volume), volume, settings={}))
