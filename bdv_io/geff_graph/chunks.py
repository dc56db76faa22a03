"""A look at compressed chunks before the codec sees them: Blosc believes the sizes in a chunk's header.

A damaged header makes it read or write outside of its memory, which ends the program instead of raising an error.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from bdv_io.errors import FormatError
from bdv_io.untrusted import MOST_TEXT, refuse_special

__all__ = ["check_chunks"]

METADATA = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"})
HEADER = struct.Struct("<4B3I")  # versions, flags, size of an item; bytes unpacked, of a block, and packed


def check_chunks(folder: Path) -> None:
    """Compare the headers of all Blosc chunks of the Zarr v2 arrays in a folder with the arrays and the files.

    Raises:
        FormatError: A chunk says another size than it has, or than its array has.
    """
    for path in folder.rglob("*"):
        if not path.is_dir():  # a pipe in the place of a chunk would be waited for
            refuse_special(path, MOST_TEXT if path.name in METADATA else None)
    for described in folder.rglob(".zarray"):
        said = json.loads(described.read_bytes())
        compressor = said.get("compressor") if isinstance(said, dict) else None
        if not isinstance(compressor, dict) or compressor.get("id") != "blosc":
            continue
        size = int(np.prod([int(n) for n in said["chunks"]], dtype=object)) * np.dtype(said["dtype"]).itemsize
        for chunk in described.parent.rglob("*"):
            if not chunk.name.startswith(".") and chunk.is_file():
                _check(chunk, size)


def _check(chunk: Path, size: int) -> None:
    on_disk = chunk.stat().st_size
    with chunk.open("rb") as file:
        header = file.read(HEADER.size)
    if len(header) == HEADER.size:
        *_, unpacked, block, packed = HEADER.unpack(header)
        if unpacked == size and packed == on_disk and 0 < block <= max(unpacked, 1):
            return
    raise FormatError(
        f"Reading the GEFF chunk {chunk} failed: its header does not fit the array ({size} bytes) and the file ({on_disk} bytes); "
        "it is damaged."
    )
