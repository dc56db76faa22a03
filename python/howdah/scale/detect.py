"""``howdah scale predict``: nuclei of every frame, in blocks: a frame, or tiles and regions of a frame that is cut.

**The same result.** With any number of workers, in any order, after any stop: bit for bit what ``predict`` gives with the same
settings, on the same kind of processor with as many torch threads (the plan says how many: those of the process that made it; sums are
added in another order by another number). A frame is cut where ``tile_size`` is smaller than it, or, without ``tile_size``, where it does
not go through the network as a whole within the memory of a worker. The norms of the network see a tile, so the size of tiles is part
of the result: compare with ``predict`` with the same ``tile_size``. It is chosen once, from settings only (``memory_mb``, else
``worker_memory_mb``, else 4096 MiB; never from what is free), and is part of the run: going on with another ``worker_memory_mb`` is refused
unless ``tile_size`` and ``memory_mb`` are set. How many workers there are, and how regions are cut (``block``), never changes the result.

**Memory** of a block, bytes, above Python with its libraries (and 48 MiB for each network); ``v`` voxels of a frame, ``s`` bytes of a
stored voxel, ``c`` = 1 (2 with ``denoise_edges``), ``net(n)`` = 700 n where that is within ``memory_mb``, else 262 n + 350 MiB:

- a frame that is not cut: (s + 24) v + net(v); 8 v more with ``temporal_mean``;
- levels: 48 bytes for each of 4 million voxels; with ``slice_median`` s + 16 for each of 8 million or of a slice; with normalisation
  ``"local"`` also what preparing a part of 4 million voxels takes;
- preparing a part that is h voxels of the working grid with its halo, and m of the movie: (s + 16) min(m, 2^24) + 28 h;
- a tile of n voxels: what preparing it takes + net(n) + (12 c + 4) n (the C library's heap gives little back in between);
- blending a region of n voxels: 18 n + 12 t, where t are the voxels of a tile; with ``denoise_edges`` n are those of the region's whole
  slices, and it takes 70 n + 24 t. Without ``block``, regions are as large as 0.8 ``memory_mb`` allows;
- cores and nuclei: 200 bytes for each voxel above the threshold in a region and in the components that lie over its border. How many these
  are is not known before: :data:`FOREGROUND` of the region is what is reckoned with.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.formats import writer_for
from howdah.errors import ConfigError
from howdah.methods import Spots
from howdah.methods.elephant.box import Box, Region
from howdah.methods.elephant.calibration import DEFAULT, Calibration
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.layout import BYTES_PER_VOXEL, Layout, layout_of, seen_for, touches
from howdah.methods.elephant.parts import PIECE, SOURCE, Frame, cubes_of, halo_of
from howdah.nn.tiles import Tile
from howdah.pipeline.detection import Job, Where, _needs_torch, merged, settings_of, warn_beside
from howdah.pipeline.record import Record, fingerprint, recorded
from howdah.pipeline.saving import save
from howdah.pipeline.sources import Source, check_target
from howdah.progress import Progress, Steps
from howdah.scale.config import ScaleConfig
from howdah.scale.detect_blocks import grid_of, key_of, support
from howdah.scale.identity import with_pixels
from howdah.scale.plan import Block, Json, Plan, Results
from howdah.scale.run import run_plan

Sections = Mapping[str, Mapping[str, Any]]
Path_ = str | os.PathLike[str]
log = logging.getLogger("howdah")

__all__ = ["plan_predict", "scale_predict"]

IDLE_MB = 600.0  # as of howdah.scale.machine: Python with its libraries
MEMBER_MB = 24.0
AUTOMATIC_MB = 4096.0
STREAM_BYTES, STRIPS_MB = 262.0, 350.0  # of howdah.methods.elephant.stream, in float32
FOREGROUND = 0.05
MB = 2.0**20
DOES = "howdah.scale.detect_blocks"
STAGES = {"frame": "spots", "levels": "levels", "tile": "tiles", "blend": "blend", "cores": "cores", "nuclei": "spots"}


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
        elephant = elephant.but(memory_mb=_network_mb(config, rescaled=elephant.rescale is not None))
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
    }
    blocks, found = _Blocks(source, elephant, config, box, len(loaded.members)), []
    for frame in run.frames:
        if source.image.is_missing(frame, source.setup):
            log.warning("Frame %d of %s is missing; no nuclei are looked for there.", frame, source.image.path)
        else:
            blocks.add(frame)
            found.append(frame)
    blocks.tell()

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


def _network_mb(config: ScaleConfig, *, rescaled: bool) -> float:
    """Memory for the network where nobody said: from the settings alone, so that the same command makes the same plan."""
    filters = 2.0 * SOURCE * 18 / MB if rescaled else 0.0
    return max(200.0, 0.6 * ((config.worker_memory_mb or AUTOMATIC_MB) - IDLE_MB - filters))


@dataclass
class _Blocks:
    """The blocks of all frames."""

    source: Source
    elephant: ElephantConfig
    config: ScaleConfig
    box: Box | None
    members: int
    all: list[Block] = field(default_factory=list)
    cut: dict[int, tuple[int, Layout]] = field(default_factory=dict)

    def add(self, number: int) -> None:
        """Add the blocks of a frame."""
        image, setup, config = self.source.image, self.source.setup, self.elephant
        shape, affine = image.shape(number, setup), image.affine(number, setup)
        layout = layout_of(shape, affine, config, memory_mb=self.memory, strips_mb=STRIPS_MB, stream_bytes=STREAM_BYTES)
        stored = image.setups[setup].dtype.itemsize + (8 if config.temporal_mean else 0)
        voxels = float(np.prod(shape))
        if layout.tile is None:
            need = (stored + 24) * voxels + self.net(float(np.prod(layout.padded)))
            self._block("frame", {"frame": number}, cost=voxels * self.passes, bytes_=need)
            return
        if config.guess_height and config.nucleus_size is not None:
            raise ConfigError(
                f"Frame {number} ({' x '.join(map(str, shape))} voxels) would be cut into tiles, but guess_height = "
                f"{config.guess_height:g} looks for hills in the whole frame. Set guess_height to 0, or give workers the memory for a "
                "whole frame (--worker-memory-mb, or --memory-mb for the network) and no tile_size."
            )
        part = Frame(lambda region: image.read(number, setup, region=region), shape, affine, config)
        view: Region | None = (slice(0, layout.working[0]), slice(0, layout.working[1]), slice(0, layout.working[2]))
        if self.box is not None:
            view = seen_for(self.box, layout.grid, layout.working, layout.unit)
        if view is None:  # the box lies beside this frame
            self._block("nuclei", {"frame": number, "view": [[0, 1]] * 3, "regions": 0})
            return
        self.cut[number] = (sum(_weighs(tile) for tile in layout.tiles()), layout)
        self._add_cut(part, number, layout, view, stored)

    def _add_cut(self, part: Frame, number: int, layout: Layout, view: Region, stored: float) -> None:
        """Add the blocks of a frame that is cut."""
        voxels = float(np.prod(part.shape))
        same: dict[str, Json] = {
            "frame": number,
            "tile": list(layout.tile or ()),
            "working": list(layout.working),
            "flags": list(layout.flags),
        }
        slices = max(SOURCE, part.shape[1] * part.shape[2]) if self.elephant.slice_median else 0
        levels = key_of("levels", number)
        halo, per_voxel = halo_of(part), voxels / float(np.prod(layout.working))

        def prepared(size: Sequence[int]) -> float:
            wide = float(np.prod(np.add(size, np.multiply(halo, 2))))
            return (stored + 16) * min(wide * per_voxel, 2.0 * SOURCE) + 28 * wide

        cube = [part.stop - part.start for part in next(cubes_of(layout.working))]
        local = prepared(cube) if part.how == "local" else 0.0
        self._block(
            "levels", {"frame": number}, cost=voxels / 50, bytes_=max(48.0 * PIECE + local, (stored + 16) * slices)
        )
        plan = {n: tile for n, tile in enumerate(layout.tiles()) if _weighs(tile) and touches(tile, view)}
        for n, tile in plan.items():
            size = [cut.stop - cut.start for cut in tile.region]
            inside = float(np.prod(size))
            need = prepared(size) + self.net(inside) + (12 * self.classes + 4) * inside
            self._block("tile", {**same, "number": n}, (levels,), cost=inside * self.passes, bytes_=need)
        self._add_regions(number, {**same, "view": _json(view)}, view, plan)

    def _add_regions(self, frame: int, same: Mapping[str, Json], view: Region, plan: Mapping[int, Tile]) -> None:
        """Add what is made of the tiles of a frame."""
        shape, c = [part.stop - part.start for part in view], self.classes
        block = self._regions(shape)
        regions = grid_of(shape, block)
        counts = [-(-n // b) for n, b in zip(shape, block, strict=True)]
        used = _tiles_of_regions(plan, view, block, counts, whole_slices=self.elephant.denoise_edges)
        largest = max(float(np.prod([part.stop - part.start for part in tile.region])) for tile in plan.values())
        for n, region in enumerate(regions):
            wide = [
                shape[axis] if self.elephant.denoise_edges and axis else part.stop - part.start
                for axis, part in enumerate(region)
            ]
            self._block(
                "blend",
                {**same, "region": _json(region), "tiles": used[n], "number": n},
                tuple(key_of("tiles", frame, number) for number in used[n]),
                cost=float(np.prod(wide)) / 50,
                bytes_=self.blend_bytes * float(np.prod(wide)) + 12 * c * largest,
            )
        blends, voxels = tuple(key_of("blend", frame, n) for n in range(len(regions))), float(np.prod(block))
        for n in range(len(regions)):
            arguments = {"frame": frame, "view": same["view"], "block": block, "number": n}
            self._block("cores", arguments, blends, cost=voxels / 100, bytes_=200 * FOREGROUND * voxels)
        arguments = {"frame": frame, "view": same["view"], "regions": len(regions)}
        self._block("nuclei", arguments, tuple(key_of("cores", frame, n) for n in range(len(regions))))

    def _block(
        self,
        does: str,
        arguments: Mapping[str, Json],
        needs: tuple[str, ...] = (),
        *,
        cost: float = 1.0,
        bytes_: float = 0.0,
    ) -> None:
        key = key_of(STAGES[does], int(arguments["frame"]), arguments.get("number"))
        base = self.base if does in ("frame", "tile") else 0.0
        passing = does not in ("frame", "nuclei", "levels")
        self.all.append(Block(key, f"{DOES}:{does}", arguments, needs, cost, base + bytes_ / MB, passing))

    @property
    def classes(self) -> int:
        """How many outputs of the network are kept."""
        return 2 if self.elephant.denoise_edges else 1

    def _regions(self, shape: Sequence[int]) -> list[int]:
        """Size of regions: what the settings say, else halves of the longest axis until they are small."""
        if self.config.block is not None:
            return [min(n, b) for n, b in zip(shape, self.config.block, strict=True)]
        block, most = list(shape), max(0.8 * self.memory * MB / self.blend_bytes, 1 << 16)
        while np.prod(block) > most:
            axis = int(np.argmax(block))
            if self.elephant.denoise_edges and block[0] > 1:
                axis = 0  # whole slices are computed anyway
            elif max(block) == 1:
                break
            block[axis] = -(-block[axis] // 2)
        return block

    @property
    def blend_bytes(self) -> float:
        """Bytes that blending takes for a voxel of a region."""
        return 4 * self.classes + (62 if self.elephant.denoise_edges else 14)

    @property
    def memory(self) -> float:
        return float(self.elephant.memory_mb or AUTOMATIC_MB)

    @property
    def base(self) -> float:
        """What the networks take; twice, while they are read."""
        return 2 * MEMBER_MB * self.members

    @property
    def passes(self) -> int:
        return self.members * (4 if self.elephant.test_time_flips else 1)

    def net(self, voxels: float) -> float:
        """Bytes that the network takes for so many voxels at once."""
        at_once = BYTES_PER_VOXEL * voxels
        return at_once if at_once <= self.memory * MB else STREAM_BYTES * voxels + STRIPS_MB * MB

    def tell(self) -> None:
        """Warn where frames are cut: the size of tiles is part of the result."""
        if self.cut:
            frame, (n, layout) = next(iter(self.cut.items()))
            log.warning(
                "%d of %d frames are predicted in tiles (frame %d in %d overlapping ones of %s voxels, z, y, x). The network normalises "
                "by what it sees at once, so results differ from those of whole frames and change with the size of tiles; they are those "
                "of `predict` with the same tile_size.",
                len(self.cut),
                len(self.cut) + sum(block.does.endswith(":frame") for block in self.all),
                frame,
                n,
                " x ".join(map(str, layout.tile or ())),
            )


def _weighs(tile: Tile) -> bool:
    """Whether a tile has any weight: those between tiles so dense that seams cross have none."""
    return all(bool(weights.any()) for weights in tile.weights)


def _tiles_of_regions(
    plan: Mapping[int, Tile], view: Region, block: Sequence[int], counts: Sequence[int], *, whole_slices: bool
) -> list[list[int]]:
    """Numbers of the tiles that have weight in each region, rising."""
    used: list[list[int]] = [[] for _ in range(int(np.prod(counts)))]
    for number, tile in plan.items():
        axes = []
        for axis, (part, seen, size, n) in enumerate(zip(support(tile), view, block, counts, strict=True)):
            first, last = (part.start - seen.start) // size, (part.stop - 1 - seen.start) // size
            axes.append(range(n) if whole_slices and axis else range(max(first, 0), min(last + 1, n)))
        for z, y in itertools.product(axes[0], axes[1]):
            for x in axes[2]:
                used[(z * counts[1] + y) * counts[2] + x].append(number)
    return used


def _json(region: Sequence[slice]) -> list[list[int]]:
    return [[part.start, part.stop] for part in region]
