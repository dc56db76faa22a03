"""Which spots and links a machine made, said so that it survives Mastodon and TrackMate.

Mastodon projects carry tags ("Detection" and "Tracking" = unlabeled). TrackMate carries them as numbers, but they stay on a spot that
a person drags to another place or resizes. So each spot that a machine made also has the feature "HOWDAH_MACHINE": a number made of
its place and size as they were. Where it no longer fits, a person has corrected the spot, and it is hers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.tags import UNTAGGED, Feature
from howdah.methods.elephant.status import (
    DETECTION,
    DETECTION_TAGS,
    TRACKING,
    TRACKING_TAGS,
    UNLABELLED_TAG,
)

F64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

__all__ = ["MACHINE", "fingerprints", "marked", "recognised"]

MACHINE = "HOWDAH_MACHINE"
MIX = np.array(
    [0.7320508, 1.4142136, 1.2360680, 0.6180340]
)  # of z, y, x and radius: no move that a person makes keeps the sum
TOLERANCE = 1e-4  # of the radius


def fingerprints(tracks: Tracks) -> F64:
    """Return (N,) numbers made of the place and the size of each spot."""
    radius = np.linalg.det(tracks.covariance).clip(0) ** (1 / 6)
    mixed: F64 = np.column_stack([tracks.centre, radius]) @ MIX
    return mixed


def marked(tracks: Tracks, *, spots: Rows, links: Rows) -> Tracks:
    """Say of some spots and links that a machine made them."""
    values, defined = np.full(tracks.n_spots, np.nan), np.zeros(tracks.n_spots, dtype=bool)
    tracks = _own_name(tracks)
    before = tracks.feature(MACHINE)
    if before is not None:
        defined = np.isfinite(before.values) if before.defined is None else before.defined.copy()
        values[defined] = before.values[defined]
    values[spots], defined[spots] = fingerprints(tracks)[spots], True
    said = tracks.with_tag_set(DETECTION, DETECTION_TAGS).with_tag(DETECTION, UNLABELLED_TAG, spots=spots)
    said = said.with_tag_set(TRACKING, TRACKING_TAGS).with_tag(TRACKING, TRACKING_TAGS[1], links=links)
    return said.with_feature(Feature(MACHINE, "", values, defined=defined))


def recognised(tracks: Tracks) -> Tracks:
    """Return the annotation with the tag "Detection" = unlabeled on the spots that a machine made and nobody changed, only."""
    tracks = _own_name(tracks)
    feature = tracks.feature(MACHINE)
    if feature is None or not tracks.n_spots:
        return tracks
    values = feature.values.astype(np.float64)
    known = np.isfinite(values) if feature.defined is None else feature.defined & np.isfinite(values)
    radius = np.linalg.det(tracks.covariance).clip(0) ** (1 / 6)
    with np.errstate(invalid="ignore"):
        same = known & (np.abs(fingerprints(tracks) - values) <= TOLERANCE * radius)
    tagged = tracks.with_tag_set(DETECTION, DETECTION_TAGS)
    tags = tagged.tag_set(DETECTION)
    if tags is None:
        return tagged
    column, unlabelled = tags.spots.copy(), tags.position(UNLABELLED_TAG.name)
    column[known & ~same & (column == unlabelled)] = UNTAGGED
    column[same & (column == UNTAGGED)] = unlabelled
    return tagged.with_tags(replace(tags, spots=column))


def _own_name(tracks: Tracks) -> Tracks:
    """Give the feature its own name again: a project that Mastodon has saved has it among those that it calls TrackMate's."""
    if tracks.feature(MACHINE) is not None or not any(f.projection == MACHINE for f in tracks.features):
        return tracks
    named = [replace(f, name=MACHINE, projection="") if f.projection == MACHINE else f for f in tracks.features]
    return replace(tracks, features=tuple(named))
