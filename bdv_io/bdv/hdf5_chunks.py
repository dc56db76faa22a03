"""Chunks of an HDF5 array, compressed and decompressed by all cores.

The HDF5 library runs its filters on one thread, under one lock. Here chunks are coded beside it, with a faster coder of
the same format (gzip and byte shuffle), and handed over as they are stored; every HDF5 reads the result.
"""

from __future__ import annotations

import itertools
import sys
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from bdv_io.image import Array, Region, Shape
from bdv_io.threads import n_cores, shared_pool

__all__ = ["read_chunks", "stored_checksum", "write_chunked"]

AHEAD = 4  # coded chunks, or batches of chunks to decode, that may wait a core
BATCH = 16  # chunks a task; one is done in a tenth of a millisecond
WORTHWHILE_BYTES = 1 << 20  # smaller reads are faster through the HDF5 library
WASTE = 2.0  # so much more may be decoded than is asked for; beyond, the library's cache of chunks does better
SHUFFLED_GZIP, GZIP = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE), (h5py.h5z.FILTER_DEFLATE,)


def write_chunked(
    dataset: h5py.Dataset, slabs: Iterable[tuple[int, Array]], *, compression: int | None, pool: Executor | None = None
) -> int:
    """Write a (Z, Y, X) array slab by slab.

    Args:
        dataset: Chunked, empty; created with shuffle and gzip unless ``compression`` is None.
        slabs: (first plane, planes) in order; a slab begins where a chunk does. One is held while the next is made.
        compression: Level of gzip, 0 to 9; None stores plain chunks.
        pool: Threads; this process's own by default.

    Returns:
        A checksum of what was stored, to compare with :func:`stored_checksum`.
    """
    workers, waiting, total = pool or shared_pool(), deque[tuple[tuple[int, ...], Future[bytes]]](), 0
    limit = AHEAD * n_cores()

    def store() -> int:
        offset, future = waiting.popleft()
        data = future.result()
        dataset.id.write_direct_chunk(offset, data)
        return _mixed(offset, zlib.crc32(data))

    for first, planes in slabs:
        for inside in _corners(planes.shape, dataset.chunks):
            part = planes[tuple(slice(i, i + n) for i, n in zip(inside, dataset.chunks, strict=True))]
            offset = (first + inside[0], *inside[1:])
            waiting.append((offset, workers.submit(_coded, part, dataset.chunks, compression)))
            if len(waiting) > limit:
                total ^= store()
    while waiting:
        total ^= store()
    return total


def stored_checksum(dataset: h5py.Dataset) -> int:
    """Read all chunks of an array back as they are stored, and return their checksum."""
    total = 0
    for corner in _corners(dataset.shape, dataset.chunks):
        _, data = dataset.id.read_direct_chunk(corner)
        total ^= _mixed(corner, zlib.crc32(data))
    return total


