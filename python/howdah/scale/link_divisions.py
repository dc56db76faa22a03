"""What a classifier of TAP says of the spots, in blocks: the same portions of frames as in one process, so the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io import Tracks
from bdv_io.image import Hints
from howdah.linking import LinkingConfig
from howdah.pipeline.sources import Source
from howdah.pipeline.tap_link import (
    BLOCK,
    Look,
    asked_of,
    division_classifier,
    for_movie,
    learned_share,
    trust_in,
    with_divisions_told,
)
from howdah.progress import Progress, Steps
from howdah.scale.config import ScaleConfig
from howdah.scale.identity import with_pixels
from howdah.scale.link_spots import aside, movie_of_workers, opened, read_spots, spots_file, write_spots
from howdah.scale.plan import Block, Call, Plan, Result, Results
from howdah.scale.run import run_plan

__all__ = ["Telling", "portion", "told_in_blocks"]


@dataclass(frozen=True)
class Telling:
    """How divisions are told.

    Attributes:
        target: The result of the whole work. classifier: File of a classifier of TAP.
        settings: ``{"tap": {...}}``. config: Who does the work. restart: Forget what an earlier run has done.
    """

    target: Path
    classifier: str | Any
    settings: Mapping[str, Mapping[str, Any]]
    config: ScaleConfig
    restart: bool = False


def told_in_blocks(source: Source, tracks: Tracks, how: Telling, *, hints: Hints) -> Steps[Tracks]:
    """Do what :func:`howdah.pipeline.tap_link.told_divisions` does, in blocks of 16 frames.

    The work folder stays, for what comes after may be stopped and begun again.
    """
    file = Path(how.classifier)
    told = division_classifier(file)
    tracks, rows = asked_of(tracks, told, file=file)
    target, asked = aside(how.target, "divisions"), np.zeros(tracks.n_spots, dtype=bool)
    asked[rows] = True
    digest, _ = write_spots(spots_file(target), tracks, LinkingConfig(), asked, shapes=True)
    present = np.unique(tracks.t[rows])
    parts = [present[start : start + BLOCK].tolist() for start in range(0, len(present), BLOCK)]
    blocks = [
        Block(f"told/p{number:05d}", f"{__name__}:portion", {"frames": part}, cost=float(np.isin(tracks.t, part).sum()))
        for number, part in enumerate(parts)
    ]

    def gather(results: Results) -> Steps[dict[str, Any]]:
        found = np.full(tracks.n_spots, np.nan)
        for number, block in enumerate(blocks, start=1):
            arrays = results.read(block.key).arrays
            found[arrays["row"]] = arrays["likely"]
            yield Progress("divisions", number, len(blocks))
        likely = for_movie(found[rows], prior=learned_share(told.header), trust=trust_in(told.header))
        return {"tracks": with_divisions_told(tracks, rows, likely)}

    shared = {
        "spots": {"file": spots_file(target).name, "digest": digest},
        "movie": movie_of_workers(source, hints),
        "classifier": str(file.resolve()),
        "tap": dict(how.settings.get("tap", {})),
    }
    inputs = with_pixels({**source.inputs, "divisions": file}, source.image)
    plan = Plan("divisions", target, blocks, shared, inputs, gather, {"tap": shared["tap"]})
    result = yield from run_plan(plan, how.config, restart=how.restart, keep=True)
    found: Tracks = result["tracks"]
    return found


def portion(call: Call) -> Result:
    """Raw probabilities of the spots of some frames, by row of the annotation."""
    said = call.shared["spots"]
    spots = call.kept("spots", lambda: read_spots(call.folder.with_name(said["file"]), said["digest"]))

    def look() -> Look:
        file = Path(call.shared["classifier"])
        return Look.at(
            opened(call.shared["movie"]), division_classifier(file), file=file, settings={"tap": call.shared["tap"]}
        )

    frames = call.arguments["frames"]
    columns = spots.read(*spots.between(frames[0], frames[-1] + 1), ("row", "centre", "covariance", "flags"))
    order = np.argsort(columns["row"], kind="stable")
    order = order[np.isfinite(columns["centre"][order]).all(axis=1)]
    low, _ = spots.between(frames[0], frames[0])
    time = spots.frame_of(low + order)
    likely = call.kept("look", look).told(time, columns["centre"][order], columns["covariance"][order])
    return Result({"row": columns["row"][order], "likely": likely})
