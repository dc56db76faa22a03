"""Writing TrackMate XML, column by column, so that TrackMate and MaMuT open it with its image."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
from lxml import etree

from bdv_io._axes import covariance_to_upper_xyz, reverse_axes
from bdv_io.errors import WriteError
from bdv_io.image import ImageSeries
from bdv_io.safe_write import replacing
from bdv_io.tags import UNTAGGED, Feature
from bdv_io.trackmate.declarations import COVARIANCE, OWN_SPOT_ATTRIBUTES, TAGS, Declaration, legend, standard, xml_key
from bdv_io.trackmate.read import KEPT, elements
from bdv_io.trackmate.settings import settings_of
from bdv_io.trackmate.track_table import track_table
from bdv_io.tracks import Tracks

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Cells = list[str]

__all__ = ["write_trackmate"]

log = logging.getLogger(__name__)

VERSION = "7.0.4"
BLOCK = 50_000
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
BIGGEST_ID = 2**31 - 1  # Java's int


def write_trackmate(path: str | os.PathLike[str], tracks: Tracks, *, image: ImageSeries | None = None) -> None:
    """Write spots, links, features and tracks as TrackMate XML; TrackMate, MaMuT and Mastodon open it.

    A spot becomes a sphere whose radius is the geometric mean of its half-axes. Ellipsoids and tags are written as
    declared features, so :func:`read_trackmate` gives them back. Spots without a label are named by their id. Feature
    names that XML does not allow are changed (spaces to underscores) and declared under their own name. What was carried
    from a TrackMate file is put back. A spot whose ``VISIBILITY`` is not known is visible.

    Args:
        path: The file; what stood there before is kept as ``name~1~``.
        tracks: The annotation.
        image: The movie, so that TrackMate finds it; None leaves what was carried, or writes no settings.

    Raises:
        ValidationError: The annotation is not consistent.
        WriteError: The disk is full, the folder is missing, or reading back failed; the old file is intact.
        BusyError: Another Howdah is writing the same file.
    """
    tracks.validate()
    target = Path(path)

    def verify(written: Path) -> None:
        found = {"Spot": 0, "Edge": 0}
        for event, element in elements(written):
            if event == "end" and element.tag in found:
                found[element.tag] += 1
            if event == "end" and element.tag in ("Spot", "Edge", "SpotsInFrame", "Track"):
                element.clear()
        if found != {"Spot": tracks.n_spots, "Edge": tracks.n_links}:
            raise WriteError(
                f"Writing {target} failed: it read back {found['Spot']} spots and {found['Edge']} edges; expected "
                f"{tracks.n_spots} and {tracks.n_links}. What was there before is unchanged."
            )

    with replacing(target, verify=verify) as temporary, temporary.open("wb") as file:
        _Writer(tracks, image, target).write(file)


class _Writer:
    def __init__(self, tracks: Tracks, image: ImageSeries | None, target: Path) -> None:
        self.tracks, self.image, self.target = tracks, image, target
        carried = tracks.carried if tracks.carried.format == "trackmate" else None
        self.entries = dict(carried.entries) if carried else {}
        self.columns = dict(carried.spots) if carried else {}
        self.names: dict[str, Any] = json.loads(self.entries.get("names.json", b"{}"))
        self.ids = _java_ids(tracks, target)
        self.ellipsoids = bool(_radii(tracks.covariance)[1].any())
        self.spot_keys = _keys(
            [f for f in tracks.features if f.target != "link"], OWN_SPOT_ATTRIBUTES | set(COVARIANCE)
        )
        self.link_keys = _keys([f for f in tracks.features if f.target == "link"], {"SPOT_SOURCE_ID", "SPOT_TARGET_ID"})

    def write(self, file: BinaryIO) -> None:
        model = f"spatialunits={_quoted(self.tracks.space_unit)} timeunits={_quoted(self.tracks.time_unit)}"
        known = self.entries.get("version", b"").decode()
        version = known if re.match(r"[7-9]\.|\d\d", known) else VERSION  # old numbers may call an old reader
        file.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<TrackMate version={_quoted(version)}>\n'.encode())
        file.write(self.entries.get("Log", b"<Log>Written by Howdah.</Log>") + f"\n<Model {model}>\n".encode())
        file.write(self._declarations())
        for line in (*self._spots(), *self._edges_and_tracks()):
            file.write(line.encode())
        file.write(b"</Model>\n")
        settings = settings_of(self.entries.get("Settings"), self.image, self.target)
        parts = {**self.entries, "Settings": settings}
        for tag in KEPT[1:]:
            if parts.get(tag):
                file.write((parts[tag] or b"") + b"\n")
        file.write(b"</TrackMate>\n")

    def _declarations(self) -> bytes:
        root = etree.Element("FeatureDeclarations")
        tags = [Declaration(f"{TAGS}{i}", legend(s), s.name, isint=True) for i, s in enumerate(self.tracks.tag_sets)]
        covariance = COVARIANCE if self.ellipsoids else ()
        shape = [Declaration(key, f"Covariance {key[-2:].lower()}", key[-2:]) for key in covariance]
        for group, target, more in (
            ("SpotFeatures", "spot", [*self._declared(self.spot_keys, "spot"), *shape, *tags]),
            ("EdgeFeatures", "link", [*self._declared(self.link_keys, "link"), *tags]),
            ("TrackFeatures", "track", []),
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
        names = self.names.get("feature_names", {}).get(target, {})
        for key, feature in keys:
            known = names.get(key)
            yield Declaration.of_feature(key, feature, (known[0], known[1]) if known else None)

    def _spots(self) -> Iterator[str]:
        tracks = self.tracks
        order = np.argsort(tracks.t, kind="stable")
        yield f'<AllSpots nspots="{tracks.n_spots}">\n'
        frames, starts = np.unique(tracks.t[order], return_index=True)
        for frame, rows in zip(frames.tolist(), np.split(order, starts[1:]) if len(frames) else [], strict=True):
            yield f'<SpotsInFrame frame="{frame}">\n'
            for start in range(0, len(rows), BLOCK):
                yield self._spot_lines(rows[start : start + BLOCK])
            yield "</SpotsInFrame>\n"
        yield "</AllSpots>\n"

    def _spot_lines(self, rows: I64) -> str:
        tracks = self.tracks
        ids = self.ids[rows]
        xyz = reverse_axes(tracks.centre[rows])
        radius, ellipsoid = _radii(tracks.covariance[rows])
        cells = [
            _cells("ID", ids),
            [
                f' name="ID{i}"' if name is None else f" name={_quoted(name)}"
                for i, name in zip(ids.tolist(), tracks.label[rows].tolist(), strict=True)
            ],
            *(_cells(f"POSITION_{axis}", xyz[:, i]) for i, axis in enumerate("XYZ")),
            _cells("FRAME", tracks.t[rows]),
            _cells("RADIUS", radius),
            _cells("QUALITY", tracks.quality[rows]),
        ]
        written = {key for key, _ in self.spot_keys}
        cells += self._required("POSITION_T", tracks.t[rows] * (tracks.interval or 1.0), rows, written)
        cells += self._required("VISIBILITY", np.ones(len(rows), dtype=np.int64), rows, written)
        cells += [_feature_cells(key, f, rows) for key, f in self.spot_keys if key not in ("POSITION_T", "VISIBILITY")]
        if ellipsoid.any():
            upper = covariance_to_upper_xyz(tracks.covariance[rows])
            cells += [_cells(key, upper[:, i], ellipsoid) for i, key in enumerate(COVARIANCE)]
        cells += [
            _cells(f"{TAGS}{i}", tags.spots[rows], tags.spots[rows] != UNTAGGED)
            for i, tags in enumerate(tracks.tag_sets)
        ]
        ends = self._outlines(rows)
        return "".join(f"<Spot{''.join(row)}" for row in zip(*cells, ends, strict=True))

    def _required(self, key: str, default: Any, rows: I64, written: set[str]) -> list[Cells]:
        """A column that TrackMate needs on every spot: the feature of this key where defined, else the default."""
        values = default
        if key in written:
            feature = dict(self.spot_keys)[key]
            known = np.ones(len(rows), dtype=bool) if feature.defined is None else feature.defined[rows]
            values = np.where(known, feature.values[rows], default)
        return [_cells(key, values)]

    def _outlines(self, rows: I64) -> Cells:
        """How each spot element ends: with its outline as text, or at once."""
        if "roi" not in self.columns:
            return [" />\n"] * len(rows)
        ends = []
        for text in self.columns["roi"][rows].tolist():
            points = len(text.split()) // 2 if text is not None else 0
            ends.append(f' ROI_N_POINTS="{points}">{text}</Spot>\n' if points > 2 else " />\n")
        return ends

    def _edges_and_tracks(self) -> Iterator[str]:
        tracks = self.tracks
        table = track_table(tracks, self.columns, self.names.get("track_names", {}))
        ids = self.ids[tracks.links]
        cells = [_cells("SPOT_SOURCE_ID", ids[:, 0]), _cells("SPOT_TARGET_ID", ids[:, 1])]
        every = np.arange(tracks.n_links)
        cells += [_feature_cells(key, feature, every) for key, feature in self.link_keys]
        cells += [_cells(f"{TAGS}{i}", s.links, s.links != UNTAGGED) for i, s in enumerate(tracks.tag_sets)]
        lines = [f"<Edge{''.join(row)} />\n" for row in zip(*cells, strict=True)]
        heads = [_cells(key, values) for key, values in table.columns.items()]
        yield "<AllTracks>\n"
        for name, head, links in zip(table.names, zip(*heads, strict=True), table.links, strict=True):
            yield f"<Track name={_quoted(name)}{''.join(head)}>\n{''.join([lines[i] for i in links])}</Track>\n"
        yield "</AllTracks>\n<FilteredTracks>\n"
        yield "".join(f'<TrackID TRACK_ID="{i}" />\n' for i in table.columns["TRACK_ID"][table.shown].tolist())
        yield "</FilteredTracks>\n"


def _keys(features: list[Feature], taken: set[str] | frozenset[str]) -> list[tuple[str, Feature]]:
    used, keys = {*taken, "name"}, []
    for feature in features:
        key = xml_key(feature, used)
        used.add(key)
        keys.append((key, feature))
    return keys


def _cells(key: str, values: npt.NDArray[Any], shown: npt.NDArray[np.bool_] | None = None) -> Cells:
    """One attribute a row, in Java's spelling of numbers; empty where it is not shown."""
    texts: Cells = list(map(_spelling(values), values.tolist()))
    if shown is None or shown.all():
        return [f' {key}="{text}"' for text in texts]
    return [f' {key}="{text}"' if see else "" for text, see in zip(texts, shown.tolist(), strict=True)]


def _spelling(values: npt.NDArray[Any]) -> Callable[[Any], str]:
    if values.dtype.kind in "iub" or np.isfinite(values).all():
        return repr
    return _java_number


def _java_number(value: float) -> str:
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text := repr(value), text)


def _feature_cells(key: str, feature: Feature, rows: I64) -> Cells:
    return _cells(key, feature.values[rows], None if feature.defined is None else feature.defined[rows])


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
    return NOT_XML.sub("\ufffd", text)


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))
