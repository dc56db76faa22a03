"""The features of spots that TAP writes: their names, and how they are found again.

Mastodon keeps features that it does not know among those "imported from TrackMate", and TrackMate keeps them under names without spaces;
under either name they are found again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.tags import Feature
from howdah.linking.evidence import plain_name

I64 = npt.NDArray[np.int64]

__all__ = ["DIVISION", "FEATURE", "QUALITY", "RANK", "SCORE", "own_tap_names", "with_values"]

DIVISION = "TAP division"
SCORE = "TAP score"
FEATURE = "TAP feature"
RANK, QUALITY = "TAP rank", "TAP quality"  # of events


def with_values(tracks: Tracks, name: str, projection: str, rows: I64, values: npt.ArrayLike) -> Tracks:
    """Return the annotation with a spot feature set at some rows; NaN is no value, and other rows keep what they have."""
    known = tracks.feature(name, projection)
    column = np.full(tracks.n_spots, np.nan)
    if known is not None:
        there = np.ones(tracks.n_spots, dtype=bool) if known.defined is None else known.defined
        column[there] = known.values[there]
    column[rows] = values
    return tracks.with_feature(Feature(name, projection, column, defined=np.isfinite(column)))


def own_tap_names(tracks: Tracks, *more: str) -> Tracks:
    """Give the features that TAP wrote their own names again, whatever TrackMate or Mastodon made of them; ``more`` are further ones."""
    ours = {plain_name(name): (name, "") for name in (SCORE, DIVISION, RANK, QUALITY, *more)}
    features = []
    for feature in tracks.features:
        whole = plain_name(f"{feature.name} {feature.projection}")
        part = plain_name(feature.projection or feature.name)
        key = next((one for one in (whole, part) if one in ours or _is_numbered(one)), "")
        if feature.target == "spot" and key:
            name, projection = ours.get(key) or (FEATURE, key.rpartition("_")[2])
            feature = replace(feature, name=name, projection=projection)
        features.append(feature)
    unique = {feature.key: feature for feature in features}
    return replace(tracks, features=tuple(unique.values()))


def _is_numbered(plain: str) -> bool:
    before, _, number = plain.rpartition("_z")
    return before == plain_name(FEATURE) and number.isdecimal()
