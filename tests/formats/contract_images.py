"""What every image format must do: the contract that the tests of all image readers and writers inherit.

As for annotations (:mod:`formats.contract`): what a format says that it keeps comes back equal; of all else ``lost`` says in a
sentence that it does not, or the writer refuses with one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bdv_io.errors import BdvIoError
from bdv_io.formats import Format, format_named, identify, open_image, write_image, writing_image
from bdv_io.image import Array, ArrayImage, ImageSeries, Region, Setup, WriteOptions


class Movie(ArrayImage):
    """A movie in memory that can be everything that a movie can be."""

    def __init__(self, frames: Any, *, affines: Any = None, missing: Any = (), setups: Any = None, **more: Any) -> None:
        super().__init__(frames, **more)
        self._affines, self._missing = affines, set(missing)
        if setups is not None:
            self.setups = setups

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        return (frame, setup) in self._missing

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> Any:
        plain = np.diag([*self.setups[setup].voxel_size, 1.0])
        return plain if self._affines is None else self._affines(frame, setup) @ plain


class Mixed(Movie):
    """Setups of different size and type."""

    def __init__(self, views: Sequence[Array]) -> None:
        super().__init__([views[0]] * 2)
        self._views = views
        self.setups = tuple(
            Setup(
                i, f"view {i}", view.shape, (1.0, 1.0, 1.0), "pixel", view.dtype, attributes={"angle": (i, str(90 * i))}
            )  # type: ignore[arg-type]
            for i, view in enumerate(views)
        )

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Any:
        return self._views[setup].shape

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        return self._views[setup] if region is None else self._views[setup][region]


def pixels(dtype: Any = np.uint16, shape: tuple[int, ...] = (3, 12, 40, 48)) -> Array:
    random = np.random.default_rng(1)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 100, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def same_pixels(a: ImageSeries, b: ImageSeries) -> bool:
    if (a.n_frames, len(a.setups)) != (b.n_frames, len(b.setups)):
        return False
    for t in range(a.n_frames):
        for s in range(len(a.setups)):
            if a.is_missing(t, s):
                continue
            mine, theirs = a.read(t, s), b.read(t, s)
            if mine.dtype != theirs.dtype or not np.array_equal(mine, theirs):
                return False
            part = (slice(2, 9), slice(5, 30), slice(7, 44))
            if not np.array_equal(theirs[part], b.read(t, s, region=part)):
                return False
    return True


def same_places(a: ImageSeries, b: ImageSeries) -> bool:
    return all(
        np.allclose(a.affine(t, s), b.affine(t, s), rtol=1e-6, atol=1e-6)
        for t in range(a.n_frames)
        for s in range(len(a.setups))
    )


def tilted(frame: int, setup: int) -> Array:
    angle = 0.3 + 0.1 * setup
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = (1.0, -2.5, 3.0 + frame)
    return matrix


def _angles() -> Movie:
    two = tuple(
        Setup(i, f"view {i}", (12, 40, 48), (1.0, 1.0, 1.0), "pixel", np.dtype(np.uint16), attributes=attributes)
        for i, attributes in enumerate(
            ({"channel": (0, "a"), "angle": (0, "0")}, {"channel": (0, "a"), "angle": (1, "90")})
        )
    )
    return Movie(pixels(shape=(2, 2, 12, 40, 48)), setups=two)


def _numbered() -> Movie:
    movie = Movie(pixels())
    movie.timepoints = (4, 7, 8)
    return movie


def facts(movie: ImageSeries) -> list[Any]:
    """What a setup says; the name of the only channel is none, and micron is another word for µm."""
    several = len(movie.setups) > 1
    return [(s.name if several else "", s.shape, s.unit.replace("micron", "µm"), s.dtype) for s in movie.setups]


SIZE = (2.0, 0.5, 0.25)
IMAGE_ASPECTS: dict[str, tuple[Callable[[], ImageSeries], Callable[[ImageSeries, ImageSeries], bool]]] = {
    "pixels": (lambda: Movie(pixels()), same_pixels),
    "2D movies": (lambda: Movie(pixels(shape=(4, 1, 40, 48))), same_pixels),
    "one frame": (lambda: Movie(pixels(shape=(1, 12, 40, 48))), same_pixels),
    "8-bit": (lambda: Movie(pixels(np.uint8)), same_pixels),
    "signed 16-bit": (lambda: Movie(pixels(np.int16)), same_pixels),
    "32-bit whole numbers": (lambda: Movie(pixels(np.uint32)), same_pixels),
    "32-bit float": (lambda: Movie(pixels(np.float32)), same_pixels),
    "channels and their names": (
        lambda: Movie(pixels(shape=(2, 3, 12, 40, 48)), channels=["H2B", "Membran Ä", "核"]),
        lambda a, b: same_pixels(a, b) and [s.name for s in a.setups] == [s.name for s in b.setups],
    ),
    "voxel size": (
        lambda: Movie(pixels(), voxel_size=SIZE),
        lambda a, b: np.allclose(b.setups[0].voxel_size, SIZE, rtol=1e-6) and same_places(a, b),
    ),
    "unit of length": (
        lambda: Movie(pixels(), voxel_size=SIZE, unit="µm"),
        lambda a, b: [s.unit for s in b.setups] == ["µm"],
    ),
    "frame interval": (lambda: Movie(pixels(), interval=(30.5, "s")), lambda a, b: b.interval == (30.5, "s")),
    "rotations and shifts": (lambda: Movie(pixels(), voxel_size=SIZE, affines=tilted), same_places),
    "missing views": (
        lambda: Movie(pixels(shape=(3, 2, 12, 40, 48)), missing={(1, 0), (2, 1)}),
        lambda a, b: (
            same_pixels(a, b) and all(a.is_missing(t, s) == b.is_missing(t, s) for t in range(3) for s in range(2))
        ),
    ),
    "angles and illuminations": (
        _angles,
        lambda a, b: [dict(s.attributes) for s in a.setups] == [dict(s.attributes) for s in b.setups],
    ),
    "numbers of time points": (_numbered, lambda a, b: a.timepoints == b.timepoints),
    "views of different size and type": (
        lambda: Mixed([pixels(shape=(12, 40, 48)), pixels(np.uint8, (10, 50, 60))]),
        same_pixels,
    ),
}


class ImageContract:
    """Inherit, set ``key``, ``name`` and ``keeps``."""

    key: ClassVar[str]
    name: ClassVar[str]
    keeps: ClassVar[frozenset[str]]
    golden: ClassVar[tuple[str, ...]] = ()
    notes: ClassVar[str] = ""

    @property
    def format(self) -> Format:
        return format_named(self.key, "image")

    def write(self, path: Path, image: ImageSeries) -> None:
        write_image(path, image, key=self.key)

    @pytest.mark.parametrize("aspect", IMAGE_ASPECTS)
    def test_what_is_kept_comes_back_and_what_is_lost_is_said(self, aspect: str, tmp_path: Path) -> None:
        make, same = IMAGE_ASPECTS[aspect]
        image, target = make(), tmp_path / self.name
        try:
            self.write(target, image)
        except BdvIoError as refusal:
            if aspect in self.keeps:
                raise
            refused = str(refusal)
            assert len(refused) > 40, refused
            return
        if aspect in self.keeps:
            assert same(image, open_image(target))
            assert identify(target).key == self.key
        else:
            assert self.format.losses(image), f"{aspect} is lost without a word"

    def test_the_aspects_it_keeps_exist(self) -> None:
        assert self.keeps <= set(IMAGE_ASPECTS)

    def test_nothing_is_called_lost_of_an_ordinary_movie(self) -> None:
        assert self.format.losses(Movie(pixels(), voxel_size=SIZE, unit="µm", interval=(30.5, "s"))) == ()

    def test_a_second_round_changes_nothing(self, tmp_path: Path) -> None:
        image = Movie(
            pixels(shape=(2, 2, 12, 40, 48)), voxel_size=SIZE, unit="µm", interval=(2.0, "min"), channels=["a", "b"]
        )
        (tmp_path / "again").mkdir()
        self.write(tmp_path / self.name, image)
        once = open_image(tmp_path / self.name)
        self.write(tmp_path / "again" / self.name, once)
        twice = open_image(tmp_path / "again" / self.name)
        assert same_pixels(once, twice)
        assert same_places(once, twice)
        assert (once.interval, once.timepoints) == (twice.interval, twice.timepoints)
        assert [replace(s, levels=()) for s in once.setups] == [replace(s, levels=()) for s in twice.setups]

    def test_a_writer_that_is_dropped_halfway_leaves_nothing(self, tmp_path: Path) -> None:
        steps = writing_image(tmp_path / self.name, Movie(pixels()), key=self.key)
        assert next(steps) == 1
        steps.close()  # type: ignore[attr-defined]
        assert list(tmp_path.iterdir()) == []
        assert list(writing_image(tmp_path / self.name, Movie(pixels()), key=self.key)) == [1, 2, 3]

    def test_uncompressed_and_most_compressed_are_equal(self, tmp_path: Path) -> None:
        for level in (None, 0, 9):
            write_image(tmp_path / self.name, Movie(pixels()), options=WriteOptions(compression=level), key=self.key)
            assert same_pixels(Movie(pixels()), open_image(tmp_path / self.name))

    @pytest.mark.real
    def test_samples_of_the_real_programs_survive(self, real_data: Path, tmp_path: Path) -> None:
        for number, sample in enumerate(self.golden):
            once = open_image(real_data / sample)
            folder = tmp_path / str(number)
            folder.mkdir()
            self.write(folder / self.name, once)
            twice = open_image(folder / self.name)
            assert same_pixels(once, twice), sample
            if "rotations and shifts" in self.keeps or not self.format.losses(once):
                assert same_places(once, twice), sample
            assert once.interval == twice.interval, sample
            assert facts(once) == facts(twice), sample
