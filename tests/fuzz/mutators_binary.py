"""Damage to HDF5 and TIFF by their structure."""

from __future__ import annotations

import io
import re
import struct
from random import Random

import h5py
import numpy as np

INTEGERS = (
    -1,
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**62,
    2**63 - 1,
)


def damage_hdf5(data: bytes, rng: Random) -> tuple[str, bytes]:
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        item, way = file[name], rng.randrange(8)
        if way == 0:
            del file[name]
        elif way == 1 and item.attrs:
            key = rng.choice(list(item.attrs))
            item.attrs[key] = rng.choice((-1, 2**40, 1.5, "a", b"float128", np.zeros((2, 3)), np.bytes_(b"\xff")))
        elif way == 2:
            del file[name]
            file[name] = rng.choice(
                (h5py.SoftLink("/" + name), h5py.SoftLink("/nowhere"), h5py.ExternalLink("/etc/passwd", "/"))
            )
        elif way == 3:
            del file[name]
            file[name] = file[rng.choice(["/", name.split("/")[0]])] if "/" in name else file["/"]
        elif isinstance(item, h5py.Dataset):
            _other_dataset(file, name, rng)
        else:
            del file[name]
            file.create_dataset(name, data=rng.choice((0, [1, 2, 3], b"text")))
    return f"hdf5 {name}, way {way}", buffer.getvalue()


def _other_dataset(file: h5py.File, name: str, rng: Random) -> None:
    old = file[name][()]
    del file[name]
    way = rng.randrange(9)
    shape = np.shape(old)
    if way == 0:
        file.create_dataset(
            name, shape=tuple(2**20 for _ in shape) or (2**40,), dtype="i2", chunks=tuple(64 for _ in shape) or (64,)
        )
    elif way == 1:
        large = (*shape[:-1], 2**40) if shape else (2**40,)
        file.create_dataset(name, shape=large, dtype="i2", chunks=tuple(min(n, 64) or 1 for n in large))
    elif way == 2:
        file.create_dataset(name, shape=(0,) * len(shape) or (0,), dtype="i2")
    elif way == 3:
        file.create_dataset(name, data=np.asarray(old).reshape(-1))
    elif way == 4:
        kinds = (
            "S7",
            "f4",
            "u8",
            "c8",
            "bool",
            np.dtype([("a", "i4"), ("b", "f8")]),
            h5py.string_dtype(),
            h5py.ref_dtype,
        )
        file.create_dataset(name, shape=shape, dtype=rng.choice(kinds))
    elif way == 5:
        values = np.asarray(old).astype(float).reshape(-1) if np.asarray(old).dtype.kind in "iuf" else np.zeros(3)
        values[: len(values) // 2 + 1] = rng.choice((np.nan, np.inf, -1, 0, 1e300, 2**31, 0.5))
        file.create_dataset(name, data=values.reshape(shape or (-1,)) if values.size == np.size(old) else values)
    elif way == 6:
        file.create_dataset(name, data=np.asarray(old)[..., None])
    elif way == 7:
        file.create_dataset(name, data=h5py.Empty("i2"))
    else:
        file.create_dataset(
            name, data=old, dtype=rng.choice((">i2", "<i8", "u1")) if np.asarray(old).dtype.kind in "iu" else None
        )


def damage_tiff(data: bytes, rng: Random) -> tuple[str, bytes]:
    """Change a number of an entry of an image file directory (classic or big TIFF), or the text of a description."""
    out = bytearray(data)
    order = "<" if data[:2] == b"II" else ">"
    big = data[2 if order == "<" else 3] == 43
    where, count_at, entry, width = ("Q", 8, 20, 8) if big else ("I", 4, 12, 4)
    offset = struct.unpack_from(order + where, data, count_at)[0]
    tables = []
    for _ in range(64):
        if not 0 < offset < len(data) - 2:
            break
        count = struct.unpack_from(order + ("Q" if big else "H"), data, offset)[0]
        first = offset + (8 if big else 2)
        tables.append((first, count))
        offset = struct.unpack_from(order + where, data, first + count * entry)[0]
    first, count = rng.choice(tables)
    at = first + rng.randrange(count) * entry
    part = rng.randrange(6)
    if part == 0:  # the offset of the next table: to itself, to the first, beyond
        struct.pack_into(
            order + where,
            out,
            first + count * entry,
            rng.choice((first - (8 if big else 2), len(data), 8, 2**31)) & 0xFFFFFFFF,
        )
    elif part == 1:
        struct.pack_into(
            order + "H",
            out,
            at,
            rng.choice((256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 322, 324, 330, 339, 50838, 50839)),
        )
    elif part == 2:
        struct.pack_into(order + "H", out, at + 2, rng.choice((0, 1, 2, 3, 4, 5, 11, 12, 13, 16, 255)))
    elif part == 3:
        struct.pack_into(order + where, out, at + 4, rng.choice(INTEGERS) & (1 << 8 * width) - 1)
    elif part == 4:
        struct.pack_into(order + where, out, at + 4 + width, rng.choice(INTEGERS) & (1 << 8 * width) - 1)
    else:
        texts = list(re.finditer(rb"(?<==)[\d.]+|(?<=\")[\w.:]+(?=\")", data))
        if texts:
            found = rng.choice(texts)
            size = len(found[0])
            out[found.start() : found.end()] = rng.choice((b"9" * size, b"-1", b"0", b"nan", b"1e9", b"XYCZT")).ljust(
                size
            )[:size]
    return f"tiff part {part} of the entry at {at}", bytes(out)
