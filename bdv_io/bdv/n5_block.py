"""One block of an N5 array: a short header, then compressed big-endian numbers.

Every compression that Java's N5 writes is read: raw, gzip, bzip2, xz, lz4, blosc and zstd. Blocks are untrusted: nothing
larger than the array's block size is unpacked.
"""

from __future__ import annotations

import bz2
import lzma
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import blosc, lz4, zstd

from bdv_io.errors import FormatError, UnsupportedError
from bdv_io.image import Array, Shape

__all__ = ["COMPRESSIONS", "decode_block"]

LZ4_MAGIC = b"LZ4Block"
LZ4_HEADER = struct.Struct("<8sBiiI")  # magic, method, packed size, size, checksum: the stream of Java's lz4 library


def _gzip(content: bytes, size: int) -> bytes:
    return zlib.decompressobj(47).decompress(content, size)  # 47: with the header of gzip or of zlib


def _bzip2(content: bytes, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(content, size)


def _xz(content: bytes, size: int) -> bytes:
    return lzma.LZMADecompressor(memlimit=1 << 30).decompress(content, size)


def _lz4(content: bytes, size: int) -> bytes:
    parts, done, total = [], 0, 0
    while done + LZ4_HEADER.size <= len(content) and total < size:
        magic, method, packed, length, _ = LZ4_HEADER.unpack_from(content, done)
        done += LZ4_HEADER.size
        if magic != LZ4_MAGIC or not 0 <= length <= size - total or not 0 <= packed <= len(content) - done:
            raise ValueError("its lz4 stream is broken")
        part = content[done : done + packed]
        # 0x10 is stored, 0x20 packed; numcodecs wants the size in front
        parts.append(part if method & 0xF0 == 0x10 else bytes(lz4.decompress(struct.pack("<I", length) + part)))
        done, total = done + packed, total + len(parts[-1])
    return b"".join(parts)


def _into(library: Any) -> Callable[[bytes, int], bytes]:
    def unpack(content: bytes, size: int) -> bytes:
        out = np.empty(size, dtype=np.uint8)
        library.decompress(content, out)  # refuses what does not fit
        return out.tobytes()

    return unpack


COMPRESSIONS: dict[str, Callable[[bytes, int], bytes]] = {
    "raw": lambda content, size: content[:size],
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "lz4": _lz4,
    "blosc": _into(blosc),
    "zstd": _into(zstd),
}


def decode_block(
    content: bytes, largest: Shape, dtype: np.dtype[Any], compression: Mapping[str, Any], file: Path
) -> Array:
    """Unpack a block.

    Args:
        content: The file.
        largest: Voxels (Z, Y, X) that a block of this array has at most.
        dtype: Type of the voxels.
        compression: ``type``, one of :data:`COMPRESSIONS`.
        file: For messages.

    Returns:
        (Z, Y, X) array in native byte order.

    Raises:
        FormatError: It is damaged or cut off.
        UnsupportedError: It holds objects.
    """
    start = f"Reading N5 block {file} failed:"
    if len(content) < 16:
        raise FormatError(f"{start} it is cut off after {len(content)} bytes. Copy it again from where it came.")
    mode, rank, x, y, z = struct.unpack_from(">HHIII", content)
    if mode not in (0, 1):
        raise UnsupportedError(f"{start} it is of mode {mode}, which holds objects instead of numbers.")
    if rank != 3 or any(n > limit for n, limit in zip((z, y, x), largest, strict=True)):
        raise FormatError(
            f"{start} its header says {rank} axes and {x} x {y} x {z} voxels, more than the array's blocks have. It is damaged."
        )
    size = math.prod((z, y, x)) * dtype.itemsize
    packed = memoryview(content)[20 if mode == 1 else 16 :]
    try:
        unpacked = COMPRESSIONS[str(compression["type"])](bytes(packed), size)
    except (ValueError, RuntimeError, TypeError, OSError, EOFError, MemoryError, zlib.error, lzma.LZMAError) as error:
        raise FormatError(
            f"{start} unpacking it gave: {error}. It is damaged; copy it again from where it came."
        ) from error
    if len(unpacked) != size:
        raise FormatError(
            f"{start} it has {len(unpacked)} of {size} bytes. It is cut off; copy it again from where it came."
        )
    return np.frombuffer(unpacked, dtype=dtype.newbyteorder(">")).reshape(z, y, x).astype(dtype)
