"""Folders of numbered TIFFs."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.formats import identify, open_image
from bdv_io.image import Hints, ImageSeries
from bdv_io.tiff import is_tiff, open_tiff

RANDOM = np.random.default_rng(2)


def write(
    folder: Path, *names: str, shape: tuple[int, ...] = (5, 6), dtype: str = "uint16", **options: object
) -> list[np.ndarray]:
    found = []
    for name in names:
        array = RANDOM.integers(0, 200, shape).astype(dtype)
        tifffile.imwrite(folder / name, array, photometric="minisblack", **{"metadata": None, **options})
        found.append(array)
    return found


def stacked(movie: ImageSeries) -> np.ndarray:
    return np.stack([[movie.read(t, s) for s in range(len(movie.setups))] for t in range(movie.n_frames)])


def test_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    arrays = write(tmp_path, "t8.tif", "t9.tif", "t10.tif", "t11.TIFF")
    movie = open_image(tmp_path)
    assert identify(tmp_path).key == "tiff"
    assert (movie.n_frames, movie.timepoints, movie.interval) == (4, (8, 9, 10, 11), None)
    np.testing.assert_array_equal(stacked(movie)[:, 0, 0], arrays)


def test_gaps_are_missing_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = write(tmp_path, "t000.tif", "t001.tif", "t004.tif")
    movie = open_tiff(tmp_path)
    assert [movie.is_missing(t) for t in range(5)] == [False, False, True, True, False]
    assert "2 of 5 views have no file" in caplog.text
    np.testing.assert_array_equal(movie.read(4)[0], arrays[2])
    with pytest.raises(MissingDataError, match=r"frame 2 \(number 2\).*there is no file"):
        movie.read(2)


def test_three_numbers(tmp_path: Path) -> None:
    names = [f"img_t{t:03d}_z{z:03d}_c{c}.tif" for t in (1, 2) for z in (0, 1, 2) for c in (1, 2)]
    arrays = np.array(write(tmp_path, *names)).reshape(2, 3, 2, 5, 6)
    movie = open_tiff(tmp_path)
    assert (movie.n_frames, len(movie.setups), movie.setups[0].shape) == (2, 2, (3, 5, 6))
    np.testing.assert_array_equal(stacked(movie), arrays.swapaxes(1, 2))
    again = pickle.loads(pickle.dumps(movie))
    movie.close()
    region = (slice(1, 3), slice(2, 5, 2), slice(0, 4))
    np.testing.assert_array_equal(again.read(1, 1, region=region), arrays[1, :, 1][region])


def test_stack_without_some_planes_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "t0_z0.tif", "t0_z1.tif", "t1_z0.tif")
    movie = open_tiff(tmp_path)
    assert [movie.is_missing(t) for t in range(2)] == [False, True]
    assert "lack files of some planes" in caplog.text


def test_numbers_without_meaning_are_asked_about(tmp_path: Path) -> None:
    arrays = write(tmp_path, "seg_001.tif", "seg_002.tif", "seg_003.tif")
    with pytest.raises(FormatError, match=r"such as seg_001\.tif, do not say what .* count.*--axes TYX .*--axes ZYX"):
        open_tiff(tmp_path)
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path, hints=Hints(axes="TYX")))[:, 0, 0], arrays)
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path, hints=Hints(axes="ZYX")))[0, 0], arrays)
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path, hints=Hints(axes="CYX")))[0, :, 0], arrays)
    with pytest.raises(FormatError, match="a letter of T, C, Z for each of the 1 numbers"):
        open_tiff(tmp_path, hints=Hints(axes="YX"))


def test_pages_of_a_frame_are_planes(tmp_path: Path) -> None:
    arrays = write(tmp_path, "t000.tif", "t001.tif", shape=(4, 5, 6))
    for hints in (Hints(), Hints(axes="TZYX")):
        np.testing.assert_array_equal(stacked(open_tiff(tmp_path, hints=hints))[:, 0], arrays)


def test_files_with_channels_and_calibration(tmp_path: Path) -> None:
    options = {"imagej": True, "metadata": {"axes": "ZCYX", "unit": "um", "spacing": 3.0, "finterval": 20.0}}
    arrays = write(tmp_path, "t000.tif", "t001.tif", shape=(4, 2, 5, 6), resolution=(2, 2), **options)
    movie = open_tiff(tmp_path)
    assert movie.setups[0].voxel_size == pytest.approx((3, 0.5, 0.5))
    assert (movie.setups[0].unit, movie.interval, len(movie.setups)) == ("µm", (20.0, "s"), 2)
    np.testing.assert_array_equal(stacked(movie), np.array(arrays).swapaxes(1, 2))


def test_time_in_the_name_and_in_the_file(tmp_path: Path) -> None:
    arrays = write(tmp_path, "t0.tif", "t1.tif", shape=(4, 5, 6), imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(FormatError, match=r"t0\.tif says that it holds 4 along T itself.*--axes TZYX"):
        open_tiff(tmp_path)
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path, hints=Hints(axes="TZYX")))[:, 0], arrays)


@pytest.mark.parametrize(("shape", "dtype"), [((5, 7), "uint16"), ((5, 6), "uint8"), ((2, 5, 6), "uint16")])
def test_the_file_that_differs_is_named(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    write(tmp_path, "t0.tif", "t2.tif")
    write(tmp_path, "t1.tif", shape=shape, dtype=dtype)
    movie = open_tiff(tmp_path)
    with pytest.raises(FormatError, match=r"t1\.tif failed: .* the first file of the folder"):
        movie.read(1)
    (tmp_path / "t2.tif").unlink()
    with pytest.raises(FormatError, match=r"t1\.tif failed"):
        open_tiff(tmp_path)


def test_names_of_several_patterns(tmp_path: Path) -> None:
    write(tmp_path, "img2d.tif", "mask2d.tif")
    with pytest.raises(FormatError, match="named by several patterns"):
        open_tiff(tmp_path)


def test_numbers_that_are_dates(tmp_path: Path) -> None:
    write(tmp_path, "t20240101.tif", "t20250101.tif")
    with pytest.raises(FormatError, match="numbered from 20240101 to 20250101"):
        open_tiff(tmp_path)


def test_folder_of_folders_and_other_folders(tmp_path: Path) -> None:
    (tmp_path / "01").mkdir()
    write(tmp_path / "01", "t000.tif")
    assert not is_tiff(tmp_path)
    with pytest.raises(MissingDataError, match=r"holds folders of TIFFs \(01\).*such as .*01"):
        open_tiff(tmp_path)
    assert is_tiff(tmp_path / "01")
    assert open_tiff(tmp_path / "01").n_frames == 1
    (tmp_path / "01" / "zarr.json").write_text("{}")
    assert not is_tiff(tmp_path / "01")
    (tmp_path / "02").mkdir()
    with pytest.raises(MissingDataError, match="no TIFF with a number"):
        open_tiff(tmp_path / "02")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape", "axes"),
    [
        ("hela-h2b-2d/01", (30, 1, 1, 190, 211), None),
        ("hela-h2b-2d/01_GT/TRA", (30, 1, 1, 190, 211), None),
        ("hela-h2b-2d/01_GT/SEG", (30, 1, 1, 190, 211), None),
        ("tgmm-crop-3d/01", (5, 1, 29, 40, 70), None),
        ("tgmm-crop-3d/01_GT/TRA", (5, 1, 29, 40, 70), "TZYX"),
        ("written-by-java/export/ctc", (8, 1, 16, 56, 64), "TZYX"),
        ("nist-lineage-mapper/input", (10, 1, 1, 520, 696), "TYX"),
    ],
)
def test_real_folders(real_data: Path, name: str, shape: tuple[int, ...], axes: str | None) -> None:
    movie = open_tiff(real_data / name, hints=Hints(axes=axes))
    found = stacked(movie)
    assert found.shape == shape
    files = sorted((real_data / name).glob("*.tif"))
    for frame in (0, len(files) - 1):
        np.testing.assert_array_equal(found[frame, 0].squeeze(), tifffile.imread(files[frame]))


@pytest.mark.real
def test_real_folder_that_does_not_say_what_it_counts(real_data: Path) -> None:
    with pytest.raises(FormatError, match=r"seg_001\.tif, do not say"):
        open_tiff(real_data / "nist-lineage-mapper/input")
