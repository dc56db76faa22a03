"""Putting the result of long work on the disk, whatever happened there meanwhile."""

from __future__ import annotations

import logging
from pathlib import Path

from bdv_io import BusyError, ImageSeries, Tracks
from bdv_io.formats import write_tracks, writer_for
from bdv_io.image import Hints
from howdah.pipeline.openable import warn_unopenable

__all__ = ["save"]

log = logging.getLogger("howdah")
ATTEMPTS = 100


def save(target: Path, tracks: Tracks, image: ImageSeries, *, hints: Hints | None = None) -> Path:
    """Write an annotation, beside the target if somebody else has changed or holds that; return where it is.

    Raises:
        WriteError: Writing is not possible at all.
    """
    warn_unopenable(writer_for(target), image, hints)
    try:
        write_tracks(target, tracks, image=image)
    except BusyError as error:
        for number in range(2, ATTEMPTS):
            beside = target.with_name(f"{target.stem}-{number}{target.suffix}")
            if not beside.exists():
                write_tracks(beside, tracks, image=image)
                log.warning("%s The result is in %s.", error, beside)
                return beside
        raise
    return target
