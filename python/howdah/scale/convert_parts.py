"""How a conversion to OME-Zarr is cut: into views and parts that hold whole chunks of as many levels as possible.

A part of level 0 that begins and ends at whole chunks, and whole factors, of some levels gives the chunks of all of these, and of no
others; so a chunk belongs to exactly one block. Levels whose chunks span more than a block may hold are made afterwards, each from
level 0 as it was stored: means of means would be rounded twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bdv_io.image import Array, Region, Shape
from bdv_io.ome_zarr.store import Store, View
from howdah.scale.config import ScaleConfig
from howdah.scale.plan import Block

__all__ = ["Cut", "boxes", "coarse_blocks", "cut", "fine_blocks", "memory_mb", "regions"]

BLOCK_BYTES = 256 << 20  # of level 0, that a block holds at once
VISIT_BYTES = 32 << 20  # of small frames, that a block does one after the other
SOURCE_BYTES = 2 << 30  # of level 0, that a block of a coarse level reads, piece by piece
TIMES = 3.0  # the memory of a block above an idle worker, in terms of the bytes of its part
OVER = 96.0  # MiB more: slabs of the averaging, threads that compress, the reader's cache


@dataclass(frozen=True)
class Cut:
    """How the frames are cut.

    Attributes:
        together: How many levels, from level 0 on, a part of level 0 gives at once; the others follow.
        size: (z, y, x) voxels of level 0 of such a part.
    """

    together: int
    size: Shape


def cut(store: Store, config: ScaleConfig) -> Cut:
    """Decide how large parts are: ``config.block``, else 256 MiB of level 0, or less where a worker's memory asks for that.

    Parts are rounded to whole chunks, so that the least is one chunk of level 0 (or an axis, where it has but one chunk).
    """
    shape, bytes_per_voxel = store.image.setups[0].shape, store.dtype.itemsize
    most = BLOCK_BYTES // bytes_per_voxel
    if config.worker_memory_mb is not None:
        most = min(most, int(max(config.worker_memory_mb - OVER, 1) * 2**20 / (TIMES * bytes_per_voxel)))
    if config.block is not None:
        most = math.prod(config.block)
    units = [store.unit(range(n)) for n in range(1, len(store.levels) + 1)]
    together = max((n for n, unit in enumerate(units, start=1) if math.prod(unit) <= most), default=1)
    size = list(units[together - 1])
    for axis in (2, 1, 0):  # whole rows first: most files are stored so
        others = math.prod(size) // size[axis]
        wanted = most // others if config.block is None else config.block[axis]
        size[axis] = min(shape[axis], max(1, wanted // size[axis]) * size[axis])
    z, y, x = size
    return Cut(together, (z, y, x))


def memory_mb(store: Store, region: Region) -> float:
    """Return the most memory that a block of this part takes above an idle worker, MiB: three times its level 0, and 96 MiB."""
    taken: int = math.prod(part.stop - part.start for part in region) * store.dtype.itemsize
    return TIMES * taken / 2**20 + OVER


def regions(shape: Shape, size: Shape) -> Iterator[Region]:
    """Yield the parts of a box, (z, y, x) slices."""
    for start in itertools.product(*(range(0, n, step) for n, step in zip(shape, size, strict=True))):
        z, y, x = (slice(a, min(a + step, n)) for a, step, n in zip(start, size, shape, strict=True))
        yield z, y, x


def said(region: Region) -> list[list[int]]:
    """Return a region as JSON can say it."""
    return [[int(part.start), int(part.stop)] for part in region]


def fine_blocks(store: Store, chosen: Cut, config: ScaleConfig) -> list[Block]:
    """Return the blocks that read the source: a part of a view each, or several small views."""
    shape = store.image.setups[0].shape
    parts = list(regions(shape, chosen.size))
    taken = math.prod(shape) * store.dtype.itemsize
    at_once = 1 if len(parts) > 1 else max(1, VISIT_BYTES // taken)
    if config.window is not None and len(parts) == 1:
        at_once = config.window * len(store.image.setups)
    views, blocks = store.views, []
    for first in range(0, len(views), at_once):
        group = views[first : first + at_once]
        for number, part in enumerate(parts):
            blocks.append(
                Block(
                    f"parts/{_name(group[0])}-{number:05d}",
                    "howdah.scale.convert:part",
                    {"views": [list(view) for view in group], "region": said(part), "levels": chosen.together},
                    cost=float(len(group) * math.prod(s.stop - s.start for s in part)),
                    memory_mb=memory_mb(store, part),
                )
            )
    return blocks


def coarse_blocks(store: Store, chosen: Cut, fine: Sequence[Block]) -> list[Block]:
    """Return the blocks of the levels that parts of level 0 did not give."""
    by_view: dict[View, list[Block]] = {}
    for block in fine:
        for frame, setup in block.arguments["views"]:
            by_view.setdefault((frame, setup), []).append(block)
    blocks = []
    for level in range(chosen.together, len(store.levels)):
        factors, shape = store.factors[level], store.shapes[level]
        size = list(store.chunks[level])
        most = SOURCE_BYTES // (store.dtype.itemsize * math.prod(factors))
        for axis in (2, 1, 0):
            size[axis] *= max(1, most // math.prod(size))
            size[axis] = min(size[axis], -(-shape[axis] // store.chunks[level][axis]) * store.chunks[level][axis])
        for view in store.views:
            for number, region in enumerate(regions(shape, (size[0], size[1], size[2]))):
                source = [[s.start * f, s.stop * f] for s, f in zip(region, factors, strict=True)]
                needs = tuple(b.key for b in by_view[view] if _meet(b.arguments["region"], source))
                blocks.append(
                    Block(
                        f"level{level}/{_name(view)}-{number:05d}",
                        "howdah.scale.convert:coarse",
                        {"view": list(view), "region": said(region), "level": level, "from": list(needs)},
                        needs=needs,
                        cost=float(math.prod(b - a for a, b in source)),
                        memory_mb=memory_mb(store, region),
                    )
                )
    return blocks


def boxes(store: Store, level: int, region: Region) -> Iterator[tuple[Region, Region]]:
    """Yield boxes of level 0, of whole chunks and whole factors, and what a level holds of each, to fill a region of that level."""
    sides: list[list[tuple[int, int, int, int]]] = []
    for axis, part in enumerate(region):
        factor, whole = store.factors[level][axis], store.image.setups[0].shape[axis]
        step = math.lcm(factor, store.chunks[0][axis])
        step = step if step < whole else -(-whole // factor) * factor
        found = []
        for first in range(part.start * factor // step * step, part.stop * factor, step):
            low, high = max(first // factor, part.start), min((first + step) // factor, part.stop)
            if low < high:
                found.append((low, high, low * factor, high * factor))
        sides.append(found)
    for z, y, x in itertools.product(*sides):
        inner = (slice(z[2], z[3]), slice(y[2], y[3]), slice(x[2], x[3]))
        yield inner, (slice(z[0], z[1]), slice(y[0], y[1]), slice(x[0], x[1]))


def empty(region: Region, dtype: np.dtype[Any]) -> Array:
    """Return an array for a region."""
    return np.empty([part.stop - part.start for part in region], dtype=dtype)


def _meet(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> bool:
    return all(a[0] < b[1] and b[0] < a[1] for a, b in zip(first, second, strict=True))


def _name(view: View) -> str:
    return f"t{view[0]:05d}-s{view[1]:02d}"
