"""Writing TrackMate XML, column by column, so that TrackMate and MaMuT open it with its image."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from lxml import etree

from bdv_io._axes import covariance_to_upper_xyz, reverse_axes
from bdv_io.errors import WriteError
from bdv_io.image import ImageSeries
from bdv_io.safe_write import replacing
from bdv_io.tags import UNTAGGED, Feature
from bdv_io.trackmate.declarations import (
    COVARIANCE,
    INTERVAL,
    OWN_SPOT_ATTRIBUTES,
    TAGS,
    Declaration,
    legend,
    standard,
    xml_key,
)
from bdv_io.trackmate.document import MODEL_PARTS, count_elements
from bdv_io.trackmate.rois import RoiWriter
from bdv_io.trackmate.settings import gui_state_of, settings_of
from bdv_io.trackmate.track_table import track_marks, track_table
from bdv_io.tracks import Tracks

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Cell = tuple[str, Iterable[Any]]  # a part of a template, and what goes there row by row

__all__ = ["write_mamut", "write_trackmate"]

log = logging.getLogger(__name__)

VERSION = "7.0.4"
BLOCK = 50_000
FIRST = ("Log", "Settings", "GUIState", "DisplaySettings")
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ESCAPED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)
BIGGEST_ID = 2**31 - 1  # Java's int


def write_trackmate(path: str | os.PathLike[str], tracks: Tracks, *, image: ImageSeries | None = None) -> None:
    """Write spots, links, features, outlines and tracks as TrackMate XML; TrackMate, MaMuT and Mastodon open it.

    A spot becomes a sphere whose radius is the geometric mean of its half-axes. Ellipsoids and tags are written as
    declared features, so :func:`read_trackmate` gives them back. Of an outline the largest ring becomes the ROI. Spots
    without a label are named by their id. Feature names that XML does not allow are changed (spaces to underscores) and
    declared under their own name. What was carried from a TrackMate file is put back: what it said of a track only where
    spots and links of the track are as they were. A spot whose ``VISIBILITY`` is not known is visible.

    Args:
        path: The file; what stood there before is kept as ``name~1~``.
        tracks: The annotation.
        image: The movie, so that TrackMate finds it; by default the one that the annotation names.

    Raises:
        ValidationError: The annotation is not consistent.
        WriteError: The disk is full, the folder is missing, or reading back failed; the old file is intact.
        BusyError: Another Howdah is writing the same file.
    """
    _write(Path(path), tracks, image, mamut=False)


def write_mamut(path: str | os.PathLike[str], tracks: Tracks, *, image: ImageSeries | None = None) -> None:
    """Write spots, links, features and tracks as MaMuT XML, which MaMuT and Mastodon import; arguments as above.

    As :func:`write_trackmate`, but without outlines, which MaMuT does not know, and with the settings that MaMuT wants:
    the image must be a BigDataViewer XML, and each of its setups has a brightness.
    """
    if image is None and "Settings" not in tracks.carried.entries:
        log.warning("%s: no image was given; MaMuT asks for its BigDataViewer XML when it opens the file.", path)
    elif image is not None and (image.path is None or image.path.suffix.lower() != ".xml"):
        log.warning(
            "%s: MaMuT opens images as BigDataViewer XML, but the image is %s.", path, image.path or image.format
        )
    _write(Path(path), tracks, image, mamut=True)


def _write(target: Path, tracks: Tracks, image: ImageSeries | None, *, mamut: bool) -> None:
    tracks.validate()

    def verify(written: Path) -> None:
        found = count_elements(written)
        if found != (tracks.n_spots, tracks.n_links):
            raise WriteError(
                f"Writing {target} failed: it read back {found[0]} spots and {found[1]} edges; expected "
                f"{tracks.n_spots} and {tracks.n_links}. What was there before is unchanged."
            )

    with replacing(target, verify=verify) as temporary, temporary.open("wb") as file:
        _Writer(tracks, image, target, mamut=mamut).write(file)


class _Writer:
    def __init__(self, tracks: Tracks, image: ImageSeries | None, target: Path, *, mamut: bool) -> None:
        self.tracks, self.image, self.target, self.mamut = tracks, image, target, mamut
        carried = tracks.carried if tracks.carried.format == "trackmate" else None
        self.entries = dict(carried.entries) if carried else {}
        self.columns = dict(carried.spots) if carried else {}
        self.link_columns = dict(carried.links) if carried else {}
        self.notes: dict[str, Any] = json.loads(self.entries.pop("names.json", b"{}"))
        self.track_notes: dict[str, Any] = json.loads(self.entries.pop("tracks.json", b"{}"))
        self.version = self.entries.pop("version", b"").decode()
        self.ids = _java_ids(tracks, target)
        self.ellipsoids = bool(_radii(tracks.covariance)[1].any())
        self.rois = None if mamut else RoiWriter(tracks, self.columns.get("roi"))
        self.spot_keys = _keys(
            [f for f in tracks.features if f.target != "link"], OWN_SPOT_ATTRIBUTES | set(COVARIANCE)
        )
        self.link_keys = _keys([f for f in tracks.features if f.target == "link"], {"SPOT_SOURCE_ID", "SPOT_TARGET_ID"})

    def write(self, file: BinaryIO) -> None:
        file.write(b'<?xml version="1.0" encoding="UTF-8"?>\n')
        file.write(f"<TrackMate{_attributes(self._root())}>\n".encode())
        file.write(self.entries.get("Log", b"<Log>Written by Howdah.</Log>") + b"\n")
        units = {"spatialunits": self.tracks.space_unit, "timeunits": self.tracks.time_unit}
        file.write(f"<Model{_attributes({**units, **self.notes.get('model', {})})}>\n".encode())
        file.write(self._declarations())
        for lines in (self._spots(), self._edges_and_tracks()):
            for line in lines:
                file.write(line.encode())
        for name, entry in self.entries.items():
            if name.startswith("Model/") and name.removeprefix("Model/") not in MODEL_PARTS:
                file.write(entry + b"\n")
        file.write(b"</Model>\n")
        for part in self._last():
            file.write(part + b"\n")
        file.write(b"</TrackMate>\n")

    def _root(self) -> dict[str, str]:
        known = re.match(r"[7-9]\.|\d\d", self.version)  # old numbers may call an old reader
        root = {"version": self.version if known and not self.mamut else VERSION, **self.notes.get("root", {})}
        if (
            self.tracks.interval is not None
            and self.image is None
            and b"timeinterval" not in self.entries.get("Settings", b"")
        ):
            root[INTERVAL] = repr(float(self.tracks.interval))
        return root

    def _last(self) -> Iterator[bytes]:
        settings = settings_of(self.entries.get("Settings"), self.image or self.tracks, self.target, mamut=self.mamut)
        parts: dict[str, bytes | None] = {**self.entries, "Settings": settings}
        if self.mamut:
            parts["GUIState"] = gui_state_of(self.entries.get("GUIState"), self.image)
        others = [name for name in parts if name not in FIRST and not name.startswith("Model/")]
        for name in (*FIRST[1:], *others):
            if part := parts.get(name):
                yield part

    def _declarations(self) -> bytes:
        root = etree.Element("FeatureDeclarations")
        tags = [Declaration(f"{TAGS}{i}", legend(s), s.name, isint=True) for i, s in enumerate(self.tracks.tag_sets)]
        covariance = COVARIANCE if self.ellipsoids else ()
        shape = [Declaration(key, f"Covariance {key[-2:].lower()}", key[-2:]) for key in covariance]
        of_tracks = [Declaration(*said) for said in self.notes.get("track_features", ())]
        for group, target, more in (
            ("SpotFeatures", "spot", [*self._declared(self.spot_keys, "spot"), *shape, *tags]),
            ("EdgeFeatures", "link", [*self._declared(self.link_keys, "link"), *tags]),
            ("TrackFeatures", "track", of_tracks),
        ):
            parent = etree.SubElement(root, group)
            declared = {item.key: item for item in (*standard(target), *more)}
            for item in declared.values():
                etree.SubElement(
                    parent,
                    "Feature",
                    feature=item.key,
                    name=_clean(item.name),
                    shortname=_clean(item.shortname),
                    dimension=item.dimension,
                    isint="true" if item.isint else "false",
                )
        text: bytes = etree.tostring(root, encoding="utf-8", pretty_print=True)
        return text

    def _declared(self, keys: list[tuple[str, Feature]], target: str) -> Iterator[Declaration]:
        names = self.notes.get("feature_names", {}).get(target, {})
        for key, feature in keys:
            known = names.get(key)
            yield Declaration.of_feature(key, feature, (known[0], known[1]) if known else None)
        for said in self.notes.get("only_declared", {}).get(target, ()):  # of which no spot has a value
            yield Declaration(*said)

    def _spots(self) -> Iterator[str]:
        tracks = self.tracks
        order = np.argsort(tracks.t, kind="stable")
        frames, starts = np.unique(tracks.t[order], return_index=True)
        yield f'<AllSpots nspots="{tracks.n_spots}">\n'
        opened = {int(start): f'<SpotsInFrame frame="{frame}">\n' for frame, start in zip(frames, starts, strict=True)}
        for first in range(0, tracks.n_spots, BLOCK):
            lines = list(self._spot_lines(order[first : first + BLOCK]))
            for start in starts[(starts >= first) & (starts < first + BLOCK)].tolist():
                lines[start - first] = ("</SpotsInFrame>\n" if start else "") + opened[start] + lines[start - first]
            yield "".join(lines)
        yield "</SpotsInFrame>\n</AllSpots>\n" if tracks.n_spots else "</AllSpots>\n"

    def _spot_lines(self, rows: I64) -> Iterator[str]:
        tracks = self.tracks
        ids = self.ids[rows]
        xyz = reverse_axes(tracks.centre[rows])
        radius, ellipsoid = _radii(tracks.covariance[rows])
        names = [
            f'"ID{i}"' if name is None else _quoted(name)
            for i, name in zip(ids.tolist(), tracks.label[rows].tolist(), strict=True)
        ]
        cells = [
            _cell("ID", ids),
            (" name=%s", names),
            *(_cell(f"POSITION_{axis}", xyz[:, i]) for i, axis in enumerate("XYZ")),
            _cell("FRAME", tracks.t[rows]),
            _cell("RADIUS", radius),
            _cell("QUALITY", tracks.quality[rows]),
            self._required("POSITION_T", tracks.t[rows] * (tracks.interval or 1.0), rows),
            self._required("VISIBILITY", np.ones(len(rows), dtype=np.int64), rows),
        ]
        cells += [_feature_cell(key, f, rows) for key, f in self.spot_keys if key not in ("POSITION_T", "VISIBILITY")]
        if ellipsoid.any():
            upper = covariance_to_upper_xyz(tracks.covariance[rows])
            cells += [_cell(key, upper[:, i], ellipsoid) for i, key in enumerate(COVARIANCE)]
        cells += [
            _cell(f"{TAGS}{i}", tags.spots[rows], tags.spots[rows] != UNTAGGED)
            for i, tags in enumerate(tracks.tag_sets)
        ]
        cells += [_text_cell(key[1:], column[rows]) for key, column in self.columns.items() if key.startswith("@")]
        return _lines("<Spot", cells, self._ends(rows))

    def _required(self, key: str, default: Any, rows: I64) -> Cell:
        """A column that TrackMate needs on every spot: the feature of this key where defined, else the default."""
        values, feature = default, dict(self.spot_keys).get(key)
        if feature is not None:
            known = np.ones(len(rows), dtype=bool) if feature.defined is None else feature.defined[rows]
            values = np.where(known, feature.values[rows], default)
        return _cell(key, values)

    def _ends(self, rows: I64) -> list[str] | None:
        """How each spot element ends: with its outline as text, or at once."""
        if self.rois is None or (not len(self.tracks.outlines) and "roi" not in self.columns):
            return None
        ends = []
        for n, text in self.rois.texts(rows):
            points = f' ROI_N_POINTS="{n}"' if n else ""
            ends.append(f"{points}>{text}</Spot>\n" if text is not None else " />\n")
        return ends

    def _edges_and_tracks(self) -> Iterator[str]:
        tracks = self.tracks
        table = track_table(tracks, self.columns, self.notes.get("track_names", {}))
        order = np.concatenate([np.empty(0, np.int64), *table.links])
        lines = self._edge_lines(order)
        yield "<AllTracks>\n"
        for name, head, links in zip(table.names, self._track_heads(table.columns), table.links, strict=True):
            yield f"<Track name={_quoted(name)}{head}>\n"
            yield "".join([next(lines) for _ in links])
            yield "</Track>\n"
        yield "</AllTracks>\n<FilteredTracks>\n"
        yield "".join(f'<TrackID TRACK_ID="{i}" />\n' for i in table.columns["TRACK_ID"][table.shown].tolist())
        yield "</FilteredTracks>\n"

    def _edge_lines(self, order: I64) -> Iterator[str]:
        tracks = self.tracks
        for start in range(0, len(order), BLOCK):
            rows = order[start : start + BLOCK]
            ids = self.ids[tracks.links[rows]]
            cells = [_cell("SPOT_SOURCE_ID", ids[:, 0]), _cell("SPOT_TARGET_ID", ids[:, 1])]
            cells += [_feature_cell(key, feature, rows) for key, feature in self.link_keys]
            cells += [
                _cell(f"{TAGS}{i}", s.links[rows], s.links[rows] != UNTAGGED) for i, s in enumerate(tracks.tag_sets)
            ]
            cells += [
                _text_cell(key[1:], column[rows]) for key, column in self.link_columns.items() if key.startswith("@")
            ]
            yield from _lines("<Edge", cells, None)

    def _track_heads(self, columns: dict[str, npt.NDArray[Any]]) -> Iterator[str]:
        """Attributes of each track: what follows from its spots, and what the file said if nothing of it has changed."""
        said: dict[int, dict[str, str]] = {}
        if self.track_notes:
            ids, marks = track_marks(self.tracks, self.columns)
            for i, mark in zip(ids.tolist(), marks.tolist(), strict=True):
                note = self.track_notes.get(str(i))
                if note is not None and note[0] == mark:
                    said[i] = dict(note[1])
            if not len(said) == len(self.track_notes) == len(ids):
                for attributes in said.values():
                    attributes.pop("TRACK_INDEX", None)  # there are others now
                changed = len(self.track_notes) - len(said)
                log.info("%s: %d tracks have changed; TrackMate computes their features anew.", self.target, changed)
        keys = list(columns)
        for row in zip(*(values.tolist() for values in columns.values()), strict=True):
            found = dict(zip(keys, map(_java_number, row), strict=True))
            yield _attributes({**found, **said.get(row[keys.index("TRACK_ID")], {})})


def _keys(features: list[Feature], taken: set[str] | frozenset[str]) -> list[tuple[str, Feature]]:
    used, keys = {*taken, "name"}, []
    for feature in features:
        key = xml_key(feature, used)
        used.add(key)
        keys.append((key, feature))
    return keys


def _lines(start: str, cells: list[Cell], ends: list[str] | None) -> Iterator[str]:
    template = start + "".join(part for part, _ in cells) + ("%s" if ends is not None else " />\n")
    columns = [values for _, values in cells]
    return map(template.__mod__, zip(*columns, *([ends] if ends is not None else []), strict=True))


def _cell(key: str, values: npt.NDArray[Any], shown: npt.NDArray[np.bool_] | None = None) -> Cell:
    """One attribute a row, in Java's spelling of numbers; empty where it is not shown."""
    listed: list[Any] = values.tolist()
    plain = values.dtype.kind in "iub" or bool(np.isfinite(values).all())
    if shown is None or shown.all():
        return (f' {key}="%r"', listed) if plain else (f' {key}="%s"', map(_java_number, listed))
    part = f' {key}="%s"'
    return "%s", [part % _java_number(value) if see else "" for value, see in zip(listed, shown.tolist(), strict=True)]


