"""Frames of EfficientCellSeg that are cut: tiles of the network, then cells by regions, then the frame.

Four kinds of blocks a frame: ``limits`` (what becomes 0 and 1), ``tiles`` (a few tiles of the network each: those of the plain verb),
``cells`` (a region each, with a window of up to 8 diameters around it; :mod:`howdah.methods.efficientcellseg.regions` says when this is
exact), and ``frames``, which puts the regions together and does what is done with a frame that is not cut. The files of the first three
are removed as soon as nobody needs them.

The result is that of the plain verb with the same tiles, bit for bit, if every connected part of the foreground fits into a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from howdah.errors import ConfigError
from howdah.nn.normalise import between, limits, limits_of_planes
from howdah.pipeline.efficientcellseg import CellFinder
from howdah.pipeline.embedtrack import Seen
from howdah.scale.config import ScaleConfig
from howdah.scale.plan import Block, Call, Json, Result, region_of
from howdah.scale.segment_open import finder_of
from howdah.scale.segment_parts import arrays_of

if TYPE_CHECKING:
    from howdah.methods.efficientcellseg.maps import Maps
    from howdah.methods.efficientcellseg.predict import Network
    from howdah.nn.tiles import Tile

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
Box = tuple[slice, slice]
Span = tuple[int, int]

__all__ = ["cells", "frame", "frame_limits", "is_cut", "region_blocks", "tiles"]

CORE = 4096  # pixels along y and x of a region, where nobody says
FIRST, MOST = 2, 8  # diameters of the window's margin
TILES = 8  # of a block
STRIP = 256  # rows that are read at once to normalise a frame
BYTES_HELD = 64  # of a pixel of a frame in one piece
BYTES_OF_WINDOW = 96
BYTES_JOINED = 56


def is_cut(finder: CellFinder, t: int, config: ScaleConfig, memory_mb: float) -> bool:
    """Whether a frame is cut: ``config.block`` is smaller, or, where that is not given, one plane does not fit into the memory."""
    z, y, x = finder.source.image.shape(t, finder.source.setup)
    if config.block is not None:
        return y > config.block[1] or x > config.block[2] or z > config.block[0]
    return z == 1 and y * x * BYTES_HELD > memory_mb * 2**20 and _can_cut(finder.network, (z, y, x))


def _can_cut(network: Network, shape: tuple[int, int, int]) -> bool:
    try:
        network.tiling(shape)
    except ConfigError:
        return False
    return True


def region_blocks(finder: CellFinder, t: int, config: ScaleConfig, tile_mb: float) -> list[Block]:
    """Return the blocks of a frame that is cut.

    Raises:
        ConfigError: Its network does not allow that, see :meth:`howdah.methods.efficientcellseg.predict.Network.tiling`.
    """
    shape = finder.source.image.shape(t, finder.source.setup)
    plan, plane, name = finder.network.tiling(shape), shape[1:], f"t{t:06d}"
    first = Block(
        f"limits/{name}",
        "howdah.scale.segment_regions:frame_limits",
        {"frame": t},
        cost=prod(shape) / 50,
        memory_mb=8.0 * STRIP * shape[2] / 2**20,
        passing=True,
    )
    groups = [range(n, min(n + TILES, len(plan))) for n in range(0, len(plan), TILES)]
    tiled = [
        Block(
            f"tiles/{name}-{number:06d}",
            "howdah.scale.segment_regions:tiles",
            {"frame": t, "tiles": list(group)},
            needs=(first.key,),
            cost=float(sum(prod(s.stop - s.start for s in plan[n].region) for n in group)),
            memory_mb=tile_mb,
            passing=True,
        )
        for number, group in enumerate(groups)
    ]
    core = (CORE, CORE) if config.block is None else config.block[1:]
    found = [
        _cells_block(finder, t, number, box, plan, [b.key for b in tiled])
        for number, box in enumerate(_boxes(plane, core))
    ]
    last = Block(
        f"frames/{name}",
        "howdah.scale.segment_regions:frame",
        {"frame": t, "frames": [t], "from": [block.key for block in found]},
        needs=tuple(block.key for block in found),
        cost=prod(shape) / 4,
        memory_mb=prod(shape) * BYTES_JOINED / 2**20,
    )
    return [first, *tiled, *found, last]


def _cells_block(
    finder: CellFinder, t: int, number: int, core: Box, plan: Sequence[Tile], groups: Sequence[str]
) -> Block:
    plane = finder.source.image.shape(t, finder.source.setup)[1:]
    most = _window(core, _margin(finder.network, MOST), plane)
    needs = sorted({groups[n // TILES] for n in _tiles_in(plan, most)})
    pixels = prod(part.stop - part.start for part in most)
    return Block(
        f"cells/t{t:06d}-{number:06d}",
        "howdah.scale.segment_regions:cells",
        {"frame": t, "region": [[part.start, part.stop] for part in core], "from": needs},
        needs=tuple(needs),
        cost=pixels / 4,
        memory_mb=pixels * BYTES_OF_WINDOW / 2**20,
        passing=True,
    )


def _boxes(plane: Span, core: Span) -> Iterator[Box]:
    for y in range(0, plane[0], core[0]):
        for x in range(0, plane[1], core[1]):
            yield slice(y, min(y + core[0], plane[0])), slice(x, min(x + core[1], plane[1]))


def _margin(network: Network, diameters: int) -> int:
    return ceil(diameters * network.diameter)


def _window(core: Box, margin: int, plane: Span) -> Box:
    y, x = (slice(max(part.start - margin, 0), min(part.stop + margin, n)) for part, n in zip(core, plane, strict=True))
    return y, x


def _tiles_in(plan: Sequence[Tile], window: Box) -> list[int]:
    """Return which tiles have a pixel of a window, in order."""
    return [
        number
        for number, tile in enumerate(plan)
        if all(a.start < b.stop and b.start < a.stop for a, b in zip(tile.region, window, strict=True))
    ]


# ---- blocks


def _start(call: Call) -> tuple[CellFinder, int, tuple[int, int, int]]:
    finder, t = finder_of(call), int(call.arguments["frame"])
    if not isinstance(finder, CellFinder):
        raise ConfigError("Only frames of EfficientCellSeg are cut into blocks.")
    return finder, t, finder.source.image.shape(t, finder.source.setup)


def _read(finder: CellFinder, t: int, box: Box) -> Array:
    found: Array = finder.source.image.read(t, finder.source.setup, region=(slice(0, 1), *box))[0]
    return found


def frame_limits(call: Call) -> Result:
    """Return what becomes 0 and what becomes 1 in a frame, counted strip by strip (other types than 8 and 16 bit: at once)."""
    finder, t, (_, y, x) = _start(call)
    image, setup, percentiles = finder.source.image, finder.source.setup, finder.network.config.percentiles
    dtype = np.dtype(image.setups[setup].dtype)
    if dtype.kind == "u" and dtype.itemsize <= 2:

        def strip(number: int) -> Array:
            return _read(finder, t, (slice(number * STRIP, min((number + 1) * STRIP, y)), slice(0, x)))

        found = limits_of_planes(strip, -(-y // STRIP), percentiles, time=t)
    else:
        found = limits(image.read(t, setup), percentiles, time=t)
    return Result({"limits": np.array(found, dtype=np.float64)})


def tiles(call: Call) -> Result:
    """Predict some tiles of a frame; the file holds their maps, not yet weighted."""
    finder, t, shape = _start(call)
    plan = finder.network.tiling(shape)
    low, high = call.read(f"limits/t{t:06d}").arrays["limits"].tolist()
    found: dict[str, Array] = {}
    for number in call.arguments["tiles"]:
        rows = [_mirrored(part, n) for part, n in zip(plan[number].region, shape[1:], strict=True)]
        box = (slice(rows[0].min(), rows[0].max() + 1), slice(rows[1].min(), rows[1].max() + 1))
        shown = between(_read(finder, t, box), low, high)
        shown = shown[np.ix_(rows[0] - box[0].start, rows[1] - box[1].start)]
        found[str(number)] = finder.network.tile_maps(np.ascontiguousarray(shown))
    return Result(found)


def _mirrored(part: slice, n: int) -> npt.NDArray[np.int64]:
    """Return the pixels of an axis that a part of the padded axis shows: it is mirrored at its far end."""
    place = np.arange(part.start, part.stop)
    return np.where(place < n, place, 2 * (n - 1) - place)


def cells(call: Call) -> Result:
    """Find the cells of a region, in a window that grows until they are those of the whole frame, or it is as large as may be."""
    from howdah.methods.efficientcellseg.regions import find_in_window

    finder, t, shape = _start(call)
    network, plane = finder.network, shape[1:]
    y, x = region_of(call.arguments)
    margin, most, held = _margin(network, FIRST), _margin(network, MOST), dict[str, Result]()
    while True:
        window = _window((y, x), margin, plane)
        found, exact = find_in_window(
            _maps(call, network, network.tiling(shape), window, held),
            network.config,
            voxel_size=_voxel(finder, t),
            diameter=network.diameter,
            window=window,
            core=(y, x),
            plane=plane,
        )
        if exact or margin >= most or window == (slice(0, plane[0]), slice(0, plane[1])):
            break
        margin = min(2 * margin, most)
    arrays: dict[str, Array] = {
        "labels": found.labels,
        "sums": found.sums,
        "first": found.first,
        "whole": found.whole,
        "inside": found.inside,
    }
    facts: dict[str, Json] = {"start": list(found.start), "cut": int((~found.whole).sum()), "margin": margin}
    return Result(arrays, facts)


def _voxel(finder: CellFinder, t: int) -> tuple[float, float, float]:
    z, y, x = np.linalg.norm(finder.source.image.affine(t, finder.source.setup)[:3, :3], axis=0).tolist()
    return z, y, x


def _maps(call: Call, network: Network, plan: Sequence[Tile], window: Box, held: dict[str, Result]) -> Maps:
    """Blend the tiles over a window, in the order of the plain verb."""
    t = int(call.arguments["frame"])
    size = [part.stop - part.start for part in window]
    whole = np.zeros((len(network.maps_given), *size), dtype=np.float32)
    for number in _tiles_in(plan, window):
        key, tile = f"tiles/t{t:06d}-{number // TILES:06d}", plan[number]
        if key not in held:
            held[key] = call.read(key)
        values = held[key].arrays[str(number)]
        if len(plan) > 1:
            values = values * (tile.weights[0][:, None] * tile.weights[1])
        both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(tile.region, window, strict=True)]
        into = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(both, window, strict=True))
        out_of = tuple(slice(b.start - r.start, b.stop - r.start) for b, r in zip(both, tile.region, strict=True))
        whole[(slice(None), *into)] += values[(slice(None), *out_of)]
    return network.as_maps(whole)


def frame(call: Call) -> Result:
    """Put the regions of a frame together, and do what is done with a frame that is not cut."""
    from howdah.methods.efficientcellseg.regions import Found, join

    finder, t, shape = _start(call)
    regions = []
    for key in call.arguments["from"]:
        read = call.read(key)
        arrays, start = read.arrays, read.facts["start"]
        regions.append(
            Found(
                arrays["labels"],
                (int(start[0]), int(start[1])),
                arrays["sums"],
                arrays["first"],
                arrays["whole"],
                arrays["inside"],
            )
        )
    network = finder.network
    found = join(regions, network.config, voxel_size=_voxel(finder, t), diameter=network.diameter, plane=shape[1:])
    cut = sum(int((~one.whole).sum()) for one in regions)
    regions.clear()
    part, _ = finder.gathered.part(t, found.labels, found.quality, finder.read(t))
    return Result(arrays_of(Seen(part)), {"cells": len(part.cells.t), "cut": cut})
