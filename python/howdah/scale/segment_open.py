"""What a worker that finds cells keeps: the open source, and the network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howdah.pipeline.detection import Job
from howdah.pipeline.efficientcellseg import CellFinder
from howdah.pipeline.embedtrack import TrackFinder
from howdah.pipeline.sources import Source
from howdah.pipeline.stills import open_job
from howdah.scale.plan import Call
from howdah.scale.segment_parts import job_of

PathLike = str | os.PathLike[str]
Finder = CellFinder | TrackFinder
Json = Any

__all__ = ["Finder", "finder_of", "opened"]


def opened(job: Job, out: PathLike, shared: Mapping[str, Json]) -> tuple[Source, Finder]:
    """Open the source and load the network."""
    file, settings = Path(shared["weights"]), shared["settings"]
    if shared["method"] == "embedtrack":
        source, times = job.open()
        return source, TrackFinder.of(source, times, file, settings)
    source, times = open_job(job, out)
    return source, CellFinder.of(source, times, file, settings)


@dataclass(frozen=True, eq=False)
class _Open:
    source: Source
    finder: Finder

    def close(self) -> None:
        self.source.image.close()


def finder_of(call: Call) -> Finder:
    """Return what finds cells in this worker."""
    job, out = job_of(call.shared["job"]), call.shared["out"]
    return call.kept("finder", lambda: _Open(*opened(job, out, call.shared))).finder
