"""Writes a synthetic movie of any size, slab by slab, with its truth: for measuring what is larger than memory.

A frame is a mosaic of synthetic embryos (:mod:`howdah.synthetic`: nuclei wander, keep apart, condense and divide), a few different
ones, each with its own lineage in the truth. Outside of nuclei voxels are 0, without noise, so that terabytes fit on a small disk: what
counts for memory is the size of the frames, not that of the file. The same arguments give the same movie, voxel for voxel. Memory
is that of one slab (see :mod:`bdv_io.bdv.movie_write`) and of the few embryos; an OME-Zarr folder takes two frames.

    python benchmarks/make_movie.py big.xml --frame 512,2048,2048 --gib 32 --enlarge 4

writes ``big.xml`` and ``big.h5``, and the truth as ``big-truth.mastodon`` and ``big-truth.geff``; ``--marks 30`` also writes
``big-marks.mastodon`` to train on. ``--enlarge 4`` repeats each voxel four times along each axis (a finer microscope: the world stays the
same), so that detectors may work on a coarser grid (``rescale``).
"""

import argparse
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bdv_io import Tracks
from bdv_io.bdv.movie_write import writing_bdv
from bdv_io.formats import write_tracks
from bdv_io.image import Setup, WriteOptions
from bdv_io.ome_zarr import writing_ome_zarr
from howdah.synthetic import embryo, marks

KINDS = 3  # different embryos
QUIET = {"offset": 0.0, "background": 0.0, "read_noise": 0.0}
KEPT = 4 * KINDS  # frames of embryos in memory


