"""Writing BigDataViewer movies: what is written reads back the same, lies as BigDataViewer wants it, and loses nothing."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bdv_io.bdv import open_bdv
from bdv_io.bdv.hdf5_views import TYPES
from bdv_io.bdv.hdf5_write import write_bdv
from bdv_io.errors import BusyError, FormatError, UnsupportedError, WriteError
from bdv_io.pyramid import downsample, propose_levels
from bdv_io.safe_write import previous_version


def frame(number: int, shape=(5, 12, 11)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 65536, shape, dtype=np.uint16)


@st.composite
def movies(draw):
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    channels = draw(st.integers(1, 3))
    view = st.none() | arrays.arrays(dtype, shape)
    frames = draw(st.lists(st.lists(view, min_size=channels, max_size=channels), min_size=1, max_size=3))
    if all(view is None for views in frames for view in views):
        frames[-1][0] = np.zeros(shape, dtype)
    return frames


@given(
    frames=movies(),
    voxel_size=st.tuples(*[st.floats(1e-3, 1e3)] * 3),
    levels=st.sampled_from([None, [(1, 1, 1), (1, 2, 3), (4, 4, 4)]]),
    compression=st.sampled_from([None, 1]),
    unit=st.sampled_from(["µm", "pixel"]),
)
@settings(max_examples=60, deadline=None)
def test_writing_and_reading_gives_the_same(tmp_path_factory, frames, voxel_size, levels, compression, unit):
    path = tmp_path_factory.mktemp("bdv") / "m.xml"
    write_bdv(path, frames, voxel_size=voxel_size, levels=levels, compression=compression, unit=unit)
    movie = open_bdv(path)
    assert movie.n_frames == len(frames)
    assert len(movie.setups) == len(frames[0])
    for setup in movie.setups:
        assert setup.voxel_size == voxel_size
        assert setup.unit == unit
        assert setup.levels == tuple(levels or [(1, 1, 1)])
        np.testing.assert_array_equal(movie.affine(0, setup.id), np.diag([*voxel_size, 1]))
    for number, views in enumerate(frames):
        for index, view in enumerate(views):
            assert movie.is_missing(number, index) == (view is None)
            if view is None:
                continue
            back = movie.read(number, index)
            assert back.dtype == view.dtype == movie.setups[index].dtype
            np.testing.assert_array_equal(back, view)
            for level, factors in enumerate(levels or []):
                np.testing.assert_array_equal(movie.read(number, index, level), downsample(view, factors))
    movie.close()


def test_the_file_is_as_bigdataviewer_wants_it(tmp_path):
    write_bdv(tmp_path / "m.xml", [np.stack([frame(0), frame(1)])], levels=[(1, 1, 1), (1, 2, 4)], chunks=(4, 8, 6))
    with h5py.File(tmp_path / "m.h5") as file:
        assert sorted(file) == ["s00", "s01", "t00000"]
        assert "dataType" not in file["s00"].attrs, "legacy layout: every BigDataViewer reads it"
        np.testing.assert_array_equal(file["s01/resolutions"], [[1, 1, 1], [4, 2, 1]])
        np.testing.assert_array_equal(file["s01/subdivisions"], [[6, 8, 4]] * 2)
        assert file["s01/resolutions"].dtype == np.float64
        assert file["s01/subdivisions"].dtype == np.int32
        cells = file["t00000/s01/0/cells"]
        assert (cells.dtype, cells.chunks, cells.compression) == (np.int16, (4, 8, 6), "gzip")
        np.testing.assert_array_equal(cells[()].view(np.uint16), frame(1))
        assert file["t00000/s01/1/cells"].shape == (5, 6, 2)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_other_types_are_declared(tmp_path, dtype):
    write_bdv(tmp_path / "m.xml", [np.ones((1, 2, 3), dtype)])
    with h5py.File(tmp_path / "m.h5") as file:
        assert file["s00"].attrs["dataType"] == dtype.encode()
        assert file["t00000/s00/0/cells"].dtype == dtype


def test_channels_have_names(tmp_path):
    write_bdv(tmp_path / "m.xml", [[frame(0), frame(1)]], channels=["nuclei", "membrane"])
    setups = open_bdv(tmp_path / "m.xml").setups
    assert [(setup.name, setup.attributes["channel"]) for setup in setups] == [
        ("nuclei", (1, "nuclei")),
        ("membrane", (2, "membrane")),
    ]
    write_bdv(tmp_path / "n.xml", [frame(0)])
    assert open_bdv(tmp_path / "n.xml").setups[0].name == "channel 1"


@pytest.mark.parametrize(
    ("shape", "voxel_size", "expected"),
    [
        ((20, 256, 256), (1, 1, 1), [(1, 1, 1)]),
        ((300, 300, 300), (1, 1, 1), [(1, 1, 1), (2, 2, 2)]),
        ((50, 1000, 1000), (5, 1, 1), [(1, 1, 1), (1, 2, 2), (1, 4, 4)]),
        ((50, 2000, 2000), (5, 1, 1), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]),
        ((1, 3000, 600), (1, 1, 1), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (1, 16, 16)]),
    ],
)
def test_proposed_levels(shape, voxel_size, expected):
    assert list(propose_levels(shape, voxel_size)) == expected


@given(array=arrays.arrays(np.uint16, st.tuples(*[st.integers(1, 9)] * 3)), factors=st.tuples(*[st.integers(1, 4)] * 3))
@settings(max_examples=60, deadline=None)
def test_downsampling_is_the_rounded_mean_of_blocks(array, factors):
    steps = [min(factor, size) for factor, size in zip(factors, array.shape, strict=True)]
    z, y, x = (size // step for size, step in zip(array.shape, steps, strict=True))
    cut = array[: z * steps[0], : y * steps[1], : x * steps[2]].astype(np.int64)
    blocks = cut.reshape(z, steps[0], y, steps[1], x, steps[2]).sum((1, 3, 5))
    count = int(np.prod(steps))
    np.testing.assert_array_equal(downsample(array, factors), (2 * blocks + count) // (2 * count))


def test_downsampling_in_slabs_and_at_the_limits_of_types(monkeypatch):
    array = frame(0, (9, 8, 8))
    whole = downsample(array, (2, 2, 2))
    monkeypatch.setattr("bdv_io.pyramid.SLAB_BYTES", 1)
    np.testing.assert_array_equal(downsample(array, (2, 2, 2)), whole)
    for dtype in TYPES[:8]:
        limits = np.iinfo(dtype)
        for value in (limits.min, limits.max):
            mean = downsample(np.full((2, 2, 2), value, dtype), (2, 2, 2))
            assert mean.dtype == dtype
            np.testing.assert_allclose(float(mean[0, 0, 0]), float(value), rtol=1e-12)


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        ([], "0 frames came, none with pixels"),
        ([None, None], "2 frames came, none with pixels"),
        ([np.zeros((3, 4), np.uint8)], "frame 0 .* an array with 2 axes"),
        ([np.zeros((0, 3, 4), np.uint8)], r"frame 0 .* shape \(0, 3, 4\)"),
        (
            [np.zeros((1, 3, 4), np.uint8), np.zeros((1, 3, 5), np.uint8)],
            r"frame 1 .* \(1, 3, 5\) voxels .* expected \(1, 3, 4\)",
        ),
        ([np.zeros((1, 3, 4), np.uint8), np.zeros((1, 3, 4), np.uint16)], "frame 1 .* type uint16, expected .* uint8"),
        ([np.zeros((2, 1, 3, 4), np.uint8), np.zeros((1, 3, 4), np.uint8)], "frame 1 .* it is 1 channels, expected 2"),
    ],
)
def test_frames_that_do_not_fit(tmp_path, frames, match):
    with pytest.raises(FormatError, match=match):
        write_bdv(tmp_path / "m.xml", frames)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"voxel_size": (1, 0, 1)}, "three positive lengths"),
        ({"voxel_size": (1, 1)}, "three positive lengths"),
        ({"levels": [(2, 2, 2)]}, r"the first \(1, 1, 1\)"),
        ({"chunks": (0, 1, 1)}, "sizes .* of at least 1"),
        ({"channels": ["a", "b"]}, "2 channel names for 1 channels"),
    ],
)
def test_impossible_options(tmp_path, options, match):
    with pytest.raises(FormatError, match=match):
        write_bdv(tmp_path / "m.xml", [frame(0)], **options)


def test_types_and_places_that_cannot_be(tmp_path):
    with pytest.raises(UnsupportedError, match="no voxels of type bool"):
        write_bdv(tmp_path / "m.xml", [np.zeros((1, 2, 2), bool)])
    with pytest.raises(FormatError, match=r"must end in \.xml"):
        write_bdv(tmp_path / "m.h5", [frame(0)])
    with pytest.raises(WriteError, match="its folder does not exist"):
        write_bdv(tmp_path / "no" / "m.xml", [frame(0)])


def test_a_crash_halfway_keeps_the_old_movie(tmp_path):
    path = tmp_path / "m.xml"
    write_bdv(path, [frame(0)])

    def broken():
        yield frame(1)
        raise RuntimeError("camera off")

    with pytest.raises(RuntimeError, match="camera off"):
        write_bdv(path, broken())
    np.testing.assert_array_equal(open_bdv(path).read(0), frame(0))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.h5", "m.xml"]


def test_the_previous_movie_is_kept(tmp_path):
    path = tmp_path / "m.xml"
    write_bdv(path, [frame(0)])
    write_bdv(path, [frame(1)])
    np.testing.assert_array_equal(open_bdv(path).read(0), frame(1))
    with h5py.File(previous_version(tmp_path / "m.h5")) as file:
        np.testing.assert_array_equal(file["t00000/s00/0/cells"][()].view(np.uint16), frame(0))


def test_a_second_writer_waits_its_turn(tmp_path):
    path = tmp_path / "m.xml"

    def frames():
        yield frame(0)
        with pytest.raises(BusyError, match="another Howdah is writing it"):
            write_bdv(path, [frame(1)])

    write_bdv(path, frames())
    np.testing.assert_array_equal(open_bdv(path).read(0), frame(0))


def test_memory_stays_below_two_frames_and_a_slab(tmp_path, monkeypatch):
    monkeypatch.setattr("bdv_io.pyramid.SLAB_BYTES", 1 << 20)
    shape = (32, 512, 512)
    size = int(np.prod(shape)) * 2
    frames = (np.full(shape, number, np.uint16) for number in range(4))
    tracemalloc.start()
    write_bdv(tmp_path / "m.xml", frames, levels=[(1, 1, 1), (2, 2, 2)], compression=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * size + (8 << 20)
