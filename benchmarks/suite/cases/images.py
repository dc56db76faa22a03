"""Image formats: read and write; a frame is (edge / 8, edge, edge) uint16, a movie two of them."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path

import numpy as np

from bdv_io.image import ArrayImage, Hints, WriteOptions
from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn

EDGES = (256, 320, 448)
FRAMES = 2
ONE_LEVEL = ((1, 1, 1),)


def movie_of(edge: int) -> np.ndarray:
    """Return (T, Z, Y, X) uint16."""
    return np.stack([drawn.nuclei((edge // 8, edge, edge), seed) for seed in range(FRAMES)])


def packed(movie: np.ndarray, level: int) -> list[bytes]:
    """Return chunks of about 64 KiB of a movie, deflated."""
    flat = movie.reshape(-1)
    return [zlib.compress(flat[i : i + 32768].tobytes(), level) for i in range(0, flat.size, 32768)]


def inflate(chunks: list[bytes]) -> None:
    """Unpack chunks on one thread."""
    for chunk in chunks:
        zlib.decompress(chunk)


@case(
    "read BDV HDF5, gzip",
    group="format",
    unit="voxels",
    sizes=EDGES,
    limit="inflate the chunks, one thread",
    peer="h5py",
)
def read_bdv(edge: int, folder: Path) -> Work:
    import h5py

    from bdv_io.bdv import open_bdv
    from bdv_io.bdv.hdf5_write import write_bdv

    data = movie_of(edge)
    write_bdv(folder / "m.xml", data, voxel_size=drawn.VOXEL, levels=ONE_LEVEL)
    movie, file = open_bdv(folder / "m.xml"), h5py.File(folder / "m.h5", "r")
    sets = [file[f"t{t:05d}/s00/0/cells"] for t in range(FRAMES)]
    chunks = [each.id.read_direct_chunk(chunk.chunk_offset)[1] for each in sets for chunk in _chunks(each)]
    return Work(
        amount=data.size,
        run=lambda: [movie.read(t) for t in range(FRAMES)],
        limit=lambda: inflate(chunks),
        peer=lambda: [each[()].view(np.uint16) for each in sets],
        wrong=lambda: "" if (movie.read(1) == data[1]).all() else "other voxels than were written",
    )


def _chunks(dataset):
    return [dataset.id.get_chunk_info(i) for i in range(dataset.id.get_num_chunks())]


@case("read BDV HDF5, uncompressed", group="format", unit="voxels", sizes=EDGES, limit="copy in memory", peer="h5py")
def read_bdv_plain(edge: int, folder: Path) -> Work:
    import h5py

    from bdv_io.bdv import open_bdv
    from bdv_io.bdv.hdf5_write import write_bdv

    data = movie_of(edge)
    write_bdv(folder / "m.xml", data, voxel_size=drawn.VOXEL, levels=ONE_LEVEL, compression=None)
    movie, file = open_bdv(folder / "m.xml"), h5py.File(folder / "m.h5", "r")
    sets = [file[f"t{t:05d}/s00/0/cells"] for t in range(FRAMES)]
    return Work(
        amount=data.size,
        run=lambda: [movie.read(t) for t in range(FRAMES)],
        limit=lambda: [frame.copy() for frame in data],
        peer=lambda: [each[()].view(np.uint16) for each in sets],
    )


@case(
    "read crops 16 x 128 x 128, BDV HDF5, gzip",
    group="format",
    unit="voxels",
    sizes=(8, 24, 72),
    limit="inflate as many bytes, one thread",
    peer="h5py",
)
def read_crops(count: int, folder: Path) -> Work:
    import h5py

    from bdv_io.bdv import open_bdv
    from bdv_io.bdv.hdf5_write import write_bdv

    data = movie_of(512)
    write_bdv(folder / "m.xml", data, voxel_size=drawn.VOXEL, levels=ONE_LEVEL)
    movie, file = open_bdv(folder / "m.xml"), h5py.File(folder / "m.h5", "r")
    rng, size = np.random.default_rng(0), np.array((16, 128, 128))

    def regions() -> list[tuple[slice, ...]]:  # others each time, or caches would have them
        starts = rng.integers(0, np.array(data.shape[1:]) - size + 1, (count, 3))
        return [tuple(slice(a, a + n) for a, n in zip(at, size.tolist(), strict=True)) for at in starts.tolist()]

    chunks = packed(np.stack([data[0][region] for region in regions()]), 4)
    dataset = file["t00000/s00/0/cells"]
    return Work(
        amount=count * float(size.prod()),
        run=lambda: [movie.read(0, region=region) for region in regions()],
        limit=lambda: inflate(chunks),
        peer=lambda: [dataset[region].view(np.uint16) for region in regions()],
    )


@case(
    "write BDV HDF5, gzip, 1 level",
    group="format",
    unit="voxels",
    sizes=EDGES,
    limit="deflate (4), one thread",
    peer="h5py",
)
def write_bdv_case(edge: int, folder: Path) -> Work:
    import h5py

    from bdv_io.bdv.hdf5_write import write_bdv

    data, name, other = movie_of(edge), drawn.names(folder, ".xml"), drawn.names(folder, "peer.h5")

    def peer() -> None:
        with h5py.File(other(), "w") as file:
            for t, frame in enumerate(data):
                file.create_dataset(f"t{t}", data=frame, chunks=(16, 64, 64), compression="gzip", compression_opts=4)

    return Work(
        amount=data.size,
        run=lambda: write_bdv(name(), data, voxel_size=drawn.VOXEL, levels=ONE_LEVEL),
        limit=lambda: packed(data, 4),
        peer=peer,
    )


@case(
    "read BDV N5, gzip",
    group="format",
    unit="voxels",
    sizes=EDGES,
    limit="inflate the blocks, one thread",
    peer="tensorstore",
)
def read_n5(edge: int, folder: Path) -> Work:
    from bdv_io.bdv import open_bdv

    data, block = movie_of(edge), (16, 64, 64)
    blocks = []
    for t, frame in enumerate(data):
        place = folder / "m.n5" / "setup0" / f"timepoint{t}" / "s0"
        place.mkdir(parents=True)
        (place / "attributes.json").write_text(json.dumps({
            "dimensions": frame.shape[::-1], "blockSize": block[::-1], "dataType": "uint16", "compression": {"type": "gzip"},
        }))  # fmt: skip
        for at in np.ndindex(*(-(-n // b) for n, b in zip(frame.shape, block, strict=True))):
            part = frame[tuple(slice(i * b, (i + 1) * b) for i, b in zip(at, block, strict=True))]
            blocks.append(gzip.compress(part.astype(">u2").tobytes(), 4))
            file = place / str(at[2]) / str(at[1]) / str(at[0])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(struct.pack(">HHIII", 0, 3, *part.shape[::-1]) + blocks[-1])
    (folder / "m.n5" / "attributes.json").write_text('{"n5":"2.5.1"}')
    described = {"downsamplingFactors": [[1, 1, 1]], "dataType": "uint16"}
    (folder / "m.n5" / "setup0" / "attributes.json").write_text(json.dumps(described))
    (folder / "m.xml").write_text(_described(data.shape))
    movie = open_bdv(folder / "m.xml")
    return Work(
        amount=data.size,
        run=lambda: [movie.read(t) for t in range(FRAMES)],
        limit=lambda: [zlib.decompress(each, 31) for each in blocks],
        peer=_tensorstore(folder / "m.n5" / "setup0"),
        wrong=lambda: "" if (movie.read(1) == data[1]).all() else "other voxels than were written",
    )


def _tensorstore(place: Path):
    try:
        import tensorstore
    except ImportError:
        return None
    stores = [
        tensorstore.open(
            {"driver": "n5", "kvstore": {"driver": "file", "path": str(place / f"timepoint{t}" / "s0")}}, open=True
        ).result()
        for t in range(FRAMES)
    ]
    return lambda: [store.read().result() for store in stores]


def _described(shape: tuple[int, ...]) -> str:
    """The XML of an N5 dataset with one setup."""
    t, z, y, x = shape
    views = "".join(
        f'<ViewRegistration timepoint="{i}" setup="0"><ViewTransform type="affine"><affine>1 0 0 0 0 1 0 0 0 0 1 0</affine>'
        "</ViewTransform></ViewRegistration>"
        for i in range(t)
    )
    return (
        f'<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription><ImageLoader format="bdv.n5" '
        f'version="1.0"><n5 type="relative">m.n5</n5></ImageLoader><ViewSetups><ViewSetup><id>0</id><size>{x} {y} {z}</size>'
        f'<voxelSize><unit>pixel</unit><size>1 1 1</size></voxelSize></ViewSetup></ViewSetups><Timepoints type="range">'
        f"<first>0</first><last>{t - 1}</last></Timepoints></SequenceDescription><ViewRegistrations>{views}</ViewRegistrations>"
        "</SpimData>"
    )


def _zarr_file(edge: int, folder: Path) -> tuple[np.ndarray, Path]:
    from bdv_io.ome_zarr import writing_ome_zarr

    data, path = movie_of(edge), folder / "m.ome.zarr"
    for _ in writing_ome_zarr(path, ArrayImage(data, voxel_size=drawn.VOXEL), options=WriteOptions(levels=ONE_LEVEL)):
        pass
    return data, path


@case("read OME-Zarr", group="format", unit="voxels", sizes=EDGES, limit="copy in memory", peer="zarr-python")
def read_zarr(edge: int, folder: Path) -> Work:
    import zarr

    from bdv_io.ome_zarr import open_ome_zarr

    data, path = _zarr_file(edge, folder)
    movie, array = open_ome_zarr(path, hints=Hints()), zarr.open_array(path / "0", mode="r")
    return Work(
        amount=data.size,
        run=lambda: [movie.read(t) for t in range(FRAMES)],
        limit=lambda: [frame.copy() for frame in data],
        peer=lambda: [array[t] for t in range(FRAMES)],
        wrong=lambda: "" if (movie.read(1) == data[1]).all() else "other voxels than were written",
    )


@case(
    "write OME-Zarr, blosc zstd 4, 1 level",
    group="format",
    unit="voxels",
    sizes=EDGES,
    limit="the bytes to a file, fsync",
    peer="zarr-python",
)
def write_zarr(edge: int, folder: Path) -> Work:
    import zarr
    from numcodecs import Blosc

    from bdv_io.ome_zarr import writing_ome_zarr

    data, path = _zarr_file(edge, folder)
    chunks = zarr.open_array(path / "0", mode="r").chunks
    name, other, plain = (drawn.names(folder, ending) for ending in (".ome.zarr", "peer.zarr", ".raw"))
    image, options, raw = ArrayImage(data, voxel_size=drawn.VOXEL), WriteOptions(levels=ONE_LEVEL), data.tobytes()

    def peer() -> None:
        array = zarr.create_array(
            other(), shape=(FRAMES, 1, *data.shape[1:]), chunks=chunks, dtype="<u2", zarr_format=2, fill_value=0,
            compressors=Blosc("zstd", clevel=4), chunk_key_encoding={"name": "v2", "separator": "/"},
        )  # fmt: skip
        for t, frame in enumerate(data):
            array[t, 0] = frame

    return Work(
        amount=data.size,
        run=lambda: [None for _ in writing_ome_zarr(name(), image, options=options)],
        limit=lambda: drawn.put_bytes(plain(), raw),
        peer=peer,
    )


@case("read TIFF (ImageJ)", group="format", unit="voxels", sizes=EDGES, limit="the bytes from a file", peer="tifffile")
def read_tiff(edge: int, folder: Path) -> Work:
    import tifffile

    from bdv_io.tiff import open_tiff, writing_tiff

    data, path = movie_of(edge), folder / "m.tif"
    for _ in writing_tiff(path, ArrayImage(data, voxel_size=drawn.VOXEL), options=WriteOptions()):
        pass
    movie, space = open_tiff(path), np.empty(path.stat().st_size, np.uint8)

    def plain() -> None:
        with path.open("rb", buffering=0) as file:
            file.readinto(space.data)

    return Work(
        amount=data.size,
        run=lambda: [movie.read(t) for t in range(FRAMES)],
        limit=plain,
        peer=lambda: tifffile.imread(path),
        wrong=lambda: "" if (movie.read(1) == data[1]).all() else "other voxels than were written",
    )


@case(
    "write TIFF (ImageJ)",
    group="format",
    unit="voxels",
    sizes=EDGES,
    limit="the bytes to a file, fsync",
    peer="tifffile",
)
def write_tiff(edge: int, folder: Path) -> Work:
    import tifffile

    from bdv_io.tiff import writing_tiff

    data = movie_of(edge)
    image, raw, five = ArrayImage(data, voxel_size=drawn.VOXEL), data.tobytes(), data[:, :, None]
    name, other, plain = (drawn.names(folder, ending) for ending in (".tif", "peer.tif", ".raw"))
    return Work(
        amount=data.size,
        run=lambda: [None for _ in writing_tiff(name(), image, options=WriteOptions())],
        limit=lambda: drawn.put_bytes(plain(), raw),
        peer=lambda: tifffile.imwrite(other(), five, imagej=True, metadata={"axes": "TZCYX"}),
    )