def _feature_cell(key: str, feature: Feature, rows: I64) -> Cell:
    return _cell(key, feature.values[rows], None if feature.defined is None else feature.defined[rows])


def _text_cell(key: str, column: npt.NDArray[Any]) -> Cell:
    return "%s", ["" if text is None else f" {key}={_quoted(text)}" for text in column.tolist()]


def _attributes(attributes: dict[str, str]) -> str:
    return "".join(f" {key}={_quoted(text)}" for key, text in attributes.items())


def _java_number(value: Any) -> str:
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text := repr(value), text)


def _radii(covariance: F64) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Geometric mean radii, and which spots are no spheres. Of a sphere the radius comes back exactly."""
    side = covariance[:, 0, 0]
    ellipsoid: npt.NDArray[np.bool_] = (covariance != side[:, None, None] * np.eye(3)).any(axis=(1, 2))
    radius = np.sqrt(side)
    radius[ellipsoid] = np.linalg.det(covariance[ellipsoid]) ** (1 / 6)
    return radius, ellipsoid


def _java_ids(tracks: Tracks, target: Path) -> I64:
    if tracks.n_spots and (tracks.id.min() < 0 or tracks.id.max() > BIGGEST_ID):
        log.warning("%s: ids do not fit into TrackMate's whole numbers; spots are numbered from 0 there.", target)
        return np.arange(tracks.n_spots, dtype=np.int64)
    return tracks.id


def _clean(text: str) -> str:
    return text if text.isascii() and text.isprintable() else NOT_XML.sub("\ufffd", text)


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isalnum() and text.isascii() else f'"{_clean(text).translate(ESCAPED)}"'