def read_chunks(dataset: h5py.Dataset, where: Region | tuple[()]) -> Array | None:
    """Return a region of a (Z, Y, X) array, decoded by all cores, or None where the HDF5 library does it as well.

    Args:
        dataset: The open array.
        where: Three slices within it, going forwards, or () for all of it.
    """
    region = where or tuple(slice(0, n, 1) for n in dataset.shape)
    if not _is_worthwhile(dataset, region):
        return None
    starts = [part.start // n * n for part, n in zip(region, dataset.chunks, strict=True)]
    corners = list(
        itertools.product(*(range(s, part.stop, n) for s, part, n in zip(starts, region, dataset.chunks, strict=True)))
    )
    out = np.empty([part.stop - part.start for part in region], dataset.dtype)
    shuffled = _filters(dataset) == SHUFFLED_GZIP
    pool, waiting = shared_pool(), deque[Future[None]]()
    batch: list[tuple[tuple[int, ...], bytes]] = []
    for corner in corners:
        if dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:  # never written
            _place(out, np.full(dataset.chunks, dataset.fillvalue, dataset.dtype), corner, region)
            continue
        mask, data = dataset.id.read_direct_chunk(corner)
        if mask:
            return None
        batch.append((corner, data))
        if len(batch) == BATCH:
            waiting.append(pool.submit(_decode_all, batch, out, region, dataset.chunks, shuffled))
            batch = []
        if len(waiting) > AHEAD * n_cores():
            waiting.popleft().result()
    _decode_all(batch, out, region, dataset.chunks, shuffled)
    for future in waiting:
        future.result()
    return out


def _is_worthwhile(dataset: h5py.Dataset, region: tuple[slice, ...]) -> bool:
    if dataset.chunks is None or dataset.dtype.kind not in "iuf" or not dataset.dtype.isnative:
        return False
    if any(part.step not in (None, 1) or part.stop <= part.start for part in region):
        return False
    wanted = dataset.dtype.itemsize * float(np.prod([part.stop - part.start for part in region]))
    decoded = dataset.dtype.itemsize * float(
        np.prod([(-(-p.stop // n) - p.start // n) * n for p, n in zip(region, dataset.chunks, strict=True)])
    )
    small = np.prod(dataset.chunks) * dataset.dtype.itemsize > wanted / 2
    return (
        not small
        and wanted >= WORTHWHILE_BYTES
        and decoded <= WASTE * wanted
        and _filters(dataset) in (SHUFFLED_GZIP, GZIP)
    )


def _filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    plist = dataset.id.get_create_plist()
    return tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))


def _corners(shape: Shape, chunks: Shape) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(0, n, c) for n, c in zip(shape, chunks, strict=True)))


def _coded(part: Array, chunks: Shape, compression: int | None) -> bytes:
    """A chunk as HDF5 stores it: padded with zeros to its full size, bytes shuffled, compressed."""
    import imagecodecs

    if part.shape != chunks:
        whole = np.zeros(chunks, part.dtype)
        whole[tuple(slice(0, n) for n in part.shape)] = part
        part = whole
    data = np.ascontiguousarray(part)
    if compression is None:
        return data.tobytes()
    return bytes(imagecodecs.deflate_encode(_shuffled(data).tobytes(), level=compression))


def _decode_all(
    batch: list[tuple[tuple[int, ...], bytes]], out: Array, region: tuple[slice, ...], chunks: Shape, shuffled: bool
) -> None:
    for corner, data in batch:
        _decode(data, out, corner, region, chunks, shuffled)


def _decode(
    data: bytes, out: Array, corner: tuple[int, ...], region: tuple[slice, ...], chunks: Shape, shuffled: bool
) -> None:
    import imagecodecs

    size = int(np.prod(chunks)) * out.dtype.itemsize
    try:
        raw = np.frombuffer(imagecodecs.deflate_decode(data, out=size), np.uint8)
    except (imagecodecs.DeflateError, ValueError, RuntimeError) as error:
        raise OSError(f"a compressed chunk at {corner} is damaged") from error
    if raw.size != size:
        raise OSError(f"a compressed chunk at {corner} holds {raw.size} bytes, expected {size}")
    pixels = _unshuffled(raw, out.dtype) if shuffled else raw.view(out.dtype)
    _place(out, pixels.reshape(chunks), corner, region)


def _shuffled(data: Array) -> npt.NDArray[np.uint8]:
    """Bytes of numbers, all first bytes first: column-wise copies, several times as fast as a transposition."""
    size, count = data.dtype.itemsize, data.size
    raw, out = data.reshape(-1).view(np.uint8), np.empty(data.nbytes, np.uint8)
    for byte in range(size):
        out[byte * count : (byte + 1) * count] = raw[byte::size]
    return out


def _unshuffled(raw: npt.NDArray[np.uint8], dtype: np.dtype[Any]) -> Array:
    size = dtype.itemsize
    count = len(raw) // size
    if size == 2 and sys.byteorder == "little":
        wide = raw[count:].astype(np.uint16)
        wide <<= 8
        wide |= raw[:count]
        return wide.view(dtype)
    out = np.empty(len(raw), np.uint8)
    for byte in range(size):
        out[byte::size] = raw[byte * count : (byte + 1) * count]
    return out.view(dtype)


def _place(out: Array, chunk: Array, corner: tuple[int, ...], region: tuple[slice, ...]) -> None:
    """Copy the part of a chunk that lies in the region to its place in the result."""
    source, target = [], []
    for first, part, n in zip(corner, region, chunk.shape, strict=True):
        low, high = max(first, part.start), min(first + n, part.stop)
        source.append(slice(low - first, high - first))
        target.append(slice(low - part.start, high - part.start))
    out[tuple(target)] = chunk[tuple(source)]


def _mixed(offset: tuple[int, ...], checksum: int) -> int:
    return zlib.crc32(repr(tuple(map(int, offset))).encode(), checksum)
