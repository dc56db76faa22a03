"""Which blocks a frame is detected in, and what they take; frames that are cut alike share their layout.

A frame's blocks follow from its shape, the affine (but for where the frame lies, if there is no box) and the settings. They are worked out
once for all such frames (:class:`_Kind`); what is left for each frame are names. What blocks need to know of a layout is not said in each
of them, but once in the plan: ``layouts`` in its ``shared``, where ``layout`` in the arguments of a block is the place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from howdah.errors import ConfigError
from howdah.methods.elephant.box import Box, Region
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.layout import BYTES_PER_VOXEL, Layout, layout_of, least_work, seen_for, touches
from howdah.methods.elephant.parts import PIECE, SOURCE, Frame, cubes_of, halo_of
from howdah.nn.tiles import Tile
from howdah.pipeline.sources import Source
from howdah.scale.config import ScaleConfig
from howdah.scale.detect_blocks import BATCH, grid_of, key_of, tiles_of_regions, weighs
from howdah.scale.plan import Block, Json

log = logging.getLogger("howdah")

__all__ = ["Blocks", "network_mb"]

IDLE_MB = 600.0  # as of howdah.scale.machine: Python with its libraries
MEMBER_MB = 24.0
AUTOMATIC_MB = 4096.0
STREAM_BYTES, STRIPS_MB = 262.0, 350.0  # of howdah.methods.elephant.stream, in float32
FOREGROUND = 0.05
LISTED, MEASURED = 64.0, 200.0  # bytes for a voxel above the threshold, and for those that are measured at once
REACH = 16  # voxels on both sides of a border between regions, in which components are taken to lie over it
MOST_REGIONS = 10_000
MB = 2.0**20
DOES = "howdah.scale.detect_blocks"
STAGES = {"frame": "spots", "levels": "levels", "tile": "tiles", "blend": "blend", "nuclei": "spots"}


def network_mb(config: ScaleConfig, *, rescaled: bool) -> float:
    """Memory for the network where nobody said: from the settings alone, so that the same command makes the same plan."""
    filters = 2.0 * SOURCE * 18 / MB if rescaled else 0.0
    return max(200.0, 0.6 * ((config.worker_memory_mb or AUTOMATIC_MB) - IDLE_MB - filters))


@dataclass(frozen=True)
class _Part:
    """A block of a frame of a kind. Attributes: number: in its stage. needs: Places of parts in the kind. Others as of a Block."""

    does: str
    number: int | None = None
    needs: tuple[int, ...] = ()
    cost: float = 1.0
    memory_mb: float = 0.0


@dataclass
class _Kind:
    """Frames that are cut alike. Attributes: layout: Its name in ``layouts``, None where they are not cut. tiles: How many."""

    layout: str | None = None
    parts: list[_Part] = field(default_factory=list)
    tiles: int = 0
    tile: tuple[int, int, int] | None = None

    def blocks(self, frame: int) -> list[Block]:
        """Return the blocks of a frame."""
        keys = [key_of(STAGES[part.does], frame, part.number) for part in self.parts]
        same: dict[str, Json] = {"frame": frame} if self.layout is None else {"frame": frame, "layout": self.layout}
        needs: dict[tuple[int, ...], tuple[str, ...]] = {}
        made = []
        for key, part in zip(keys, self.parts, strict=True):
            if part.needs not in needs:
                needs[part.needs] = tuple(keys[place] for place in part.needs)
            arguments = same if part.number is None else {**same, "number": part.number}
            passing = part.does not in ("frame", "nuclei", "levels")
            made.append(
                Block(key, f"{DOES}:{part.does}", arguments, needs[part.needs], part.cost, part.memory_mb, passing)
            )
        return made


@dataclass
class Blocks:
    """The blocks of all frames.

    Args:
        source: The movie.
        elephant: Settings; ``memory_mb`` is set.
        config: Size of regions.
        box: World corners of what is looked at.
        members: Networks in the weights.

    Attributes:
        all: Blocks of the frames that were added.
        layouts: What they need to know of how frames are cut, as JSON can say it.
    """

    source: Source
    elephant: ElephantConfig
    config: ScaleConfig
    box: Box | None
    members: int
    all: list[Block] = field(default_factory=list)
    layouts: dict[str, dict[str, Json]] = field(default_factory=dict)
    kinds: dict[tuple[object, ...], _Kind] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    n_frames: int = 0

    def add(self, number: int) -> None:
        """Add the blocks of a frame."""
        image, setup = self.source.image, self.source.setup
        shape, affine = image.shape(number, setup), np.asarray(image.affine(number, setup), dtype=np.float64)
        known = (tuple(shape), (affine if self.box is not None else affine[:3, :3]).tobytes())
        kind = self.kinds.get(known)
        if kind is None:
            kind = self.kinds[known] = self._kind(number, shape, affine)
        self.all += kind.blocks(number)
        self.n_frames += 1
        if kind.tiles:
            self.cut.append(number)

    @property
    def tiles(self) -> list[tuple[int, int, int]]:
        """The sizes of tiles of frames that are cut, each once."""
        return list(dict.fromkeys(kind.tile for kind in self.kinds.values() if kind.tile is not None))

    def tell(self) -> None:
        """Warn where frames are cut: the size of tiles is part of the result."""
        cut = [kind for kind in self.kinds.values() if kind.tiles]
        if cut:
            log.warning(
                "%d of %d frames are predicted in tiles (frame %d in %d overlapping ones of %s voxels, z, y, x). The network normalises "
                "by what it sees at once, so results differ from those of whole frames and change with the size of tiles; they are those "
                "of `predict` with the same tile_size.",
                len(self.cut),
                self.n_frames,
                self.cut[0],
                cut[0].tiles,
                " x ".join(map(str, cut[0].tile or ())),
            )

    def _kind(self, number: int, shape: tuple[int, int, int], affine: npt.NDArray[np.float64]) -> _Kind:
        image, setup, config = self.source.image, self.source.setup, self.elephant
        layout = layout_of(shape, affine, config, memory_mb=self.memory, strips_mb=STRIPS_MB, stream_bytes=STREAM_BYTES)
        stored = image.setups[setup].dtype.itemsize + (8 if config.temporal_mean else 0)
        voxels = float(np.prod(shape))
        if layout.tile is None:
            need = (stored + 24) * voxels + self._net(float(np.prod(layout.padded)))
            return _Kind(None, [_Part("frame", None, (), voxels * self.passes, self._base + need / MB)])
        if config.guess_height and config.nucleus_size is not None:
            raise ConfigError(
                f"Frame {number} ({' x '.join(map(str, shape))} voxels) would be cut into tiles, but guess_height = "
                f"{config.guess_height:g} looks for hills in the whole frame. Set guess_height to 0, or give workers the memory for a "
                "whole frame (--worker-memory-mb, or --memory-mb for the network) and no tile_size."
            )
        if config.tile_size is None:
            most = max(self.memory - STRIPS_MB, self.memory / 2) * MB / STREAM_BYTES
            layout = replace(layout, tile=least_work(layout.padded, layout.unit, layout.tile, most=most))
        view: Region | None = (slice(0, layout.working[0]), slice(0, layout.working[1]), slice(0, layout.working[2]))
        if self.box is not None:
            view = seen_for(self.box, layout.grid, layout.working, layout.unit)
        part = Frame(lambda region: image.read(number, setup, region=region), shape, affine, config)
        return self._cut_kind(part, layout, view, stored)

    def _cut_kind(self, part: Frame, layout: Layout, view: Region | None, stored: float) -> _Kind:
        """Frames that are cut: levels, tiles, regions, nuclei."""
        said: dict[str, Json] = {
            "tile": list(layout.tile or ()),
            "working": list(layout.working),
            "flags": list(layout.flags),
            "view": [[0, 1]] * 3 if view is None else [[axis.start, axis.stop] for axis in view],
        }
        place = str(len(self.layouts))
        self.layouts[place] = said
        if view is None:  # the box lies beside these frames
            return _Kind(place, [_Part("nuclei")])
        every = layout.tiles()
        plan = {n: tile for n, tile in enumerate(every) if weighs(tile) and touches(tile, view)}
        kind = _Kind(place, tiles=sum(map(weighs, every)), tile=layout.tile)
        kind.parts += self._first(part, layout, plan, stored)
        number_of = {n: place for place, n in enumerate(plan, start=1)}  # among the parts, after the levels
        shape = [axis.stop - axis.start for axis in view]
        block = self._region(shape)
        said["block"] = block
        used = tiles_of_regions(plan, view, block, whole_slices=self.elephant.denoise_edges)
        kind.parts += self._last(shape, block, plan, [[number_of[n] for n in some] for some in used])
        return kind

    def _first(self, part: Frame, layout: Layout, plan: Mapping[int, Tile], stored: float) -> list[_Part]:
        """Levels and tiles."""
        voxels = float(np.prod(part.shape))
        slices = max(SOURCE, part.shape[1] * part.shape[2]) if self.elephant.slice_median else 0
        halo, per_voxel = halo_of(part), voxels / float(np.prod(layout.working))

        def prepared(size: Sequence[int]) -> float:
            wide = float(np.prod(np.add(size, np.multiply(halo, 2))))
            return (stored + 16) * min(wide * per_voxel, 2.0 * SOURCE) + 28 * wide

        cube = [axis.stop - axis.start for axis in next(cubes_of(layout.working))]
        local = prepared(cube) if part.how == "local" else 0.0
        need = max(48.0 * PIECE + local, (stored + 16) * slices)
        parts = [_Part("levels", None, (), voxels / 50, need / MB)]
        for n, tile in plan.items():
            size = [cut.stop - cut.start for cut in tile.region]
            inside = float(np.prod(size))
            need = prepared(size) + self._net(inside) + (12 * self.classes + 12) * inside
            parts.append(_Part("tile", n, (0,), inside * self.passes, self._base + need / MB))
        return parts

    def _last(
        self, shape: Sequence[int], block: Sequence[int], plan: Mapping[int, Tile], tiles: Sequence[Sequence[int]]
    ) -> list[_Part]:
        """Regions and nuclei, of which the tiles are those at these places."""
        largest = max(float(np.prod([cut.stop - cut.start for cut in tile.region])) for tile in plan.values())
        parts = []
        for n, region in enumerate(grid_of(shape, block)):
            wide = [
                shape[axis] if self.elephant.denoise_edges and axis else cut.stop - cut.start
                for axis, cut in enumerate(region)
            ]
            inside = float(np.prod([cut.stop - cut.start for cut in region]))
            need = self.blend_bytes * float(np.prod(wide)) + 16 * self.classes * largest + _listed(FOREGROUND * inside)
            parts.append(_Part("blend", n, tuple(tiles[n]), float(np.prod(wide)) / 50, need / MB))
        apart = [1 - min(1.0, (-(-n // b) - 1) * 2 * REACH / n) for n, b in zip(shape, block, strict=True)]
        over = (
            FOREGROUND * float(np.prod([block[0], *shape[1:]])) * (1 - float(np.prod(apart)))
        )  # in a layer of regions
        places = tuple(range(1 + len(plan), 1 + len(plan) + len(parts)))
        parts.append(_Part("nuclei", None, places, 1.0 + over / 100, _listed(over) / MB))
        return parts

    def _region(self, shape: Sequence[int]) -> list[int]:
        """Size of regions: what the settings say, else halves of the longest axis until they are small."""
        if self.config.block is not None:
            block = [min(n, b) for n, b in zip(shape, self.config.block, strict=True)]
            count = int(np.prod([-(-n // b) for n, b in zip(shape, block, strict=True)], dtype=object))
            if count > MOST_REGIONS:
                raise ConfigError(
                    f"Blocks of {' x '.join(map(str, block))} voxels would cut a frame of {' x '.join(map(str, shape))} into {count}; "
                    f"at most {MOST_REGIONS} are sensible. Set a larger block, or leave it out: it never changes the result."
                )
            return block
        block, most = list(shape), max(0.8 * self.memory * MB / self.blend_bytes, 1 << 16)
        while np.prod(block, dtype=np.float64) > most:
            axis = int(np.argmax(block))
            if self.elephant.denoise_edges and block[0] > 1:
                axis = 0  # whole slices are computed anyway
            elif max(block) == 1:
                break
            block[axis] = -(-block[axis] // 2)
        return block

    @property
    def classes(self) -> int:
        """How many outputs of the network are kept."""
        return 2 if self.elephant.denoise_edges else 1

    @property
    def blend_bytes(self) -> float:
        """Bytes that blending takes for a voxel of a region."""
        return 4 * self.classes + (62 if self.elephant.denoise_edges else 14)

    @property
    def memory(self) -> float:
        """What the network may take, MiB."""
        return float(self.elephant.memory_mb or AUTOMATIC_MB)

    @property
    def passes(self) -> int:
        """How often a tile goes through a network."""
        return self.members * (4 if self.elephant.test_time_flips else 1)

    @property
    def _base(self) -> float:
        """What the networks take, MiB; twice, while they are read."""
        return 2 * MEMBER_MB * self.members

    def _net(self, voxels: float) -> float:
        """Bytes that the network takes for so many voxels at once."""
        at_once = BYTES_PER_VOXEL * voxels
        return at_once if at_once <= self.memory * MB else STREAM_BYTES * voxels + STRIPS_MB * MB


def _listed(voxels: float) -> float:
    """Bytes that so many voxels above the threshold take, while components are found and measured."""
    return LISTED * voxels + MEASURED * min(voxels, BATCH)
