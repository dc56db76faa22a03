"""Images and tables in shared memory: what Fiji and the worker on the same computer hand each other without copying through a pipe.

The worker makes every block, for Fiji's images, too, and it alone removes them, because that holds at any kind of end:

- a task ends: the blocks of its images and tables are freed, those of its results when Fiji says :meth:`Blocks.free`;
- Fiji ends or is killed: the worker sees the end of its input, frees all blocks and ends;
- the worker is killed: Python's resource tracker, a process of its own that outlives it, frees what it had made.

A block is emptied before its name goes: Appose's Java side (0.9 to 0.12) leaves a descriptor open for each block that it attached,
and that would hold the memory until Fiji ends. Blocks hold whole planes and at most 1 GiB, because Java's buffers end at 2 GiB.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import ServiceError
from howdah.service.parameters import Image, Table

__all__ = ["LARGEST_BLOCK", "Blocks", "header_of", "image_of", "pack_image", "pack_table", "table_of"]

LARGEST_BLOCK = 1 << 30
MEMORY = Path("/dev/shm")
EXACT_IN_FLOAT = 1 << 24  # whole numbers up to here survive as 32-bit floating point


class Blocks:
    """The blocks of shared memory that this process made; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: dict[str, SharedMemory] = {}
        self._in_use: list[SharedMemory] = []

    def make(self, size: int) -> str:
        """Make a block of ``size`` bytes, all of them reserved, and return its name.

        Raises:
            ServiceError: The computer has not as much shared memory free.
        """
        free = _free_bytes()
        if free is not None and size > free:
            raise ServiceError(_too_little(size, free))
        block = SharedMemory(create=True, size=size)
        try:
            _reserve(block.name, size)
        except OSError:
            _freed(block)
            raise ServiceError(_too_little(size, _free_bytes() or 0)) from None
        with self._lock:
            self._blocks[block.name] = block
        return block.name

    def bytes_of(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the bytes of a block, writable.

        Raises:
            ServiceError: This process made no such block, or has freed it.
        """
        with self._lock:
            block = self._blocks.get(name)
        if block is None:
            raise ServiceError(f"There is no block of shared memory '{name}' here; it was freed, or another worker's.")
        return np.asarray(block.buf)  # which, unlike np.ndarray(buffer=...), keeps the block from being unmapped

    def free(self, names: Iterable[str]) -> None:
        """Give blocks back to the computer; names that are unknown or freed already are passed over.

        A block at which an array still looks is kept until a later call finds it unused.
        """
        with self._lock:
            blocks = [self._blocks.pop(name) for name in names if name in self._blocks]
            self._in_use = [block for block in [*self._in_use, *blocks] if not _freed(block)]

    def close(self) -> None:
        """Remove the names of all blocks. What Fiji has mapped stays readable there."""
        with self._lock:
            for block in [*self._blocks.values(), *self._in_use]:
                block.unlink()
                _close(block)
            self._blocks.clear()
            self._in_use.clear()

    def __len__(self) -> int:
        return len(self._blocks)


def _free_bytes() -> int | None:
    return shutil.disk_usage(MEMORY).free if MEMORY.is_dir() else None


def _too_little(size: int, free: int) -> str:
    return (
        f"The image needs {size / 2**20:,.0f} MiB of shared memory; {MEMORY} has {free / 2**20:,.0f} MiB free. Close images "
        f"or other programs, start the container with a larger --shm-size, or use the service instead of Appose."
    )


def _reserve(name: str, size: int) -> None:
    """Have the computer set the memory aside: one that is promised only ends the process that writes to it."""
    if MEMORY.is_dir() and hasattr(os, "posix_fallocate"):
        with (MEMORY / name).open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def _freed(block: SharedMemory) -> bool:
    """Empty a block and remove it; False while an array still looks at it."""
    if not _close(block):
        return False
    if (MEMORY / block.name).is_file():
        os.truncate(MEMORY / block.name, 0)
    block.unlink()
    return True


def _close(block: SharedMemory) -> bool:
    """Unmap a block; False while an array still looks at it."""
    try:
        block.close()
    except BufferError:
        return False
    return True


def allocate(blocks: Blocks, planes: int, plane_bytes: int) -> list[str]:
    """Make the blocks for ``planes`` planes, each with as many whole ones as it may hold, and return their names.

    Raises:
        ServiceError: There is too little shared memory (no block is left then), or a plane is larger than a block may be.
    """
    if not 0 < plane_bytes <= LARGEST_BLOCK:
        raise ServiceError(
            f"A plane of {plane_bytes:,} bytes cannot be handed over in shared memory; expected 1 to {LARGEST_BLOCK:,} bytes."
        )
    free = _free_bytes()
    if free is not None and planes * plane_bytes > free:
        raise ServiceError(_too_little(planes * plane_bytes, free))
    each = LARGEST_BLOCK // plane_bytes
    names: list[str] = []
    try:
        for start in range(0, planes, each):
            names.append(blocks.make(min(each, planes - start) * plane_bytes))
    except ServiceError:
        blocks.free(names)
        raise
    return names


def block_message(name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> dict[str, Any]:
    """Return what Appose makes an ``NDArray`` of on Java's side."""
    size = math.prod(shape) * dtype.itemsize
    shm = {"appose_type": "shm", "name": name, "rsize": size}
    return {"appose_type": "ndarray", "dtype": dtype.name, "shape": [int(n) for n in shape], "shm": shm}


def numbered(messages: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return blocks by their number: Appose in Java makes arrays of what stands in a map, not in a list."""
    return {str(number): message for number, message in enumerate(messages)}


def header_of(image: Image) -> dict[str, Any]:
    """Describe an image for Fiji: shape, dtype (``"<u2"``), axes, voxel_size (z, y, x), unit, interval_s."""
    return {
        "shape": [int(n) for n in image.data.shape],
        "dtype": image.data.dtype.newbyteorder("<").str,
        "axes": image.axes,
        "voxel_size": None if image.voxel_size is None else [float(v) for v in image.voxel_size],
        "unit": image.unit,
        "interval_s": image.interval,
    }


def image_of(message: Mapping[str, Any], blocks: Blocks) -> Image:
    """Return the image that Fiji put into blocks; in one block it is a view of shared memory, in several a copy.

    Args:
        message: ``{"header": as header_of, "blocks": [...]}``; a block is a name, or an array that Appose attached.
        blocks: The blocks of this process.

    Raises:
        ServiceError: The blocks hold more or fewer bytes than the header says, or are not there.
    """
    header = message["header"]
    dtype, shape = np.dtype(header["dtype"]), tuple(int(n) for n in header["shape"])
    parts = [_bytes_of(block, blocks) for block in message["blocks"]]
    expected, found = math.prod(shape) * dtype.itemsize, sum(part.size for part in parts)
    if not expected <= found < expected + max(4096 * len(parts), 1 << 16):  # some systems round blocks up
        raise ServiceError(
            f"The image came with {found:,} bytes; its shape {shape} and type {dtype} need {expected:,}."
        )
    if len(parts) == 1:
        data = parts[0][:expected].view(dtype).reshape(shape)
    else:
        data = np.empty(shape, dtype)
        rest = data.reshape(-1).view(np.uint8)
        for part in parts:
            rest[: part.size] = part[: rest.size]
            rest = rest[part.size :]
    size = header.get("voxel_size")
    voxel_size = None if size is None else (float(size[0]), float(size[1]), float(size[2]))
    return Image(data, header["axes"], voxel_size, header.get("unit") or "pixel", header.get("interval_s"))


def _bytes_of(block: Any, blocks: Blocks) -> npt.NDArray[np.uint8]:
    if isinstance(block, str):
        return blocks.bytes_of(block)
    array = block.ndarray()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def pack_image(image: Image, blocks: Blocks, *, reuse: Sequence[str] = ()) -> dict[str, Any]:
    """Put an image into blocks, in a type that ImageJ has.

    Args:
        image: The image; may be a view of the blocks in ``reuse``.
        blocks: The blocks of this process.
        reuse: Blocks that nobody needs any more; taken where their sizes fit.

    Returns:
        ``{"header": as header_of, "blocks": {"0": what Appose makes an NDArray of, ...}}``; a block is (planes, Y, X).

    Raises:
        ServiceError: The image is empty, complex or has numbers that ImageJ cannot show, or there is too little shared memory.
    """
    data = _for_imagej(image.data)
    image = Image(data, image.axes, image.voxel_size, image.unit, image.interval)
    height, width = data.shape[-2:]
    planes, plane_bytes = math.prod(data.shape[:-2]), height * width * data.dtype.itemsize
    if not planes * plane_bytes:
        raise ServiceError(f"The result is an image of shape {data.shape}, which holds nothing; ImageJ cannot show it.")
    fits = len(reuse) == 1 and blocks.bytes_of(reuse[0]).size == planes * plane_bytes
    names = list(reuse) if fits else allocate(blocks, planes, plane_bytes)
    flat = data.reshape(planes, height, width)
    messages = []
    for name, part in zip(names, _parts(flat, plane_bytes), strict=True):
        room = blocks.bytes_of(name)[: part.nbytes].view(data.dtype).reshape(part.shape)
        np.copyto(room, part)
        messages.append(block_message(name, data.dtype, part.shape))
    return {"header": header_of(image), "blocks": numbered(messages)}


def _parts(flat: npt.NDArray[Any], plane_bytes: int) -> Iterator[npt.NDArray[Any]]:
    each = LARGEST_BLOCK // plane_bytes
    for start in range(0, len(flat), each):
        yield flat[start : start + each]


def _for_imagej(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array in a type that ImageJ has: 8 bits, 16 bits or 32-bit floating point. Masks become 0 and 255."""
    kind, size = data.dtype.kind, data.dtype.itemsize
    if kind == "b":
        return data.astype(np.uint8) * np.uint8(255)
    if kind not in "uif":
        raise ServiceError(f"The result has the type {data.dtype}; ImageJ shows whole numbers and real ones.")
    if (kind, size) in {("u", 1), ("u", 2), ("i", 2), ("f", 4)}:
        return data.astype(data.dtype.newbyteorder("="), copy=False)
    if kind == "f":
        return data.astype(np.float32)
    low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
    if low >= 0 and high <= np.iinfo(np.uint16).max:
        return data.astype(np.uint16)
    if max(-low, high) > EXACT_IN_FLOAT:
        raise ServiceError(
            f"The result holds whole numbers from {low:,} to {high:,}; ImageJ shows them exactly up to {EXACT_IN_FLOAT:,}. "
            "Name a file for the result (out) instead."
        )
    return data.astype(np.float32)


def pack_table(table: Table, blocks: Blocks) -> dict[str, Any]:
    """Put the columns of a table into one block, one after another, little-endian.

    Returns:
        ``{"header": {"rows": N, "columns": [["t", "<i4"], ...]}, "blocks": {"0": ...}}``, no block for no rows.

    Raises:
        ServiceError: There is too little shared memory, or a column holds no numbers.
    """
    columns = {name: _for_java(name, np.asarray(column)) for name, column in table.items()}
    size = sum(column.nbytes for column in columns.values())
    header = {
        "rows": len(next(iter(columns.values()), ())),
        "columns": [[name, c.dtype.str] for name, c in columns.items()],
    }
    if not size:
        return {"header": header, "blocks": {}}
    name = blocks.make(size)
    room, start = blocks.bytes_of(name), 0
    for column in columns.values():
        room[start : start + column.nbytes] = column.view(np.uint8)
        start += column.nbytes
    return {"header": header, "blocks": numbered([block_message(name, np.dtype(np.uint8), [size])])}


def _for_java(name: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a column in a type that Java's arrays have: int, long, float, double."""
    kind = column.dtype.kind
    if kind not in "buif":
        raise ServiceError(f"Column '{name}' of the result has the type {column.dtype}; Fiji takes columns of numbers.")
    small, large = ("<f4", "<f8") if kind == "f" else ("<i4", "<i8")
    wanted = small if np.can_cast(column.dtype, small) else large
    return np.ascontiguousarray(column, dtype=wanted)


def table_of(message: Mapping[str, Any], blocks: Blocks) -> Table:
    """Return the table that Fiji put into a block, its columns copied out of it.

    Raises:
        ServiceError: The block holds fewer bytes than the header says, or is not there.
    """
    header = message["header"]
    rows = int(header["rows"])
    columns = [(str(name), np.dtype(code)) for name, code in header["columns"]]
    expected = sum(rows * dtype.itemsize for _name, dtype in columns)
    packed = _bytes_of(message["blocks"][0], blocks) if message["blocks"] else np.empty(0, np.uint8)
    if packed.size < expected:
        raise ServiceError(
            f"The table came with {packed.size:,} bytes; {rows:,} rows of its columns need {expected:,}."
        )
    table, start = {}, 0
    for name, dtype in columns:
        table[name] = packed[start : start + rows * dtype.itemsize].copy().view(dtype)
        start += rows * dtype.itemsize
    return table
