"""Finding outlined cells in blocks of frames, by EfficientCellSeg or EmbedTrack.

A block is a frame (EfficientCellSeg), or a window of frames with the frame before it (EmbedTrack: the offsets of a frame are those to
the frame before, so that one frame of halo makes votes at the seam what they are inside). A worker finds the cells, gives way to those of
a person, outlines and measures them; its result holds no pixels. Gathering takes what the frames gave in their order, as the plain verbs
take it, links, marks and writes.

The result is that of the plain verb, bit for bit, with the same settings, on the same kind of processor. One setting is never measured
here, for it decides about tiles: ``memory_mb`` is 4096 where it is not given (the plain verbs take what is free). A frame that needs
more goes through the network in tiles, a large volume plane by plane, as the plain verb does with this setting.

Planes of EfficientCellSeg that are too large, or that ``block`` says to cut, go in regions: :mod:`.segment_regions`. Frames of EmbedTrack
are not cut.

Memory of a worker: that of the plain verb for one frame (EfficientCellSeg: 64 bytes a voxel, EmbedTrack: 80), the network's tiles
(``memory_mb`` at most), and the annotation of the source. Gathering holds the annotation, and the result of one block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

from bdv_io.image import ImageSeries
from howdah.errors import ConfigError
from howdah.linking import LinkingConfig
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job
from howdah.pipeline.efficientcellseg import CellFinder, refuse_linking, refuse_time
from howdah.pipeline.embedtrack import Seen, TrackFinder
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.results import check_targets, write_results
from howdah.progress import Progress, Steps
from howdah.scale.config import ScaleConfig
from howdah.scale.identity import with_pixels
from howdah.scale.plan import Block, Call, Plan, Result, Results
from howdah.scale.run import run_plan
from howdah.scale.segment_open import Finder, finder_of, opened
from howdah.scale.segment_parts import arrays_of, said_job, seen_of
from howdah.scale.segment_regions import is_cut, region_blocks

PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]
Method = Literal["efficientcellseg", "embedtrack"]
Json = Any

__all__ = ["METHODS", "Segmentation", "frames", "plan_segment", "scale_segment"]

METHODS = ("efficientcellseg", "embedtrack")
MEMORY_MB = 4096.0
WINDOW = {"efficientcellseg": 1, "embedtrack": 16}  # frames of a block
BYTES_PER_VOXEL = {"efficientcellseg": 64, "embedtrack": 80}  # of a frame that is held with its maps
TILE_MB = 1024.0  # of the networks' usual tiles


@dataclass(frozen=True)
class Segmentation:
    """How cells are found.

    Attributes:
        method: ``"efficientcellseg"`` or ``"embedtrack"``.
        weights: Trained weights.
        settings: Sections of settings: that of the method, and ``linking``.
        also: Further results.
        link: Link the cells that EfficientCellSeg finds; EmbedTrack links in any case.
        challenge: Rules of the Cell Tracking Challenge for results in its format.
    """

    method: Method
    weights: PathLike
    settings: Sections = field(default_factory=dict)
    also: Sequence[PathLike] = ()
    link: bool = False
    challenge: Challenge | None = None


def scale_segment(
    job: Job,
    out: PathLike,
    how: Segmentation,
    *,
    config: ScaleConfig | None = None,
    restart: bool = False,
    keep: bool = False,
) -> Steps[dict[str, Any]]:
    """Find the cells of a movie, volumes or single images in blocks: the result of :func:`howdah.pipeline.segment_efficientcellseg`, or of
    :func:`howdah.pipeline.track_embedtrack`.

    Args:
        job: See there.
        out: See there.
        how: Method, weights, settings.
        config: Who works; ``window`` is the number of frames of a block, ``block`` cuts the planes of EfficientCellSeg into regions.
        restart: See :func:`howdah.scale.run.run_plan`.
        keep: See :func:`howdah.scale.run.run_plan`.

    Returns:
        What the plain verb returns, and facts of the blocks.

    Raises:
        ScaleError: The run cannot go on; it can be resumed.
        WeightsError, DataError, ConfigError, BdvIoError: As of the plain verb.
    """
    chosen = config or ScaleConfig()
    facts: dict[str, Any] = {}
    plan = plan_segment(job, out, how, config=chosen, facts=facts)
    with recorded(plan.target, f"scale-{how.method}", inputs=plan.inputs, settings=plan.settings) as record:
        found = yield from run_plan(plan, chosen, restart=restart, keep=keep)
        record.facts |= {**facts, **found}
    return found


def plan_segment(
    job: Job, out: PathLike, how: Segmentation, *, config: ScaleConfig, facts: dict[str, Any] | None = None
) -> Plan:
    """Return the blocks; arguments and errors as of :func:`scale_segment`.

    Args:
        job: See there.
        out: See there.
        how: See there.
        config: See there.
        facts: Gets what the record says of the network, when the result is gathered.
    """
    if how.method not in METHODS:
        raise ConfigError(f"There is no method '{how.method}' that outlines cells; known are: {', '.join(METHODS)}.")
    linking = LinkingConfig.of(how.settings.get("linking", {}))
    given = dict(how.settings.get(how.method, {}))
    if given.get("memory_mb") is None:
        given["memory_mb"] = MEMORY_MB
    shared: dict[str, Json] = {
        "method": how.method,
        "job": said_job(job),
        "out": str(Path(out).absolute()),
        "weights": str(Path(how.weights).absolute()),
        "settings": {how.method: given},
    }
    source, finder = opened(job, out, shared)
    targets = check_targets([out, *how.also], source)
    if isinstance(finder, CellFinder):
        refuse_time(finder.network.config, source)
        if how.link:
            refuse_linking(source)
    blocks = _blocks(finder, source.image, config, float(given["memory_mb"]))
    keys = sorted((block.arguments["frames"], block.key) for block in blocks if block.stage == "frames")

    def gather(results: Results) -> Steps[dict[str, Any]]:
        fresh = finder.anew()
        for done, (times, key) in enumerate(keys, start=1):
            arrays = results.read(key).arrays
            for t in times:
                _take(fresh, seen_of(arrays, t))
            yield Progress("gather", done, len(keys))
        if isinstance(fresh, CellFinder):
            found = yield from fresh.annotation(linking if how.link else None)
        else:
            found = yield from fresh.annotation(linking)
        written = write_results(targets, found, source, hints=job.hints, challenge=how.challenge or Challenge())
        counts = {_counted(finder): found.n_spots, "links": found.n_links}
        if how.link or isinstance(finder, TrackFinder):
            counts |= {"tracks": found.tracks()[0], "divisions": len(found.divisions())}
        if facts is not None:
            facts.update(finder.facts, weights_fingerprint=fingerprint(Path(how.weights)))
        more = {"also": [str(path) for path in written[1:]]} if len(written) > 1 else {}
        return {"out": str(written[0]), **more, "weights": str(how.weights), **counts}

    inputs = with_pixels({**source.inputs, "weights": Path(how.weights)}, source.image)
    settings = {how.method: given, "linking": linking.model_dump(), "scale": config.model_dump(mode="json")}
    return Plan("segment", targets[0], blocks, shared, inputs, gather, settings)


def _times(finder: Finder) -> list[int]:
    return finder.every if isinstance(finder, TrackFinder) else finder.there


def _counted(finder: Finder) -> str:
    return "spots" if isinstance(finder, TrackFinder) else "cells"


def _blocks(finder: Finder, image: ImageSeries, config: ScaleConfig, memory_mb: float) -> list[Block]:
    """Return the blocks: windows of the frames that are looked at."""
    method = "embedtrack" if isinstance(finder, TrackFinder) else "efficientcellseg"
    every, setup = _times(finder), finder.source.setup
    blocks: list[Block] = []
    if isinstance(finder, CellFinder):
        whole = [t for t in every if not is_cut(finder, t, config, memory_mb)]
        for t in sorted(set(every) - set(whole)):
            blocks += region_blocks(finder, t, config, min(TILE_MB, memory_mb))
        every = whole
    elif config.block is not None:
        raise ConfigError(
            "Cutting the frames of EmbedTrack into blocks is not possible: its cells and votes are found in whole frames. Leave --block "
            "out; tiles of the network bound its memory (tile_size, memory_mb)."
        )
    size = config.window or WINDOW[method]
    for first in range(0, len(every), size):
        window = every[first : first + size]
        before = [t for t in every[max(first - 1, 0) : first] if t == window[0] - 1 and method == "embedtrack"]
        voxels = [prod(image.shape(t, setup)) for t in (*before, *window)]
        blocks.append(
            Block(
                f"frames/t{window[0]:06d}",
                "howdah.scale.segment:frames",
                {"frames": window, "halo": before},
                cost=float(sum(voxels)),
                memory_mb=min(max(voxels) * BYTES_PER_VOXEL[method] / 2**20, memory_mb) + min(TILE_MB, memory_mb),
            )
        )
    return blocks


def frames(call: Call) -> Result:
    """Find the cells of a window of frames."""
    finder = finder_of(call)
    arrays: dict[str, Any] = {}
    n_cells = 0
    for seen in _seen(finder, call.arguments["halo"], call.arguments["frames"]):
        arrays |= arrays_of(seen)
        n_cells += len(seen.part.cells.t)
    return Result(arrays, {"cells": n_cells})


def _seen(finder: Finder, halo: list[int], window: list[int]) -> Iterator[Seen]:
    if isinstance(finder, TrackFinder):
        yield from finder.seen([*halo, *window], halo=bool(halo))
    else:
        yield from (Seen(finder.part(t)) for t in window)


def _take(finder: Finder, seen: Seen) -> None:
    if isinstance(finder, TrackFinder):
        finder.take(seen)
    else:
        finder.gathered.take(seen.part)
