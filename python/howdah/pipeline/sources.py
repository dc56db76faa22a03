"""Opens what a user hands in: a movie, a project that names its movie, or both."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, MissingDataError, Tracks, WriteError
from bdv_io.formats import identify, open_image, read_tracks
from bdv_io.image import Hints, Region
from howdah.errors import ConfigError, DataError

PathLike = str | os.PathLike[str]

__all__ = [
    "FrameReader",
    "Source",
    "as_shown",
    "check_inside",
    "check_target",
    "default_target",
    "frame_reader",
    "frames_beside",
    "movie_of",
    "open_source",
    "parse_frames",
]

DIGITS = 9


@dataclass(frozen=True)
class Source:
    """A movie with its annotation, and the files that they came from."""

    image: ImageSeries
    tracks: Tracks
    files: tuple[Path, ...]
    setup: int = 0

    @property
    def inputs(self) -> dict[str, Path]:
        """The files by what they are, for the record: ``image``, and ``project`` where there is one."""
        return {("image" if path == self.image.path else "project"): path for path in self.files}

    def reader(self, temporal_mean: int = 0) -> FrameReader:
        """Return what reads frames of the setup; see :func:`frame_reader`."""
        return frame_reader(self.image, self.setup, temporal_mean)

    @property
    def is_project(self) -> bool:
        """Whether the first file is an annotation (else it is the movie itself)."""
        return bool(self.files) and self.files[0] != self.image.path


class FrameReader(Protocol):
    """Reads a frame (Z, Y, X), or a region of it (three slices with start and stop)."""

    def __call__(self, frame: int, *, region: Region | None = None) -> npt.NDArray[Any]: ...  # noqa: D102


def frame_reader(image: ImageSeries, setup: int, temporal_mean: int = 0) -> FrameReader:
    """Return what reads frames of a movie.

    Args:
        image: The movie.
        setup: Position of the view setup.
        temporal_mean: Frames on either side that a frame is averaged with (float32 then); near the ends of the movie as
            many frames on the side where there are some. Missing frames, and frames of another size, are left out.
    """

    def read(frame: int, *, region: Region | None = None) -> npt.NDArray[Any]:
        return image.read(frame, setup, region=region)

    def mean(frame: int, *, region: Region | None = None) -> npt.NDArray[Any]:
        first = max(min(frame - temporal_mean, image.n_frames - 1 - 2 * temporal_mean), 0)
        around = range(first, min(first + 2 * temporal_mean + 1, image.n_frames))
        total, count = read(frame, region=region).astype(np.float32), 1
        for other in around:
            alike = not image.is_missing(other, setup) and image.shape(other, setup) == image.shape(frame, setup)
            if other != frame and alike:
                total += read(other, region=region)
                count += 1
        return np.asarray(total / np.float32(count))

    return mean if temporal_mean else read


def open_source(path: PathLike, *, image: PathLike | None = None, setup: int = 0, hints: Hints | None = None) -> Source:
    """Open a project with its movie, or a movie alone (then the annotation is empty).

    Args:
        path: An annotation that names its movie, or a movie.
        image: The movie, where the project does not name it or names one that has moved.
        setup: Position of the view setup (channel) that will be worked on.
        hints: What is known of the movie, and its file does not say.

    Raises:
        MissingDataError: The project's movie is not there; the sentence says where it was looked for.
        ConfigError: There is no such setup.
    """
    given = Path(path)
    if identify(given).kind == "image":
        movie = open_image(given, hints=hints)
        interval = movie.interval
        tracks = Tracks.empty(
            space_unit=movie.setups[0].unit,
            time_unit=interval[1] if interval else "frame",
            interval=interval[0] if interval else None,
        )
        files = [movie.path or given]
    else:
        tracks = read_tracks(given)
        movie = open_image(movie_of(given, tracks, image), hints=hints)
        files = [given]
    if movie.path is not None and movie.path not in files:
        files.append(movie.path)
    if not 0 <= setup < len(movie.setups):
        names = ", ".join(f"{i} ({s.name or s.id})" for i, s in enumerate(movie.setups))
        raise ConfigError(f"Setup {setup} was asked for, but {movie.path} has {len(movie.setups)}: {names}.")
    return Source(movie, tracks, tuple(files), setup)


def as_shown(path: PathLike, tracks: Tracks) -> Tracks:
    """Return the annotation with the numbers of spots that a person sees.

    Mastodon keeps no numbers: it shows those of the rows (where a spot has no label), so these count in its projects.
    """
    return tracks.renumbered() if identify(Path(path)).key == "mastodon" else tracks


def movie_of(project: Path, tracks: Tracks, image: PathLike | None) -> Path:
    """Return the movie of an annotation: the one that the user names, or the one that it names.

    Raises:
        MissingDataError: It names none, or that is not there.
    """
    if image is not None:
        return Path(image)
    named = tracks.attributes.get("image", "")
    if not named:
        raise MissingDataError(f"{project} names no image. Name it: --image FILE.xml")
    if not Path(named).exists():
        stored = tracks.attributes.get("image_stored", named)
        tried = f"{named}" if stored == named else f"{named} (stored in the project as {stored})"
        raise MissingDataError(
            f"The image of {project} is not there; tried {tried}. If it has moved, name it: --image FILE.xml"
        )
    return Path(named)


def default_target(path: PathLike, ending: str) -> Path:
    """Return where a result goes if the user does not say: beside the source, ``name-<ending>``."""
    given = Path(path)
    if not given.name or given.name == "..":
        raise ConfigError(f"'{path}' names no file. Give a project or a movie.")
    return given.with_name(f"{given.stem}-{ending}")


def check_target(
    target: PathLike, source: Source | None = None, *, ending: str = "", in_place: bool = False, folder: bool = False
) -> Path:
    """Return the target as a path, or say why nothing should be written there, before any work is done.

    Args:
        target: Where a result shall go.
        source: What the result is made from; its movie is never a target, its project only if ``in_place``.
        ending: Ending that the target must have, if any.
        folder: The result may take the place of a folder; what writes it says if it cannot.
        in_place: The result may take the place of the project (its former version is kept as ``name~1~``).

    Raises:
        ConfigError: The target names no file, has another ending, or is an input.
        WriteError: Its folder is not there or may not be written to.
    """
    path = Path(target)
    if not path.name or path.name == "..":
        raise ConfigError(f"Writing to '{target}' is not possible: it names no file.")
    if ending and path.suffix.lower() != ending:
        raise ConfigError(f"Writing to {path} is not possible: the name must end in {ending}.")
    for number, file in enumerate(_input_files(source) if source else ()):
        if file.resolve() == path.resolve() and not (in_place and number == 0 and source and source.is_project):
            raise ConfigError(f"Writing to {path} is not possible: it is an input. Name another target.")
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise WriteError(f"Writing {str(path)[:80]} is not possible: {error.strerror}. Choose another name.") from error
    if is_folder and not folder and (ending or path.suffix.lower() != ".mastodon"):
        raise WriteError(f"Writing {path} is not possible: there is a folder of this name. Choose another name.")
    if not path.parent.is_dir():
        raise WriteError(
            f"Writing {path} is not possible: the folder {path.parent} does not exist. Make the folder first."
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise WriteError(f"Writing {path} is not possible: the folder {path.parent} may not be written to.")
    return path


def frames_beside(source: Source, time: int, read: Callable[[int], npt.NDArray[Any]]) -> list[npt.NDArray[Any] | None]:
    """Return the frames before and after one, None where there is none of its size.

    Args:
        source: The movie.
        time: The frame.
        read: Reads a frame (Z, Y, X) of it.
    """
    image, setup = source.image, source.setup
    shape = image.shape(time, setup)

    def there(other: int) -> bool:
        inside = 0 <= other < image.n_frames and not image.is_missing(other, setup)
        return inside and image.shape(other, setup) == shape

    return [read(other) if there(other) else None for other in (time - 1, time + 1)]


def _input_files(source: Source) -> list[Path]:
    pixels = getattr(source.image, "pixel_path", None)
    return [*source.files, *([pixels] if isinstance(pixels, Path) else [])]


def parse_frames(text: str | None, n_frames: int) -> list[int]:
    """Turn ``"0-4,9"`` into frames; None means all.

    Raises:
        ConfigError: The text is no list of frames, or a frame is not in the movie.
    """
    if text is None:
        return list(range(n_frames))
    frames: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f"'{text}' is no list of frames. Write for example 0-4,9 (frames count from 0).")
        start, stop = first.lstrip("0") or "0", (last or first).lstrip("0") or "0"
        if max(len(start), len(stop)) > DIGITS or int(stop) >= n_frames:
            raise ConfigError(f"Frame {stop[:DIGITS]} was asked for, but the movie has frames 0 to {n_frames - 1}.")
        if int(start) > int(stop):
            raise ConfigError(f"'{part.strip()}' is no range of frames: it runs backwards. Write {stop}-{start}.")
        frames.update(range(int(start), int(stop) + 1))
    return sorted(frames)


def check_inside(tracks: Tracks, source: Source, rows: Sequence[int] | npt.NDArray[np.intp]) -> None:
    """Raise a DataError if one of these spots has its centre outside of the movie, in space or time."""
    image, setup = source.image, source.setup
    late = [row for row in rows if tracks.t[row] >= image.n_frames]
    if late:
        raise DataError(
            f"Spot {tracks.id[late[0]]} is at frame {tracks.t[late[0]]}, but {image.path} has {image.n_frames} frames. "
            f"{len(late)} annotations lie outside of the image: is it the right image?"
        )
    selected = np.asarray(rows, dtype=np.intp)
    for frame in np.unique(tracks.t[selected]):
        here = selected[tracks.t[selected] == frame]
        if image.is_missing(int(frame), setup):
            raise DataError(
                f"Spot {tracks.id[here[0]]} is at frame {frame}, which is missing in {image.path}. "
                "Leave that frame out (--frames), or delete the annotation there."
            )
        to_voxel = np.linalg.inv(image.affine(int(frame), setup))
        voxel = tracks.centre[here] @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        shape = np.array(image.shape(int(frame), setup))
        outside = ((voxel < -0.5) | (voxel > shape - 0.5)).any(axis=1)
        if outside.any():
            row = here[outside][0]
            place = ", ".join(f"{value:.1f}" for value in tracks.centre[row])
            raise DataError(
                f"Spot {tracks.id[row]} at frame {frame}, (z, y, x) = ({place}) {tracks.space_unit}, lies outside of the image "
                f"{image.path} ({', '.join(map(str, shape))} voxels). {int(outside.sum())} of {len(here)} annotations of this frame do: "
                "is it the right image, and has its registration changed?"
            )
