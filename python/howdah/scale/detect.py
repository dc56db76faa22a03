"""``howdah scale predict``: nuclei of every frame, in blocks: a frame, or tiles and regions of a frame that is cut.

**The same result.** With any number of workers, in any order, after any stop: bit for bit what ``predict`` gives with the same
settings, on the same kind of processor with as many torch threads (the plan says how many: those of the process that made it; sums are
added in another order by another number). A frame is cut where ``tile_size`` is smaller than it, or, without ``tile_size``, where it does
not go through the network as a whole within the memory of a worker. The norms of the network see a tile, so the size of tiles is part
of the result: compare with ``predict`` with the same ``tile_size``. It is chosen once, from settings only (``memory_mb``, else
``worker_memory_mb``, else 4096 MiB; never from what is free), so that few voxels are computed twice (``predict`` alone chooses cubes), is
written into the record (``tile_size`` in ``settings_used``), and is part of the run: going on with another ``worker_memory_mb`` is refused
unless ``tile_size`` and ``memory_mb`` are set. How many workers there are, and how regions are cut (``block``), never changes the result.

**Memory** of a block, bytes, above Python with its libraries (and 48 MiB for each network); ``v`` voxels of a frame, ``s`` bytes of a
stored voxel, ``c`` = 1 (2 with ``denoise_edges``), ``net(n)`` = 700 n where that is within ``memory_mb``, else 262 n + 350 MiB:

- a frame that is not cut: (s + 24) v + net(v); 8 v more with ``temporal_mean``;
- levels: 48 bytes for each of 4 million voxels; with ``slice_median`` s + 16 for each of 8 million or of a slice; with normalisation
  ``"local"`` also what preparing a part of 4 million voxels takes;
- preparing a part that is h voxels of the working grid with its halo, and m of the movie: (s + 16) min(m, 2^24) + 28 h;
- a tile of n voxels: what preparing it takes + net(n) + (12 c + 12) n (the C library's heap gives little back in between);
- blending a region of n voxels: 18 n + 16 t, where t are the voxels of a tile; with ``denoise_edges`` n are those of the region's whole
  slices, and it takes 70 n + 32 t. Without ``block``, regions are as large as 0.8 ``memory_mb`` allows;
- components, in a region, and at the end those that lie over the borders of a layer of regions: 64 bytes for each voxel above the
  threshold, and 200 for each of a million. How many these are is not known before: a twentieth of the voxels is what is reckoned with.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.formats import writer_for
from howdah.methods import Spots
from howdah.methods.elephant.box import Box
from howdah.methods.elephant.calibration import DEFAULT, Calibration
from howdah.methods.elephant.config import ElephantConfig
from howdah.pipeline.detection import Job, Where, _needs_torch, merged, settings_of, warn_beside
from howdah.pipeline.record import Record, fingerprint, recorded
from howdah.pipeline.saving import save
from howdah.pipeline.sources import Source, check_target
from howdah.progress import Progress, Steps
from howdah.scale.config import ScaleConfig
from howdah.scale.detect_blocks import key_of
from howdah.scale.detect_plan import Blocks, network_mb
from howdah.scale.identity import with_pixels
from howdah.scale.plan import Plan, Results
from howdah.scale.run import run_plan

Sections = Mapping[str, Mapping[str, Any]]
Path_ = str | os.PathLike[str]
log = logging.getLogger("howdah")

__all__ = ["plan_predict", "scale_predict"]


def scale_predict(
    job: Job,
    out: Path_,
    *,
    weights: Path_,
    settings: Sections,
    where: Where | None = None,
    config: ScaleConfig | None = None,
    restart: bool = False,
    keep: bool = False,
) -> Steps[dict[str, Any]]:
    """Find the nuclei of every frame in blocks, and write them with what a person annotated.

    Arguments are those of :func:`howdah.pipeline.detection.predict`, and ``config``, ``restart``, ``keep`` those of
    :func:`howdah.scale.run.run_plan`.

    Returns:
        The file and the counts, also of blocks.

    Raises:
        ConfigError: A frame would be cut, and a setting needs it whole.
        ScaleError: See :func:`~howdah.scale.run.run_plan`.
    """
    chosen = config or ScaleConfig()
    writer_for(out)
    source, frames = job.open()
    target = check_target(out, source, in_place=True)
    inputs = {**source.inputs, "weights": Path(weights)}
    with recorded(
        target, "scale predict", inputs=inputs, settings={**settings, "scale": chosen.model_dump()}
    ) as record:
        plan = _plan(
            _Run(job, source, frames, target, Path(weights), where or Where()), settings, config=chosen, record=record
        )
        result = yield from run_plan(plan, chosen, restart=restart, keep=keep)
        record.facts |= {name: result[name] for name in ("blocks",) if name in result}
    return result


def plan_predict(
    job: Job,
    out: Path_,
    config: ScaleConfig | None = None,
    *,
    weights: Path_,
    settings: Sections,
    where: Where | None = None,
) -> Plan:
    """Return the plan of :func:`scale_predict`; its ``gather`` writes the result and its record.

    Raises:
        ConfigError: A frame would be cut, and a setting needs it whole.
    """
    writer_for(out)
    source, frames = job.open()
    target = check_target(out, source, in_place=True)
    run = _Run(job, source, frames, target, Path(weights), where or Where())
    return _plan(run, settings, config=config or ScaleConfig(), record=None)


@dataclass(frozen=True)
class _Run:
    """What is worked on."""

    job: Job
    source: Source
    frames: list[int]
    target: Path
    weights: Path
    where: Where


def _plan(run: _Run, settings: Sections, *, config: ScaleConfig, record: Record | None) -> Plan:
    source = run.source
    with _needs_torch():
        from howdah.methods.elephant.predict import settled
        from howdah.nn.device import threads
    loaded, given = settings_of(run.weights, settings, marks=source.tracks)
    elephant = settled(loaded, given)
    if elephant.memory_mb is None:
        elephant = elephant.but(memory_mb=network_mb(config, rescaled=elephant.rescale is not None))
    box = run.where.corners(elephant.r_max)
    warn_beside(box, source, run.frames, run.where.box)
    calibration = Calibration.from_header(loaded.header) or DEFAULT
    hints = run.job.hints
    shared = {
        "movie": str((source.image.path or run.source.files[-1]).resolve()),
        "hints": asdict(hints) if hints.given else None,
        "setup": source.setup,
        "weights": str(run.weights.resolve()),
        "elephant": elephant.model_dump(mode="json"),
        "calibration": calibration.to_header(),
        "threads": threads(),
        "box": None if box is None else [np.asarray(corner).tolist() for corner in box],
        "layouts": {},
    }
    blocks, found = Blocks(source, elephant, config, box, len(loaded.members)), []
    for frame in run.frames:
        if source.image.is_missing(frame, source.setup):
            log.warning("Frame %d of %s is missing; no nuclei are looked for there.", frame, source.image.path)
        else:
            blocks.add(frame)
            found.append(frame)
    blocks.tell()
    if elephant.tile_size is None and len(blocks.tiles) == 1:  # all that is needed to have the same from the plain verb
        elephant = elephant.but(tile_size=blocks.tiles[0])

    shared["layouts"] = blocks.layouts

    def gather(results: Results) -> Steps[dict[str, Any]]:
        return (yield from _gathered(run, elephant, box, found, results, record=record, settings=settings))

    return Plan(
        "predict",
        run.target,
        blocks.all,
        shared,
        with_pixels({"image": source.image.path or source.files[-1], "weights": run.weights}, source.image),
        gather,
        settings,
    )


def _gathered(
    run: _Run,
    elephant: ElephantConfig,
    box: Box | None,
    frames: Sequence[int],
    results: Results,
    *,
    record: Record | None,
    settings: Sections,
) -> Steps[dict[str, Any]]:
    """Merge what was found with the annotation, and write it, as ``predict`` does."""
    source, inputs = run.source, {**run.source.inputs, "weights": run.weights}
    with ExitStack() as stack:
        if record is None:
            record = stack.enter_context(recorded(run.target, "scale predict", inputs=inputs, settings=settings))
        found: dict[int, Spots] = {}
        for number, frame in enumerate(frames):
            arrays = results.read(key_of("spots", frame)).arrays
            found[frame] = Spots(arrays["centre"], arrays["covariance"], arrays["quality"])
            yield Progress("gather", number + 1, len(frames), values={"nuclei": float(len(found[frame]))})
        tracks = merged(source.tracks, found, elephant, update_status=run.where.update_status, box=box)
        written = save(run.target, tracks, source.image, hints=run.job.hints)
        record.facts |= {
            "settings_used": elephant.model_dump(mode="json"),
            "weights": fingerprint(run.weights),
            "spots": tracks.n_spots,
        }
        record.facts |= dict(getattr(results, "facts", {}))
    return {"out": str(written), "spots": tracks.n_spots, "new_spots": tracks.n_spots - source.tracks.n_spots}
