"""``howdah.bin``: what an annotation says and a Mastodon project has no place for.

Mastodon ignores the entry, and drops it when it saves the project. The numbers of spots (ids) and outlines are keyed by
the spot's index, so they count only while ``model.raw`` is the one that they were written with; the frame interval and
the names that features have for us always count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bdv_io.mastodon.feature_files import CONTAINERS, KINDS, contained_name, container_of
from bdv_io.outlines import Outlines
from bdv_io.packed import pack, unpack
from bdv_io.tags import Feature
from bdv_io.tracks import Tracks

__all__ = ["SIDECAR", "lost_in_mastodon", "sidecar_of", "with_sidecar"]

SIDECAR = "howdah.bin"
OUTLINES = {"ring_spot": "i", "ring_z": "f", "ring_start": "i", "vertices": "f"}


def sidecar_of(tracks: Tracks, model: bytes) -> bytes | None:
    """Return the content of the entry for a project with this ``model.raw``, or None if there is nothing to keep."""
    facts: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    if tracks.interval is not None:
        facts["interval"] = [tracks.interval, tracks.time_unit]
    names = {
        f"{container_of(f)}/{contained_name(f)}": [f.name, f.projection, f.target]
        for f in tracks.features
        if container_of(f) in CONTAINERS and f.name not in CONTAINERS
    }
    if names:
        facts["features"] = names
    if not np.array_equal(tracks.id, np.arange(tracks.n_spots)):
        arrays["id"] = tracks.id
    if len(tracks.outlines):
        rings = tracks.outlines
        arrays |= {"ring_spot": rings.spot, "ring_z": rings.z, "ring_start": rings.start, "vertices": rings.vertices}
    if not facts and not arrays:
        return None
    return pack({**facts, "model": hashlib.sha256(model).hexdigest()}, arrays)


def with_sidecar(tracks: Tracks, entries: Mapping[str, bytes], *, model: str, name: str) -> Tracks:
    """Return an annotation as it was before a Mastodon project had to hold it.

    Args:
        tracks: What the other entries say.
        entries: Those of the project.
        model: Name of the entry that holds the spots.
        name: What to call the project in errors.

    Raises:
        FormatError: The entry is damaged.
    """
    if SIDECAR not in entries:
        return tracks
    facts, arrays = unpack(entries[SIDECAR], f"{SIDECAR} of {name}")
    interval = facts.get("interval")
    if (
        isinstance(interval, list)
        and len(interval) == 2
        and isinstance(interval[0], int | float)
        and 0 < interval[0] < np.inf
    ):
        tracks = replace(tracks, interval=float(interval[0]), time_unit=str(interval[1]))
    names = facts.get("features")
    if isinstance(names, dict):
        tracks = replace(tracks, features=tuple(_renamed(feature, names) for feature in tracks.features))
    if facts.get("model") != hashlib.sha256(entries[model]).hexdigest():
        return tracks  # Mastodon, or somebody else, has changed the spots since
    ids = arrays.get("id")
    if ids is not None and ids.shape == (tracks.n_spots,) and ids.dtype.kind == "i":
        tracks = replace(tracks, id=ids.astype(np.int64))
    if all(key in arrays and arrays[key].dtype.kind == kind for key, kind in OUTLINES.items()):
        rings = Outlines(
            arrays["ring_spot"].astype(np.int64),
            arrays["ring_z"],
            arrays["ring_start"].astype(np.int64),
            arrays["vertices"],
        )
        if arrays["vertices"].ndim == 2 and not rings.problems(tracks.n_spots):
            tracks = replace(tracks, outlines=rings)
    return tracks


def lost_in_mastodon(tracks: Tracks) -> tuple[str, ...]:
    """Say what Mastodon does not know: Howdah reads it back, until Mastodon saves the project."""
    found = []
    if len(tracks.outlines):
        found.append("outlines (Mastodon shows the ellipsoids)")
    if not np.array_equal(tracks.id, np.arange(tracks.n_spots)):
        found.append("the ids of spots (Mastodon numbers them from 0)")
    if tracks.interval is not None and not (tracks.interval == 1 and tracks.time_unit in ("frame", "frames")):
        found.append(f"the frame interval of {tracks.interval:g} {tracks.time_unit}")
    alone = (tracks.carried.alone,) if tracks.carried.format != "mastodon" and tracks.carried.alone else ()
    odd = sorted({f.name for f in tracks.features if f.dimension not in KINDS})
    if odd:
        alone = (*alone, f"Kinds of quantity that Mastodon does not know are left out ({', '.join(odd)}).")
    if not found:
        return alone
    return (
        *alone,
        f"Mastodon has no place for {', '.join(found)}: Howdah reads it back, but it is gone once Mastodon saves the project.",
    )


def _renamed(feature: Feature, names: Mapping[str, Any]) -> Feature:
    known = names.get(f"{feature.name}/{feature.projection}")
    if not (isinstance(known, list) and len(known) == 3 and known[2] in ("spot", "link", "branch")):
        return feature
    return replace(feature, name=str(known[0]), projection=str(known[1]), target=known[2])
