"""Reading chunks of a zarr array straight from their files, where its encoding is one of the usual ones.

zarr-python would read them too, but slower for small regions, and without checking that a chunk is whole. Arrays with
another encoding (shards, filters, Fortran order) go through zarr-python; see :mod:`bdv_io.ngff_image`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from bdv_io._unpack import UNPACK_ERRORS, Unpack, unpack_blosc, unpack_bzip2, unpack_gzip, unpack_lz4, unpack_zstd
from bdv_io.errors import FormatError
from bdv_io.image import Array

__all__ = ["ChunkReader", "chunk_reader"]

_UNPACK: Mapping[str, Unpack] = {
    "blosc": unpack_blosc,
    "gzip": unpack_gzip,
    "zlib": unpack_gzip,
    "zstd": unpack_zstd,
    "bz2": unpack_bzip2,
    "lz4": unpack_lz4,
}


@dataclass(frozen=True)
class ChunkReader:
    """How the chunks of one array are found and unpacked.

    Attributes:
        fetch: Key below the array -> content, None where there is no such file.
        name: The array, for messages.
        chunks: Size of a chunk; those at the border are padded to it.
        stored: Type of the numbers in the file, with its byte order.
        unpack: How a chunk is unpacked, None if it is not packed.
        prefix: What a key begins with.
        separator: What is between the numbers of a key.
    """

    fetch: Callable[[str], bytes | None]
    name: str
    chunks: tuple[int, ...]
    stored: np.dtype[Any]
    unpack: Unpack | None
    prefix: str
    separator: str

    def load(self, place: tuple[int, ...]) -> Array | None:
        """Return the chunk at a place of the grid, None where there is none.

        Raises:
            FormatError: It is damaged or cut off.
        """
        key = self.prefix + self.separator.join(map(str, place))
        content = self.fetch(key)
        if content is None:
            return None
        size = self.stored.itemsize
        for n in self.chunks:
            size *= n
        try:
            unpacked = content if self.unpack is None else self.unpack(content, size)
        except UNPACK_ERRORS as error:
            raise FormatError(
                f"Reading chunk {key} of {self.name} failed: unpacking it was not possible: {error}. It is damaged; copy it again "
                "from where it came."
            ) from error
        if len(unpacked) != size:
            raise FormatError(
                f"Reading chunk {key} of {self.name} failed: it has {len(unpacked)} bytes, expected {size}. It is cut off or damaged; "
                "copy it again from where it came."
            )
        return np.frombuffer(unpacked, dtype=self.stored).reshape(self.chunks)


def chunk_reader(array: zarr.Array[Any], fetch: Callable[[str], bytes | None], name: str) -> ChunkReader | None:
    """Return how to read an array's chunks, or None if its encoding is not one of the usual ones."""
    meta: Any = array.metadata
    dtype = np.dtype(array.dtype)
    if 0 in array.chunks or not array.chunks:
        return None
    if meta.zarr_format == 2:
        codec = meta.compressor
        if meta.filters or meta.order != "C" or (codec is not None and codec.codec_id not in _UNPACK):
            return None
        unpack = None if codec is None else _UNPACK[codec.codec_id]
        return ChunkReader(fetch, name, tuple(array.chunks), dtype, unpack, "", meta.dimension_separator)
    codecs = [codec.to_dict() for codec in meta.codecs]
    names = [str(codec.get("name")) for codec in codecs]
    keys = meta.chunk_key_encoding.to_dict()
    if (
        names[:1] != ["bytes"]
        or len(names) > 2
        or any(n not in _UNPACK for n in names[1:])
        or keys.get("name") != "default"
    ):
        return None
    endian = (codecs[0].get("configuration") or {}).get("endian", "little")
    stored = dtype.newbyteorder(">" if endian == "big" else "<")
    separator = (keys.get("configuration") or {}).get("separator", "/")
    unpack = _UNPACK[names[1]] if len(names) == 2 else None
    return ChunkReader(fetch, name, tuple(array.chunks), stored, unpack, f"c{separator}", separator)
