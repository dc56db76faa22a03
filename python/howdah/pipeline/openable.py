"""Whether Mastodon and TrackMate will open the movie that a result names; where they will not, what to do."""

from __future__ import annotations

import logging
from pathlib import Path

from bdv_io import ImageSeries
from bdv_io.formats import Format
from bdv_io.image import Hints

__all__ = ["warn_unopenable"]

log = logging.getLogger("howdah")

SAID_BY_FILE = ("axes", "voxel_size", "unit")
TIFF = (".tif", ".tiff")


def warn_unopenable(writer: Format, movie: ImageSeries | None, hints: Hints | None = None) -> None:
    """Log a warning if the program that ``writer`` writes for cannot open the movie, or will see it differently.

    Mastodon opens BigDataViewer XML, and through ImageJ a TIFF; TrackMate opens what ImageJ opens. Both read axes and voxel
    size from the file, and know nothing of what a user told Howdah.
    """
    if movie is None or movie.path is None or writer.key not in ("mastodon", "trackmate"):
        return
    path, program = movie.path, "Mastodon" if writer.key == "mastodon" else "TrackMate"
    ending = ".xml" if writer.key == "mastodon" else ".tif"
    advice = f"If it shall: howdah convert {path} {_beside(path, ending)}, and give that with --image."
    is_tiff = path.suffix.lower() in TIFF and path.is_file()
    if not is_tiff and not (writer.key == "mastodon" and path.suffix.lower() == ".xml"):
        log.warning("%s will not open the movie by itself: %s is no %s. %s", program, path, _wanted(writer), advice)
    elif is_tiff and hints is not None and set(hints.given) & set(SAID_BY_FILE):
        said = " and ".join(name.replace("_", " ") for name in hints.given if name in SAID_BY_FILE)
        log.warning(
            "%s does not know the %s that the options gave, for %s does not say it. Convert it with the same options "
            "(howdah convert %s %s ...), and give that with --image.",
            program,
            said,
            path,
            path,
            _beside(path, ".xml" if writer.key == "mastodon" else "-said.tif"),
        )


def _wanted(writer: Format) -> str:
    return "BigDataViewer XML or TIFF" if writer.key == "mastodon" else "TIFF"


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(
        path.name.removesuffix(".zarr").removesuffix(".ome").split(".tif")[0].removesuffix(".xml") + ending
    )
