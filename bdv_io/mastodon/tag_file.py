"""``tags.raw``: tag sets, and who carries which tags.

The tags of one object are a "label set": a list of tag ids. The file lists the distinct label sets, the empty one first,
and then, for each tagged object, its index and the number of its label set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError
from bdv_io.mastodon.object_stream import StreamReader, StreamWriter
from bdv_io.tags import UNTAGGED, Tag, TagSet
from bdv_io.tracks import Tracks

I32 = npt.NDArray[np.int32]

__all__ = ["read_tags", "write_tags"]


def read_tags(data: bytes | memoryview, name: str, *, n_spots: int, n_links: int) -> tuple[TagSet, ...]:
    """Read the content of ``tags.raw``; ``name`` is for errors.

    Two tags of one set on an object cannot be kept: the later one counts, as in Mastodon.

    Raises:
        FormatError: It is truncated or damaged.
    """
    stream = StreamReader(data, name)
    structure = []
    for _ in range(stream.count(10)):
        stream.integer()  # the id of the set is not referred to
        label = stream.text()
        structure.append(
            (label, [(stream.integer(), stream.text(), stream.integer()) for _ in range(stream.count(10))])
        )
    set_of = {tag_id: (place, i) for place, (_, tags) in enumerate(structure) for i, (tag_id, _, _) in enumerate(tags)}
    columns = [_read_columns(stream, set_of, (n, len(structure))) for n in (n_spots, n_links)]
    return tuple(
        TagSet(label, tuple(Tag(text, colour & 0xFFFFFFFF) for _, text, colour in tags), columns[0][i], columns[1][i])
        for i, (label, tags) in enumerate(structure)
    )


def _read_columns(stream: StreamReader, set_of: dict[int, tuple[int, int]], shape: tuple[int, int]) -> I32:
    n_rows, n_sets = shape
    label_sets = [stream.array(">i4", stream.count(4)).tolist() for _ in range(stream.count(4))]
    table = np.full((n_sets, len(label_sets)), UNTAGGED, dtype=np.int32)
    for number, tag_ids in enumerate(label_sets):
        for tag_id in tag_ids:
            if tag_id in set_of:
                place, position = set_of[tag_id]
                table[place, number] = position
    entries = stream.array(">i4", 2 * stream.count(8)).reshape(-1, 2)
    if len(entries) and (entries[:, 1].min() < 0 or entries[:, 1].max() >= len(label_sets)):
        raise FormatError(
            f"Reading {stream.name} failed: an object has label set {entries[:, 1].max()}, but there are {len(label_sets)}; it is damaged."
        )
    known = entries[(entries[:, 0] >= 0) & (entries[:, 0] < n_rows)]  # Mastodon ignores the others, too
    columns = np.full((n_sets, n_rows), UNTAGGED, dtype=np.int32)
    columns[:, known[:, 0]] = table[:, known[:, 1]]
    return columns


def write_tags(tracks: Tracks) -> bytes:
    """Return the content of ``tags.raw``. Tag ids are counted over all sets."""
    stream = StreamWriter()
    stream.integer(len(tracks.tag_sets))
    first_ids, next_id = [], 0
    for number, tags in enumerate(tracks.tag_sets):
        stream.integer(number)
        stream.text(tags.name)
        stream.integer(len(tags.tags))
        first_ids.append(next_id)
        for tag in tags.tags:
            stream.integer(next_id)
            stream.text(tag.name)
            stream.integer(tag.colour - (1 << 32) if tag.colour >= 1 << 31 else tag.colour)
            next_id += 1
    _write_columns(stream, [tags.spots for tags in tracks.tag_sets], first_ids, tracks.n_spots)
    _write_columns(stream, [tags.links for tags in tracks.tag_sets], first_ids, tracks.n_links)
    return stream.getvalue()


def _write_columns(stream: StreamWriter, columns: list[I32], first_ids: list[int], n: int) -> None:
    codes = np.zeros(n, dtype=np.int64)
    combinations = np.zeros((1, 0), dtype=np.int64)
    for column in columns:  # number the distinct combinations of tags, one set after the other
        joint = codes * (int(column.max(initial=UNTAGGED)) + 2) + (column.astype(np.int64) + 1)
        values, codes = np.unique(np.append(joint, 0), return_inverse=True)  # 0: nothing, always there and first
        codes = codes[:-1]
        width = int(column.max(initial=UNTAGGED)) + 2
        combinations = np.column_stack([combinations[values // width], values % width - 1])
    stream.integer(len(combinations))
    for combination in combinations:
        tag_ids = [first + int(tag) for first, tag in zip(first_ids, combination, strict=True) if tag != UNTAGGED]
        stream.integer(len(tag_ids))
        for tag_id in tag_ids:
            stream.integer(tag_id)
    rows = np.flatnonzero(codes)
    entries: npt.NDArray[Any] = np.empty((len(rows), 2), dtype=">i4")
    entries[:, 0], entries[:, 1] = rows, codes[rows]
    stream.integer(len(rows))
    stream.raw(entries.tobytes())
