"""``model.raw``: spots, links and labels.

Number of spots, 84 bytes a spot in little-endian order, number of links, 16 bytes a link in big-endian order, then the
labels as Java arrays: the name of the property, the indices that have one, and their texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io._axes import covariance_from_upper_xyz, covariance_to_upper_xyz
from bdv_io.errors import FormatError
from bdv_io.mastodon.object_stream import StreamReader, StreamWriter, decode_utf, encode_utf
from bdv_io.tracks import LABEL_DTYPE, Tracks, no_labels

F64 = npt.NDArray[np.float64]

__all__ = ["BOUNDING", "IN_PLACE", "OUT_PLACE", "TRACE", "Model", "read_model", "trace_of", "write_model"]

SPOT = np.dtype(
    [("xyz", "<f8", 3), ("t", "<i4"), ("covariance", "<f8", 6), ("bounding", "<f8")]  # upper triangle, x y z order
)
LINK = np.dtype([("source", ">i4"), ("target", ">i4"), ("out", ">i4"), ("in", ">i4")])
LABEL = "label"

# carried columns: what the file stores and Howdah does not interpret
BOUNDING = "bounding_sphere_squared_radius"
TRACE = "covariance_trace"
OUT_PLACE, IN_PLACE = "place_among_outgoing", "place_among_incoming"


@dataclass(frozen=True)
class Model:
    """The columns of a model file; coordinates in (z, y, x) order."""

    t: npt.NDArray[np.int32]
    centre: F64
    covariance: F64
    bounding: F64
    label: npt.NDArray[Any]
    links: npt.NDArray[np.int64]
    out_place: npt.NDArray[np.int32]
    in_place: npt.NDArray[np.int32]


def read_model(data: bytes | memoryview, name: str) -> Model:
    """Read the content of ``model.raw``; ``name`` is for errors.

    Raises:
        FormatError: It is truncated, damaged, or links lead to spots that are not there.
    """
    stream = StreamReader(data, name)
    spots = stream.array(SPOT, stream.count(SPOT.itemsize))
    links = stream.array(LINK, stream.count(LINK.itemsize))
    ends = np.stack([links["source"], links["target"]], axis=1).astype(np.int64)
    if ends.size and (ends.min() < 0 or ends.max() >= len(spots)):
        bad = int(((ends < 0) | (ends >= len(spots))).any(axis=1).argmax())
        raise FormatError(
            f"Reading {name} failed: link {bad} joins spots {ends[bad, 0]} and {ends[bad, 1]}, but there are {len(spots)}; it is damaged."
        )
    return Model(
        t=spots["t"].astype(np.int32),
        centre=np.ascontiguousarray(spots["xyz"][:, ::-1]),
        covariance=covariance_from_upper_xyz(spots["covariance"]),
        bounding=spots["bounding"].astype(np.float64),
        label=_read_labels(stream, len(spots)),
        links=ends,
        out_place=links["out"].astype(np.int32),
        in_place=links["in"].astype(np.int32),
    )


def _read_labels(stream: StreamReader, n: int) -> npt.NDArray[Any]:
    label = no_labels(n)
    if stream.at_end:
        return label
    names = stream.object()
    if not isinstance(names, list):
        raise FormatError(f"Reading {stream.name} failed: the names of the properties are missing; it is damaged.")
    for name in names:
        rows, blob = stream.object(), stream.object()
        if not isinstance(rows, np.ndarray) or not isinstance(blob, bytes):
            raise FormatError(f"Reading {stream.name} failed: the property '{name}' is damaged.")
        if name != LABEL:
            raise FormatError(f"Reading {stream.name} failed: spots have a property '{name}', which is not known.")
        if len(rows) and (rows.min() < 0 or rows.max() >= n):
            raise FormatError(
                f"Reading {stream.name} failed: a label belongs to spot {rows.max()}, but there are {n} spots."
            )
        label[rows] = np.array(_texts(blob, len(rows), stream.name), dtype=LABEL_DTYPE)
    return label


def _texts(blob: bytes, n: int, name: str) -> list[str]:
    """Cut a run of texts, each with a length of two bytes."""
    ends, at, size = [], 0, len(blob)
    while at + 2 <= size:
        at += 2 + (blob[at] << 8 | blob[at + 1])
        ends.append(at)
    if len(ends) != n or at != size:
        raise FormatError(
            f"Reading {name} failed: {n} labels were announced, but their texts do not fit; it is damaged."
        )
    if blob.isascii():  # one decoding for all
        text = blob.decode("ascii")
        return [text[start + 2 : end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if n else []
    return [decode_utf(blob[start + 2 : end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)] if n else []


def write_model(tracks: Tracks) -> bytes:
    """Return the content of ``model.raw``. Spots get the index of their row."""
    stream = StreamWriter()
    spots = np.empty(tracks.n_spots, dtype=SPOT)
    spots["xyz"] = tracks.centre[:, ::-1]
    spots["t"] = tracks.t
    spots["covariance"] = covariance_to_upper_xyz(tracks.covariance)
    spots["bounding"] = _bounding(tracks)
    stream.integer(tracks.n_spots)
    stream.raw(spots.tobytes())
    links = np.empty(tracks.n_links, dtype=LINK)
    links["source"], links["target"] = tracks.links[:, 0], tracks.links[:, 1]
    links["out"] = _places(tracks.links[:, 0], tracks.carried.links.get(OUT_PLACE))
    links["in"] = _places(tracks.links[:, 1], tracks.carried.links.get(IN_PLACE))
    stream.integer(tracks.n_links)
    stream.raw(links.tobytes())
    _write_labels(stream, tracks)
    return stream.getvalue()


def _bounding(tracks: Tracks) -> F64:
    """Squared radius of the bounding sphere: as stored where the ellipsoid is still the one that was read (programs
    store more than the ellipsoid needs), else the largest eigenvalue of the covariance."""
    if not tracks.n_spots:
        return np.empty(0)
    largest: F64 = np.asarray(np.linalg.eigvalsh(tracks.covariance)[:, -1], dtype=np.float64)
    stored, trace = (tracks.carried.spots.get(name) for name in (BOUNDING, TRACE))
    if stored is None or trace is None:
        return largest
    return np.where(trace_of(tracks.covariance) == trace, stored, largest)


def trace_of(covariance: F64) -> F64:
    """(N,) sum of the diagonal of each covariance: tells whether an ellipsoid is still the one that was read."""
    return covariance[:, 0, 0] + covariance[:, 1, 1] + covariance[:, 2, 2]


def _places(ends: npt.NDArray[np.int64], stored: npt.NDArray[Any] | None) -> npt.NDArray[np.int64]:
    """Places 0, 1, ... of links among those of one spot: in the stored order where there is one, new links at the end."""
    n = len(ends)
    if stored is None or not n:
        order = np.argsort(ends, kind="stable")
    else:
        known = np.where(stored < 0, np.iinfo(np.int64).max, stored.astype(np.int64))
        order = np.lexsort((np.arange(n), known, ends))
    starts = np.flatnonzero(np.diff(ends[order], prepend=-1))
    places = np.empty(n, dtype=np.int64)
    places[order] = np.arange(n) - np.repeat(starts, np.diff(starts, append=n))
    return places


def _write_labels(stream: StreamWriter, tracks: Tracks) -> None:
    texts = tracks.label.tolist()
    rows = np.array([row for row in range(len(texts) - 1, -1, -1) if texts[row] is not None], dtype=np.int64)
    encoded = [encode_utf(texts[row]) for row in rows.tolist()]
    too_long = next((text for text in encoded if len(text) > 65535), None)
    if too_long is not None:
        raise FormatError(
            f"A label of {len(too_long)} bytes is too long for Mastodon's format (65535): '{too_long[:40]!r}...'. Shorten it."
        )
    stream.strings([LABEL])
    stream.integers(rows)
    stream.byte_array(b"".join(len(text).to_bytes(2, "big") + text for text in encoded))
