"""Raw movies for TAP: every image that :mod:`bdv_io` reads, several channels together, frames and regions read when they are needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries
from bdv_io.stills import Stills
from howdah.errors import ConfigError, DataError
from howdah.methods.tap.config import TapConfig
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.sources import Source
from howdah.pipeline.stills import open_job

if TYPE_CHECKING:
    from howdah.methods.tap.movies import Movie

Array = npt.NDArray[Any]
Region = tuple[slice, slice, slice]

__all__ = ["Opened", "cut", "movies_of", "open_movie", "open_movies", "opened_of"]

log = logging.getLogger("howdah")


@dataclass(frozen=True, eq=False)
class Opened:
    """A source, and its movie as TAP sees it.

    Attributes:
        source: The files.
        frames: Frames of the file that are worked on, those that are missing left out.
        setups: Positions of the setups that are the movie's channels.
        movie: The movie; its frames have the numbers of the file.
    """

    source: Source
    frames: tuple[int, ...]
    setups: tuple[int, ...]
    movie: Movie


def movies_of(jobs: Job | Sequence[Job], config: TapConfig) -> list[Movie]:
    """Open the movies of some jobs, to learn from them.

    Args:
        jobs: Movies, projects that name theirs, folders of images. ``frames``: the movie is cut to these, so that its frame 0 is the
            first of them; those between that were not named count as missing. ``setup``: the channel.
        config: ``channels``: setups that are read together instead.

    Raises:
        DataError: A movie has no frame, or its channels differ in size.
        ConfigError: There is no such channel.
        BdvIoError: As the sentence says.
    """
    return [cut(opened) for opened in open_movies(jobs, config)]


def open_movies(jobs: Job | Sequence[Job], config: TapConfig) -> list[Opened]:
    """Open the movies of some jobs, with the numbers of their files' frames. See :func:`movies_of`."""
    return [open_movie(job, config) for job in ([jobs] if isinstance(jobs, Job) else jobs)]


def open_movie(job: Job, config: TapConfig) -> Opened:
    """Open the movie of a job; frames that were not asked for can be read, too (they may be the later frame of a pair).

    Raises:
        DataError, ConfigError, BdvIoError: See :func:`movies_of`.
    """
    source, frames = open_job(job)
    source = _in_order(source, job)
    return opened_of(source, frames, config)


def opened_of(source: Source, frames: Sequence[int], config: TapConfig) -> Opened:
    """Return the movie of a source that is open."""
    with _needs_torch():
        from howdah.methods.tap.movies import Movie
    image, path = source.image, source.image.path or Path("movie")
    setups = config.channels or (source.setup,)
    for setup in setups:
        if setup >= len(image.setups):
            names = ", ".join(f"{i} ({s.name or s.id})" for i, s in enumerate(image.setups))
            raise ConfigError(f"Channel {setup} was asked for, but {path} has {len(image.setups)}: {names}.")
    there = [t for t in range(image.n_frames) if not any(image.is_missing(t, setup) for setup in setups)]
    if not there:
        raise DataError(f"{path} has no frame in which all channels ({_listed(setups)}) are there.")
    shapes = {t: image.shape(t, setups[0]) for t in there}
    shape = max(set(shapes.values()), key=list(shapes.values()).count)
    for setup in setups[1:]:
        other = image.shape(there[0], setup)
        if other != shapes[there[0]]:
            raise DataError(
                f"The channels of {path} differ in size: channel {setups[0]} has (Z, Y, X) = {shapes[there[0]]} pixels, channel {setup} "
                f"has {other}. They are read together, pixel on pixel: choose channels of one size (--channels)."
            )
    odd = [t for t in there if shapes[t] != shape]
    if odd:
        log.warning(
            "%d frames of %s are of another size than the others, %s, and are left out: %s.",
            len(odd),
            path,
            " x ".join(map(str, shape)),
            _listed(odd),
        )
    usable = [t for t in there if shapes[t] == shape]
    size = np.linalg.norm(image.affine(usable[0], setups[0])[:3, :3], axis=0).tolist()
    movie = Movie(
        name=str(path),
        n_frames=image.n_frames,
        shape=shape,
        voxel_size=(size[0], size[1], size[2]),
        channels=len(setups),
        read=_reader(image, setups),
        missing=frozenset(range(image.n_frames)) - frozenset(usable),
    )
    wanted = set(frames)
    return Opened(source, tuple(t for t in usable if t in wanted), tuple(setups), movie)


def _reader(image: ImageSeries, setups: Sequence[int]) -> Callable[[int, Region | None], Array]:
    """Return what reads channels of a frame, or of a region of it, as (C, Z, Y, X)."""

    def read(frame: int, region: Region | None = None) -> Array:
        planes = [image.read(frame, setup, region=region) for setup in setups]
        return planes[0][None] if len(planes) == 1 else np.stack(planes)

    return read


def cut(opened: Opened) -> Movie:
    """Return the movie from the first to the last frame that is worked on, the first one being frame 0.

    Raises:
        DataError: None of the frames is there.
    """
    movie, frames = opened.movie, opened.frames
    if not frames:
        raise DataError(f"None of the frames that were asked for is there in {movie.name}. Name others: --frames")
    if len(frames) + len(movie.missing) == movie.n_frames:
        return movie
    first, last = frames[0], frames[-1]
    kept = set(frames)
    read = movie.read
    return replace(
        movie,
        name=f"{movie.name} (frames {first} to {last})",
        n_frames=last - first + 1,
        read=lambda frame, region: read(frame + first, region),
        missing=frozenset(t - first for t in range(first, last + 1) if t not in kept),
    )


def _in_order(source: Source, job: Job) -> Source:
    """Take a folder of pictures as a movie: frames in the order of the numbers in their names, not of their letters."""
    stills = source.image
    if not isinstance(stills, Stills) or stills.path is None:
        return source
    files = sorted(stills.files, key=lambda file: _natural(file.name))
    log.info(
        "The %d images in %s are taken as the frames of a movie, in the order of the numbers in their names: from %s to %s.",
        len(files),
        stills.path,
        files[0].name,
        files[-1].name,
    )
    return replace(source, image=Stills(stills.path, files, hints=job.hints))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """What to sort names by, so that t2 comes before t10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in re.split(r"(\d+)", name)]


def _listed(numbers: Sequence[int], most: int = 10) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown
