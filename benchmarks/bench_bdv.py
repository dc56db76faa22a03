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
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from scipy.ndimage import gaussian_filter

from bdv_io.bdv import BdvMovie, open_bdv
from bdv_io.bdv.hdf5_write import write_bdv

FRAMES = 3
ONE = (slice(0, 1), slice(0, 1), slice(0, 1))


def nuclei(frame: int, planes: int, edge: int) -> np.ndarray:
    """A (Z, Y, X) uint16 frame with blobs and camera noise, so that gzip has something real to do."""
    random = np.random.default_rng(frame)
    small = gaussian_filter(random.random((planes, edge // 4, edge // 4)), (1, 3, 3))
    smooth = np.kron((small - small.min()) / np.ptp(small), np.ones((1, 4, 4)))
    return (100 + 3000 * smooth + random.normal(0, 5, smooth.shape)).astype(np.uint16)


def interleaved(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """Best seconds of each call; they take turns, so that a busy machine is unfair to none."""
    best = [np.inf] * len(calls)
    for repeat in range(repeats):
        order = list(enumerate(calls))
        for index, call in reversed(order) if repeat % 2 else order:
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


def peer(datasets: list[h5py.Dataset], reads: list[tuple[int, object]]) -> None:
    """Plain h5py with default settings on open datasets, the bits reinterpreted."""
    for frame, region in reads:
        datasets[frame][region].view(np.uint16)


def ours(movie: BdvMovie, reads: list[tuple[int, object]]) -> None:
    """The same reads by Howdah."""
    for frame, region in reads:
        movie.read(frame, region=None if region == () else region)  # type: ignore[arg-type]


def open_peer(path: Path) -> None:
    """Open a file, read one voxel of each frame, close it."""
    with h5py.File(path.with_suffix(".h5"), "r") as file:
        peer([file[f"t{frame:05d}/s00/0/cells"] for frame in range(FRAMES)], [(frame, ONE) for frame in range(FRAMES)])


def open_ours(path: Path) -> None:
    """The same by Howdah, which reads the XML too."""
    movie = open_bdv(path)
    ours(movie, [(frame, ONE) for frame in range(FRAMES)])
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
            movie = open_bdv(path)
            file = h5py.File(path.with_suffix(".h5"), "r")
            datasets = [file[f"t{frame:05d}/s00/0/cells"] for frame in range(FRAMES)]
            for name, reads in plans.items():
                arrays = [frames[frame][region] for frame, region in reads]  # type: ignore[index]
                size = sum(array.nbytes for array in arrays)
                out = np.empty(max(array.size for array in arrays), np.uint16)
                calls = [partial(ours, movie, reads), partial(peer, datasets, reads), partial(copy, arrays, out)]
                mine, theirs, limit = interleaved(calls, options.repeats)
                print(f"| {storage} | {name} | {size / mine / 1e6:.0f} | {theirs / mine:.2f} | {limit / mine:.2f} |")
            movie.close()
            file.close()
        mine, theirs = interleaved([partial(open_ours, path), partial(open_peer, path)], 5 * options.repeats)
        print(
            f"\nOpening, one voxel of each frame, closing: {1e3 * mine:.2f} ms; h5py without the XML {1e3 * theirs:.2f} ms."
        )


if __name__ == "__main__":
    main()
