"""A movie as a folder of numbered TIFFs, such as ``t000.tif, t001.tif`` or ``img_t001_z003_c1.tif``.

The numbers that differ from name to name count time points, planes or channels, by the letter or word before them; where
that says nothing, the hint ``axes`` does: first a letter for each number, then the axes of each file. Gaps in the numbers
of time are missing frames. Each file says what it holds itself; pages of a file that says nothing are planes.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import F64, Array, Hints, Region, Shape
from bdv_io.tiff.directories import I64, is_tiff_file
from bdv_io.tiff.read import TiffImage, allocated, bounded, open_file

__all__ = ["TiffFolder", "is_tiff_folder", "open_folder"]

log = logging.getLogger(__name__)

SUFFIXES = (".tif", ".tiff")
OTHER_FORMATS = ("project.xml", ".zattrs", ".zgroup", "zarr.json", "attributes.json")
WORDS = {
    "T": ("t", "time", "timepoint", "tp", "tm", "frame", "man_track", "man_seg", "mask"),
    "Z": ("z", "slice", "plane"),
    "C": ("c", "ch", "chan", "channel"),
}
LETTERS = {word: letter for letter, words in WORDS.items() for word in words}
NUMBER = re.compile(r"\d+")
OPEN_FILES = 16
WIDEST_GAP = 1000  # frames; wider ones must be outnumbered by the files


def is_tiff_folder(path: Path) -> bool:
    """Whether a folder holds a numbered TIFF, and is nothing else."""
    try:
        if not path.is_dir() or any((path / name).exists() for name in OTHER_FORMATS):
            return False
        return any(NUMBER.search(file.stem) and is_tiff_file(file) for file in _tiffs(path))
    except OSError:
        return False


def _tiffs(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))


@dataclass(frozen=True, eq=False)
class _Names:
    """What the names of the files say: a (T, C, Z) table of indices into ``files`` (-1: none), and numbers of time."""

    files: tuple[Path, ...]
    table: I64
    timepoints: tuple[int, ...]
    letters: str


class TiffFolder:
    """A folder of numbered TIFFs as one movie; implements :class:`bdv_io.image.ImageSeries`.

    It may be read from several threads, pickled, and used after a fork. Files are opened when they are read; one that
    differs from the first in size, type or channels is an error that names it.
    """

    format = "folder of TIFF"

    def __init__(self, path: Path, names: _Names, first: TiffImage, hints: Hints) -> None:
        self.path: Path | None = path
        self.names, self._hints = names, hints
        self.n_frames, by_name, in_name = names.table.shape
        self.timepoints = names.timepoints
        self.interval = first.interval
        z, y, x = first.setups[0].shape
        shape, self._inside = (z * in_name, y, x), len(first.setups)
        self._first = (first.setups[0].shape, first.setups[0].dtype)
        titles = [s.name for s in first.setups] if by_name == 1 else [f"channel {c + 1}" for c in range(by_name)]
        several = len(titles) > 1 or bool(titles[0])
        self.setups = tuple(
            replace(
                first.setups[0], id=i, name=t, shape=shape, levels=((1.0, 1.0, 1.0),),
                attributes={"channel": (i, t)} if several else {},
            )
            for i, t in enumerate(titles)
        )  # fmt: skip
        self._incomplete = np.any(names.table < 0, axis=2)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[int, TiffImage] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_lock", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Whether there is no file of this number, or not all its planes."""
        self._check(frame, setup, 0)
        return bool(self._incomplete[frame, setup if self._inside == 1 else 0])

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of a view."""
        self._check(frame, setup, level)
        return self.setups[setup].shape

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix from voxel indices (z, y, x, 1) to the world: a scaling by the voxel size."""
        self._check(frame, setup, level)
        return np.diag([*self.setups[setup].voxel_size, 1.0])

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Read a view, or a region (three slices z, y, x) of it, as a (Z, Y, X) array in native byte order.

        Raises:
            MissingDataError: No such frame or setup, or there is no file of it.
            FormatError: A file is damaged or differs from the first.
        """
        if self.is_missing(frame, setup):
            raise MissingDataError(
                f"Reading frame {frame} (number {self.timepoints[frame]}), setup {setup} of {self.path} failed: there is no file of "
                "it. Ask is_missing() first, and leave it out."
            )
        self._check(frame, setup, level)
        channel, inside = (setup, 0) if self._inside == 1 else (0, setup)
        files = self.names.table[frame, channel]
        z, y, x = bounded(region, self.setups[setup].shape)
        if len(files) == 1:
            return self._file(int(files[0])).read(0, inside, region=(z, y, x))
        chosen = files[z].tolist()
        planes = [self._file(file).read(0, inside, region=(slice(None), y, x))[0] for file in chosen]
        height, width = len(range(y.start, y.stop, y.step)), len(range(x.start, x.stop, x.step))
        out = allocated((len(planes), height, width), self.setups[setup].dtype, self.path)
        for index, plane in enumerate(planes):
            out[index] = plane
        return out

    def close(self) -> None:
        """Let go of open files. Reading afterwards opens them again."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def _file(self, index: int) -> TiffImage:
        with self._lock:
            if index in self._open:
                self._open.move_to_end(index)
                return self._open[index]
        image = open_file(self.names.files[index], hints=self._hints, unmarked="Z")
        _check_file(image, self.names.files[index], *self._first, self._inside)
        with self._lock:
            self._open[index] = image
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return image

    def _check(self, frame: int, setup: int, level: int) -> None:
        if not (0 <= frame < self.n_frames and 0 <= setup < len(self.setups) and level == 0):
            raise MissingDataError(
                f"Frame {frame}, setup {setup}, level {level} of {self.path} was asked for; it has {self.n_frames} frames, "
                f"{len(self.setups)} setups and one level, all counted from 0."
            )


