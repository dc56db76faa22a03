"""A few named arrays and facts in one run of bytes: what a format has no place for, kept beside it (a *sidecar*).

Layout: ``HOWDAH1\\n``, length of the header (u64, little-endian), header (JSON, UTF-8), then the arrays one after the
other, C order, little-endian, in the order of the header's ``arrays`` (name, dtype, shape). Reading allocates nothing that is
not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError

__all__ = ["pack", "unpack"]

MAGIC = b"HOWDAH1\n"
KINDS = "biuf"


def pack(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return facts (what JSON can say) and arrays of numbers as bytes."""
    little = {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for name, array in arrays.items()}
    table = [[name, array.dtype.str, list(array.shape)] for name, array in little.items()]
    header = json.dumps({"facts": dict(facts), "arrays": table}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return b"".join([MAGIC, len(header).to_bytes(8, "little"), header, *(array.tobytes() for array in little.values())])


def unpack(data: bytes | memoryview, name: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return the facts and arrays that :func:`pack` wrote; ``name`` is what to call the bytes in errors.

    Raises:
        FormatError: They are damaged.
    """
    view, start = memoryview(data), len(MAGIC) + 8
    try:
        if bytes(view[: len(MAGIC)]) != MAGIC:
            raise ValueError("it does not begin as it should")
        end = start + int.from_bytes(view[len(MAGIC) : start], "little")
        header = json.loads(bytes(view[start:end]).decode("utf-8", "surrogatepass"))
        arrays, facts = {}, header["facts"]
        for title, kind, shape in header["arrays"]:
            dtype = np.dtype(str(kind))
            size = prod(int(n) for n in shape)
            if (
                dtype.kind not in KINDS
                or size < 0
                or min(shape, default=0) < 0
                or end + size * dtype.itemsize > len(view)
            ):
                raise ValueError(f"its array '{title}' of {shape} {dtype} does not fit")
            arrays[str(title)] = np.frombuffer(view, dtype, size, end).reshape(shape).astype(dtype.newbyteorder("="))
            end += size * dtype.itemsize
        if not isinstance(facts, dict):
            raise ValueError("its facts are no table")
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise FormatError(f"Reading {name} failed: it is damaged ({error}).") from error
    return facts, arrays
