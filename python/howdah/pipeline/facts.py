"""What is in a file: the facts that ``howdah info`` prints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bdv_io import ImageSeries, Tracks
from bdv_io.formats import identify

__all__ = ["describe"]


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file holds: format, and dimensions and voxel size of an image, or counts of an annotation.

    Raises:
        BdvIoError: The file is not there, of no known format, or damaged.
    """
    target = Path(path)
    found = identify(target)
    content = found.function(found.read)(target)
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