def _check_file(image: TiffImage, file: Path, shape: Shape, dtype: np.dtype[Any], channels: int) -> None:
    setup = image.setups[0]
    if (setup.shape, setup.dtype, len(image.setups), image.n_frames) != (shape, dtype, channels, 1):
        raise FormatError(
            f"Reading {file} failed: it holds {image.n_frames} frames, {len(image.setups)} channels of {setup.shape} {setup.dtype}, "
            f"the first file of the folder 1, {channels} of {shape} {dtype}. Take it out of the folder, or mend it."
        )


def open_folder(path: Path, *, hints: Hints) -> TiffFolder:
    """Open a folder of numbered TIFFs.

    Raises:
        FormatError: The names do not say what their numbers mean, follow several patterns, or files disagree.
        MissingDataError: The folder holds no numbered TIFF.
    """
    files = [file for file in _tiffs(path) if NUMBER.search(file.stem)]
    if not files:
        raise MissingDataError(f"Opening the folder {path} as a movie failed: {_what_instead(path)}")
    numbers, words = _numbers(path, files)
    first = _first_letters(path, files[0], numbers, words, hints.axes)
    inside = hints.axes[len(first) :] if hints.axes is not None else None
    own = replace(hints, axes=inside)
    image = open_file(files[0], hints=own, unmarked="" if "Z" in first and inside is None else "Z")
    _no_axis_twice(path, files[0], first, image)
    names = _table(path, files, numbers, first)
    movie = TiffFolder(path, names, image, own)
    _check_file(image, files[0], image.setups[0].shape, image.setups[0].dtype, len(image.setups))
    movie._file(len(names.files) - 1)
    return movie


def _what_instead(path: Path) -> str:
    inner = sorted(f.name for f in path.iterdir() if f.is_dir() and any(f.glob("*.[tT][iI][fF]*")))
    if inner:
        return f"it holds folders of TIFFs ({', '.join(inner[:6])}), not TIFFs. Name the one with the movie, such as {path / inner[0]}."
    return "it holds no TIFF with a number in its name."


def _numbers(path: Path, files: Sequence[Path]) -> tuple[I64, list[str]]:
    """Return the (files, n) numbers that differ from name to name, and the text before each of the n."""
    patterns = Counter(NUMBER.sub("#", file.stem) for file in files)
    if len(patterns) > 1:
        listed = ", ".join(f"{count} as {text}" for text, count in patterns.most_common(4))
        raise FormatError(
            f"Opening the folder {path} as a movie failed: its TIFFs are named by several patterns ({listed}; # is a number). Put "
            "the files of one movie into a folder of their own."
        )
    if any(len(run) > 15 for file in files for run in NUMBER.findall(file.stem)):
        raise FormatError(
            f"Opening the folder {path} as a movie failed: the names hold numbers of more than 15 digits."
        )
    found = np.array([[int(run) for run in NUMBER.findall(file.stem)] for file in files], dtype=np.int64)
    texts = NUMBER.split(files[0].stem)[:-1]
    words = [text.rstrip("_-. =").lower() for text in texts]
    varying = [column for column in range(found.shape[1]) if len(np.unique(found[:, column])) > 1]
    if not varying:
        varying = [found.shape[1] - 1]  # one file: its last number
    return found[:, varying], [words[column] for column in varying]


