"""``features/<key>.raw``: computed numbers per spot, link or branch.

Every key has a layout of its own; ``LAYOUTS`` is the table of them. A file that fits none is carried byte for byte. Features
that Mastodon does not know go into the two containers in which it keeps what it imports from TrackMate, where it shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bdv_io.errors import FormatError
from bdv_io.mastodon.object_stream import JavaEnum, StreamReader, StreamWriter
from bdv_io.tags import DIMENSIONS, Feature, Target
from bdv_io.tracks import Tracks

__all__ = ["CONTAINERS", "KINDS", "QUALITY", "contained_name", "container_of", "read_feature", "write_features"]

DOUBLES = np.dtype([("row", ">i4"), ("value", ">f8")])
INTEGERS = np.dtype([("row", ">i4"), ("value", ">i4")])
DIMENSION = "org.mastodon.feature.Dimension"
KINDS = DIMENSIONS | {"STRING"}  # of quantity; any other one stops Mastodon's reader
SPOT_CONTAINER, LINK_CONTAINER = "TrackMate Spot features", "TrackMate Link features"
CONTAINERS: dict[str, Target] = {SPOT_CONTAINER: "spot", LINK_CONTAINER: "link"}
QUALITY = "QUALITY"


class _Frame:
    """What a reader needs to know of the model: the key and how many rows there are."""

    def __init__(self, key: str, n_spots: int, n_links: int) -> None:
        self.key, self.n_spots, self.n_links = key, n_spots, n_links

    def rows(self, target: Target) -> int:
        return self.n_links if target == "link" else self.n_spots


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_feature(data: bytes | memoryview, key: str, *, n_spots: int, n_links: int, name: str) -> list[Feature] | None:
    """Decode a feature file, or return None if its layout is not known.

    Args:
        data: Content of the file.
        key: Its feature key.
        n_spots: Spots of the model.
        n_links: Links of the model.
        name: What to call the file in errors.

    Raises:
        FormatError: It is no Java object stream at all, or it refers to spots or links that are not there.
    """
    frame = _Frame(key, n_spots, n_links)
    for layout in LAYOUTS.get(key, ()):
        stream = StreamReader(data, name)
        try:
            features: list[Feature] = layout.read(stream, frame)
        except FormatError:
            continue
        if stream.at_end:
            return features
    StreamReader(data, name)
    return None


def _map(
    stream: StreamReader, frame: _Frame, projection: str, *, dtype: np.dtype[Any], target: Target = "spot"
) -> Feature:
    entries = stream.array(dtype, stream.count(dtype.itemsize))
    n = frame.rows(target)
    rows = entries["row"].astype(np.intp)
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise FormatError(f"Reading {stream.name} failed: it has a value for row {rows.max()}, but there are {n} rows.")
    real = dtype is DOUBLES
    values = np.full(n, np.nan if real else 0, dtype=np.float64 if real else np.int32)
    values[rows] = entries["value"]
    defined = np.zeros(n, dtype=bool)
    defined[rows] = True
    return Feature(frame.key, projection, values, target, defined=None if defined.all() else defined)


class _Plain:
    """One map, without anything else."""

    def __init__(self, dtype: np.dtype[Any], target: Target = "spot") -> None:
        self.dtype, self.target = dtype, target

    def read(self, stream: StreamReader, frame: _Frame) -> list[Feature]:
        return [_map(stream, frame, "", dtype=self.dtype, target=self.target)]

    def write(self, stream: StreamWriter, features: Sequence[Feature]) -> None:
        _write_map(stream, features[0], self.dtype)


class _Sources:
    """Number of sources (channels), then for each source one double map a statistic."""

    def __init__(self, *statistics: str) -> None:
        self.statistics = statistics

    def read(self, stream: StreamReader, frame: _Frame) -> list[Feature]:
        n = stream.count(4 * len(self.statistics))
        names = [f"{statistic} ch{source + 1}".strip() for source in range(n) for statistic in self.statistics]
        return [
            replace(_map(stream, frame, name, dtype=DOUBLES), units="Counts", dimension="INTENSITY") for name in names
        ]

    def write(self, stream: StreamWriter, features: Sequence[Feature]) -> None:
        stream.integer(len(features) // len(self.statistics))
        for feature in features:
            _write_map(stream, feature, DOUBLES)


class _WithUnit:
    """A unit, then double maps that share it."""

    def __init__(self, target: Target, *projections: tuple[str, str]) -> None:
        self.target, self.projections = target, projections

    def read(self, stream: StreamReader, frame: _Frame) -> list[Feature]:
        unit = stream.text()
        read = [(_map(stream, frame, name, dtype=DOUBLES, target=self.target), kind) for name, kind in self.projections]
        return [replace(feature, units="" if kind == "NONE" else unit, dimension=kind) for feature, kind in read]

    def write(self, stream: StreamWriter, features: Sequence[Feature]) -> None:
        stream.text(features[0].units)
        for feature in features:
            _write_map(stream, feature, DOUBLES)


class _Table:
    """Number of objects and of projections, then each projection: name, dimension, unit, one value an object."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def read(self, stream: StreamReader, frame: _Frame) -> list[Feature]:
        n_objects, n_projections = stream.integer(), stream.count(6)
        found = []
        for _ in range(n_projections):
            name, dimension, unit = stream.text(), stream.text(), stream.text()
            entries = stream.array(DOUBLES, n_objects)
            short = StreamWriter()
            short.integer(n_objects)
            short.raw(entries.tobytes())
            feature = _map(StreamReader(short.getvalue(), stream.name), frame, name, dtype=DOUBLES, target=self.target)
            found.append(replace(feature, units=unit, dimension=dimension))
        return found

    def write(self, stream: StreamWriter, features: Sequence[Feature]) -> None:
        known = _defined_everywhere(features)
        stream.integer(int(known.sum()))
        stream.integer(len(features))
        for feature in features:
            stream.text(feature.projection)
            stream.text(_dimension(feature))
            stream.text(feature.units)
            stream.raw(_entries(replace(feature, defined=known), DOUBLES).tobytes())


