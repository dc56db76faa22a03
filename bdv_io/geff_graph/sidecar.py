"""The group ``howdah``: exact columns for which GEFF has no place, as plain arrays.

A text column is two arrays: ``<name>/bytes`` (UTF-8, one text after the other) and ``<name>/length`` (bytes of each, -1 for none).
The columns belong to the nodes and edges whose numbers they were written with: ``mark`` tells whether these are still the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from bdv_io.outlines import Outlines
from bdv_io.tracks import LABEL_DTYPE, Carried, Tracks

__all__ = ["Sidecar", "mark", "read_sidecar", "write_sidecar"]

I64 = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

CHUNK = 8 << 20
RINGS = ("spot", "z", "start", "vertices")


@dataclass
class Sidecar:
    """What the group holds, by name."""

    arrays: dict[str, Array] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the plain arrays."""
        return sum(array.nbytes for array in self.arrays.values())


def mark(node_ids: Array, edge_ids: Array) -> str:
    """Return a text that changes when nodes or edges do, or their order."""
    sums = []
    for ids in (node_ids, edge_ids):
        flat = np.asarray(ids).ravel().astype(np.uint64)
        place = np.arange(1, len(flat) + 1, dtype=np.uint64)
        sums.append(f"{len(flat)}:{int(((flat + np.uint64(1)) * (place * np.uint64(0x9E3779B97F4A7C15))).sum()):x}")
    return ",".join(sums)


def content_of(tracks: Tracks) -> Sidecar:
    """Return what of an annotation the group must hold."""
    side = Sidecar()
    if any(label is not None for label in tracks.label.tolist()):
        side.texts["label"] = tracks.label
    if tracks.n_spots and tracks.id.min() < 0:
        side.arrays["id"] = tracks.id
    if len(tracks.outlines):
        side.arrays |= {f"outline_{name}": getattr(tracks.outlines, name) for name in RINGS}
    carried = tracks.carried
    for name, entry in carried.entries.items():
        side.arrays[f"entry:{name}"] = np.frombuffer(entry, dtype=np.uint8)
    for what, columns in (("spots", carried.spots), ("links", carried.links)):
        for name, column in columns.items():
            into: dict[str, Any] = side.texts if column.dtype == LABEL_DTYPE else side.arrays
            if column.dtype != object:
                into[f"{what}:{name}"] = column
    return side


def carried_of(side: Sidecar, said: Mapping[str, Any]) -> Carried:
    """Return the carried content that was written; ``said`` has its format and its numbers of spots and links."""
    columns: dict[str, dict[str, Any]] = {"spots": {}, "links": {}, "entry": {}}
    for name, column in (*side.arrays.items(), *side.texts.items()):
        what, colon, own = name.partition(":")
        if colon:
            columns[what][own] = column
    entries = {name: column.tobytes() for name, column in columns["entry"].items()}
    return Carried(
        str(said.get("format", "")),
        entries,
        columns["spots"],
        columns["links"],
        int(said.get("n_spots", 0)),
        int(said.get("n_links", 0)),
    )


def outlines_of(side: Sidecar) -> Outlines | None:
    """Return the exact outlines, if there are any."""
    if not all(f"outline_{name}" in side.arrays for name in RINGS):
        return None
    return Outlines(*(side.arrays[f"outline_{name}"] for name in RINGS))


def write_sidecar(group: zarr.Group, side: Sidecar) -> dict[str, list[str]]:
    """Write the columns, and return their names in the order of the numbers that their arrays have."""
    plain, texts = list(side.arrays), list(side.texts)
    for i, name in enumerate(plain):
        _put(group, f"a{i}", side.arrays[name])
    for i, name in enumerate(texts):
        encoded = [None if text is None else text.encode() for text in side.texts[name].tolist()]
        lengths = np.array([-1 if text is None else len(text) for text in encoded], dtype=np.int64)
        _put(group, f"t{i}_length", lengths)
        _put(group, f"t{i}_bytes", np.frombuffer(b"".join(text for text in encoded if text), dtype=np.uint8))
    return {"arrays": plain, "texts": texts}


def read_sidecar(group: zarr.Group, names: Mapping[str, Any], load: Any) -> Sidecar:
    """Read the columns; ``load(array)`` reads one after looking at its size."""
    side = Sidecar()
    for i, name in enumerate(names.get("arrays", ())):
        side.arrays[str(name)] = load(group[f"a{i}"])
    for i, name in enumerate(names.get("texts", ())):
        lengths, data = load(group[f"t{i}_length"]), load(group[f"t{i}_bytes"]).tobytes()
        ends = np.cumsum(lengths.clip(0))
        texts = [
            None if length < 0 else data[end - length : end].decode()
            for length, end in zip(lengths.tolist(), ends.tolist(), strict=True)
        ]
        side.texts[str(name)] = np.array(texts, dtype=LABEL_DTYPE)
    return side


def _put(group: zarr.Group, name: str, array: Array) -> None:
    row = max(array.itemsize * int(np.prod(array.shape[1:])), 1)
    chunks = (max(min(len(array), CHUNK // row), 1), *(max(n, 1) for n in array.shape[1:]))
    stored = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks)
    if array.size:
        stored[...] = np.ascontiguousarray(array)
