"""Linking in windows along time: the plan of its blocks, and the result from theirs.

The coordinator reads the annotation, drops what a machine linked before, and writes what windows need into one file beside the target
(:mod:`.link_spots`). Blocks find links (:mod:`.link_blocks`); the result is made from theirs by the functions of ``howdah link``.

What is equal to ``howdah link``: everything, bit for bit, at any window, for the solvers pairwise and nearest, with gaps or without. For
global the sum of costs is the same, and links are the same unless several solutions are equally good (or one part of the movie has more
than :data:`howdah.linking.programme.PART` choices that hang together: those are cut in time there and here, at other places).
With a flow *and* gaps, places of spots that are followed over a gap can differ in the last digit, for the same products of matrices
are computed in other groups.

Memory: a worker holds its window, of ``window`` frames and ``frame_gap`` around it (:data:`BYTES` a spot); two blocks hold one number a
link of the movie, to find medians. The coordinator holds the annotation, 25 to 40 bytes a spot more while it writes the file of spots,
and in the end all links.

What does not go faster with more workers: reading and writing the annotation, and the stages that go from window to window (``bridges``,
``seams``). The first are light; the seams of the solver global with gaps take most of its time where most spots have rivals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.formats import writer_for
from howdah.linking import LinkingConfig
from howdah.linking.earlier import Ghosts
from howdah.linking.gaps import Bridges
from howdah.linking.job import frames_to_visit
from howdah.linking.link import completed
from howdah.pipeline.detection import Job
from howdah.pipeline.record import Record, recorded
from howdah.pipeline.saving import save
from howdah.pipeline.sources import Source, check_target, open_source, parse_frames
from howdah.pipeline.tap_link import with_divisions
from howdah.pipeline.tracking import counts_of, loosened, marked
from howdah.progress import Progress, Steps
from howdah.scale.config import ScaleConfig
from howdah.scale.folder import remove, work_folder
from howdah.scale.identity import with_pixels
from howdah.scale.link_divisions import Telling, told_in_blocks
from howdah.scale.link_spots import aside, movie_of_workers, spots_file, write_spots
from howdah.scale.plan import Block, Gather, Plan, Results
from howdah.scale.run import run_plan

I64 = npt.NDArray[np.int64]
PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]
Window = tuple[int, int]

__all__ = ["Linking", "forget", "linked_in_blocks", "plan_link", "scale_link", "windows_of"]

DOES = "howdah.scale.link_blocks:"
SPOTS, FRAMES, FRAMES_FLOW = 200_000, 16, 8
BYTES = {"pairwise": 1000, "nearest": 600, "global": 8000}
"""Memory that a block of a window asks for, bytes a spot; measured 660, 360 and (with gaps and many rivals) 5,800."""
BYTES_WHOLE = 24
"""The same of the two blocks that take a median over the movie, bytes a spot of the movie."""


def scale_link(
    job: Job,
    out: PathLike,
    *,
    settings: Sections,
    config: ScaleConfig | None = None,
    flow: PathLike | None = None,
    divisions: PathLike | None = None,
    restart: bool = False,
    keep: bool = False,
) -> Steps[dict[str, Any]]:
    """Link the spots of a project, as :func:`howdah.pipeline.link` does, in windows along time by many workers.

    Args:
        job: The project. Without flow, its movie is only needed to be named in the result.
        out: The result; its ending chooses the format.
        settings: As for :func:`howdah.pipeline.link`.
        config: Who does the work, and how long windows are.
        flow: Weights of the flow network.
        divisions: A classifier of TAP. What it says of the spots is found first, in a run of its own.
        restart: Forget what an earlier run of this target has done.
        keep: Leave the work folders and the files of spots where they are.

    Returns:
        The file, the counts, and what the run says of its blocks.
    """
    chosen = config or ScaleConfig()
    task = _task(job, out, settings=settings, flow=flow, divisions=divisions)
    used = {**task.used, "scale": chosen.model_dump(mode="json")}
    with recorded(task.target, "scale link", inputs=task.inputs, settings=used) as record:
        if divisions is not None:
            how = Telling(task.target, divisions, settings, chosen, restart=restart)
            task = replace(task, tracks=(yield from told_in_blocks(task.source, task.tracks, how, hints=job.hints)))
        result = yield from linked_in_blocks(replace(task, record=record), chosen, restart=restart, keep=keep)
    if divisions is not None and not keep:
        forget(aside(task.target, "divisions"))
    return result


def plan_link(
    job: Job, out: PathLike, *, settings: Sections, config: ScaleConfig | None = None, flow: PathLike | None = None
) -> Plan:
    """Return the plan of :func:`scale_link` without a classifier; the file of spots is written beside the target."""
    return _task(job, out, settings=settings, flow=flow, divisions=None).plan(config or ScaleConfig())


def _task(job: Job, out: PathLike, *, settings: Sections, flow: PathLike | None, divisions: PathLike | None) -> Linking:
    writer_for(out)
    source = open_source(job.source, image=job.image, setup=job.setup, hints=job.hints)
    frames = parse_frames(job.frames, max(source.image.n_frames, source.tracks.n_frames))
    target = check_target(out, source, in_place=True)
    given = {name: Path(path) for name, path in (("flow", flow), ("divisions", divisions)) if path is not None}
    return Linking(
        task="link",
        target=target,
        source=source,
        tracks=source.tracks,
        frames=frames,
        linking=with_divisions(LinkingConfig.of(settings.get("linking", {})), divisions),
        flow=flow,
        settings=settings,
        job=job,
        inputs=with_pixels({**source.inputs, **given}, source.image) if given else source.inputs,
    )


def linked_in_blocks(
    task: Linking, config: ScaleConfig, *, restart: bool = False, keep: bool = False
) -> Steps[dict[str, Any]]:
    """Link in blocks and write the result; the file of spots goes when all is done."""
    result = yield from run_plan(task.plan(config), config, restart=restart, keep=keep)
    if not keep:
        spots_file(task.target).unlink(missing_ok=True)
    return result


def forget(target: Path) -> None:
    """Remove the work folder and the file of spots of a part of the work."""
    remove(work_folder(target))
    spots_file(target).unlink(missing_ok=True)


@dataclass(frozen=True)
class Linking:
    """What is to be linked, and how; the same for ``scale link`` and ``scale track``.

    Attributes:
        task: The verb. target: The result. source: The movie, and where it came from.
        tracks: The annotation. frames: Frames whose spots look for a parent.
        linking: Settings. flow: Weights, or None. settings: As the user gave them.
        job: What the user asked for. inputs: For the record, and for what makes two runs the same.
        record: Where facts go; None: a record is made with the result.
    """

    task: str
    target: Path
    source: Source
    tracks: Tracks
    frames: list[int]
    linking: LinkingConfig
    flow: PathLike | None
    settings: Sections
    job: Job
    inputs: Mapping[str, Path]
    record: Record | None = None

    @property
    def used(self) -> dict[str, Any]:
        """The settings, for the record."""
        others = {name: dict(self.settings.get(name, {})) for name in ("flow", "tap")}
        return {"linking": self.linking.model_dump(), **others}

    def plan(self, config: ScaleConfig) -> Plan:
        """Write the file of spots and return the plan."""
        kept, candidates = loosened(self.tracks, self.frames)
        path = spots_file(self.target)
        digest, order = write_spots(path, kept, self.linking, candidates, shapes=self.flow is not None)
        times, counts = np.unique(kept.t.astype(np.int64), return_counts=True)
        wanted = sorted({int(frame) for frame in self.frames})
        gap = self.linking.frame_gap
        shared: dict[str, Any] = {
            "spots": {"file": path.name, "digest": digest},
            "linking": self.linking.model_dump(mode="json"),
            "wanted": wanted,
            "visited": frames_to_visit(times.tolist(), wanted, gap),
        }
        if self.flow is not None:
            shared["flow"] = {
                "movie": movie_of_workers(self.source, self.job.hints),
                "weights": os.path.abspath(self.flow),
                "settings": dict(self.settings.get("flow", {})),
            }
        windows = windows_of(times, counts, config.window, most=FRAMES if self.flow is None else FRAMES_FLOW)
        blocks, last = blocks_of(windows, times, counts, self.linking)
        return Plan(
            task=self.task,
            target=self.target,
            blocks=blocks,
            shared=shared,
            inputs=self.inputs,
            gather=self._gather(kept, order, last),
            settings=self.used,
        )

    def _gather(self, kept: Tracks, order: I64, last: Sequence[str]) -> Gather:
        def gather(results: Results) -> Steps[dict[str, Any]]:
            with ExitStack() as stack:
                own = recorded(self.target, f"scale {self.task}", inputs=self.inputs, settings=self.used)
                record = self.record or stack.enter_context(own)
                linked = yield from gathered(results, last, kept, order, self.linking)
                written = save(self.target, linked, self.source.image, hints=self.job.hints)
                record.facts |= {**counts_of(linked), **results.facts}
            return {"out": str(written), **counts_of(linked)}

        return gather


def gathered(results: Results, last: Sequence[str], kept: Tracks, order: I64, linking: LinkingConfig) -> Steps[Tracks]:
    """Return the linked annotation from the results of the last stage."""
    found: list[Mapping[str, npt.NDArray[Any]]] = []
    for done, key in enumerate(last, start=1):
        found.append(results.read(key).arrays)
        yield Progress("gather", done, len(last))
    if not found:
        return marked(kept, completed(kept, *_nothing(linking), interpolate=linking.interpolate))
    every = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    over, age = order[every["over"]], every["over_age"]
    child = every["over"][:, 1]
    # The order in which they are found frame by frame, so that spots in one place are numbered alike.
    by = np.lexsort((child, -kept.t[order[child]], age - 1 - kept.t[order[child]]))
    bridges = Bridges(over[by, 0], Ghosts(over[by, 1], age[by], every["over_trail"][by]))
    quality = np.concatenate([every["quality"], every["over_quality"][by]])
    return marked(kept, completed(kept, order[every["links"]], bridges, quality, interpolate=linking.interpolate))


def windows_of(times: I64, counts: I64, window: int | None, *, most: int = FRAMES) -> list[Window]:
    """Return windows [begin, end) that hold all frames that have spots, in order of time.

    Args:
        times: (F,) frames that have spots.
        counts: (F,) how many.
        window: Frames of a window. None: as many as have 200,000 spots together, at most ``most``.
        most: Frames.
    """
    if not len(times):
        return []
    first, end = int(times[0]), int(times[-1]) + 1
    length = window or most
    limit = SPOTS if window is None else np.inf
    spots = np.zeros(end - first, dtype=np.int64)
    spots[times - first] = counts
    begins, inside = [first], 0
    for frame, here in enumerate(spots.tolist(), start=first):
        if frame > begins[-1] and (frame - begins[-1] >= length or inside + here > limit):
            begins.append(frame)
            inside = 0
        inside += here
    return list(zip(begins, [*begins[1:], end], strict=True))


def blocks_of(
    windows: Sequence[Window], times: I64, counts: I64, linking: LinkingConfig
) -> tuple[list[Block], list[str]]:
    """Return the blocks of a plan, and the keys of those that the result is made from."""
    spots = [int(counts[(times >= begin) & (times < end)].sum()) for begin, end in windows]
    memory = [BYTES[linking.solver] * max(spots[max(at - 1, 0) : at + 2]) / 2**20 for at in range(len(windows))]
    names = [f"w{at:05d}" for at in range(len(windows))]
    blocks: list[Block] = []
    lengths: tuple[str, ...] = ()

    def add(key: str, function: str, at: int | None, needs: Sequence[str] = (), **arguments: Any) -> None:
        said = arguments if at is None else {"window": list(windows[at]), **arguments}
        cost = (1.0 if function in ("pairs", "choices") else 0.2) * (1 if at is None else spots[at] + 1)
        memory_mb = BYTES_WHOLE * sum(spots) / 2**20 if at is None else memory[at]
        needed = tuple(dict.fromkeys([*needs, *lengths]))
        blocks.append(Block(key, DOES + function, said, needed, cost, memory_mb, passing=function != "quality"))

    if linking.max_distance is None:
        for at, name in enumerate(names):
            add(f"apart/{name}", "apart", at)
        parts = [f"apart/{name}" for name in names]
        add("reach/all", "reach", None, parts, keys=parts)
        lengths = ("reach/all",)
    decides, deciding, asked = _decide(windows, names, linking, add)
    add("scale/all", "scale", None, [key for key, _ in asked], keys=asked)
    gap = linking.frame_gap
    last = []
    for at, (begin, end) in enumerate(windows):
        around = [at]
        if gap > 1:
            around = [other for other, (b, e) in enumerate(windows) if e > begin - 2 * gap and b < end + gap]
        wider = {*around, *(other + 1 for other in around)} if linking.solver == "global" else set(around)
        keys = {f"{stage}/{names[other]}" for stage in deciding for other in wider if other < len(windows)}
        near = [[key, late] for key, late in asked if key in keys]
        needs = [*(key for key, _ in asked if key in keys), "scale/all"]
        add(f"quality/{names[at]}", "quality", at, needs, near=near, decides=decides[at])
        last.append(f"quality/{names[at]}")
    return blocks, last


def _decide(
    windows: Sequence[Window], names: Sequence[str], linking: LinkingConfig, add: Any
) -> tuple[list[str], list[str], list[tuple[str, int | None]]]:
    """Add the stages that decide links.

    Returns:
        The key of each window; the stages; the keys of all results with links, each with the frame before which a link is late there.
    """
    n, gap = len(windows), linking.frame_gap
    if linking.solver == "global":
        for at in range(n):
            add(f"choices/{names[at]}", "choices", at, more=at + 1 < n)
        keys: list[tuple[str, int | None]] = [(f"choices/{name}", None) for name in names]
        for at in range(1, n if gap > 1 else 0):
            before = f"{'seams' if at > 1 else 'choices'}/{names[at - 1]}"
            mine = f"choices/{names[at]}"
            add(f"seams/{names[at]}", "seams", at, [before, mine], before=before, choices=mine, more=at + 1 < n)
            keys.append((f"seams/{names[at]}", windows[at - 1][0]))
        return [f"choices/{name}" for name in names], ["choices", "seams"], keys
    for at in range(n):
        add(f"pairs/{names[at]}", "pairs", at)
    keys = [(f"pairs/{name}", None) for name in names]
    for at in reversed(range(n if gap > 1 else 0)):
        mine, after = f"pairs/{names[at]}", f"bridges/{names[at + 1]}" if at + 1 < n else None
        add(f"bridges/{names[at]}", "bridges", at, [mine, *([after] if after else [])], pairs=mine, after=after)
        keys.append((f"bridges/{names[at]}", None))
    return [f"pairs/{name}" for name in names], ["pairs", "bridges"], keys


def _nothing(linking: LinkingConfig) -> tuple[I64, Bridges, npt.NDArray[np.float64]]:
    return np.empty((0, 2), dtype=np.int64), Bridges.none(linking.frame_gap), np.empty(0)
