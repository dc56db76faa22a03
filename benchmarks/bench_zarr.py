"""OME-Zarr: reading frames, planes and crops, and writing, beside bare zarr-python and tensorstore on the same chunks and codec.

Run: python benchmarks/bench_zarr.py [--edge 512] [--planes 64] [--repeats 5]
Ratios: time of the peer / time of Howdah (above 1: Howdah is faster). Share of limit: time of a plain memory copy of the
bytes that are returned / time of Howdah; for writing, of writing the same bytes to plain files. The files lie in the page
cache: disks are not measured. tensorstore is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from numcodecs import Blosc
from scipy.ndimage import gaussian_filter

from bdv_io.image import ArrayImage, Hints, WriteOptions
from bdv_io.ome_zarr import open_ome_zarr, writing_ome_zarr

try:
    import tensorstore
except ImportError:
    tensorstore = None

FRAMES = 3


def nuclei(frame: int, planes: int, edge: int) -> np.ndarray:
    """A (Z, Y, X) uint16 frame with blobs and camera noise, so that the codec has something real to do."""
    random = np.random.default_rng(frame)
    small = gaussian_filter(random.random((planes, edge // 4, edge // 4)), (1, 3, 3))
    smooth = np.kron((small - small.min()) / np.ptp(small), np.ones((1, 4, 4)))
    return (100 + 3000 * smooth + random.normal(0, 5, smooth.shape)).astype(np.uint16)


def best(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Best seconds of each call; they take turns, so that a busy machine is unfair to none."""
    seconds = dict.fromkeys(calls, np.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def plans(shape: tuple[int, int, int]) -> dict[str, list[tuple[int, tuple[slice, slice, slice]]]]:
    """What is read: frame and region."""
    random = np.random.default_rng(0)
    whole = slice(None)
    crop = [min(want, n) for want, n in zip((16, 128, 128), shape, strict=True)]
    starts = [[int(random.integers(0, n - c + 1)) for n, c in zip(shape, crop, strict=True)] for _ in range(60)]
    crops = [tuple(slice(s, s + c) for s, c in zip(start, crop, strict=True)) for start in starts]
    return {
        "whole frames": [(frame, (whole, whole, whole)) for frame in range(FRAMES)],
        "60 crops 16x128x128": [(index % FRAMES, region) for index, region in enumerate(crops)],
        "16 planes one by one": [(0, (slice(z, z + 1), whole, whole)) for z in range(16)],
    }


def readers(path: Path) -> dict[str, Callable[[int, tuple[slice, slice, slice]], object]]:
    """Name -> function that reads a region of a frame."""
    movie = open_ome_zarr(path, hints=Hints())
    array = zarr.open_array(path / "0", mode="r")
    found = {
        "howdah": lambda frame, region: movie.read(frame, region=region),
        "zarr": lambda frame, region: array[(frame, 0, *region)],
    }
    if tensorstore is not None:
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path / "0")}}
        store = tensorstore.open(spec, open=True).result()
        found["tensorstore"] = lambda frame, region: store[(frame, 0, *region)].read().result()
    return found


def write_zarr(path: Path, frames: np.ndarray, chunks: tuple[int, ...]) -> None:
    """The same array by zarr-python, without pyramid and metadata."""
    shutil.rmtree(path, ignore_errors=True)
    array = zarr.create_array(
        path, shape=(len(frames), 1, *frames.shape[1:]), chunks=chunks, dtype="<u2", zarr_format=2, fill_value=0,
        compressors=Blosc("zstd", clevel=4), chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    for index, frame in enumerate(frames):
        array[index, 0] = frame


def write_tensorstore(path: Path, frames: np.ndarray, chunks: tuple[int, ...]) -> None:
    """The same array by tensorstore."""
    shutil.rmtree(path, ignore_errors=True)
    metadata = {
        "shape": [len(frames), 1, *frames.shape[1:]], "chunks": list(chunks), "dtype": "<u2", "dimension_separator": "/",
        "compressor": {"id": "blosc", "cname": "zstd", "clevel": 4, "shuffle": 1},
    }  # fmt: skip
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}
    array = tensorstore.open(spec, create=True).result()
    for index, frame in enumerate(frames):
        array[index, 0].write(frame).result()


def write_ours(path: Path, frames: np.ndarray) -> None:
    """The same array by Howdah, with one level, verified and synchronised with the disk."""
    for _ in writing_ome_zarr(path, ArrayImage(frames, voxel_size=(2, 1, 1)), options=WriteOptions(levels=[(1, 1, 1)])):
        pass


def write_plain(path: Path, frames: np.ndarray) -> None:
    """The same bytes, uncompressed, one file a frame."""
    for index, frame in enumerate(frames):
        path.with_name(f"plain{index}").write_bytes(frame.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--planes", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    frames = np.stack([nuclei(frame, options.planes, options.edge) for frame in range(FRAMES)])
    print(
        "| what | MB/s | ratio to zarr | ratio to tensorstore | share of limit |\n| --- | ---: | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movie.ome.zarr"
        write_ours(path, frames)
        found = readers(path)
        chunks = zarr.open_array(path / "0", mode="r").chunks
        for name, reads in plans(frames.shape[1:]).items():
            size = sum(frames[frame][region].nbytes for frame, region in reads)
            calls = {
                who: (lambda read=read, reads=reads: [read(frame, region) for frame, region in reads])
                for who, read in found.items()
            }
            calls["limit"] = lambda reads=reads: [frames[frame][region].copy() for frame, region in reads]
            row(name, size, best(calls, options.repeats))
        calls = {
            "howdah": lambda: write_ours(path, frames),
            "zarr": lambda: write_zarr(Path(folder) / "peer.zarr", frames, chunks),
            "limit": lambda: write_plain(path, frames),
        }
        if tensorstore is not None:
            calls["tensorstore"] = lambda: write_tensorstore(Path(folder) / "ts.zarr", frames, chunks)
        row("writing, one level", frames.nbytes, best(calls, 2))
    print(
        f"\n{FRAMES} frames of {frames.shape[1:]} uint16 in chunks of {chunks[2:]}, blosc zstd 4, zarr {zarr.__version__}"
    )


def row(name: str, size: int, seconds: dict[str, float]) -> None:
    """Print one line of the table."""
    mine, other = seconds["howdah"], seconds.get("tensorstore")
    beside = "-" if other is None else f"{other / mine:.2f}"
    print(
        f"| {name} | {size / mine / 1e6:.0f} | {seconds['zarr'] / mine:.2f} | {beside} | {seconds['limit'] / mine:.2f} |"
    )


if __name__ == "__main__":
    main()
