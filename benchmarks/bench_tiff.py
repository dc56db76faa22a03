"""Reading and writing TIFF: Howdah beside tifffile's own imread and imwrite, and beside the same bytes as a plain file.

Run: python benchmarks/bench_tiff.py [--edge 512] [--planes 16] [--frames 12] [--repeats 5]
Ratio to peer: time of tifffile / time of Howdah (above 1: Howdah is faster). Share of limit: time of reading or writing the
bytes of the pixels as a plain file / time of Howdah; with compression that is no limit that can be reached. Files lie in the
page cache: disks are not measured, except that Howdah's writing waits for the disk (fsync) and reads its file back.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

from bdv_io.image import ArrayImage, ImageSeries, WriteOptions
from bdv_io.tiff import open_tiff, writing_tiff

CALIBRATION = {"voxel_size": (2.0, 0.5, 0.5), "unit": "µm", "interval": (30.0, "s")}


def nuclei(frames: int, planes: int, edge: int) -> np.ndarray:
    """A (T, Z, Y, X) uint16 movie with blobs and camera noise, so that deflate has something real to do."""
    random = np.random.default_rng(0)
    small = gaussian_filter(random.random((planes, edge // 4, edge // 4)), (1, 3, 3))
    smooth = np.kron((small - small.min()) / np.ptp(small), np.ones((1, 4, 4)))
    return np.stack(
        [(100 + 3000 * smooth + random.normal(0, 5, smooth.shape)).astype(np.uint16) for _ in range(frames)]
    )


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


def read_frames(movie: ImageSeries, frames: list[int]) -> None:
    for frame in frames:
        movie.read(frame)


def peer_frames(path: Path, planes: int, frames: list[int]) -> None:
    """The pages of some frames by tifffile, which has no frames but pages."""
    for frame in frames:
        tifffile.imread(path, key=range(frame * planes, (frame + 1) * planes))


def open_and_read_all(path: Path) -> None:
    movie = open_tiff(path)
    read_frames(movie, list(range(movie.n_frames)))
    movie.close()


def raw_read(path: Path, count: int) -> None:
    with path.open("rb", buffering=0) as file:
        target = np.empty(count, np.uint8)
        file.readinto(target.data)


def raw_write(path: Path, movie: np.ndarray) -> None:
    with path.open("wb", buffering=0) as file:
        for frame in movie:
            file.write(frame.data)
        os.fsync(file.fileno())


def write(path: Path, image: ArrayImage, options: WriteOptions) -> None:
    for _ in writing_tiff(path, image, options=options):
        pass
    path.with_name(path.name + "~").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--planes", type=int, default=16)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    movie = nuclei(options.frames, options.planes, options.edge)
    image = ArrayImage(movie, **CALIBRATION)  # type: ignore[arg-type]
    print(
        f"{movie.shape} uint16, {movie.nbytes / 1e6:.0f} MB, tifffile {tifffile.__version__}, {os.cpu_count()} cores\n"
    )
    print("| file | what | MB/s | ratio to tifffile | share of plain file |\n| --- | --- | ---: | ---: | ---: |")
    five = movie[:, :, None]
    kinds = {
        "ImageJ": ("a.tif", WriteOptions(), {"imagej": True}),
        "OME, deflate 4": (
            "b.ome.tif",
            WriteOptions(),
            {"ome": True, "compression": "zlib", "compressionargs": {"level": 4}, "predictor": True},
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain"
        raw_write(plain, movie)
        for kind, (name, chosen, theirs) in kinds.items():
            path, other = Path(folder) / name, Path(folder) / f"peer-{name}"
            peer_write = partial(tifffile.imwrite, other, five, metadata={"axes": "TZCYX"}, **theirs)
            plans: list[tuple[str, int, list[Callable[[], object]]]] = [
                (
                    "write",
                    movie.nbytes,
                    [partial(write, path, image, chosen), peer_write, partial(raw_write, plain, movie)],
                )
            ]
            write(path, image, chosen)
            opened, one = open_tiff(path), movie[0].nbytes
            middle = [options.frames // 2]
            plans += [
                (
                    "one frame, file open",
                    one,
                    [
                        partial(read_frames, opened, middle),
                        partial(peer_frames, path, options.planes, middle),
                        partial(raw_read, plain, one),
                    ],
                ),
                (
                    "open and read all",
                    movie.nbytes,
                    [
                        partial(open_and_read_all, path),
                        partial(tifffile.imread, path),
                        partial(raw_read, plain, movie.nbytes),
                    ],
                ),
            ]
            for what, size, calls in plans:
                mine, peer, limit = interleaved(calls, options.repeats)
                print(f"| {kind} | {what} | {size / mine / 1e6:.0f} | {peer / mine:.2f} | {limit / mine:.2f} |")
            opened.close()


if __name__ == "__main__":
    main()
