"""Reading BigDataViewer HDF5: types, levels, missing views, partitions, damage, locks, workers."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from bdv_io import as_dask
from bdv_io.bdv import BdvMovie, open_bdv
from bdv_io.bdv.hdf5_store import OPEN_DATASETS, meant_dtype
from bdv_io.bdv.hdf5_write import write_bdv
from bdv_io.bdv.xml import FileRef, ImageLoader, Partition, SpimData, ViewSetup, ViewTransform
from bdv_io.bdv.xml_write import write_bdv_xml
from bdv_io.errors import BdvIoError, BusyError, FormatError, MissingDataError, UnsupportedError
from bdv_io.image import ImageSeries

SHAPE = (5, 12, 11)


def frame(number: int, dtype: str = "uint16", shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    random = np.random.default_rng(number)
    if dtype.startswith("float"):
        return random.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def describe(tmp_path: Path, *, timepoints=(0,), setups=(0,), missing=(), partitions=(), size=None, **setup) -> Path:
    """Write an XML beside ``a.h5``, with each voxel 3 x 2 x 1."""
    place = (ViewTransform(np.diag([3.0, 2.0, 1.0, 1.0])),)
    path = tmp_path / "a.xml"
    write_bdv_xml(
        path,
        SpimData(
            path,
            tmp_path,
            ImageLoader("bdv.hdf5", FileRef("a.h5"), partitions=tuple(partitions)),
            tuple(ViewSetup(number, size=size, **setup) for number in setups),
            tuple(timepoints),
            frozenset(missing),
            {(time, number): place for time in timepoints for number in setups},
        ),
    )
    return path


def store(file: h5py.File, pixels: np.ndarray, *, time: int = 0, setup: int = 0, declared=None, **options) -> None:
    group = file.require_group(f"s{setup:02d}")
    if "resolutions" not in group:
        group["resolutions"] = np.ones((1, 3))
        group["subdivisions"] = np.full((1, 3), 16, np.int32)
    if declared is not None:
        group.attrs["dataType"] = declared
    file.create_dataset(f"t{time:05d}/s{setup:02d}/0/cells", data=pixels, **options)


def single(tmp_path: Path, pixels: np.ndarray, **options) -> BdvMovie:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        store(file, pixels, **options)
    return open_bdv(describe(tmp_path))


def test_it_is_an_image_series(tmp_path):
    movie = single(tmp_path, frame(0))
    assert isinstance(movie, ImageSeries)
    assert movie.format == "BigDataViewer XML/HDF5"
    assert movie.interval is None


def test_legacy_int16_means_uint16(tmp_path):
    pixels = frame(0)
    pixels[0, 0, :3] = [0, 32768, 65535]
    movie = single(tmp_path, pixels.view(np.int16), chunks=(2, 4, 4), compression="gzip")
    assert movie.setups[0].dtype == np.uint16
    np.testing.assert_array_equal(movie.read(0), pixels)
    assert movie.read(0).dtype == np.uint16


@pytest.mark.parametrize("stored", ["uint16", "uint8", "float32", "float64", "uint32", "int32"])
def test_what_bigdataviewer_cannot_read_without_the_attribute_is_read_as_stored(tmp_path, stored):
    pixels = frame(1, stored)
    movie = single(tmp_path, pixels)
    assert movie.setups[0].dtype == stored
    np.testing.assert_array_equal(movie.read(0), pixels)


@pytest.mark.parametrize(
    ("stored", "declared", "meant"),
    [
        ("int16", None, "uint16"),
        ("int16", "int16", "int16"),
        ("int16", "uint16", "uint16"),
        ("uint16", "uint16", "uint16"),
        (">u2", "uint16", "uint16"),
        (">i2", None, "uint16"),
        ("uint8", "uint16", "uint16"),
        ("float32", "float64", "float64"),
        ("float32", "uint16", "float32"),
        ("uint32", "uint16", "uint32"),
        ("uint8", "nonsense", "uint8"),
        ("uint8", "str", "uint8"),
    ],
)
def test_declared_types(stored, declared, meant):
    assert meant_dtype(np.dtype(stored), declared) == np.dtype(meant)
    assert meant_dtype(np.dtype(stored), declared).isnative


@pytest.mark.parametrize("declared", [np.bytes_("int16"), "int16"])
def test_the_attribute_may_have_fixed_or_variable_length(tmp_path, declared):
    pixels = frame(0, "int16")
    movie = single(tmp_path, pixels, declared=declared)
    np.testing.assert_array_equal(movie.read(0), pixels)
    assert movie.read(0).min() < 0


def test_big_endian_pixels_come_out_native(tmp_path):
    pixels = frame(0)
    movie = single(tmp_path, pixels.view(np.int16).astype(">i2"))
    np.testing.assert_array_equal(movie.read(0, region=(slice(1, 3),) * 3), pixels[1:3, 1:3, 1:3])
    assert movie.read(0).dtype.isnative


@pytest.mark.parametrize(
    "region",
    [
        (slice(1, 3), slice(0, 5), slice(4, 11)),
        (slice(None), slice(None), slice(None)),
        (slice(-2, None), slice(2, 9, 3), slice(0, 99)),
        (slice(3, 3), slice(5, 2), slice(None)),
    ],
)
def test_regions_are_numpy_slices(tmp_path, region):
    pixels = frame(0)
    movie = single(tmp_path, pixels.view(np.int16), chunks=(2, 5, 4))
    np.testing.assert_array_equal(movie.read(0, region=region), pixels[region])


def test_regions_go_forwards(tmp_path):
    with pytest.raises(FormatError, match="must go forwards"):
        single(tmp_path, frame(0)).read(0, region=(slice(None, None, -1), slice(None), slice(None)))


def test_levels_and_their_place(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        store(file, frame(0))
        file["t00000/s00/1/cells"] = frame(1, shape=(5, 3, 2))
        del file["s00/resolutions"]
        file["s00/resolutions"] = np.array([[1, 1, 1], [4, 3, 1]], np.int16)
    movie = open_bdv(describe(tmp_path))
    assert movie.setups[0].levels == ((1, 1, 1), (1, 3, 4))
    assert movie.shape(0, 0, 1) == (5, 3, 2)
    # The centre of the first coarse voxel lies between fine voxels 0 .. 2 in y and 0 .. 3 in x.
    np.testing.assert_allclose(movie.affine(0, 0, 1) @ [0, 0, 0, 1], [0, 2 * 1.0, 1 * 1.5, 1])
    np.testing.assert_allclose(movie.affine(0, 0, 1) @ [1, 1, 1, 1], [3, 2 * 4.0, 1 * 5.5, 1])
    with pytest.raises(MissingDataError, match=r"Level 2 of setup 0.*it has 2 levels"):
        movie.read(0, 0, 2)


def test_damaged_resolutions(tmp_path):
    movie = single(tmp_path, frame(0))
    movie.close()
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["s00/resolutions"][...] = 0
    with pytest.raises(FormatError, match=r"resolutions has shape \(1, 3\).*positive numbers"):
        movie.read(0, 0, 1)
    with pytest.raises(FormatError, match="positive numbers"):
        _ = movie.setups


def test_the_array_wins_over_the_declared_size(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        store(file, frame(0))
    movie = open_bdv(describe(tmp_path, size=(1, 2, 3)))
    assert movie.setups[0].shape == SHAPE


def test_without_voxel_size_the_registration_says_it(tmp_path):
    assert single(tmp_path, frame(0)).setups[0].voxel_size == (3, 2, 1)


def test_missing_views_declared_or_absent(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        store(file, frame(10), time=10)
        store(file, frame(30), time=30)
    movie = open_bdv(describe(tmp_path, timepoints=(5, 10, 30), missing=[(30, 0)]))
    assert movie.timepoints == (5, 10, 30)
    assert [movie.is_missing(index) for index in range(3)] == [True, False, True]
    assert movie.shape(0) == SHAPE
    assert movie.setups[0].shape == SHAPE
    np.testing.assert_array_equal(movie.read(1), frame(10))
    with pytest.raises(MissingDataError, match="the XML declares this view missing"):
        movie.read(2)
    with pytest.raises(MissingDataError, match=r"time point 5, setup 0, level 0.*there is no t00005/s00/0/cells"):
        movie.read(0)


def test_a_setup_without_any_view(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        store(file, frame(0))
        file["s01/resolutions"] = [[1, 1, 1], [4, 4, 1]]
    movie = open_bdv(describe(tmp_path, setups=(0, 1), size=(5, 12, 2)))
    assert movie.setups[1].shape == (5, 12, 2)
    assert movie.shape(0, 1, 1) == (5, 3, 1)
    assert movie.setups[1].dtype == np.uint16


@pytest.mark.parametrize("view", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_wrong_frame_or_setup(tmp_path, view):
    movie = single(tmp_path, frame(0))
    for call in (movie.read, movie.shape, movie.affine, movie.is_missing):
        with pytest.raises(MissingDataError, match="it has 1 frames and 1 setups, both counted from 0"):
            call(*view)


def linked(tmp_path: Path, *, in_xml: bool = False) -> Path:
    """A master file that links time point 1 to a partition file, at the level's group as BigDataViewer does."""
    with h5py.File(tmp_path / "p1.h5", "w") as file:
        store(file, frame(1), time=7, setup=3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        store(file, frame(0))
        file.create_group("t00001/s00")["0"] = h5py.ExternalLink("p1.h5", "/t00007/s03/0")
    partitions = [Partition(FileRef("p1.h5"), {1: 7}, {0: 3})] if in_xml else []
    return describe(tmp_path, timepoints=(0, 1), partitions=partitions)


def test_partitions_by_link(tmp_path):
    movie = open_bdv(linked(tmp_path))
    np.testing.assert_array_equal(movie.read(1), frame(1))
    assert not movie.is_missing(1)


def test_partitions_by_xml_when_the_links_lead_nowhere(tmp_path):
    path = linked(tmp_path, in_xml=True)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["t00001"]
    movie = open_bdv(path)
    np.testing.assert_array_equal(movie.read(1), frame(1))
    np.testing.assert_array_equal(movie.read(0), frame(0))


def test_a_partition_that_is_not_there_is_no_missing_view(tmp_path):
    path = linked(tmp_path)
    (tmp_path / "p1.h5").unlink()
    movie = open_bdv(path)
    assert not movie.is_missing(1)
    with pytest.raises(MissingDataError, match=r"refers to the partition file p1.h5, and .*p1.h5 is not there"):
        movie.read(1)
    movie.close()
    path = linked(tmp_path, in_xml=True)
    (tmp_path / "p1.h5").unlink()
    with pytest.raises(MissingDataError, match=r"names 'p1.h5' .relative"):
        open_bdv(path).read(1)


def test_a_damaged_partition_says_so(tmp_path):
    path = linked(tmp_path)
    (tmp_path / "p1.h5").write_bytes(b"nonsense" * 200)
    with pytest.raises(FormatError, match=r"p1\.h5 failed.*it is not HDF5"):
        open_bdv(path).read(1)


def test_a_truncated_file(tmp_path):
    single(tmp_path, frame(0)).close()
    path = tmp_path / "a.h5"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match=r"it is cut off after .* bytes. Copy it again"):
        open_bdv(tmp_path / "a.xml")


