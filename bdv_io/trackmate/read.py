"""Reading TrackMate and MaMuT XML into columns."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io._axes import covariance_from_upper_xyz, reverse_axes
from bdv_io.errors import FormatError
from bdv_io.tags import Feature, TagSet
from bdv_io.trackmate.columns import INNER, Columns
from bdv_io.trackmate.declarations import (
    COVARIANCE,
    INTERVAL,
    OWN_SPOT_ATTRIBUTES,
    TAGS,
    Declaration,
    tags_of_legend,
    unit_of,
)
from bdv_io.trackmate.document import Document, read_document
from bdv_io.trackmate.rois import read_outlines
from bdv_io.trackmate.track_table import track_marks
from bdv_io.tracks import LABEL_DTYPE, Carried, Tracks, spheres

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["TRACK_COLUMNS", "read_trackmate"]

log = logging.getLogger(__name__)

TRACK_COLUMNS = ("track_id", "track_shown")
LEAST_RADIUS, MOST_RADIUS = 1e-100, 1e100  # beyond, its square and volume are no numbers
OWN_MODEL = frozenset({"spatialunits", "timeunits"})


def read_trackmate(path: str | os.PathLike[str], *, visible_only: bool = False, lenient: bool = False) -> Tracks:
    """Read spots, links, features, outlines and tracks of a TrackMate or MaMuT XML file.

    Spots become spheres of their radius, or ellipsoids where Howdah wrote the file. Rows are in order of the file. A
    name that is only ``ID`` and the number is no label. Features have TrackMate's keys as names; declared whole numbers
    are int64. Links run forward in time. ROIs are outlines in the plane of their spot. Track ids, names and features, the
    log, settings, display state, and whatever else stands there are carried, so that :func:`write_trackmate` puts them
    back. ``attributes["image"]`` is the path of the image.

    Args:
        path: The XML file.
        visible_only: Leave out spots that a filter hides (VISIBILITY 0) and spots of tracks that a filter hides.
        lenient: Let pass what :func:`bdv_io.repair.mended` mends: no or a second ID, no place, no frame.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is not well-formed, not of this format, has a DTD, or lacks what a spot needs.
    """
    document = read_document(Path(path))
    if document.model is None:
        raise FormatError(f"Reading {path} failed: it has no Model element, so no spots and tracks.")
    spots = document.spots
    spots.lenient = document.edges.lenient = lenient
    ids = spots.whole("ID") if spots.rows else np.empty(0, np.int64)
    n_unique = len(np.unique(ids))
    if n_unique < len(ids) and not lenient:
        raise FormatError(
            f"Reading {path} failed: {len(ids) - n_unique} spots share their ID. `howdah convert --repair` numbers them anew."
        )
    links, kept = _links(document, ids)
    centre = reverse_axes(np.stack([spots.needed(f"POSITION_{axis}") for axis in "XYZ"], axis=-1))
    texts = spots.texts(INNER) if INNER in spots.parts else None
    built = Tracks.build(
        spots.whole("FRAME"),
        centre,
        covariance=_covariance(document),
        links=links,
        label=_labels(spots, ids),
        quality=spots.optional("QUALITY", np.nan),
        id=ids,
        features=(*_features(document, "spot", None), *_features(document, "link", kept)),
        tag_sets=_tag_sets(document, kept),
        outlines=read_outlines(texts, spots.optional("ROI_N_POINTS", 0), centre, file=Path(path)),
        space_unit=_units(document)[0],
        time_unit=_units(document)[1],
        interval=_interval(document),
        attributes=_attributes(document),
        carried=_carried(document, links, kept, texts),
    )
    built = built if lenient else built.validate()
    built = _with_tracks(built, document)
    if not visible_only:
        return built
    shown = (built.carried.spots["track_shown"] != 0) & (spots.optional("VISIBILITY", 1) != 0)
    return built.select(shown)


def _labels(spots: Columns, ids: I64) -> Any:
    names = spots.texts("name").tolist()
    return np.array([None if n == f"ID{i}" else n for n, i in zip(names, ids.tolist(), strict=True)], dtype=LABEL_DTYPE)


def _covariance(document: Document) -> F64:
    """Spheres, or the ellipsoids that Howdah stored, in the size that RADIUS says: a person may have changed it."""
    spots = document.spots
    radius = spots.optional("RADIUS", np.nan)
    unknown = ~((radius > LEAST_RADIUS) & (radius < MOST_RADIUS))
    if unknown.any():
        known = float(np.median(radius[~unknown])) if not unknown.all() else 1.0
        log.warning("%s: %d spots have no positive RADIUS; they get %g.", document.file, unknown.sum(), known)
        radius = np.where(unknown, known, radius)
    covariance = spheres(radius, len(radius))
    if not all(key in spots.parts for key in COVARIANCE):
        return covariance
    upper = np.stack([spots.optional(key, np.nan) for key in COVARIANCE], axis=-1)
    stored = covariance_from_upper_xyz(upper)
    usable = np.isfinite(upper).all(axis=1)
    mean = np.full(len(radius), np.nan)
    mean[usable] = np.linalg.det(stored[usable]).clip(0) ** (1 / 6)
    same = np.isclose(mean, radius, rtol=1e-9, atol=0)
    usable &= mean > 0
    covariance[usable] = stored[usable]
    resized = usable & ~same
    covariance[resized] *= ((radius[resized] / mean[resized]) ** 2)[:, None, None]
    return covariance


def _links(document: Document, ids: I64) -> tuple[I64, I64]:
    """Links as rows, and which edges of the file they are."""
    edges, n = document.edges, len(ids)
    if not edges.rows:
        return np.empty((0, 2), np.int64), np.empty(0, np.int64)
    ends = np.stack([edges.whole("SPOT_SOURCE_ID"), edges.whole("SPOT_TARGET_ID")], axis=1)
    order = np.argsort(ids)
    rows = order[np.searchsorted(ids, ends, sorter=order).clip(max=max(n - 1, 0))] if n else np.zeros_like(ends)
    there = (ids[rows] == ends).all(axis=1) if n else np.zeros(len(ends), dtype=bool)
    frames = document.spots.whole("FRAME")[rows] if n else np.zeros_like(ends)
    rows = np.where((frames[:, 0] > frames[:, 1])[:, None], rows[:, ::-1], rows)
    apart = frames[:, 0] != frames[:, 1]
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(rows[:, 0] * n + rows[:, 1], return_index=True)[1]] = True
    for bad, why in (
        (~there, "name a spot that is not in the file"),
        (there & ~apart, "join two spots of one frame"),
        (there & apart & ~first, "occur more than once"),
    ):
        if bad.any():
            log.warning("%s: %d of %d edges %s; they are left out.", document.file, bad.sum(), len(rows), why)
    kept = np.flatnonzero(there & apart & first)
    return rows[kept], kept


def _features(document: Document, target: Any, kept: I64 | None) -> list[Feature]:
    columns = document.edges if target == "link" else document.spots
    own = {"SPOT_SOURCE_ID", "SPOT_TARGET_ID"} if target == "link" else OWN_SPOT_ATTRIBUTES | set(COVARIANCE)
    found = []
    for key in list(columns.parts):
        if key in own or key.startswith(TAGS) or key in ("name", INNER) or columns.is_text(key):
            continue
        feature = columns.feature(document.declared[target].get(key, Declaration(key, key, key)), target)
        unit = unit_of(feature.dimension, *_units(document))
        found.append(replace(feature if kept is None else feature.take(kept, kept), units=unit))
    return found


def _units(document: Document) -> tuple[str, str]:
    model = document.model or {}
    return model.get("spatialunits", "pixel"), model.get("timeunits", "frame")


def _tag_sets(document: Document, kept: I64) -> tuple[TagSet, ...]:
    declared, sets = document.declared, []
    for key in sorted({*declared["spot"], *declared["link"]}, key=lambda key: (len(key), key)):
        if not key.startswith(TAGS):
            continue
        said = declared["spot"].get(key) or declared["link"][key]
        tags = tags_of_legend(said.name, said.shortname)
        spots = _tag_column(document.spots, key, len(tags))
        sets.append(TagSet(said.shortname, tags, spots, _tag_column(document.edges, key, len(tags))[kept]))
    return tuple(sets)


def _tag_column(columns: Columns, key: str, n_tags: int) -> Any:
    values = columns.optional(key, -1)
    good = (values >= -1) & (values < n_tags) & (values == np.floor(values))
    if not good.all():
        log.warning("%s: %d values of %s name no tag; they are left out.", columns.file, (~good).sum(), key)
    return np.where(good, values, -1).astype(np.int32)


# ---- what is carried -----------------------------------------------------------------------------------------------


def _carried(document: Document, links: I64, kept: I64, texts: Any) -> Carried:
    n = document.spots.rows
    numbers = np.array([_integer(track.get("TRACK_ID"), -1) for track in document.tracks] + [-1], dtype=np.int64)
    track = np.full(n, -1, dtype=np.int64)
    of_link = numbers[np.array(document.edge_tracks, dtype=np.int64)[kept]]
    track[links[:, 0]] = of_link
    track[links[:, 1]] = of_link
    hidden = np.zeros(n, dtype=bool)
    if document.shown is not None:
        hidden = (track >= 0) & ~np.isin(track, [_integer(text, -1) for text in document.shown])
    columns: dict[str, Any] = dict(zip(TRACK_COLUMNS, (track, (~hidden).astype(np.int8)), strict=True))
    if texts is not None:
        columns["roi"] = texts
    columns |= {
        f"@{key}": document.spots.texts(key) for key in document.spots.parts if _is_unknown(document.spots, key)
    }
    edge_texts = {
        f"@{key}": document.edges.texts(key)[kept] for key in document.edges.parts if _is_unknown(document.edges, key)
    }
    notes = {
        "feature_names": {
            target: {key: [said.name, said.shortname] for key, said in declared.items()}
            for target, declared in document.declared.items()
        },
        "only_declared": {
            target: [list(said) for key, said in document.declared[target].items() if key not in columns_of.parts]
            for target, columns_of in (("spot", document.spots), ("link", document.edges))
        },
        "track_features": [list(said) for said in document.declared["track"].values()],
        "track_names": {str(i): t["name"] for i, t in zip(numbers, document.tracks, strict=False) if t.get("name")},
        "root": {key: text for key, text in document.root.items() if key not in ("version", INTERVAL)},
        "model": {key: text for key, text in (document.model or {}).items() if key not in OWN_MODEL},
    }
    entries = {
        **document.kept,
        "names.json": json.dumps(notes).encode(),
        "version": document.root.get("version", "").encode(),
    }
    return Carried("trackmate", entries, columns, edge_texts, n, len(links))


def _is_unknown(columns: Columns, key: str) -> bool:
    """Whether an attribute holds texts and is nothing that the annotation model has a place for."""
    return key not in ("name", INNER) and columns.is_text(key)


def _with_tracks(tracks: Tracks, document: Document) -> Tracks:
    """Carry what the file says of each track, with a mark of the spots and links that it said this of."""
    if not any(len(track) > 2 for track in document.tracks):
        return tracks
    ids, marks = track_marks(tracks, tracks.carried.spots)
    known = {
        track["TRACK_ID"]: {key: text for key, text in track.items() if key not in ("name", "TRACK_ID")}
        for track in document.tracks
        if "TRACK_ID" in track
    }
    said = {
        str(i): [mark, known[str(i)]] for i, mark in zip(ids.tolist(), marks.tolist(), strict=True) if str(i) in known
    }
    entries = {**tracks.carried.entries, "tracks.json": json.dumps(said).encode()}
    return replace(tracks, carried=replace(tracks.carried, entries=entries))


def _interval(document: Document) -> float | None:
    try:
        interval = float(document.image.get("timeinterval", document.root.get(INTERVAL, "nan")))
    except ValueError:
        return None
    return interval if interval > 0 and np.isfinite(interval) else None


def _attributes(document: Document) -> dict[str, str]:
    name = document.image.get("filename", "")
    if not name:
        return {}
    folder = document.image.get("folder", "")
    beside = document.file.parent / name
    named = document.file.parent / folder / name  # a relative folder is relative to the file
    try:
        elsewhere = not named.is_file() and beside.is_file()
    except (OSError, ValueError):
        elsewhere = False
    return {"image": str(beside if elsewhere else named)}


def _integer(text: str | None, default: int) -> int:
    try:
        number = int(float(text)) if text is not None else default
    except (ValueError, OverflowError):
        return default
    return number if abs(number) < 2**62 else default
