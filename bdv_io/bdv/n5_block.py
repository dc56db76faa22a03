"""One block of an N5 array: a short header, then compressed big-endian numbers.

Every compression that Java's N5 writes is read: raw, gzip, bzip2, xz, lz4, blosc and zstd. Blocks are untrusted: nothing
larger than the array's block size is unpacked.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io._unpack import (
    UNPACK_ERRORS,
    Unpack,
    unpack_blosc,
    unpack_bzip2,
    unpack_gzip,
    unpack_lz4_stream,
    unpack_xz,
    unpack_zstd,
)
from bdv_io.errors import FormatError, UnsupportedError
from bdv_io.image import Array, Shape

__all__ = ["COMPRESSIONS", "decode_block"]

COMPRESSIONS: dict[str, Unpack] = {
    "raw": lambda content, size: content[:size],
    "gzip": unpack_gzip,
    "bzip2": unpack_bzip2,
    "xz": unpack_xz,
    "lz4": unpack_lz4_stream,
    "blosc": unpack_blosc,
    "zstd": unpack_zstd,
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
    except UNPACK_ERRORS as error:
        raise FormatError(
            f"{start} unpacking it gave: {error}. It is damaged; copy it again from where it came."
        ) from error
    if len(unpacked) != size:
        raise FormatError(
            f"{start} it has {len(unpacked)} of {size} bytes. It is cut off; copy it again from where it came."
        )
    return np.frombuffer(unpacked, dtype=dtype.newbyteorder(">")).reshape(z, y, x).astype(dtype)
