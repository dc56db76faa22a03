"""The main job in blocks: find the nuclei of every frame, then link them. Each half is a run of its own, and both can be resumed.

The blocks of the first half stay until the second is done: after a stop they are not done again, only what they found is put together
anew. Training, where no weights are given, happens in this process, and is not repeated when a stopped run goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bdv_io import Tracks
from bdv_io.formats import writer_for
from howdah.linking import LinkingConfig
from howdah.methods import Spots
from howdah.methods.elephant.config import ElephantConfig
from howdah.pipeline.detection import Job, merged, train
from howdah.pipeline.record import Record, fingerprint, recorded
from howdah.pipeline.sources import Source, check_target
from howdah.pipeline.tap_link import with_divisions
from howdah.progress import Progress, Steps
from howdah.scale.config import ScaleConfig
from howdah.scale.detect import plan_predict
from howdah.scale.folder import work_folder
from howdah.scale.identity import with_pixels
from howdah.scale.link import Linking, PathLike, Sections, forget, linked_in_blocks
from howdah.scale.link_divisions import Telling, told_in_blocks
from howdah.scale.link_spots import aside
from howdah.scale.plan import Plan, Results
from howdah.scale.run import run_plan

__all__ = ["scale_track"]

PARTS = ("found", "divisions")


def scale_track(
    job: Job,
    out: PathLike,
    *,
    settings: Sections,
    config: ScaleConfig | None = None,
    weights: PathLike | None = None,
    linked_by: Sequence[PathLike | None] = (None, None),
    restart: bool = False,
    keep: bool = False,
) -> Steps[dict[str, Any]]:
    """Find the nuclei of every frame and link them, as :func:`howdah.pipeline.track` does, in blocks by many workers.

    Args:
        job: A project with a few marked nuclei (or, with weights, a movie alone).
        out: The result; its ending chooses the format.
        settings: As for :func:`howdah.pipeline.track`.
        config: Who does the work, in how large blocks.
        weights: Trained weights. None: they are trained first and written beside the result.
        linked_by: Weights of the flow network, and a classifier of TAP that tells which nuclei divide; None for without.
        restart: Forget what an earlier run of this target has done.
        keep: Leave the work folders and the files of spots where they are.

    Returns:
        The file, the weights, the counts, and what the second run says of its blocks.
    """
    writer_for(out)
    chosen, (flow, divisions) = config or ScaleConfig(), linked_by
    source, _ = job.open()
    target = check_target(out, source, in_place=True)
    linking = with_divisions(LinkingConfig.of(settings.get("linking", {})), divisions)
    if weights is None:
        weights = target.with_name(f"{target.stem}-weights.safetensors")
        begun = any(work_folder(place).is_dir() for place in (target, aside(target, "found")))
        if restart or not (begun and Path(weights).is_file()):
            yield from train(job, weights, settings=settings)
    given = {"flow": flow, "divisions": divisions}
    inputs = with_pixels({**source.inputs, "weights": Path(weights)}, source.image)
    inputs |= {name: Path(path) for name, path in given.items() if path is not None}
    every = list(range(source.image.n_frames))
    task = Linking("track", target, source, source.tracks, every, linking, flow, settings, job, inputs)
    used = {"elephant": dict(settings.get("elephant", {})), **task.used, "scale": chosen.model_dump(mode="json")}
    with recorded(target, "scale track", inputs=inputs, settings=used) as record:
        plan = plan_predict(job, aside(target, "found"), chosen, weights=weights, settings=settings)
        first = yield from run_plan(_finding(plan, source, record), chosen, restart=restart, keep=True)
        found: Tracks = first["tracks"]
        if divisions is not None:
            how = Telling(target, divisions, settings, chosen, restart=restart)
            found = yield from told_in_blocks(source, found, how, hints=job.hints)
        result = yield from linked_in_blocks(
            replace(task, tracks=found, record=record), chosen, restart=restart, keep=keep
        )
        record.facts |= {"weights": fingerprint(Path(weights)), "blocks_found": first["blocks"]}
    if not keep:
        for part in PARTS:
            forget(aside(target, part))
    return {**result, "weights": str(weights), "blocks_found": first["blocks"]}


def _finding(plan: Plan, source: Source, record: Record) -> Plan:
    """The plan of finding, whose result is the annotation itself, not a file."""
    elephant = ElephantConfig.of(plan.shared["elephant"])
    frames = {int(block.arguments["frame"]): block.key for block in plan.blocks if block.stage == "spots"}

    def gather(results: Results) -> Steps[dict[str, Any]]:
        found: dict[int, Spots] = {}
        for number, (frame, key) in enumerate(frames.items(), start=1):
            arrays = results.read(key).arrays
            found[frame] = Spots(arrays["centre"], arrays["covariance"], arrays["quality"])
            yield Progress("gather", number, len(frames), values={"nuclei": float(len(found[frame]))})
        record.facts |= {"settings_used": elephant.model_dump(mode="json")}
        return {"tracks": merged(source.tracks, found, elephant, update_status=False, box=None)}

    return replace(plan, gather=gather)
