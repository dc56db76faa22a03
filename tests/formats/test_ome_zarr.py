"""OME-Zarr: what is written comes back, all of it; other programs' files are read as they say; damage is a sentence."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import pickle
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.errors import BdvIoError, FormatError, MissingDataError, UnsupportedError, WriteError
from bdv_io.formats import identify, open_image, write_image, writer_for
from bdv_io.image import ArrayImage, Hints, ImageSeries, Setup, WriteOptions
from bdv_io.ngff import long_unit, parse_image, short_unit
from bdv_io.ome_zarr import is_ome_zarr, lost_in_ome_zarr, open_ome_zarr, writing_ome_zarr
from bdv_io.ome_zarr.write import TYPES, propose_chunks
from bdv_io.pyramid import downsample
from bdv_io.safe_write import previous_version

SIZES = {"t": 3, "c": 2, "z": 4, "y": 6, "x": 5}
KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


class Movie(ArrayImage):
    """A movie in memory with all that a BigDataViewer XML can say."""

    def __init__(self, frames, *, missing=(), affines=None, timepoints=None, setups=None, **options):
        super().__init__(frames, **options)
        self.missing, self.affines = set(missing), affines or {}
        self.timepoints = tuple(timepoints or self.timepoints)
        self.setups = tuple(setups or self.setups)

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        return (frame, setup) in self.missing

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> np.ndarray:
        return self.affines.get((frame, setup), super().affine(frame, setup))


def pixels(*shape: int, dtype: str = "uint16") -> np.ndarray:
    random = np.random.default_rng(sum(shape))
    if dtype.startswith("float"):
        return random.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def stored(path: Path, axes: str, *, version: str = "0.4", units=True, scales=None, common=None, omero=None, data=None):
    """Write an image as another program would: array, then metadata by hand."""
    data = pixels(*(SIZES[a] for a in axes)) if data is None else data
    group = zarr.open_group(path, mode="w", zarr_format=2 if version < "0.5" else 3)
    for index in range(len(scales or [0])):
        group.create_array(
            str(index), data=data[..., :: 2**index, :: 2**index], chunks=tuple(min(3, n) for n in data.shape)
        )
    entries = [
        {"name": a, "type": KINDS[a]} | ({"unit": "second" if a == "t" else "micrometer"} if units and a != "c" else {})
        for a in axes
    ]
    scales = scales or [[{"type": "scale", "scale": [float(n + 2) for n in range(len(axes))]}]]
    image = {"version": version, "axes": entries, "name": "x"}
    image["datasets"] = [{"path": str(i), "coordinateTransformations": s} for i, s in enumerate(scales)]
    if common:
        image["coordinateTransformations"] = common
    ome = {"multiscales": [image]} | ({"omero": {"channels": [{"label": name} for name in omero]}} if omero else {})
    group.attrs.update(ome if version < "0.5" else {"ome": {"version": version, **ome}})
    return data


def edit(path: Path, change) -> None:
    file = path / ".zattrs"
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


def same(one: ImageSeries, other: ImageSeries) -> None:
    """All that an image says."""
    assert (one.n_frames, one.timepoints, one.interval) == (other.n_frames, other.timepoints, other.interval)
    assert len(one.setups) == len(other.setups)
    for index, (a, b) in enumerate(zip(one.setups, other.setups, strict=True)):
        fields = ("id", "name", "shape", "voxel_size", "unit", "dtype", "attributes")
        assert [getattr(a, f) for f in fields] == [getattr(b, f) for f in fields]
        for frame in range(one.n_frames):
            assert one.is_missing(frame, index) == other.is_missing(frame, index)
            np.testing.assert_array_equal(one.affine(frame, index), other.affine(frame, index))
            if not one.is_missing(frame, index):
                np.testing.assert_array_equal(one.read(frame, index), other.read(frame, index))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx", "tyx", "tczyx", "tzyx", "czyx", "ctzyx", "tzcyx", "zxcyt"])
def test_any_axes_in_any_order(tmp_path, axes, version):
    data = stored(tmp_path / "a.zarr", axes, version=version, omero=["DAPI", "GFP"])
    movie = open_ome_zarr(tmp_path / "a.zarr")
    assert isinstance(movie, ImageSeries)
    full = np.moveaxis(data, [axes.index(a) for a in "tczyx" if a in axes], range(len(axes)))
    full = full.reshape([SIZES[a] if a in axes else 1 for a in "tczyx"])
    assert movie.n_frames == full.shape[0]
    assert len(movie.setups) == full.shape[1]
    region = (slice(0, 9, 2), slice(1, 5), slice(-2, None))
    for frame in range(full.shape[0]):
        for setup in range(full.shape[1]):
            np.testing.assert_array_equal(movie.read(frame, setup), full[frame, setup])
            np.testing.assert_array_equal(movie.read(frame, setup, region=region), full[frame, setup][region])
    size = dict(zip(axes, range(2, 9), strict=False))
    assert movie.setups[0].voxel_size == tuple(float(size.get(a, 1)) for a in "zyx")
    assert movie.setups[0].unit == "µm"
    assert movie.interval == ((float(size["t"]), "s") if "t" in axes else None)
    assert movie.setups[0].name == "DAPI"


def test_transforms_are_composed_and_levels_lie_where_the_file_says(tmp_path):
    scales = [
        [{"type": "scale", "scale": [1, 1, 2]}, {"type": "translation", "translation": [0, 5, 7]}],
        [{"type": "scale", "scale": [1, 2, 4]}, {"type": "translation", "translation": [0, 5.5, 8]}],
    ]
    common = [{"type": "scale", "scale": [30, 0.5, 10]}, {"type": "translation", "translation": [0, 100, 0]}]
    stored(tmp_path / "a.zarr", "tyx", scales=scales, common=common)
    movie = open_ome_zarr(tmp_path / "a.zarr")
    np.testing.assert_allclose(movie.affine(0)[1:3], [[0, 0.5, 0, 102.5], [0, 0, 20, 70]])
    np.testing.assert_allclose(movie.affine(0, 0, 1)[1:3], [[0, 1, 0, 102.75], [0, 0, 40, 80]])
    assert movie.setups[0].levels == ((1, 1, 1), (1, 2, 2))
    assert movie.interval == (30, "s")
    assert movie.shape(0, 0, 1) == (1, 3, 3)


def test_axes_of_different_units_are_brought_to_that_of_x(tmp_path):
    stored(tmp_path / "a.zarr", "zyx", scales=[[{"type": "scale", "scale": [2000.0, 0.5, 0.5]}]])
    edit(tmp_path / "a.zarr", lambda z: z["multiscales"][0]["axes"][0].update(unit="nanometer"))
    assert open_ome_zarr(tmp_path / "a.zarr").setups[0].voxel_size == pytest.approx((2, 0.5, 0.5))
    edit(tmp_path / "a.zarr", lambda z: z["multiscales"][0]["axes"][0].update(unit="parsec"))
    with pytest.raises(UnsupportedError, match="axis z is in 'parsec' and x in 'micrometer'"):
        open_ome_zarr(tmp_path / "a.zarr")


def test_versions_before_transforms(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    data = pixels(2, 1, 3, 8, 8)
    group.create_array("0", data=data)
    group.create_array("1", data=data[..., ::2, ::2])
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}, {"path": "1"}]}]
    movie = open_ome_zarr(tmp_path / "a.zarr", hints=Hints(voxel_size=(2, 0.5, 0.5), unit="µm", interval=(5, "min")))
    assert movie.setups[0].voxel_size == (2, 0.5, 0.5)
    assert movie.setups[0].levels == ((1, 1, 1), (1, 2, 2))
    np.testing.assert_allclose(movie.affine(0, 0, 1)[:3, 3], [0, 0.25, 0.25])
    assert (movie.setups[0].unit, movie.interval) == ("µm", (5, "min"))


def test_hints_fill_silence_and_win_aloud(tmp_path, caplog):
    stored(tmp_path / "silent.zarr", "tyx", units=False, scales=[[{"type": "scale", "scale": [1, 1, 1]}]])
    silent = open_ome_zarr(tmp_path / "silent.zarr")
    assert (silent.interval, silent.setups[0].unit) == (None, "pixel")
    hints = Hints(interval=(30.0, "s"), unit="µm", voxel_size=(1.0, 0.5, 0.25))
    movie = open_image(tmp_path / "silent.zarr", hints=hints)
    assert (movie.interval, movie.setups[0].unit, movie.setups[0].voxel_size) == ((30, "s"), "µm", (1, 0.5, 0.25))
    assert not caplog.records
    stored(tmp_path / "loud.zarr", "tyx")
    with caplog.at_level(logging.WARNING):
        movie = open_ome_zarr(tmp_path / "loud.zarr", hints=hints)
    assert (movie.interval, movie.setups[0].voxel_size) == ((30, "s"), (1, 0.5, 0.25))
    assert len(caplog.records) == 2


def test_an_interval_without_unit_is_not_guessed(tmp_path, caplog):
    stored(tmp_path / "a.zarr", "tyx", units=False)
    with caplog.at_level(logging.WARNING):
        assert open_ome_zarr(tmp_path / "a.zarr").interval is None
    assert "--interval" in caplog.text


@pytest.mark.parametrize("sign", ["µm", "nm", "mm", "s", "min", "h", "ms", "Å"])
def test_units_go_there_and_back(sign):
    assert short_unit(long_unit(sign)) == sign


@pytest.mark.parametrize("written", ["um", "micron", "μm", "Micrometer", "microns"])
def test_spellings_of_micrometre(written):
    assert long_unit(written) == "micrometer"
    assert short_unit(written) == "µm"


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_all_that_an_image_says_comes_back(tmp_path_factory, data):
    shape = [data.draw(st.integers(1, n)) for n in (3, 3, 4, 20, 20)]
    views = [(f, s) for f in range(shape[0]) for s in range(shape[1])]
    number = st.floats(-1e6, 1e6, allow_nan=False)
    size = st.floats(1e-3, 1e3)
    dtype = data.draw(st.sampled_from(TYPES))
    setups = [
        Setup(
            data.draw(st.integers(0, 5)) + 10 * index,
            data.draw(st.text(st.characters(codec="utf-8"), max_size=5)),
            (shape[2], shape[3], shape[4]),
            (data.draw(size), data.draw(size), data.draw(size)),
            data.draw(st.sampled_from(["µm", "um", "pixel", "strange"])),
            np.dtype(dtype),
            attributes={"angle": (index, "45°"), "channel": (7, "")},
        )
        for index in range(shape[1])
    ]
    affines = {}
    for view in data.draw(st.lists(st.sampled_from(views), max_size=3)):
        affine = np.eye(4)
        affine[:3] = np.reshape([data.draw(number) for _ in range(12)], (3, 4))
        affines[view] = affine
    movie = Movie(
        pixels(*shape, dtype=dtype),
        missing=data.draw(st.lists(st.sampled_from(views), max_size=2)),
        affines=affines,
        timepoints=sorted(data.draw(st.sets(st.integers(0, 10**6), min_size=shape[0], max_size=shape[0]))),
        interval=data.draw(st.sampled_from([None, (30.0, "s"), (0.1, "sec"), (1.0, "frame")])),
        setups=setups,
    )
    path = tmp_path_factory.mktemp("x") / "m.ome.zarr"
    write_image(path, movie, options=WriteOptions(levels=[(1, 1, 1), (1, 2, 2)], chunks=(2, 8, 8), workers=2))
    back = open_image(path)
    same(movie, back)
    again = path.with_name("n.ome.zarr")
    write_image(again, back)
    same(movie, open_image(again))


def test_levels_are_means_at_their_true_places(tmp_path):
    movie = ArrayImage(pixels(1, 9, 30, 21), voxel_size=(2, 0.5, 0.5), unit="µm")
    levels = [(1, 1, 1), (1, 2, 2), (2, 4, 4)]
    write_image(tmp_path / "m.zarr", movie, options=WriteOptions(levels=levels))
    back = open_ome_zarr(tmp_path / "m.zarr")
    assert back.setups[0].levels == tuple(levels)
    for level, factors in enumerate(levels):
        np.testing.assert_array_equal(back.read(0, 0, level), downsample(movie.read(0), factors))
        centre = (np.asarray(factors) - 1) / 2 * (2, 0.5, 0.5)
        np.testing.assert_allclose(back.affine(0, 0, level)[:3, 3], centre)
        np.testing.assert_allclose(np.diag(back.affine(0, 0, level))[:3], np.multiply(factors, (2, 0.5, 0.5)))


def test_an_axis_shorter_than_its_factor_keeps_its_place(tmp_path):
    write_image(
        tmp_path / "m.zarr", ArrayImage(pixels(1, 1, 9, 9)), options=WriteOptions(levels=[(1, 1, 1), (4, 2, 2)])
    )
    back = open_ome_zarr(tmp_path / "m.zarr")
    assert back.shape(0, 0, 1) == (1, 4, 4)
    np.testing.assert_allclose(back.affine(0, 0, 1)[:3, 3], [0, 0.5, 0.5])


def test_missing_views_and_black_chunks_have_no_files(tmp_path):
    frames = np.zeros((2, 1, 4, 4), np.uint8)
    frames[1, 0, 0, 0] = 1
    write_image(tmp_path / "m.zarr", Movie(frames), options=WriteOptions(chunks=(1, 2, 2), levels=[(1, 1, 1)]))
    assert sorted(
        str(p.relative_to(tmp_path / "m.zarr/0")) for p in (tmp_path / "m.zarr/0").rglob("0") if p.is_file()
    ) == ["1/0/0/0/0"]
    write_image(tmp_path / "n.zarr", Movie(frames, missing=[(1, 0)]))
    back = open_ome_zarr(tmp_path / "n.zarr")
    assert [back.is_missing(0), back.is_missing(1)] == [False, True]
    with pytest.raises(MissingDataError, match=r"Reading frame 1, setup 0 of .* notes this view as missing"):
        back.read(1)


def test_what_others_do_not_see_is_said():
    turned = np.eye(4)[[1, 0, 2, 3]]
    movie = Movie(pixels(2, 2, 3, 4, 4), missing=[(1, 1)], affines={(0, 0): turned}, timepoints=[3, 9])
    movie.setups = tuple(dataclasses.replace(s, attributes={"angle": (0, "")}) for s in movie.setups)
    said = " ".join(lost_in_ome_zarr(movie))
    for word in ("rotations", "missing views", "numbers of the time points", "angle"):
        assert word in said
    assert lost_in_ome_zarr(ArrayImage(pixels(2, 2, 3, 4, 4))) == ()


def test_a_calibration_that_another_program_changed_wins(tmp_path, caplog):
    affine = np.eye(4)[[1, 0, 2, 3]]
    write_image(tmp_path / "m.zarr", Movie(pixels(2, 3, 4, 4), affines={(0, 0): affine}, missing=[(1, 0)]))

    def change(found):
        found["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][2:] = [3, 2, 2]

    edit(tmp_path / "m.zarr", change)
    with caplog.at_level(logging.WARNING):
        back = open_ome_zarr(tmp_path / "m.zarr")
    assert "another program has changed the voxel size" in caplog.text
    np.testing.assert_array_equal(back.affine(0), np.diag([3, 2, 2, 1]))
    assert back.setups[0].voxel_size == (3, 2, 2)
    assert back.is_missing(1)


def test_python_ome_zarr_reads_ours_and_the_models_find_it_valid(tmp_path):
    reader = pytest.importorskip("ome_zarr.reader")
    from ome_zarr.format import FormatV04
    from ome_zarr.io import parse_url

    movie = ArrayImage(
        pixels(2, 2, 5, 20, 20), voxel_size=(2, 0.5, 0.5), unit="µm", interval=(30, "s"), channels=["a", "b"]
    )
    write_image(tmp_path / "m.ome.zarr", movie, options=WriteOptions(levels=[(1, 1, 1), (1, 2, 2)]))
    (node,) = list(reader.Reader(parse_url(str(tmp_path / "m.ome.zarr"), fmt=FormatV04()))())
    np.testing.assert_array_equal(node.data[0][1, 1].compute(), movie.read(1, 1))
    assert node.metadata["channel_names"] == ["a", "b"]
    assert [axis.get("unit") for axis in node.metadata["axes"]] == [
        "second",
        None,
        "micrometer",
        "micrometer",
        "micrometer",
    ]
    models = pytest.importorskip("ome_zarr_models.v04")
    models.Image.from_zarr(zarr.open_group(tmp_path / "m.ome.zarr", mode="r"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_python_ome_zarr_writes_is_read(tmp_path, version):
    writer = pytest.importorskip("ome_zarr.writer")
    from ome_zarr.format import format_from_version

    data = pixels(2, 2, 3, 40, 40)
    writer.write_multiscale(
        [data, data[..., ::2, ::2]],
        group=str(tmp_path / "m.ome.zarr"),
        axes=[{"name": a, "type": KINDS[a]} | ({"unit": "micrometer"} if a in "zyx" else {}) for a in "tczyx"],
        scale={"z": 2.0, "y": 0.5, "x": 0.5},
        fmt=format_from_version(version),
    )
    movie = open_image(tmp_path / "m.ome.zarr")
    for frame in range(2):
        for setup in range(2):
            np.testing.assert_array_equal(movie.read(frame, setup), data[frame, setup])
            np.testing.assert_array_equal(movie.read(frame, setup, 1), data[frame, setup, :, ::2, ::2])
    assert movie.setups[0].voxel_size == (2, 0.5, 0.5)
    assert movie.interval is None


def test_tensorstore_and_plain_zarr_read_the_same_voxels(tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    movie = ArrayImage(pixels(1, 5, 70, 90))
    write_image(tmp_path / "m.zarr", movie, options=WriteOptions(chunks=(2, 32, 32)))
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(tmp_path / "m.zarr" / "0")}}
    np.testing.assert_array_equal(tensorstore.open(spec, open=True).result()[0, 0].read().result(), movie.read(0))


@pytest.mark.parametrize("folder", ["", "m.zarr/"])
def test_zip_files(tmp_path, folder):
    write_image(tmp_path / "m.zarr", ArrayImage(pixels(2, 3, 8, 8)))
    with zipfile.ZipFile(tmp_path / "m.ome.zarr.zip", "w") as archive:
        for file in (tmp_path / "m.zarr").rglob("*"):
            archive.write(file, folder + str(file.relative_to(tmp_path / "m.zarr")))
    movie = open_image(tmp_path / "m.ome.zarr.zip")
    same(movie, open_image(tmp_path / "m.zarr"))
    movie.close()
    copy = pickle.loads(pickle.dumps(movie))
    np.testing.assert_array_equal(copy.read(1), movie.read(1))
    movie.close()
    copy.close()


def test_a_single_series_of_bioformats2raw_opens_and_several_are_named(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    data = stored(tmp_path / "a.zarr" / "0", "tczyx")
    assert identify(tmp_path / "a.zarr").key == "ome-zarr"
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").read(0), data[0, 0])
    stored(tmp_path / "a.zarr" / "1", "tczyx")
    with pytest.raises(UnsupportedError, match=r"holds 2 images\. Give the folder of one: .*a\.zarr/0, .*a\.zarr/1"):
        open_image(tmp_path / "a.zarr")


def test_labels_are_listed_and_open_by_themselves(tmp_path):
    stored(tmp_path / "a.zarr", "zyx")
    assert open_ome_zarr(tmp_path / "a.zarr").labels == ()
    group = zarr.open_group(tmp_path / "a.zarr" / "labels", mode="w", zarr_format=2)
    group.attrs["labels"] = ["nuclei"]
    stored(tmp_path / "a.zarr" / "labels" / "nuclei", "zyx", data=pixels(4, 6, 5, dtype="uint32"))
    assert open_ome_zarr(tmp_path / "a.zarr").labels == ("nuclei",)
    assert open_ome_zarr(tmp_path / "a.zarr" / "labels" / "nuclei").setups[0].dtype == np.uint32
    with pytest.raises(UnsupportedError, match=r"list of an image's labels \(nuclei\)"):
        open_image(tmp_path / "a.zarr" / "labels")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda z: z.update(plate={}) or z.pop("multiscales"), UnsupportedError, "it is a plate"),
        (lambda z: z["multiscales"].append(z["multiscales"][0]), UnsupportedError, "2 images side by side"),
        (lambda z: z["multiscales"][0]["axes"][0].update(name="q", type="phase"), UnsupportedError, "axes 'q' of type phase"),
        (lambda z: z["multiscales"][0]["axes"][0].update(name="lambda", type=None), UnsupportedError, "'lambda' of type None"),
        (lambda z: z["multiscales"][0].pop("axes"), FormatError, "'axes' is None"),
        (lambda z: z["multiscales"][0].update(datasets=[]), FormatError, "'datasets'"),
        (lambda z: z["multiscales"][0]["datasets"][0].update(path="../../etc"), FormatError, "array below its group"),
        (lambda z: z["multiscales"][0]["datasets"][0].update(path="9"), MissingDataError, "no such zarr group or array"),
        (lambda z: z.update(multiscales="x"), FormatError, "'multiscales' is x"),
        (lambda z: z["multiscales"][0]["axes"].pop(), FormatError, "expected y and x|one an axis"),
        (lambda z: z["multiscales"][0].update(axes=["c", "y", "x"], datasets=[{"path": "0"}]), None, ""),
        (lambda z: z["multiscales"][0].update(axes=["y", "x"], datasets=[{"path": "0"}]), FormatError, "does not fit the axes"),
    ],
)  # fmt: skip
def test_metadata_that_says_something_else(tmp_path, change, error, match):
    stored(tmp_path / "a.zarr", "zyx")
    edit(tmp_path / "a.zarr", change)
    if error is None:
        assert len(open_ome_zarr(tmp_path / "a.zarr").setups) == 4
        return
    with pytest.raises(error, match=match):
        open_ome_zarr(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("transform", "match"),
    [
        ([{"type": "scale", "scale": [1, 0, 1]}], "positive numbers"),
        ([{"type": "scale", "scale": [1, 1]}], "3 numbers"),
        ([{"type": "scale", "scale": [1, float("nan"), 1]}], "finite"),
        ([{"type": "scale", "path": "s"}], "3 numbers"),
        ([{"type": "affine"}], "of type 'affine'"),
        ("no list", "list of transforms"),
    ],
)
def test_bad_transforms(transform, match):
    axes = [{"name": a, "type": "space"} for a in "zyx"]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transform}]}
    with pytest.raises(BdvIoError, match=match):
        parse_image({"multiscales": [image]}, "x.zarr")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda h: h.pop("affines"), "'affines' is missing"),
        (lambda h: h.update(version=2), "no table of version 1"),
        (lambda h: h.update(missing=[[9, 0]]), "beyond the movie"),
        (lambda h: h.update(timepoints=[5, 5]), "do not ascend"),
        (lambda h: h["setups"].append(h["setups"][0]), "1 frames|2 frames and 2 channels"),
        (lambda h: h.update(affines=[[1]]), "reshape"),
        (lambda h: h["setups"][0].update(id="x"), "no whole number"),
    ],
)
def test_our_own_entry_damaged(tmp_path, change, match):
    write_image(tmp_path / "m.zarr", Movie(pixels(2, 3, 4, 4), missing=[(0, 0)]))
    edit(tmp_path / "m.zarr", lambda found: change(found["howdah"]))
    with pytest.raises(FormatError, match=f"attribute 'howdah' is damaged .*({match})"):
        open_ome_zarr(tmp_path / "m.zarr")


def test_absurd_shapes_are_refused_before_allocating(tmp_path):
    stored(tmp_path / "a.zarr", "zyx")
    array = tmp_path / "a.zarr" / "0" / ".zarray"
    good = json.loads(array.read_text())
    array.write_text(json.dumps(good | {"shape": [2**20, 2**20, 2**20]}))
    movie = open_ome_zarr(tmp_path / "a.zarr")
    with pytest.raises(UnsupportedError, match=r"was not tried: 1048576x1048576x1048576 voxels"):
        movie.read(0)
    small = zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")[:2, :2, :2]
    np.testing.assert_array_equal(movie.read(0, region=(slice(0, 2),) * 3), small)
    edit(tmp_path / "a.zarr", lambda z: z["multiscales"][0].update(axes=["t", "y", "x"], datasets=[{"path": "0"}]))
    array.write_text(json.dumps(good | {"shape": [2**40, 4, 4]}))
    with pytest.raises(FormatError, match="declares 1,099,511,627,776 frames"):
        open_ome_zarr(tmp_path / "a.zarr")
    array.write_text(json.dumps(good | {"shape": [1, 2**14, 2**14], "chunks": [1, 1, 1]}))
    with pytest.raises(FormatError, match=r"268,435,456 chunks of \(1, 1, 1\)"):
        open_ome_zarr(tmp_path / "a.zarr").read(0)
    array.write_text(json.dumps(good | {"chunks": [2**20, 2**20, 2]}))
    with pytest.raises(FormatError, match="at most 2 GiB can be read"):
        open_ome_zarr(tmp_path / "a.zarr")


def test_cut_off_chunks_are_sentences(tmp_path):
    write_image(tmp_path / "m.zarr", ArrayImage(pixels(1, 5, 40, 40)))
    chunk = next(path for path in (tmp_path / "m.zarr" / "0" / "0").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(
        FormatError, match=r"Reading chunk 0/0/0/0/0 of .* unpacking it was not possible: its header says"
    ):
        open_ome_zarr(tmp_path / "m.zarr").read(0)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_damage_anywhere_is_an_error_of_ours_or_nothing(tmp_path, version):
    stored(tmp_path / "good.zarr", "tczyx", version=version)
    random = np.random.default_rng(0)
    files = [p.relative_to(tmp_path / "good.zarr") for p in (tmp_path / "good.zarr").rglob("*") if p.is_file()]
    names = [p for p in files if p.name.startswith(".z") or p.suffix == ".json"] * 20 + files[:20]
    said = []
    for number, name in enumerate(names):
        bad = tmp_path / f"bad{number}.zarr"
        shutil.copytree(tmp_path / "good.zarr", bad)
        content = bytearray((bad / name).read_bytes())
        for _ in range(int(random.integers(1, 4))):
            content[int(random.integers(len(content)))] = int(random.integers(256))
        (bad / name).write_bytes(content[: int(random.integers(len(content)))] if number % 4 == 0 else content)
        try:
            movie = open_image(bad)
            movie.read(0, region=(slice(0, 2), slice(0, 2), slice(0, 2)))
        except BdvIoError as error:
            said.append(str(error))
        shutil.rmtree(bad)
    assert said
    assert all(text.endswith((".", ")")) for text in said)


def test_threads_pickling_and_forks(tmp_path):
    movie = ArrayImage(pixels(6, 4, 30, 30))
    write_image(tmp_path / "m.zarr", movie, options=WriteOptions(chunks=(2, 16, 16)))
    back = open_ome_zarr(tmp_path / "m.zarr")
    with ThreadPoolExecutor(4) as pool:
        for frame, found in enumerate(pool.map(back.read, range(6))):
            np.testing.assert_array_equal(found, movie.read(frame))
    copy = pickle.loads(pickle.dumps(back))
    same(copy, movie)
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        np.testing.assert_array_equal(workers.apply(back.read, (3,)), movie.read(3))


def test_a_writing_that_is_dropped_leaves_what_was_there(tmp_path):
    path = tmp_path / "m.ome.zarr"
    write_image(path, ArrayImage(pixels(1, 3, 8, 8)))
    steps = writing_ome_zarr(path, ArrayImage(pixels(4, 3, 9, 9)))
    assert next(steps) == 1
    steps.close()
    assert open_ome_zarr(path).n_frames == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.ome.zarr"]
    assert list(writing_ome_zarr(path, ArrayImage(pixels(4, 3, 9, 9)))) == [1, 2, 3, 4]
    assert open_ome_zarr(path).n_frames == 4
    assert open_ome_zarr(previous_version(path)).n_frames == 1


@pytest.mark.parametrize(
    ("movie", "options", "error", "match"),
    [
        (ArrayImage([pixels(1, 4, 4), pixels(1, 5, 4)]), {}, FormatError, r"Writing frame 1, setup 0 .* \(1, 5, 4\) voxels"),
        (ArrayImage(np.zeros((1, 1, 4, 4), bool)), {}, UnsupportedError, "of type bool"),
        (ArrayImage(np.zeros((1, 1, 4, 4), complex)), {}, UnsupportedError, "of type complex128"),
        (ArrayImage(pixels(1, 1, 4, 4)), {"levels": [(2, 2, 2)]}, FormatError, r"the first \(1, 1, 1\)"),
        (ArrayImage(pixels(1, 1, 4, 4)), {"chunks": (0, 1, 1)}, FormatError, "three sizes"),
        (ArrayImage(pixels(1, 1, 4, 4)), {"compression": 10}, FormatError, "0 to 9"),
    ],
)  # fmt: skip
def test_what_cannot_be_written(tmp_path, movie, options, error, match):
    with pytest.raises(error, match=match):
        write_image(tmp_path / "m.zarr", movie, options=WriteOptions(**options))
    assert list(tmp_path.iterdir()) == []


def test_setups_of_different_size_are_refused(tmp_path):
    movie = Movie(pixels(1, 2, 3, 4, 4))
    movie.setups = (movie.setups[0], dataclasses.replace(movie.setups[1], shape=(3, 4, 5)))
    with pytest.raises(UnsupportedError, match="setup 0 has 3x4x4 of uint16; setup 1 has 3x4x5 of uint16"):
        write_image(tmp_path / "m.zarr", movie)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "m.zarr").write_text("mine")
    with pytest.raises(WriteError, match="a file of this name"):
        write_image(tmp_path / "m.zarr", ArrayImage(pixels(1, 1, 4, 4)))
    assert (tmp_path / "m.zarr").read_text() == "mine"


@pytest.mark.parametrize(
    ("shape", "voxel", "expected"),
    [
        ((512, 512, 512), (1, 1, 1), (64, 64, 64)),
        ((1, 2048, 2048), (1, 1, 1), (1, 512, 512)),
        ((100, 900, 900), (4, 1, 1), (16, 128, 128)),
        ((3, 5, 7), (1, 1, 1), (3, 5, 7)),
    ],
)
def test_chunks(shape, voxel, expected):
    assert propose_chunks(shape, voxel) == expected


def test_what_is_ome_zarr(tmp_path):
    zarr.open_group(tmp_path / "plain.zarr", mode="w", zarr_format=2).create_array("0", data=pixels(2, 2))
    (tmp_path / "text.zarr").write_text("x")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / ".zattrs").write_text("{")
    (tmp_path / "list.zarr").mkdir()
    (tmp_path / "list.zarr" / "zarr.json").write_text("[1]")
    assert [
        is_ome_zarr(tmp_path / name) for name in ("plain.zarr", "text.zarr", "broken.zarr", "list.zarr", "none")
    ] == [False] * 5
    assert writer_for("a.ome.zarr", "image").key == "ome-zarr"


@pytest.mark.real
def test_bigdataviewer_to_ome_zarr_and_back_loses_nothing(real_data, tmp_path):
    movie = open_image(real_data / "mitosis-bdv-formats" / "mitosis_small_hdf5.xml")
    write_image(tmp_path / "m.ome.zarr", movie)
    same(movie, open_image(tmp_path / "m.ome.zarr"))
    assert lost_in_ome_zarr(movie) == ()
