"""From one format to another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io import ImageSeries
from bdv_io.formats import identify, open_image, read_tracks, write_tracks, writer_for
from howdah.errors import ConfigError, DataError
from howdah.pipeline.record import recorded
from howdah.pipeline.sources import check_target
from howdah.progress import Progress, Steps

__all__ = ["convert"]


def convert(
    source: str | os.PathLike[str], out: str | os.PathLike[str], *, image: str | os.PathLike[str] | None = None
) -> Steps[dict[str, Any]]:
    """Convert an annotation, or a movie, to the format that the ending of ``out`` asks for.

    Args:
        source: What to convert.
        out: The target; what stood there before is kept as ``name~1~``.
        image: For annotations: the movie, so that the target can name it.

    Returns:
        Facts of the result.

    Raises:
        ConfigError: Source and target are the same file.
        BdvIoError: The source is damaged, or the target's format cannot hold this kind of data.
    """
    start, target = Path(source), Path(out)
    found = identify(start)
    same = {start.resolve(), start.with_suffix(".h5").resolve()} if found.kind == "image" else {start.resolve()}
    if target.resolve() in same or (found.kind == "image" and target.with_suffix(".h5").resolve() in same):
        raise ConfigError(f"Converting {start} failed: source and target are the same file. Name another target.")
    check_target(target)
    writer_for(target, found.kind)
    with recorded(target, "convert", inputs={"source": start}, settings={}) as record:
        if found.kind == "annotation":
            tracks = read_tracks(start)
            movie = _movie(image or tracks.attributes.get("image"), required=image is not None)
            write_tracks(target, tracks, image=movie)
            record.facts |= {"spots": tracks.n_spots, "links": tracks.n_links}
            yield Progress("convert", 1, 1)
        else:
            yield from _convert_image(open_image(start), target)
    return {"out": str(target), **record.facts}


def _movie(path: str | os.PathLike[str] | None, *, required: bool) -> ImageSeries | None:
    if path is None or (not required and not Path(path).exists()):
        return None
    return open_image(path)


def _convert_image(movie: ImageSeries, target: Path) -> Steps[None]:
    first = movie.setups[0]
    if any(setup.shape != first.shape or setup.dtype != first.dtype for setup in movie.setups):
        raise DataError(f"Converting {movie.path} failed: its setups differ in size or type. Convert them one by one.")
    writer = writer_for(target, "image")
    done: list[int] = []

    def frames() -> Iterator[np.ndarray[Any, Any]]:
        for t in range(movie.n_frames):
            done.append(t)
            views = [
                np.zeros(movie.shape(t, s), setup.dtype) if movie.is_missing(t, s) else movie.read(t, s)
                for s, setup in enumerate(movie.setups)
            ]
            yield np.stack(views)

    yield Progress("convert", 0, movie.n_frames)
    names = [setup.name or f"channel {i + 1}" for i, setup in enumerate(movie.setups)]
    writer.function(writer.write)(target, frames(), voxel_size=first.voxel_size, unit=first.unit, channels=names)
    yield Progress("convert", len(done), movie.n_frames)
