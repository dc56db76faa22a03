"""Unpacking compressed blocks of N5 and zarr from untrusted files: never more bytes than are expected, never beyond the end.

The libraries themselves trust what they read: blosc's would read past the end of a file that was cut off.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numcodecs import blosc, lz4, zstd

__all__ = [
    "UNPACK_ERRORS",
    "Unpack",
    "unpack_blosc",
    "unpack_bzip2",
    "unpack_gzip",
    "unpack_lz4",
    "unpack_lz4_stream",
    "unpack_xz",
    "unpack_zstd",
]

Unpack = Callable[[bytes, int], bytes]  # (content, bytes that are expected) -> bytes, fewer if it is cut off
UNPACK_ERRORS = (ValueError, RuntimeError, TypeError, OSError, EOFError, MemoryError, zlib.error, lzma.LZMAError)
_LZ4_MAGIC = b"LZ4Block"
_LZ4_HEADER = struct.Struct("<8sBiiI")  # magic, method, packed size, size, checksum: the stream of Java's lz4 library
_BLOSC_HEADER = struct.Struct("<BBBBIII")  # version, inner version, flags, item size, size, block size, packed size


def unpack_gzip(content: bytes, size: int) -> bytes:
    """Unpack gzip or zlib."""
    return zlib.decompressobj(47).decompress(content, size)


def unpack_bzip2(content: bytes, size: int) -> bytes:
    """Unpack bzip2."""
    return bz2.BZ2Decompressor().decompress(content, size)


def unpack_xz(content: bytes, size: int) -> bytes:
    """Unpack xz."""
    return lzma.LZMADecompressor(memlimit=1 << 30).decompress(content, size)


def unpack_blosc(content: bytes, size: int) -> bytes:
    """Unpack blosc of any inner codec."""
    if len(content) < _BLOSC_HEADER.size:
        raise ValueError("it is cut off")
    *_, unpacked, _, packed = _BLOSC_HEADER.unpack_from(content)
    if unpacked != size or packed > len(content):
        raise ValueError(f"its header says {packed} bytes that become {unpacked}; there are {len(content)} for {size}")
    return _into(blosc, content, size)


def unpack_zstd(content: bytes, size: int) -> bytes:
    """Unpack zstandard."""
    return _into(zstd, content, size)


def _into(library: Any, content: bytes, size: int) -> bytes:
    out = np.empty(size, dtype=np.uint8)
    library.decompress(content, out)  # refuses what does not fit
    return out.data  # type: ignore[return-value]


def unpack_lz4(content: bytes, size: int) -> bytes:
    """Unpack one block of lz4 with its size in front, as zarr has it."""
    if len(content) < 4 or struct.unpack_from("<I", content)[0] != size:
        raise ValueError("its header says another size")
    return bytes(lz4.decompress(content))


def unpack_lz4_stream(content: bytes, size: int) -> bytes:
    """Unpack a stream of lz4 blocks as Java writes it into N5."""
    parts, done, total = [], 0, 0
    while done + _LZ4_HEADER.size <= len(content) and total < size:
        magic, method, packed, length, _ = _LZ4_HEADER.unpack_from(content, done)
        done += _LZ4_HEADER.size
        if magic != _LZ4_MAGIC or not 0 <= length <= size - total or not 0 <= packed <= len(content) - done:
            raise ValueError("its lz4 stream is broken")
        part = content[done : done + packed]
        stored = method & 0xF0 == 0x10  # else it is packed
        parts.append(part if stored else unpack_lz4(struct.pack("<I", length) + part, length))
        done, total = done + packed, total + len(parts[-1])
    return b"".join(parts)
