"""What a frame gives as arrays that a block's file holds, and a job as JSON can say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.image import Hints
from bdv_io.masks import Spots
from bdv_io.outlines import Outlines
from howdah.pipeline.detection import Job
from howdah.pipeline.embedtrack import Seen
from howdah.pipeline.found_cells import Part

Array = npt.NDArray[Any]
Json = Any

__all__ = ["arrays_of", "job_of", "said_job", "seen_of"]

PROPERTY = "property "


def said_job(job: Job) -> dict[str, Json]:
    """Return a job as JSON can say it, with whole paths."""
    hints = {name: getattr(job.hints, name) for name in job.hints.given}
    return {
        "source": str(Path(job.source).absolute()),
        "image": None if job.image is None else str(Path(job.image).absolute()),
        "setup": job.setup,
        "frames": job.frames,
        "hints": {name: list(value) if isinstance(value, tuple) else value for name, value in hints.items()},
    }


def job_of(said: Mapping[str, Json]) -> Job:
    """Return the job that :func:`said_job` said."""
    hints: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in said["hints"].items()
    }
    return Job(**{**said, "hints": Hints(**hints)})


def arrays_of(seen: Seen) -> dict[str, Array]:
    """Return what was seen of a frame as arrays, their names beginning with its number."""
    part = seen.part
    cells = part.cells
    found: dict[str, Array] = {
        "name": cells.label,
        "centre": cells.centre,
        "covariance": cells.covariance,
        "ring of": cells.outlines.spot,
        "ring z": cells.outlines.z,
        "ring start": cells.outlines.start,
        "vertices": cells.outlines.vertices,
        "quality": part.quality,
        "label": part.label,
        **{f"{PROPERTY}{key}": values for key, values in part.values.items()},
    }
    if seen.votes is not None:
        found |= {"parent": seen.votes[0], "share": seen.votes[1]}
    if seen.moved is not None:
        found |= {"place": seen.moved[0], "moved": seen.moved[1]}
    return {f"{part.t} {name}": array for name, array in found.items()}


def seen_of(arrays: Mapping[str, Array], t: int) -> Seen:
    """Return what was seen of a frame, from the arrays of its block."""
    start = f"{t} "
    found = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    rings = Outlines(found["ring of"], found["ring z"], found["ring start"], found["vertices"])
    times = np.full(len(found["name"]), t, dtype=np.int32)
    cells = Spots(times, found["name"], found["centre"], found["covariance"], rings)
    values = {name.removeprefix(PROPERTY): array for name, array in found.items() if name.startswith(PROPERTY)}
    part = Part(t, cells, found["quality"], found["label"], values)
    votes = (found["parent"], found["share"]) if "parent" in found else None
    moved = (found["place"], found["moved"]) if "moved" in found else None
    return Seen(part, votes, moved)
