"""Reading BigDataViewer XML/HDF5: Howdah beside plain h5py on the same chunks, and beside copying the same bytes in memory.

Run: python benchmarks/bench_bdv.py [--edge 512] [--planes 64] [--repeats 5]
Ratio to peer: time of plain h5py / time of Howdah (above 1: Howdah is faster). Share of limit: time of a plain memory
copy of the bytes that are returned / time of Howdah. The files lie in the page cache: disks are not measured.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from scipy.ndimage import gaussian_filter

from bdv_io.bdv_hdf5 import BdvHdf5, open_bdv
from bdv_io.bdv_hdf5_write import write_bdv

FRAMES = 3


def nuclei(frame: int, planes: int, edge: int) -> np.ndarray:
    """A (Z, Y, X) uint16 frame with blobs and camera noise, so that gzip has something real to do."""
    random = np.random.default_rng(frame)
    small = gaussian_filter(random.random((planes, edge // 4, edge // 4)), (1, 3, 3))
    smooth = np.kron((small - small.min()) / np.ptp(small), np.ones((1, 4, 4)))
    return (100 + 3000 * smooth + random.normal(0, 5, smooth.shape)).astype(np.uint16)


def interleaved(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """Best seconds of each call; they take turns, so that a busy machine is unfair to none."""
    best = [np.inf] * len(calls)
    for _ in range(repeats):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def regions(shape: tuple[int, int, int], count: int = 60) -> list[tuple[slice, slice, slice]]:
    """Crops as a network asks for them in training, at random places."""
    random = np.random.default_rng(0)
    crop = [min(want, n) for want, n in zip((16, 128, 128), shape, strict=True)]
    starts = [[int(random.integers(0, n - c + 1)) for n, c in zip(shape, crop, strict=True)] for _ in range(count)]
    z, y, x = crop
    return [(slice(a, a + z), slice(b, b + y), slice(c, c + x)) for a, b, c in starts]


def peer(path: Path, reads: list[tuple[int, object]]) -> None:
    """Plain h5py with default settings: open the file and each dataset once, index, reinterpret the bits."""
    with h5py.File(path, "r") as file:
        datasets = [file[f"t{frame:05d}/s00/0/cells"] for frame in range(FRAMES)]
        for frame, region in reads:
            datasets[frame][region].view(np.uint16)


def ours(movie: BdvHdf5, reads: list[tuple[int, object]]) -> None:
    """The same reads by Howdah; the movie is closed so that both begin cold."""
    for frame, region in reads:
        movie.read(frame, region=None if region == () else region)  # type: ignore[arg-type]
    movie.close()


def copy(arrays: list[np.ndarray], out: np.ndarray) -> None:
    """Move the same bytes once through memory."""
    for array in arrays:
        np.copyto(out[: array.size].reshape(array.shape), array)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--planes", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    frames = [nuclei(frame, options.planes, options.edge) for frame in range(FRAMES)]
    shape = frames[0].shape
    plans: dict[str, list[tuple[int, object]]] = {
        "whole frames": [(frame, ()) for frame in range(FRAMES)],
        "60 crops 16x128x128": [(index % FRAMES, region) for index, region in enumerate(regions(shape))],
        "planes one by one": [(0, (slice(z, z + 1), slice(None), slice(None))) for z in range(shape[0])],
    }
    print(f"{FRAMES} frames of {shape} uint16, h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}\n")
    print("| storage | read | MB/s | ratio to h5py | share of memory copy |\n| --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for storage, compression in (("uncompressed", None), ("gzip 4", 4)):
            path = Path(folder) / f"{storage.split()[0]}.xml"
            write_bdv(path, frames, voxel_size=(4.0, 1.0, 1.0), compression=compression, levels=[(1, 1, 1)])
            for name, reads in plans.items():
                movie = open_bdv(path)
                arrays = [frames[frame][region] for frame, region in reads]  # type: ignore[index]
                size = sum(array.nbytes for array in arrays)
                out = np.empty(max(array.size for array in arrays), np.uint16)
                h5 = path.with_suffix(".h5")
                calls = [
                    lambda m=movie, r=reads: ours(m, r),
                    lambda p=h5, r=reads: peer(p, r),
                    lambda a=arrays, o=out: copy(a, o),
                ]
                mine, theirs, limit = interleaved(calls, options.repeats)  # type: ignore[arg-type]
                print(f"| {storage} | {name} | {size / mine / 1e6:.0f} | {theirs / mine:.2f} | {limit / mine:.2f} |")


if __name__ == "__main__":
    main()
