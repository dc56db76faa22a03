"""Writing TIFF: what is written reads back the same, by us and by tifffile, and what is lost is said."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bdv_io.errors import FormatError, UnsupportedError, WriteError
from bdv_io.formats import format_named, open_image, write_image, writing_image
from bdv_io.image import ArrayImage, ImageSeries, WriteOptions
from bdv_io.safe_write import previous_version
from bdv_io.tiff import lost_in_tiff, open_tiff, writing_tiff

RANDOM = np.random.default_rng(3)
MOVIE = RANDOM.integers(0, 60000, (3, 2, 4, 5, 6)).astype(np.uint16)


def stacked(movie: ImageSeries) -> np.ndarray:
    return np.stack([[movie.read(t, s) for s in range(len(movie.setups))] for t in range(movie.n_frames)])


def facts(movie: ImageSeries) -> tuple[object, ...]:
    setup = movie.setups[0]
    return (
        movie.n_frames, movie.interval, [s.name for s in movie.setups], setup.shape, setup.dtype, setup.unit,
        tuple(float(f"{edge:.6g}") for edge in setup.voxel_size),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.tiff", "A.TIFF"])
def test_all_facts_come_back(tmp_path: Path, name: str) -> None:
    image = ArrayImage(MOVIE, voxel_size=(2, 0.25, 0.277), unit="um", interval=(1.5, "min"), channels=["GFP", "H2B-µ"])
    write_image(tmp_path / name, image)
    movie = open_image(tmp_path / name)
    assert movie.format == ("OME-TIFF" if "ome" in name else "ImageJ TIFF")
    assert facts(movie) == (
        3, (1.5, "min"), ["GFP", "H2B-µ"], (4, 5, 6), np.uint16, "µm", (2, 0.25, 0.277)
    )  # fmt: skip
    np.testing.assert_array_equal(stacked(movie), MOVIE)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / name), MOVIE.swapaxes(1, 2))
    write_image(tmp_path / f"again-{name}", movie)
    again = open_image(tmp_path / f"again-{name}")
    assert facts(again) == facts(movie)
    np.testing.assert_array_equal(stacked(again), MOVIE)


def test_header_is_what_imagej_expects(tmp_path: Path) -> None:
    """These keys, opened in ImageJ 1.54p, gave the channels, calibration, labels and pixels that went in."""
    write_image(
        tmp_path / "a.tif", ArrayImage(MOVIE, voxel_size=(2, 0.5, 0.25), unit="µm", interval=(30, "s"), channels=["GFP", "µ"])
    )  # fmt: skip
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        header = file.imagej_metadata
        assert file.pages[0].tags["XResolution"].value == (4, 1)
        assert file.pages[0].compression == 1
        assert len(file.pages) == 24
        assert file.series[0].dataoffset is not None  # one block
        assert not file.is_bigtiff
    expected = {"images": 24, "channels": 2, "slices": 4, "frames": 3, "unit": "\\u00B5m", "spacing": 2.0, "finterval": 30.0,
                "tunit": "sec", "mode": "composite", "hyperstack": True}  # fmt: skip
    assert {key: header[key] for key in expected} == expected
    assert header["Labels"] == ["GFP", "µ"] * 12
    assert header["Ranges"] == tuple(float(f(MOVIE[:, c])) for c in (0, 1) for f in (np.min, np.max))


@pytest.mark.parametrize(("name", "order"), [("GFP µ", "<"), ("核", ">"), ("Ω", ">")])
def test_letters_that_imagej_reads_in_big_endian_only(tmp_path: Path, name: str, order: str) -> None:
    write_image(tmp_path / "a.tif", ArrayImage(MOVIE[:, 0], channels=[name]))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.byteorder == order
    movie = open_tiff(tmp_path / "a.tif")
    assert movie.setups[0].name == name
    np.testing.assert_array_equal(stacked(movie)[:, 0], MOVIE[:, 0])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool", "int8", "float16"])
def test_types_that_imagej_has_or_can_widen(tmp_path: Path, dtype: str) -> None:
    array = (RANDOM.random((2, 3, 5, 6)) * 100 - 50).astype(dtype)
    array = np.abs(array) if dtype.startswith("u") else array
    write_image(tmp_path / "a.tif", ArrayImage(array))
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path / "a.tif"))[:, 0], array)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float64", "int64", "uint64"])
def test_types_that_imagej_has_not(tmp_path: Path, dtype: str) -> None:
    advice = r"OME-TIFF \(\.ome\.tif\)" if dtype not in ("int64", "uint64") else "Write OME-Zarr"
    with pytest.raises(UnsupportedError, match=f"ImageJ has no voxels of type {dtype}.*{advice}"):
        write_image(tmp_path / "a.tif", ArrayImage(np.zeros((1, 1, 5, 6), dtype)))
    assert not list(tmp_path.iterdir())
    array = RANDOM.integers(0, 100_000, (2, 3, 5, 6)).astype(dtype)
    if dtype in ("int64", "uint64"):
        with pytest.raises(UnsupportedError, match="OME-TIFF has no voxels of type"):
            write_image(tmp_path / "a.ome.tif", ArrayImage(array))
    else:
        write_image(tmp_path / "a.ome.tif", ArrayImage(array))
        np.testing.assert_array_equal(stacked(open_tiff(tmp_path / "a.ome.tif"))[:, 0], array)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_movie_comes_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 4)] * 3, *[st.integers(1, 9)] * 2))
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.float32, np.int16]))
    array = data.draw(arrays.arrays(dtype, shape))
    size = st.floats(1e-4, 1e4)
    text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
    names = data.draw(st.lists(text, min_size=shape[1], max_size=shape[1], unique=True))
    image = ArrayImage(
        array,
        voxel_size=data.draw(st.tuples(size, size, size)),
        unit=data.draw(st.sampled_from(["µm", "nm", "mm", "pixel"])),
        interval=data.draw(st.one_of(st.none(), st.tuples(size, st.sampled_from(["s", "min", "h"])))),
        channels=names,
    )
    path = tmp_path_factory.mktemp("any") / data.draw(st.sampled_from(["a.tif", "a.ome.tif"]))
    write_image(path, image)
    movie = open_tiff(path)
    np.testing.assert_array_equal(stacked(movie), array)
    assert movie.interval == image.interval
    assert movie.setups[0].unit == image.setups[0].unit
    z = movie.setups[0].voxel_size[0]
    assert movie.setups[0].voxel_size[1:] == pytest.approx(image.setups[0].voxel_size[1:], rel=1e-6)
    assert z == pytest.approx(image.setups[0].voxel_size[0])
    assert [s.name.strip() for s in movie.setups] == [name.strip() for name in names]


def test_frames_come_one_by_one_and_nothing_is_there_before_the_end(tmp_path: Path) -> None:
    for name in ("a.tif", "a.ome.tif"):
        target = tmp_path / name
        target.write_bytes(b"old")
        steps = writing_image(target, ArrayImage(MOVIE))
        assert [next(steps), next(steps)] == [1, 2]
        assert target.read_bytes() == b"old"
        steps.close()
        assert target.read_bytes() == b"old"
        assert list(writing_image(target, ArrayImage(MOVIE))) == [1, 2, 3]
        assert previous_version(target).read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ome.tif", "a.ome.tif~1~", "a.tif", "a.tif~1~"]


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_memory_is_that_of_one_time_point(tmp_path: Path, name: str) -> None:
    frame = np.zeros((8, 256, 256), np.uint16)
    tracemalloc.start()
    write_image(tmp_path / name, ArrayImage([frame] * 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * frame.nbytes


def test_frames_that_differ(tmp_path: Path) -> None:
    frames = [np.zeros((2, 5, 6), np.uint8), np.zeros((2, 5, 7), np.uint8), np.zeros((2, 5, 6), np.uint8)]
    with pytest.raises(FormatError, match=r"frame 1, setup 0 .* expected \(2, 5, 6\) uint8"):
        write_image(tmp_path / "a.tif", ArrayImage(frames))
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bdv_io.tiff.write.zlib.crc32", lambda data: id(object()) + RANDOM.integers(1 << 40))
    with pytest.raises(FormatError, match="back after writing failed"):
        write_image(tmp_path / "a.tif", ArrayImage(MOVIE))
    assert not list(tmp_path.iterdir())


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="its folder does not exist"):
        write_image(tmp_path / "none" / "a.tif", ArrayImage(MOVIE))


def test_compression_is_for_ome_only(tmp_path: Path) -> None:
    flat = ArrayImage(np.ones((2, 4, 64, 64), np.uint16))
    for name, level, small in (("a.tif", 9, False), ("a.ome.tif", 4, True), ("b.ome.tif", None, False)):
        list(writing_tiff(tmp_path / name, flat, options=WriteOptions(compression=level, workers=2)))
        assert ((tmp_path / name).stat().st_size < 20_000) is small


def test_units_that_ome_has_not(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no unit of length 'furlong'"):
        write_image(tmp_path / "a.ome.tif", ArrayImage(MOVIE, unit="furlong"))
    with pytest.raises(UnsupportedError, match="no unit of time 'frame'"):
        write_image(tmp_path / "a.ome.tif", ArrayImage(MOVIE, interval=(2, "frame")))
    write_image(tmp_path / "b.ome.tif", ArrayImage(MOVIE, interval=(1, "frame")))  # which says nothing
    assert open_tiff(tmp_path / "b.ome.tif").interval is None
    write_image(tmp_path / "a.tif", ArrayImage(MOVIE, unit="furlong", interval=(1, "frame")))
    assert open_tiff(tmp_path / "a.tif").interval == (1.0, "frame")


class Odd(ArrayImage):
    """A movie with all that a TIFF cannot hold."""

    timepoints = (5, 7, 8)

    def __init__(self) -> None:
        super().__init__(MOVIE)
        self.timepoints = (5, 7, 8)

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        return (frame, setup) == (1, 0)

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> np.ndarray:
        found = np.diag([2.0, 1, 1, 1])
        found[1, 2] = 0.5 if frame == 2 else 0
        found[0, 3] = frame
        return found


def test_losses_are_said(tmp_path: Path) -> None:
    assert format_named("tiff").losses(ArrayImage(MOVIE)) == ()
    assert "same name" in lost_in_tiff(ArrayImage(MOVIE, channels=["a", "a"]))[0]
    said = " ".join(lost_in_tiff(Odd()))
    for part in (
        "rotation or shear of 2 of 6",
        "position in the world of 4 of 6",
        "1 missing views",
        "numbered from 5 to 8",
    ):
        assert part in said
    write_image(tmp_path / "a.tif", Odd())
    movie = open_tiff(tmp_path / "a.tif")
    assert movie.setups[0].voxel_size == (2, 1, 1)
    assert not movie.read(1).any()
    assert movie.read(0).any()


@pytest.mark.real
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_real_hyperstack_round_trip(real_data: Path, tmp_path: Path, name: str) -> None:
    movie = open_image(real_data / "mitosis-bdv-formats/mitosis-small.tif")
    write_image(tmp_path / name, movie)
    again = open_image(tmp_path / name)
    assert facts(again) == facts(movie)
    np.testing.assert_array_equal(stacked(again), stacked(movie))
    assert any("colour tables" in sentence for sentence in lost_in_tiff(movie))