def test_damaged_pixels(tmp_path):
    single(tmp_path, frame(0), compression="gzip", chunks=(5, 12, 11)).close()
    path = tmp_path / "a.h5"
    with h5py.File(path) as file:
        chunk = file["t00000/s00/0/cells"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\7" * chunk.size
    path.write_bytes(content)
    with pytest.raises(FormatError, match="decoding /t00000/s00/0/cells was not possible"):
        open_bdv(tmp_path / "a.xml").read(0)


@pytest.mark.parametrize("signature", [b"TREE", b"SNOD", b"HEAP"])
def test_damaged_groups_give_sentences(tmp_path, signature):
    single(tmp_path, frame(0)).close()
    path = tmp_path / "a.h5"
    path.write_bytes(path.read_bytes().replace(signature, b"XXXX"))
    with pytest.raises(BdvIoError, match=r"a\.h5 failed: .* not possible because the HDF5 library said: "):
        open_bdv(tmp_path / "a.xml").read(0)


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 4, 5)])
def test_arrays_of_another_rank(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        store(file, np.zeros(shape))
    with pytest.raises(FormatError, match=r"t00000/s00/0/cells is .*expected a 3D array of numbers"):
        open_bdv(describe(tmp_path)).read(0)


def test_a_file_that_another_program_writes(tmp_path):
    fcntl = pytest.importorskip("fcntl", reason="Windows locks files in another way")
    single(tmp_path, frame(0)).close()
    with (tmp_path / "a.h5").open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another program has it open for writing"):
            open_bdv(tmp_path / "a.xml")
    assert open_bdv(tmp_path / "a.xml").read(0).shape == SHAPE


def test_missing_files(tmp_path):
    with pytest.raises(MissingDataError, match="there is no such file"):
        open_bdv(tmp_path / "a.xml")
    with pytest.raises(MissingDataError, match="it is a folder, not a file"):
        open_bdv(tmp_path)
    path = describe(tmp_path)
    with pytest.raises(MissingDataError, match=r"names 'a.h5'.*nothing at"):
        open_bdv(path)


def test_hdf5_alone(tmp_path):
    single(tmp_path, frame(0)).close()
    assert open_bdv(tmp_path / "a.h5").setups[0].voxel_size == (3, 2, 1), "the XML beside it counts"
    (tmp_path / "a.xml").rename(tmp_path / "other.xml")
    assert open_bdv(tmp_path / "a.h5").setups[0].voxel_size == (3, 2, 1), "under whatever name"
    (tmp_path / "other.xml").write_text("<TrackMate/>")
    movie = open_bdv(tmp_path / "a.h5")
    assert movie.setups[0].voxel_size == (1, 1, 1)
    assert movie.timepoints == (0,)
    np.testing.assert_array_equal(movie.affine(0), np.eye(4))
    np.testing.assert_array_equal(movie.read(0), frame(0))


def test_hdf5_alone_of_another_program(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["volume"] = [1]
    with pytest.raises(FormatError, match=r"it has the groups \['volume'\], expected s00"):
        open_bdv(tmp_path / "x.h5")


@pytest.mark.parametrize("format_", ["spimreconstruction.stack.ij", "bdv.imaris"])
def test_other_loaders(tmp_path, format_):
    path = describe(tmp_path)
    path.write_text(path.read_text().replace("bdv.hdf5", format_))
    with pytest.raises(
        UnsupportedError, match=f"image loader is '{format_}'.*not known. Read are HDF5, N5 and OME-Zarr"
    ):
        open_bdv(path)


@pytest.mark.parametrize("format_", ["bdv.n5", "bdv.multimg.zarr", "bdv.ome.zarr"])
def test_a_loader_of_another_file_than_the_one_that_is_there(tmp_path, format_):
    path = describe(tmp_path)
    path.write_text(path.read_text().replace("bdv.hdf5", format_))
    (tmp_path / "a.h5").write_bytes(b"no folder")
    with pytest.raises(BdvIoError, match=r"a\.h5 failed"):
        open_bdv(path)


def test_remote_loaders(tmp_path):
    path = describe(tmp_path)
    path.write_text(path.read_text().replace(">a.h5<", ">https://example.org/a.h5<"))
    with pytest.raises(UnsupportedError, match=r"points to 'https://example.org/a.h5'"):
        open_bdv(path)


def test_closing_pickling_and_many_frames(tmp_path):
    pixels = [frame(number) for number in range(OPEN_DATASETS + 4)]
    write_bdv(tmp_path / "m.xml", pixels)
    movie = open_bdv(tmp_path / "m.xml")
    for _ in range(2):
        for number, expected in enumerate(pixels):
            np.testing.assert_array_equal(movie.read(number), expected)
        movie.close()
    copy = pickle.loads(pickle.dumps(movie))
    np.testing.assert_array_equal(copy.read(3), pixels[3])
    assert copy.setups == movie.setups


def test_threads(tmp_path):
    pixels = [frame(number) for number in range(20)]
    write_bdv(tmp_path / "m.xml", pixels)
    movie = open_bdv(tmp_path / "m.xml")
    start = threading.Barrier(4)

    def work(offset: int) -> bool:
        start.wait()
        return all((movie.read((number + offset) % 20) == pixels[(number + offset) % 20]).all() for number in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(0, 20, 5)))


def test_dask(tmp_path):
    pytest.importorskip("dask.array")
    pixels = [frame(0), None, frame(2)]
    write_bdv(tmp_path / "m.xml", pixels)
    stacked = as_dask(open_bdv(tmp_path / "m.xml"))
    assert stacked.shape == (3, *SHAPE)
    assert stacked.dtype == np.uint16
    np.testing.assert_array_equal(stacked.compute(), [pixels[0], np.zeros(SHAPE), pixels[2]])
    first_missing = tmp_path / "n.xml"
    write_bdv(first_missing, [None, pixels[0]])
    np.testing.assert_array_equal(as_dask(open_bdv(first_missing))[1].compute(), pixels[0])
