"""BigDataViewer datasets with pixels in N5 and OME-Zarr: every layout and compression, views that are missing, damage."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs import blosc, lz4, zstd

from bdv_io.bdv import is_bdv, open_bdv
from bdv_io.bdv.n5_block import COMPRESSIONS, decode_block
from bdv_io.errors import BdvIoError, FormatError, MissingDataError, UnsupportedError
from bdv_io.formats import identify, open_image
from bdv_io.image import ImageSeries

SHAPE = (5, 12, 11)  # z, y, x


def lz4_stream(content: bytes) -> bytes:
    """As Java's LZ4BlockOutputStream: blocks of up to 64 KiB, packed where that helps, and an empty one at the end."""
    out = b""
    for start in range(0, len(content), 1000):
        part = content[start : start + 1000]
        packed = bytes(lz4.compress(part))[4:]
        method, body = (0x26, packed) if len(packed) < len(part) else (0x16, part)
        out += b"LZ4Block" + struct.pack("<BiiI", method, len(body), len(part), 0) + body
    return out + b"LZ4Block" + struct.pack("<BiiI", 0x16, 0, 0, 0)


PACK = {
    "raw": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lz4": lz4_stream,
    "blosc": lambda content: blosc.compress(content, b"lz4", 5),
    "zstd": zstd.compress,
}


def pixels(number: int = 0, dtype: str = "uint16", shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 200, shape).astype(dtype)


def put_n5(folder: Path, data: np.ndarray, *, compression="gzip", block=(4, 5, 3), skip=(), **more) -> None:
    """Write an array as N5; sizes are given as z, y, x."""
    folder.mkdir(parents=True)
    settings = {"type": compression} if isinstance(compression, str) else compression
    attributes = {
        "dimensions": data.shape[::-1],
        "blockSize": block[::-1],
        "dataType": data.dtype.name,
        "compression": settings,
    }
    (folder / "attributes.json").write_text(json.dumps(attributes | more))
    for place in np.ndindex(*(-(-n // b) for n, b in zip(data.shape, block, strict=True))):
        if place in skip:
            continue
        part = data[tuple(slice(i * b, (i + 1) * b) for i, b in zip(place, block, strict=True))]
        content = PACK[settings["type"]](part.astype(part.dtype.newbyteorder(">")).tobytes())
        file = folder / str(place[2]) / str(place[1]) / str(place[0])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(struct.pack(">HHIII", 0, 3, *part.shape[::-1]) + content)


def put_setup(root: Path, setup: int, frames, *, factors=((1, 1, 1),), dtype="uint16", **options) -> None:
    root.mkdir(exist_ok=True)
    (root / "attributes.json").write_text('{"n5":"2.5.1"}')
    for number, data in enumerate(frames):
        for level, (x, y, z) in enumerate(factors):
            if data is not None:
                put_n5(root / f"setup{setup}" / f"timepoint{number}" / f"s{level}", data[::z, ::y, ::x], **options)
    described = {"downsamplingFactors": factors, "dataType": dtype}
    (root / f"setup{setup}" / "attributes.json").write_text(json.dumps(described))


def describe(path: Path, loader: str, *, setups=1, timepoints=2, missing="") -> Path:
    views = "".join(
        f"<ViewSetup><id>{s}</id><size>11 12 5</size><voxelSize><unit>µm</unit><size>1 2 3</size></voxelSize></ViewSetup>"
        for s in range(setups)
    )
    registrations = "".join(
        f"<ViewRegistration timepoint='{t}' setup='{s}'><ViewTransform type='affine'><affine>1 0 0 0 0 2 0 0 0 0 3 0</affine>"
        "</ViewTransform></ViewRegistration>"
        for t in range(timepoints)
        for s in range(setups)
    )
    path.write_text(
        f"<SpimData version='0.2'><BasePath type='relative'>.</BasePath><SequenceDescription>{loader}<ViewSetups>{views}</ViewSetups>"
        f"<Timepoints type='range'><first>0</first><last>{timepoints - 1}</last></Timepoints>{missing}</SequenceDescription>"
        f"<ViewRegistrations>{registrations}</ViewRegistrations></SpimData>",
        encoding="utf-8",
    )
    return path


N5 = "<ImageLoader format='bdv.n5' version='1.0'><n5 type='relative'>a.n5</n5></ImageLoader>"


def put_zarr(path: Path, data: np.ndarray, axes: str, *, factors=(1, 2), scale=1.0) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    kinds = {"t": "time", "c": "channel"}
    datasets = []
    for level, factor in enumerate(factors):
        group.create_array(str(level), data=data[..., ::factor, ::factor])
        scales = [scale * (factor if a in "yx" else 1) for a in axes]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scales}]})
    entries = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": entries, "datasets": datasets}]


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64", "uint64"])
def test_every_compression_and_type(tmp_path, compression, dtype):
    put_setup(tmp_path / "a.n5", 0, [pixels(0, dtype)], compression=compression, dtype=dtype)
    movie = open_bdv(tmp_path / "a.n5")
    found = movie.read(0)
    assert found.dtype == movie.setups[0].dtype == dtype
    np.testing.assert_array_equal(found, pixels(0, dtype))
    region = (slice(1, 5, 2), slice(3, 12), slice(-4, -1))
    np.testing.assert_array_equal(movie.read(0, region=region), found[region])


