"""What stays of an annotation when cells are found anew, and around which frames; shared by the methods that outline cells."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from bdv_io.tags import Feature
from bdv_io.trackmate.declarations import xml_key
from howdah.linking import LINK_QUALITY
from howdah.methods.elephant.merge import replaceable
from howdah.methods.elephant.status import TRACKING, TRACKING_TAGS

__all__ = ["last_read", "neighbours", "no_cell_found", "own_names", "without_machine"]

log = logging.getLogger("howdah")


def own_names(tracks: Tracks) -> Tracks:
    """Give the quality of links its own name again: TrackMate keeps it under one without spaces."""
    known = xml_key(Feature(LINK_QUALITY, "", np.empty(0), "link"), ())
    if tracks.feature(LINK_QUALITY, target="link") is not None:
        return tracks
    named = [replace(f, name=LINK_QUALITY) if f.key == ("link", known, "") else f for f in tracks.features]
    return replace(tracks, features=tuple(named))


def without_machine(tracks: Tracks, frames: list[int], *, relink: bool) -> Tracks:
    """Drop what a machine found in these frames, and its links between them, but what a person touched."""
    gone = replaceable(tracks) & np.isin(tracks.t, frames)
    kept = tracks.select(~gone) if gone.any() else tracks
    if not relink:
        return kept  # linked_anew does it
    between = np.isin(kept.t[kept.links], frames).all(axis=1)
    machine = kept.tagged(TRACKING, TRACKING_TAGS[1].name, links=True) & between
    return kept.select_links(~machine) if machine.any() else kept


def neighbours(tracks: Tracks, frames: list[int], n_frames: int) -> list[int]:
    """Frames before and after those that are worked on, in which there are spots to link to."""
    beside = {t + step for t in frames for step in (-1, 1)} - set(frames)
    return sorted(beside & set(np.unique(tracks.t).tolist()) & set(range(n_frames)))


def last_read(read: Callable[[int], npt.NDArray[Any]]) -> Callable[[int], npt.NDArray[Any]]:
    """Keep the frame that was read last, which is asked for again."""
    last: dict[int, npt.NDArray[Any]] = {}

    def again(frame: int) -> npt.NDArray[Any]:
        if frame not in last:
            pixels = read(frame)
            last.clear()
            last[frame] = pixels
        return last[frame]

    return again


def no_cell_found(image: ImageSeries, n_frames: int, weights: Path, verb: str) -> None:
    """Log that no cell was found in so many frames, and what to do; ``verb`` is the method's name on the command line."""
    log.warning(
        "No cell was found in %d frames of %s with the weights %s. They may have been trained too briefly (go on: howdah %s "
        "train ... --start %s, with more --n-epochs), or on cells of another size or another contrast.",
        n_frames,
        image.path,
        weights,
        verb,
        weights,
    )