class _Container:
    """What Mastodon imports from TrackMate: double projections, then whole-number projections."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def read(self, stream: StreamReader, frame: _Frame) -> list[Feature]:
        found = []
        for dtype in (DOUBLES, INTEGERS):
            for _ in range(stream.count(6)):
                name = stream.text()
                dimension = stream.object()
                units = stream.text()
                feature = _map(stream, frame, name, dtype=dtype, target=self.target)
                kind = dimension.name if isinstance(dimension, JavaEnum) else "NONE"
                found.append(replace(feature, units=units, dimension=kind))
        return found

    def write(self, stream: StreamWriter, features: Sequence[Feature]) -> None:
        for dtype, whole in ((DOUBLES, False), (INTEGERS, True)):
            chosen = [feature for feature in features if _fits_java_int(feature) is whole]
            stream.integer(len(chosen))
            for feature in chosen:
                stream.text(feature.projection)
                stream.enum(JavaEnum(DIMENSION, _dimension(feature)))
                stream.text(feature.units)
                _write_map(stream, feature, dtype)


def _dimension(feature: Feature) -> str:
    return feature.dimension if feature.dimension in KINDS else "NONE"


_INTEGER_MAP = (_Plain(INTEGERS),)
_BRANCH_COUNT = (_Plain(INTEGERS, "branch"),)
LAYOUTS: Mapping[str, Sequence[Any]] = {
    "Spot intensity": (
        _Sources("Mean", "Std", "Min", "Max", "Median", "Sum"),
        _Sources("Mean", "Std", "Min", "Max", "Median"),
    ),
    "Spot center intensity": (_Sources("Center"),),
    "Spot quick mean": (_Sources("Mean"),),
    "Spot gaussian-filtered intensity": (_Sources("Mean", "Std"),),
    "Spot median intensity": (_Sources("Median"),),
    "Spot sum intensity": (_Sources("Sum"),),
    "Spot track ID": _INTEGER_MAP,
    "Track N spots": _INTEGER_MAP,
    "Spot N links": _INTEGER_MAP,
    "Spot radius": (_WithUnit("spot", ("", "LENGTH")),),
    "Link displacement": (_Table("link"), _WithUnit("link", ("", "LENGTH"))),
    "Link velocity": (_Table("link"), _WithUnit("link", ("", "VELOCITY"))),
    "Branch N spots": _BRANCH_COUNT,
    "Branch depth": _BRANCH_COUNT,
    "Branch duration and displacement": (_WithUnit("branch", ("Displacement", "LENGTH"), ("Duration", "NONE")),),
    SPOT_CONTAINER: (_Container("spot"),),
    LINK_CONTAINER: (_Container("link"),),
}


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_features(tracks: Tracks) -> dict[str, bytes]:
    """Return feature key -> content of its file, for all features of an annotation and its qualities."""
    groups: dict[str, list[Feature]] = {}
    for feature in tracks.features:
        key = container_of(feature)
        if key in CONTAINERS:
            feature = replace(feature, projection=contained_name(feature))
        groups.setdefault(key, []).append(feature)
    known = np.isfinite(tracks.quality)
    if known.any():
        quality = Feature(SPOT_CONTAINER, QUALITY, tracks.quality, dimension="QUALITY", defined=known)
        kept = [feature for feature in groups.get(SPOT_CONTAINER, []) if feature.projection != QUALITY]
        groups[SPOT_CONTAINER] = [*kept, quality]
    written = {}
    for key, features in groups.items():
        stream = StreamWriter()
        layout = _fitting(key, features)
        layout.write(stream, features)
        written[key] = stream.getvalue()
    return written


def container_of(feature: Feature) -> str:
    """Return the key of the file that a feature goes into: its own, where Mastodon knows it, else a container."""
    if feature.name in LAYOUTS and _fitting(feature.name, [feature], partly=True) is not None:
        return feature.name
    return LINK_CONTAINER if feature.target == "link" else SPOT_CONTAINER


def _fitting(key: str, features: Sequence[Feature], *, partly: bool = False) -> Any:
    """The layout of a key that these features fit; the one with units if there is a choice."""
    layouts = LAYOUTS[key]
    for layout in layouts:
        if isinstance(layout, _Sources) and not partly and len(features) % len(layout.statistics):
            continue
        if isinstance(layout, _Sources) and not all(
            feature.projection.split(" ch")[0] in layout.statistics for feature in features
        ):
            continue
        if isinstance(layout, _Table) and not all(feature.projection for feature in features):
            continue
        return layout
    return None if partly else layouts[-1]


def contained_name(feature: Feature) -> str:
    """Return the name that a feature has inside a container."""
    if feature.name in CONTAINERS:
        return feature.projection
    return " ".join(filter(None, (feature.name, feature.projection)))


def _fits_java_int(feature: Feature) -> bool:
    """Whether all values are whole numbers of 32 bits; larger ones go into doubles."""
    values = feature.values if feature.defined is None else feature.values[feature.defined]
    if values.dtype.kind not in "iu":
        return False
    return not len(values) or bool(values.min() >= -(2**31) and values.max() < 2**31)


def _defined_everywhere(features: Sequence[Feature]) -> Any:
    known = np.ones(len(features[0].values), dtype=bool)
    for feature in features:
        if feature.defined is not None:
            known &= feature.defined
    return known


def _entries(feature: Feature, dtype: np.dtype[Any]) -> Any:
    rows = np.arange(len(feature.values)) if feature.defined is None else np.flatnonzero(feature.defined)
    entries = np.empty(len(rows), dtype=dtype)
    entries["row"], entries["value"] = rows[::-1], feature.values[rows[::-1]]
    return entries


def _write_map(stream: StreamWriter, feature: Feature, dtype: np.dtype[Any]) -> None:
    entries = _entries(feature, dtype)
    stream.integer(len(entries))
    stream.raw(entries.tobytes())