def test_zlib_under_the_name_of_gzip(tmp_path):
    assert decode_block(
        struct.pack(">HHIII", 0, 3, 2, 1, 1) + zlib.compress(b"\0\1\0\2"),
        (1, 1, 2),
        np.dtype("uint16"),
        {"type": "gzip"},
        tmp_path,
    ).tolist() == [[[1, 2]]]


def test_tensorstore_agrees(tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    folder = tmp_path / "a.n5" / "setup0" / "timepoint0" / "s0"
    folder.mkdir(parents=True)
    for codec in (
        {"type": "gzip"},
        {"type": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1},
        {"type": "raw"},
        {"type": "bzip2"},
    ):
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(folder)}}
        metadata = {"dimensions": SHAPE[::-1], "blockSize": [3, 5, 4], "dataType": "uint16", "compression": codec}
        array = tensorstore.open(spec | {"metadata": metadata}, create=True, delete_existing=True).result()
        array.write(pixels(1).T).result()
        np.testing.assert_array_equal(open_bdv(tmp_path / "a.n5").read(0), pixels(1))


def test_an_xml_with_n5(tmp_path):
    factors = ((1, 1, 1), (2, 2, 1))
    put_setup(tmp_path / "a.n5", 0, [pixels(0), pixels(1)], factors=factors)
    put_setup(tmp_path / "a.n5", 1, [pixels(2), None], factors=factors)
    path = describe(tmp_path / "a.xml", N5, setups=2)
    movie = open_image(path)
    assert isinstance(movie, ImageSeries)
    assert movie.format == "BigDataViewer XML/N5"
    assert movie.setups[1].levels == ((1, 1, 1), (1, 2, 2))
    assert [movie.is_missing(f, s) for f in range(2) for s in range(2)] == [False, False, False, True]
    np.testing.assert_array_equal(movie.read(1), pixels(1))
    np.testing.assert_array_equal(movie.read(0, 1, 1), pixels(2)[:, ::2, ::2])
    np.testing.assert_allclose(movie.affine(0, 0, 1)[:3], [[3, 0, 0, 0], [0, 4, 0, 1], [0, 0, 2, 0.5]])
    with pytest.raises(MissingDataError, match="no such array"):
        movie.read(1, 1)
    copy = pickle.loads(pickle.dumps(movie))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(copy.read, [0] * 8):
            np.testing.assert_array_equal(found, pixels(0))
    copy.close()
    np.testing.assert_array_equal(copy.read(0), pixels(0))


def test_a_bare_n5_takes_its_xml_or_the_resolution_it_states(tmp_path):
    put_setup(tmp_path / "a.n5", 0, [pixels(0)])
    assert identify(tmp_path / "a.n5").key == "bdv"
    assert open_bdv(tmp_path / "a.n5").setups[0].unit == "pixel"
    (tmp_path / "a.n5" / "setup0" / "timepoint0" / "attributes.json").write_text('{"resolution":[0.5,0.25,2.0]}')
    alone = open_bdv(tmp_path / "a.n5")
    assert (alone.setups[0].voxel_size, alone.setups[0].unit) == ((2, 0.25, 0.5), "unknown")
    np.testing.assert_array_equal(np.diag(alone.affine(0)), [2, 0.25, 0.5, 1])
    describe(tmp_path / "a.xml", N5)
    assert open_bdv(tmp_path / "a.n5").setups[0].unit == "µm"


