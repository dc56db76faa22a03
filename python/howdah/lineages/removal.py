"""Taking spots and links away: short tracks, by tag, by place, and links that cannot be.

What a person made or approved stays (see :mod:`howdah.lineages.protection`) unless ``also_by_person`` is set, and each
function says how much stayed for that reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.lineages.choosing import chosen_tag
from howdah.lineages.protection import protected

Bool = npt.NDArray[np.bool_]
Box = tuple[npt.ArrayLike, npt.ArrayLike]

__all__ = ["Removal", "remove_bad_links", "remove_by_tag", "remove_range", "remove_short_tracks"]


@dataclass(frozen=True, eq=False)
class Removal:
    """What is left, and what was done.

    Attributes:
        tracks: The annotation without what was removed.
        spots: How many spots were removed. links: How many links, also those of removed spots.
        kept_spots: Spots that were meant but stay because a person made or approved them. kept_links: The same for links.
    """

    tracks: Tracks
    spots: int
    links: int
    kept_spots: int = 0
    kept_links: int = 0


def remove_short_tracks(tracks: Tracks, *, min_links: int, also_by_person: bool = False) -> Removal:
    """Remove tracks (connected components) with fewer than ``min_links`` links.

    A track with anything that a person made or approved stays whole: without its other spots it would be shorter still.

    Raises:
        DataError: ``min_links`` is negative.
    """
    if min_links < 0:
        raise DataError(f"Removing short tracks failed: {min_links} links were given; expected 0 or more.")
    count, track = tracks.tracks()
    short = np.bincount(track[tracks.links[:, 0]], minlength=count) < min_links
    meant = short[track]
    if also_by_person:
        return _without(tracks, meant)
    kept = protected(tracks)
    held = np.zeros(count, dtype=bool)
    held[track[kept.spots]] = True
    held[track[tracks.links[kept.links, 0]]] = True
    return _without(tracks, meant & ~held[track], meant & held[track])


def remove_by_tag(
    tracks: Tracks, tag_set: str, tag: str, *, links: bool = False, also_by_person: bool = False
) -> Removal:
    """Remove the spots (or links) that carry a tag.

    A tag of this set is what the user chooses by, so it does not make a spot a person's, unless the set is "Detection" or
    "Tracking", whose tags say just that.

    Raises:
        DataError: There is no such set or tag; the sentence lists what there is.
    """
    chosen_tag(tracks, tag_set, tag)
    meant = tracks.tagged(tag_set, tag, links=links)
    kept = protected(tracks, ignore=(tag_set,))
    if links:
        return _of_links(tracks, meant, kept.links, also_by_person)
    return _of_spots(tracks, meant, kept.spots, also_by_person)


def remove_range(
    tracks: Tracks,
    *,
    first: int | None = None,
    last: int | None = None,
    box: Box | None = None,
    also_by_person: bool = False,
) -> Removal:
    """Remove the spots of a range of frames, of a box, or of both.

    Args:
        tracks: The annotation.
        first: First frame; None for the movie's first.
        last: Last frame; None for the movie's last.
        box: Lowest and highest corner (z, y, x), world units, of the centres to remove; None for everywhere.
        also_by_person: Also what a person made or approved.

    Raises:
        DataError: Nothing limits the range, or it runs backward.
    """
    if first is None and last is None and box is None:
        raise DataError("Removing spots failed: neither frames nor a box were given, so that would be all. Give one.")
    if first is not None and last is not None and first > last:
        raise DataError(f"Removing spots failed: frames {first} to {last} run backward.")
    meant = np.ones(tracks.n_spots, dtype=bool)
    if first is not None:
        meant &= tracks.t >= first
    if last is not None:
        meant &= tracks.t <= last
    if box is not None:
        low, high = (np.asarray(corner, dtype=np.float64) for corner in box)
        if low.shape != (3,) or high.shape != (3,) or not (low <= high).all():
            raise DataError(
                f"Removing spots failed: {low.tolist()} to {high.tolist()} is no box (z, y, x), lowest corner first."
            )
        meant &= ((tracks.centre >= low) & (tracks.centre <= high)).all(axis=1)
    return _of_spots(tracks, meant, protected(tracks).spots, also_by_person)


def remove_bad_links(tracks: Tracks, *, also_by_person: bool = False) -> Removal:
    """Remove links of a spot with itself and links that do not run forward in time."""
    source, target = tracks.links.T
    meant = tracks.t[target] <= tracks.t[source]
    return _of_links(tracks, meant, protected(tracks).links, also_by_person)


def _of_spots(tracks: Tracks, meant: Bool, kept: Bool, also_by_person: bool) -> Removal:
    return _without(tracks, meant) if also_by_person else _without(tracks, meant & ~kept, meant & kept)


def _of_links(tracks: Tracks, meant: Bool, kept: Bool, also_by_person: bool) -> Removal:
    gone = meant if also_by_person else meant & ~kept
    left = tracks.select_links(~gone)
    return Removal(left, 0, int(gone.sum()), 0, int((meant & ~gone).sum()))


def _without(tracks: Tracks, spots: Bool, kept: Bool | None = None) -> Removal:
    left = tracks.select(~spots) if spots.any() else tracks
    n_kept = 0 if kept is None else int(kept.sum())
    return Removal(left, tracks.n_spots - left.n_spots, tracks.n_links - left.n_links, n_kept)