@dataclass
class Mosaic:
    """A movie that is made where it is read; an image of :mod:`bdv_io`.

    Args:
        shape: Voxels (Z, Y, X) of a frame.
        n_frames: Time points.
        enlarge: How often each voxel of an embryo is repeated along each axis.
        seed: Seed of everything random.
    """

    shape_: tuple[int, int, int]
    n_frames: int
    enlarge: int = 1
    seed: int = 0
    path: Path | None = None
    format: str = "synthetic mosaic"
    frames: OrderedDict = field(default_factory=OrderedDict)

    def __post_init__(self):
        self.movies = [embryo(seed=KINDS * self.seed + k, n_frames=self.n_frames, **QUIET) for k in range(KINDS)]
        settings = self.movies[0].settings
        self.patch = tuple(self.enlarge * n for n in settings.shape)
        self.count = tuple(n // p for n, p in zip(self.shape_, self.patch, strict=True))
        if min(self.count) < 1:
            raise SystemExit(
                f"A frame needs at least {self.patch} voxels for one embryo; {self.shape_} were asked for."
            )
        self.voxel = tuple(size / self.enlarge for size in settings.voxel_size)
        self.interval = (settings.interval_s, "second")
        self.timepoints = tuple(range(self.n_frames))
        self.setups = (Setup(0, "", self.shape_, self.voxel, "micrometer", np.dtype(np.uint16)),)

    def is_missing(self, frame, setup=0):
        return False

    def shape(self, frame, setup=0, level=0):
        return self.shape_

    def affine(self, frame, setup=0, level=0):
        return np.diag([*self.voxel, 1.0])

    def close(self):
        self.frames.clear()

    def read(self, frame, setup=0, level=0, *, region=None):
        region = region or tuple(slice(0, n) for n in self.shape_)
        ends = [
            (part.start or 0, n if part.stop is None else part.stop)
            for part, n in zip(region, self.shape_, strict=True)
        ]
        out = np.zeros([stop - start for start, stop in ends], dtype=np.uint16)
        touched = [
            range(start // p, min(-(-stop // p), c))
            for (start, stop), p, c in zip(ends, self.patch, self.count, strict=True)
        ]
        for at in np.ndindex(*map(len, touched)):
            place = [r[i] for r, i in zip(touched, at, strict=True)]
            source, into = [], []
            for p, size, (start, stop) in zip(place, self.patch, ends, strict=True):
                low, high = max(p * size, start), min((p + 1) * size, stop)
                into.append(slice(low - start, high - start))
                source.append(np.arange(low - p * size, high - p * size) // self.enlarge)
            out[tuple(into)] = self._embryo(self._kind(place), frame)[np.ix_(*source)]
        return out

    def _kind(self, place):
        return int(np.random.default_rng([self.seed, *place]).integers(KINDS))

    def _embryo(self, kind, frame):
        key = (kind, frame)
        if key not in self.frames:
            self.frames[key] = self.movies[kind].frame(frame)
            if len(self.frames) > KEPT:
                self.frames.popitem(last=False)
        self.frames.move_to_end(key)
        return self.frames[key]

    def moved(self, tracks, place):
        """The annotation of an embryo where it lies in the mosaic."""
        # the middle of the first voxel of an embryo is not that of the first of its repeats
        shift = np.multiply(place, self.patch) * self.voxel + (self.enlarge - 1) / 2 * np.asarray(self.voxel)
        return replace(tracks, centre=tracks.centre + shift)

    def truth(self):
        """All nuclei with their links, sorted by frame."""
        parts = [(self.movies[self._kind(p)].truth, p) for p in np.ndindex(*self.count)]
        before = np.cumsum([0, *(t.n_spots for t, _ in parts)])
        links = np.concatenate([t.links + first for (t, _), first in zip(parts, before[:-1], strict=True)])
        columns = {
            "centre": np.concatenate([self.moved(t, p).centre for t, p in parts]),
            "covariance": np.concatenate([t.covariance for t, _ in parts]),
        }
        frames = np.concatenate([t.t for t, _ in parts])
        order = np.argsort(frames, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        first = parts[0][0]
        return Tracks.build(
            frames[order],
            columns["centre"][order],
            covariance=columns["covariance"][order],
            links=place[links],
            space_unit=first.space_unit,
            time_unit=first.time_unit,
            interval=first.interval,
        )


def numbers(text):
    return tuple(int(part) for part in text.split(","))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="NAME.xml (BigDataViewer HDF5) or NAME.ome.zarr")
    parser.add_argument("--frame", type=numbers, default=(48, 224, 224), metavar="Z,Y,X", help="voxels of a frame")
    parser.add_argument("--frames", type=int, default=4, help="time points")
    parser.add_argument("--gib", type=float, help="size of all voxels, GiB; instead of --frames")
    parser.add_argument("--enlarge", type=int, default=1, help="repeats of each voxel along each axis")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--marks", type=int, default=0, help="nuclei of one embryo to mark in the first frame")
    parser.add_argument("--pyramid", action="store_true", help="also write smaller levels, for viewers")
    return parser.parse_args()


def main():
    given = arguments()
    voxels = int(np.prod(given.frame))
    n_frames = given.frames if given.gib is None else max(1, round(given.gib * 2**30 / (2 * voxels)))
    movie = Mosaic(given.frame, n_frames, given.enlarge, given.seed)
    options = WriteOptions(levels=None if given.pyramid else [(1, 1, 1)], chunks=(32, 128, 128), compression=1)
    started = time.perf_counter()
    writing = writing_bdv if given.out.suffix == ".xml" else writing_ome_zarr
    for done in writing(given.out, movie, options=options):
        print(f"frame {done} of {n_frames}, {time.perf_counter() - started:.0f} s", flush=True)
    name = given.out.name.removesuffix(".zarr").removesuffix(".ome").removesuffix(".xml")
    truth = replace(movie.truth(), attributes={"image": str(given.out.resolve())})
    for ending in ("mastodon", "geff"):
        write_tracks(given.out.with_name(f"{name}-truth.{ending}"), truth, image=movie)
    if given.marks:
        chosen = movie.moved(marks(movie.movies[movie._kind((0, 0, 0))], given.marks), (0, 0, 0))
        chosen = replace(chosen, attributes={"image": str(given.out.resolve())})
        write_tracks(given.out.with_name(f"{name}-marks.mastodon"), chosen, image=movie)
    stored = given.out.with_suffix(".h5") if given.out.suffix == ".xml" else given.out
    files = [stored] if stored.is_file() else [file for file in stored.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(
        f"{2 * voxels * n_frames / 2**30:.2f} GiB of voxels in {size / 2**30:.3f} GiB, {truth.n_spots} nuclei, "
        f"{len(truth.links)} links, {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