def test_blocks_that_are_not_there_are_zeros(tmp_path):
    put_setup(tmp_path / "a.n5", 0, [pixels(0)], skip=[(0, 0, 0)])
    found = open_bdv(tmp_path / "a.n5").read(0)
    assert not found[:4, :5, :3].any()
    np.testing.assert_array_equal(found[4:], pixels(0)[4:])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"dimensions": [0, 1, 1]}, FormatError, r"dimensions are \[0, 1, 1\]"),
        ({"dimensions": [2**30] * 3}, UnsupportedError, "was not tried"),
        ({"dimensions": [2**20] * 3, "blockSize": [2**12, 2**12, 2**10]}, FormatError, "over 2 GiB"),
        ({"blockSize": [1, 1]}, FormatError, "blockSize"),
        ({"dataType": "object"}, UnsupportedError, "its type is 'object'"),
        ({"compression": {"type": "jpeg"}}, UnsupportedError, "compression is 'jpeg'; read are raw"),
        ({"compression": None}, UnsupportedError, "compression is 'None'"),
    ],
)
def test_attributes_that_say_something_else(tmp_path, change, error, match):
    put_setup(tmp_path / "a.n5", 0, [pixels(0)])
    file = tmp_path / "a.n5" / "setup0" / "timepoint0" / "s0" / "attributes.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(error, match=match):
        open_bdv(tmp_path / "a.n5").read(0)


