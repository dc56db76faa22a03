"""What of an annotation TrackMate and MaMuT files cannot hold, in sentences."""

from __future__ import annotations

import numpy as np

from bdv_io.tags import DIMENSIONS, Feature
from bdv_io.trackmate.declarations import unit_of, xml_key
from bdv_io.tracks import Tracks

__all__ = ["lost_in_mamut", "lost_in_trackmate"]

BIGGEST_ID = 2**31 - 1


def lost_in_trackmate(tracks: Tracks) -> list[str]:
    """Return sentences about what of an annotation a TrackMate file cannot hold; empty if it holds all."""
    lost = []
    outlines = tracks.outlines
    several = int((outlines.n_rings(tracks.n_spots) > 1).sum())
    if several:
        lost.append(
            f"{several} spots have outlines of several rings (holes, parts or slices); TrackMate keeps the largest ring of each."
        )
    tilted = int((outlines.z != tracks.centre[outlines.spot, 0]).sum())
    if tilted:
        lost.append(f"{tilted} outlines lie in another plane than the centre of their spot; TrackMate puts them there.")
    return lost + _lost_in_both(tracks)


def lost_in_mamut(tracks: Tracks) -> list[str]:
    """Return sentences about what of an annotation a MaMuT file cannot hold; empty if it holds all."""
    n = int((tracks.outlines.n_rings(tracks.n_spots) > 0).sum())
    lost = [f"The outlines of {n} spots are left out; MaMuT knows none."] if n else []
    return lost + _lost_in_both(tracks)


def _lost_in_both(tracks: Tracks) -> list[str]:
    lost = []
    if tracks.n_spots and (tracks.id.min() < 0 or tracks.id.max() > BIGGEST_ID):
        lost.append("Ids are beyond the whole numbers of TrackMate; spots are numbered anew from 0.")
    for what, found in (
        (
            "The units of",
            [
                f
                for f in tracks.features
                if f.units not in ("", unit_of(f.dimension, tracks.space_unit, tracks.time_unit))
            ],
        ),
        ("The kind of quantity of", [f for f in tracks.features if f.dimension not in DIMENSIONS]),
        ("The exact names of", [f for f in tracks.features if f.projection or xml_key(f, ()) != f.name]),
        ("The branches of", [f for f in tracks.features if f.target == "branch"]),
        ("Digits beyond 2^53 of", [f for f in tracks.features if _is_huge(f)]),
    ):
        if found:
            names = ", ".join(" ".join(dict.fromkeys((f.name, f.projection))).strip() for f in found[:3])
            lost.append(f"{what} {len(found)} features ({names}{' ...' if len(found) > 3 else ''}) cannot be kept.")
    if tracks.carried.format != "trackmate" and tracks.carried.alone:
        lost.append(tracks.carried.alone)
    return lost


def _is_huge(feature: Feature) -> bool:
    return feature.values.dtype.kind in "iu" and bool((np.abs(feature.values) > 2**53).any())