def _first_letters(path: Path, file: Path, numbers: I64, words: Sequence[str], axes: str | None) -> str:
    """Return which axis each number of the names counts."""
    n = numbers.shape[1]
    if axes is not None:
        given = axes[:n]
        if len(given) < n or set(given) - set("TCZ") or not axes[n:].endswith("YX"):
            raise FormatError(
                f"Opening the folder {path} failed: the axes {axes} were given; expected a letter of T, C, Z for each of the {n} "
                f"numbers that count in {file.name}, then the axes of each file, for example {'TZ' if n == 2 else 'T'}YX."
            )
        return given
    letters = [_letter(word) for word in words]
    if "" in letters or len(set(letters)) < n:
        counts = " x ".join(str(len(np.unique(column))) for column in numbers.T)
        raise FormatError(
            f"Opening the folder {path} failed: the names, such as {file.name}, do not say what their {counts} numbers count. Say "
            f"it: {'--axes TYX if they are time points, --axes ZYX if they are planes' if n == 1 else '--axes TZYX, for example'} "
            "(a letter for each number, then the axes of each file)."
        )
    return "".join(letters)


def _letter(word: str) -> str:
    whole = LETTERS.get(word, "")
    last = re.split(r"[^a-z]+", word)[-1]
    return whole or LETTERS.get(last, "")


def _no_axis_twice(path: Path, file: Path, letters: str, image: TiffImage) -> None:
    inside = {"T": image.n_frames, "C": len(image.setups), "Z": image.setups[0].shape[0]}
    twice = [letter for letter in letters if inside[letter] > 1]
    if twice or image.n_frames > 1:
        axis = (twice or ["T"])[0]
        if image.format == "OME-TIFF":
            raise FormatError(
                f"Opening the folder {path} failed: its file {file.name} is an OME-TIFF that says itself how the files belong "
                f"together ({inside[axis]} along {axis}). Open {file} alone."
            )
        raise FormatError(
            f"Opening the folder {path} failed: its file {file.name} says that it holds {inside[axis]} along {axis} itself, where one "
            f"was expected. If these are something else, say so: --axes TZYX means one time point a file, with planes in it."
        )


def _table(path: Path, files: Sequence[Path], numbers: I64, letters: str) -> _Names:
    """Order the files by their numbers; for time, every number between the first and the last has a place."""
    places = {}
    timepoints: Sequence[int] = (0,)
    for column, letter in enumerate(letters):
        values = np.unique(numbers[:, column])
        if letter == "T":
            low, high = int(values[0]), int(values[-1])
            if high - low >= max(WIDEST_GAP, 10 * len(values)):
                raise FormatError(
                    f"Opening the folder {path} failed: its {len(values)} time points are numbered from {low} to {high}. With so "
                    "many missing these are no numbers of frames; rename the files."
                )
            timepoints = range(low, high + 1)
            places[letter] = numbers[:, column] - low
        else:
            places[letter] = np.searchsorted(values, numbers[:, column])
    shape = tuple(int(places[c].max()) + 1 if c in places else 1 for c in "TCZ")
    index = tuple(places.get(c, np.zeros(len(files), dtype=np.int64)) for c in "TCZ")
    table = np.full(shape, -1, dtype=np.int64)
    table[index] = np.arange(len(files))
    if (table >= 0).sum() < len(files):
        raise FormatError(
            f"Opening the folder {path} failed: two of its files have the same numbers, such as t1 and t01."
        )
    gone = (table < 0).all(axis=2)
    part = (table < 0).any(axis=2) & ~gone
    if gone.any():
        log.warning("%s: %d of %d views have no file and count as missing.", path, int(gone.sum()), gone.size)
    if part.any():
        frame = int(np.argwhere(part)[0][0])
        log.warning(
            "%s: %d views lack files of some planes and count as missing, the first is frame %d.",
            path,
            int(part.sum()),
            frame,
        )
    return _Names(tuple(files), table, tuple(timepoints), letters)
