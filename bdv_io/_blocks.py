"""Putting a region of an array together from the blocks (chunks) that hold it, by threads, with a small memory of blocks.

N5 and zarr store arrays as a grid of blocks, one file each. Unpacking lets other threads run, so blocks of one region
are unpacked side by side. Blocks that a region only touches in part are remembered: a viewer or a method that goes plane
by plane, or cuts crops, would otherwise unpack the same block many times.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bdv_io.errors import FormatError
from bdv_io.image import Array

__all__ = ["BlockCache", "gather"]

CACHE_BYTES = 64 << 20
MAX_BLOCKS = 4_000_000  # of one region


class BlockCache:
    """The blocks that were used last, up to a number of bytes; for several threads. A pickled copy is empty."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._blocks: OrderedDict[Hashable, Array] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __reduce__(self) -> tuple[type[BlockCache], tuple[int]]:
        return (BlockCache, (self.max_bytes,))

    def get(self, key: Hashable) -> Array | None:
        """Return a block, None if it is not remembered."""
        with self._own_lock():
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
            return block

    def put(self, key: Hashable, block: Array) -> None:
        """Remember a block, and forget the oldest ones where it gets too many."""
        if block.nbytes > self.max_bytes // 2:
            return
        with self._own_lock():
            if key not in self._blocks:
                self._bytes += block.nbytes
            self._blocks[key] = block
            while self._bytes > self.max_bytes:
                self._bytes -= self._blocks.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget all blocks."""
        with self._own_lock():
            self._blocks.clear()
            self._bytes = 0

    def _own_lock(self) -> threading.Lock:
        if self._process != os.getpid():  # the parent of a fork may have held the lock, for ever in the child
            self._lock, self._process = threading.Lock(), os.getpid()
        return self._lock


def gather(
    region: Sequence[slice],
    blocks: Sequence[int],
    out: Array,
    load: Callable[[tuple[int, ...]], Array | None],
    *,
    fill: Any = 0,
    cache: BlockCache | None = None,
    name: Hashable = None,
) -> None:
    """Fill ``out`` with a region of an array that is stored in blocks.

    Args:
        region: For each axis a slice with a start and a stop within the array; its step is not looked at.
        blocks: Size of a block along each axis.
        out: Array of the size of the region.
        load: Place in the grid of blocks -> the block, which may be smaller at the border, None where there is none.
        fill: Value of what no block holds.
        cache: Where partly used blocks are remembered.
        name: Of the array, for the cache and messages.

    Raises:
        FormatError: The region lies in millions of blocks, or what ``load`` raises.
    """
    first = [part.start for part in region]

    def copy(place: tuple[int, ...]) -> None:
        key = (name, place)
        block = cache.get(key) if cache is not None else None
        is_new = block is None
        if block is None:
            block = load(place)
        low = [max(at * size - start, 0) for at, size, start in zip(place, blocks, first, strict=True)]
        high = [min((at + 1) * size - s, n) for at, size, s, n in zip(place, blocks, first, out.shape, strict=True)]
        into = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        if block is None:
            out[into] = fill
            return
        skip = [a + start - at * size for a, start, at, size in zip(low, first, place, blocks, strict=True)]
        got = block[tuple(slice(s, s + b - a) for s, a, b in zip(skip, low, high, strict=True))]
        if got.shape == out[into].shape:
            out[into] = got
        else:  # a block that ends before the grid says
            out[into] = fill
            out[tuple(slice(a, a + n) for a, n in zip(low, got.shape, strict=True))] = got
        if is_new and cache is not None and got.size < block.size:
            cache.put(key, block)

    if 0 in out.shape:
        return
    grid = [range(part.start // size, -(-part.stop // size)) for part, size in zip(region, blocks, strict=True)]
    count = math.prod(map(len, grid))
    if count > MAX_BLOCKS:
        raise FormatError(
            f"Reading {out.shape} voxels of {name} was not tried: they lie in {count:,} chunks of {tuple(blocks)}, a file each. "
            "Read it by regions; if the chunks should not be that small, its metadata is damaged."
        )
    places = list(itertools.product(*grid))
    workers = min(len(places), os.cpu_count() or 1)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(copy, places))
    else:
        for place in places:
            copy(place)