@pytest.mark.parametrize("factors", [[[1, 1]], "x", [[0, 1, 1]], [[1, 1, None]], 3])
def test_bad_factors(tmp_path, factors):
    put_setup(tmp_path / "a.n5", 0, [pixels(0)])
    (tmp_path / "a.n5" / "setup0" / "attributes.json").write_text(json.dumps({"downsamplingFactors": factors}))
    with pytest.raises(FormatError, match="downsamplingFactors of setup0 are"):
        _ = open_bdv(tmp_path / "a.n5").setups


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
def test_damaged_blocks_are_sentences(tmp_path, compression):
    put_setup(tmp_path / "a.n5", 0, [pixels(0)], compression=compression, block=SHAPE)
    file = tmp_path / "a.n5" / "setup0" / "timepoint0" / "s0" / "0" / "0" / "0"
    good = file.read_bytes()
    too_many, objects, huge = good[:2] + b"\0\4" + good[4:], b"\0\2" + good[2:], good[:4] + b"\xff" * 12 + good[16:]
    for content in (b"", good[:10], good[: len(good) // 2], too_many, objects, huge):
        file.write_bytes(content)
        with pytest.raises(BdvIoError, match=r"Reading N5 block .* failed: "):
            open_bdv(tmp_path / "a.n5").read(0)
    random = np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(good)
        bad[int(random.integers(len(bad)))] = int(random.integers(256))
        file.write_bytes(bad)
        try:
            open_bdv(tmp_path / "a.n5").read(0)
        except BdvIoError as error:
            said = str(error)
            if "failed:" not in said:
                raise


def test_an_n5_that_is_not_bigdataviewers(tmp_path):
    (tmp_path / "a.n5").mkdir()
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5":"4.0.0"}')
    assert not is_bdv(tmp_path / "a.n5")
    with pytest.raises(FormatError, match="no folders setup0"):
        open_bdv(tmp_path / "a.n5")
    with pytest.raises(FormatError, match="no folders setup0"):
        open_bdv(describe(tmp_path / "a.xml", N5))


def universe(name: str, dataset: str = "/") -> str:
    return f"<ImageLoader format='bdv.n5.universe'><Url type='relative'>{name}</Url><Dataset>{dataset}</Dataset></ImageLoader>"


def test_channels_and_times_of_one_ome_zarr(tmp_path):
    data = pixels(0, shape=(2, 2, *SHAPE))
    put_zarr(tmp_path / "my movie.zarr" / "inner", data, "tczyx")
    zarr.open_group(tmp_path / "my movie.zarr", mode="a", zarr_format=2)
    movie = open_image(describe(tmp_path / "a.xml", universe("my%20movie.zarr", "/inner"), setups=2))
    assert movie.format == "BigDataViewer XML/OME-Zarr"
    assert movie.setups[0].levels == ((1, 1, 1), (1, 2, 2))
    for frame in range(2):
        for setup in range(2):
            np.testing.assert_array_equal(movie.read(frame, setup), data[frame, setup])
            np.testing.assert_array_equal(movie.read(frame, setup, 1), data[frame, setup, :, ::2, ::2])
    np.testing.assert_allclose(movie.affine(0, 0, 1)[:3], [[3, 0, 0, 0], [0, 4, 0, 1], [0, 0, 2, 0.5]])
    assert pickle.loads(pickle.dumps(movie)).setups == movie.setups


def test_views_beyond_the_ome_zarr_are_missing(tmp_path):
    put_zarr(tmp_path / "a.zarr", pixels(0, shape=(1, *SHAPE)), "tzyx")
    loader = "<ImageLoader format='bdv.ome.zarr'><zarr type='relative'>a.zarr</zarr></ImageLoader>"
    movie = open_bdv(describe(tmp_path / "a.xml", loader, setups=2))
    assert [movie.is_missing(f, s) for f in range(2) for s in range(2)] == [False, True, True, True]
    with pytest.raises(MissingDataError, match="has 1 frames, 1 channels and 2 levels"):
        movie.read(1)


@pytest.mark.parametrize("version", ["1.0", "2.0", "3.0"])
def test_a_folder_of_ome_zarrs(tmp_path, version):
    data = [pixels(number, shape=(1, 2, *SHAPE)) for number in range(2)]
    for number in range(2):
        put_zarr(tmp_path / "all.zarr" / f"tile{number}.zarr", data[number], "tczyx", scale=0.5)
    entries = {
        "1.0": "<zgroup setup='{0}' timepoint='0'><path>tile{0}.zarr</path></zgroup>",
        "2.0": "<zgroup setup='{0}' tp='0' path='tile{0}.zarr'/>",
        "3.0": "<zgroup setup='{0}' tp='0' path='tile{0}.zarr' indicies='1 0'/>",
    }[version]
    groups = "".join(entries.format(number) for number in range(2))
    loader = f"<ImageLoader format='bdv.multimg.zarr' version='{version}'><zarr type='relative'>all.zarr</zarr>"
    loader += f"<zgroups>{groups}</zgroups></ImageLoader>"
    movie = open_bdv(describe(tmp_path / "a.xml", loader, setups=2))
    channel = 1 if version == "3.0" else 0
    for setup in range(2):
        np.testing.assert_array_equal(movie.read(0, setup), data[setup][0, channel])
        assert movie.is_missing(1, setup)
    assert movie.setups[1].levels == ((1, 1, 1), (1, 2, 2))


@pytest.mark.parametrize(
    ("zgroup", "error", "match"),
    [
        (
            "<zgroup setup='0' tp='0' path='b.zarr'/>",
            MissingDataError,
            r"none of those that the XML names is there \(b.zarr\)",
        ),
        ("<zgroup setup='0' tp='0' path='../b.zarr'/>", FormatError, "expected a group below the folder"),
        ("<zgroup setup='0' tp='0' path='tile.zarr' indicies='x'/>", FormatError, "expected whole numbers"),
        ("<zgroup setup='0' tp='0' path='tile.zarr' indicies='0 0 0'/>", FormatError, "gives 3 indices"),
    ],
)
def test_a_folder_of_ome_zarrs_that_is_not_as_the_xml_says(tmp_path, zgroup, error, match):
    put_zarr(tmp_path / "all.zarr" / "tile.zarr", pixels(0, shape=(1, 1, *SHAPE)), "tczyx")
    loader = f"<ImageLoader format='bdv.multimg.zarr'><zarr type='relative'>all.zarr</zarr><zgroups>{zgroup}</zgroups></ImageLoader>"
    path = describe(tmp_path / "a.xml", loader)
    with pytest.raises(error, match=match):
        open_bdv(path).read(0)


def test_pixels_on_a_server(tmp_path):
    bucket = "<ImageLoader format='bdv.multimg.zarr'><s3bucket>b</s3bucket><zarr type='absolute'>x</zarr></ImageLoader>"
    with pytest.raises(UnsupportedError, match="names no file"):
        open_bdv(describe(tmp_path / "a.xml", bucket))
    with pytest.raises(UnsupportedError, match=r"points to 's3://b/x.zarr'"):
        open_bdv(describe(tmp_path / "b.xml", universe("s3://b/x.zarr")))


def test_a_universe_without_content(tmp_path):
    (tmp_path / "a.dir").mkdir()
    with pytest.raises(UnsupportedError, match="is neither HDF5 nor N5 nor zarr"):
        open_bdv(describe(tmp_path / "a.xml", universe("a.dir")))
    with pytest.raises(MissingDataError, match="there is nothing at"):
        open_bdv(describe(tmp_path / "b.xml", universe("b.zarr")))


def test_planes_one_by_one_unpack_each_block_once(tmp_path, monkeypatch):
    put_setup(tmp_path / "a.n5", 0, [pixels(0)])
    movie, calls = open_bdv(tmp_path / "a.n5"), []
    monkeypatch.setattr("bdv_io.bdv.n5_store.decode_block", lambda *a: calls.append(a[-1]) or decode_block(*a))
    for z in range(SHAPE[0]):
        np.testing.assert_array_equal(
            movie.read(0, region=(slice(z, z + 1), slice(None), slice(None))), pixels(0)[z : z + 1]
        )
    assert len(calls) == len(set(calls)) == 2 * 3 * 4
