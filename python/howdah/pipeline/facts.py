"""What is in a file: the facts that ``howdah info`` prints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from bdv_io.formats import FORMATS, identify, open_image, read_tracks
from bdv_io.image import Hints

__all__ = ["describe", "known_formats"]


def known_formats() -> list[dict[str, Any]]:
    """Return what ``howdah formats`` prints: key, name, what it holds, whether it is read and written, endings."""
    return [
        {
            "key": known.key,
            "name": known.name,
            "holds": known.kind,
            "read": bool(known.read),
            "written": bool(known.write),
            "endings": list(known.suffixes),
        }
        for known in FORMATS
    ]


def describe(path: str | os.PathLike[str], *, hints: Hints | None = None) -> dict[str, Any]:
    """Return what a file holds: format, and dimensions and voxel size of an image, or counts of an annotation.

    Raises:
        BdvIoError: The file is not there, of no known format, or damaged.
    """
    target = Path(path)
    found = identify(target)
    given = hints if hints is not None and hints.given else None
    content: Any = open_image(target, hints=given) if found.kind == "image" else read_tracks(target, hints=given)
    facts: dict[str, Any] = {"path": str(path), "format": found.name, "kind": found.kind}
    if found.kind == "image":
        try:
            facts |= _image_facts(content)
        finally:
            content.close()
    else:
        facts |= _annotation_facts(content)
    return facts


def _image_facts(image: ImageSeries) -> dict[str, Any]:
    n_missing = sum(image.is_missing(t, s) for s in range(len(image.setups)) for t in range(image.n_frames))
    facts: dict[str, Any] = {
        "frames": image.n_frames,
        "timepoints": [image.timepoints[0], image.timepoints[-1]] if image.n_frames else [],
        "interval": list(image.interval) if image.interval else None,
        "missing_views": n_missing,
        "setups": [
            {
                "id": setup.id,
                "name": setup.name,
                "shape_zyx": list(setup.shape),
                "dtype": str(setup.dtype),
                "voxel_size_zyx": list(setup.voxel_size),
                "unit": setup.unit,
                "levels_zyx": [list(level) for level in setup.levels],
                "attributes": {name: text for name, (_, text) in setup.attributes.items()},
            }
            for setup in image.setups
        ],
    }
    return facts


def _annotation_facts(tracks: Tracks) -> dict[str, Any]:
    count, _ = tracks.tracks()
    return {
        "spots": tracks.n_spots,
        "links": tracks.n_links,
        "tracks": count,
        "divisions": len(tracks.divisions()),
        "frames": [int(tracks.t.min()), int(tracks.t.max())] if tracks.n_spots else [],
        "frames_without_spots": _ranges(np.setdiff1d(np.arange(tracks.t.min(), tracks.t.max()), tracks.t))
        if tracks.n_spots
        else None,
        "outlined_spots": len(np.unique(tracks.outlines.spot)),
        "unit": tracks.space_unit,
        "time_unit": tracks.time_unit,
        "interval": tracks.interval,
        "tags": {
            tags.name: {
                tag.name: {"spots": int((tags.spots == i).sum()), "links": int((tags.links == i).sum())}
                for i, tag in enumerate(tags.tags)
            }
            for tags in tracks.tag_sets
        },
        "features": [" ".join(dict.fromkeys(filter(None, (f.name, f.projection)))) for f in tracks.features],
        "image": tracks.attributes.get("image"),
        "problems": tracks.problems(),
    }


def _ranges(frames: npt.NDArray[np.integer]) -> str:
    """Write numbers as ``3-5, 9``."""
    if not len(frames):
        return ""
    groups = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    return ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups)
