"""Reading TrackMate and MaMuT XML: one pass over the file, columns of numbers, no element kept."""

from __future__ import annotations

import json
import logging
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from lxml import etree

from bdv_io._axes import covariance_from_upper_xyz, reverse_axes
from bdv_io.errors import FormatError, MissingDataError
from bdv_io.tags import Feature, TagSet
from bdv_io.trackmate.declarations import COVARIANCE, OWN_SPOT_ATTRIBUTES, TAGS, Declaration, tags_of_legend
from bdv_io.tracks import LABEL_DTYPE, Carried, Tracks

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["KEPT", "TRACK_COLUMNS", "elements", "is_trackmate", "read_trackmate"]

log = logging.getLogger(__name__)

HARDENED: dict[str, Any] = {"resolve_entities": False, "no_network": True, "load_dtd": False}
KEPT = ("Log", "Settings", "GUIState", "DisplaySettings")
TRACK_COLUMNS = ("track_id", "track_shown")
GROUPS = {"SpotFeatures": "spot", "EdgeFeatures": "link", "TrackFeatures": "track"}


class _Nameless:
    """A file without its name: lxml stumbles over names that the locale cannot spell."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


def is_trackmate(path: str | os.PathLike[str]) -> bool:
    """Whether a file is TrackMate or MaMuT XML: its root element is ``TrackMate``. False where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            _, root = next(iter(etree.iterparse(_Nameless(file), events=("start",), **HARDENED)))
    except (etree.XMLSyntaxError, OSError, StopIteration):
        return False
    return bool(root.tag == "TrackMate")


def read_trackmate(path: str | os.PathLike[str], *, visible_only: bool = False) -> Tracks:
    """Read spots, links, features and tracks of a TrackMate or MaMuT XML file.

    Spots become spheres of their radius, or ellipsoids where Howdah wrote the file. Rows are in order of the file. A
    name that is only ``ID`` and the number is no label. Features have TrackMate's keys as names; declared whole numbers
    are int64. Links run forward in time. Outlines (ROIs), track ids and names, the log, settings and display state are
    carried, so that :func:`write_trackmate` puts them back; other track features are not kept, as they follow from
    the spots. ``attributes["image"]`` is the path of the image.

    Args:
        path: The XML file.
        visible_only: Leave out spots that a filter hides (VISIBILITY 0) and spots of tracks that a filter hides.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is not well-formed, not of this format, has a DTD, or lacks what a spot needs.
    """
    file = Path(path)
    content = _Content(file)
    for event, element in elements(file):
        content.take(event, element)
    return content.tracks(visible_only)


def elements(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (event, element) for the elements that matter, start and end, without entities, DTD and network.

    Raises:
        MissingDataError: There is no such file.
        FormatError: The file is not well-formed, has a DTD, or its root is not ``TrackMate``.
    """
    if not path.is_file():
        raise MissingDataError(f"Reading the TrackMate file {path} failed: there is no such file.")
    try:
        with path.open("rb") as file:
            parser = etree.iterparse(_Nameless(file), events=("start", "end"), **HARDENED)
            for number, (event, element) in enumerate(parser):
                if not number:
                    _check_root(element, path)
                yield event, element
    except etree.XMLSyntaxError as error:
        raise FormatError(
            f"Reading the TrackMate file {path} failed: it is not well-formed XML, perhaps cut off ({error})."
        ) from error


def _check_root(root: Any, path: Path) -> None:
    if root.getroottree().docinfo.internalDTD is not None:
        raise FormatError(f"Reading {path} was refused: it declares a DTD, which TrackMate never writes.")
    if root.tag != "TrackMate":
        raise FormatError(
            f"Reading {path} failed: its root element is '{root.tag}'; a TrackMate or MaMuT file has 'TrackMate'."
        )


class _Columns:
    """Numbers by attribute: a compact column each, NaN where an element lacks the attribute."""

    def __init__(self, what: str, file: Path) -> None:
        self.what, self.file = what, file
        self.rows = 0
        self.values: dict[str, array[float]] = {}
        self.gaps: dict[str, list[int]] = {}
        self.names: list[str | None] = []

    def append(self, items: Iterable[tuple[str, str]]) -> None:
        row, name = self.rows, None
        for key, text in items:
            if key == "name":
                name = text
                continue
            column = self.values.get(key)
            if column is None:
                column = self.values[key] = array("d")
                self.gaps[key] = []
            if len(column) < row:
                self._fill(key, row)
            try:
                column.append(float(text))
            except ValueError:
                raise FormatError(
                    f"Reading {self.file} failed: attribute {key} of {self.what} number {row + 1} is '{text}'; expected a number."
                ) from None
        self.names.append(name)
        self.rows += 1

    def _fill(self, key: str, rows: int) -> None:
        missing = range(len(self.values[key]), rows)
        self.gaps[key].extend(missing)
        self.values[key].extend([float("nan")] * len(missing))

    def needed(self, key: str) -> F64:
        """The column of an attribute that every element must have, as finite numbers."""
        values = self.optional(key, np.nan)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise FormatError(
                f"Reading {self.file} failed: {self.what} number {bad[0] + 1} has no finite {key}, and {len(bad)} in all lack it."
            )
        return values

    def whole(self, key: str) -> I64:
        """A needed column of whole numbers; ``1.0`` counts as one."""
        values = self.needed(key)
        bad = np.flatnonzero(values != np.floor(values))
        if len(bad):
            raise FormatError(
                f"Reading {self.file} failed: {key} of {self.what} number {bad[0] + 1} is {values[bad[0]]}; expected a whole number."
            )
        return values.astype(np.int64)

    def optional(self, key: str, default: float) -> F64:
        """The column of an attribute, ``default`` where an element lacks it."""
        if key not in self.values:
            return np.full(self.rows, default)
        self._fill(key, self.rows)
        values = np.array(self.values[key], dtype=np.float64)
        values[self.gaps[key]] = default
        return values

    def feature(self, declared: Declaration, target: Any) -> Feature:
        """The feature of a declared attribute; whole numbers where the declaration says so and the values are."""
        values = self.optional(declared.key, np.nan)
        defined = np.ones(self.rows, dtype=bool)
        defined[self.gaps.get(declared.key, range(self.rows))] = False
        known = values[defined]
        if declared.isint and np.isfinite(known).all() and (known == np.floor(known)).all():
            values = np.where(defined, values, 0).astype(np.int64)
        return Feature(
            declared.key,
            "",
            values,
            target,
            dimension=declared.dimension,
            defined=None if defined.all() else defined,
        )


class _Content:
    """What one pass over the file collects."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.spots, self.edges = _Columns("spot", file), _Columns("edge", file)
        self.outlines: dict[int, str] = {}
        self.declared: dict[str, dict[str, Declaration]] = {target: {} for target in GROUPS.values()}
        self.edge_tracks: list[int] = []
        self.track_names: dict[int, str] = {}
        self.shown: set[int] = set()
        self.kept: dict[str, bytes] = {}
        self.root: dict[str, str] = {}
        self.model: dict[str, str] = {}
        self.image: dict[str, str] = {}
        self.track = -1
        self.has_model = self.has_filtered = False

    def take(self, event: str, element: Any) -> None:
        tag = element.tag
        if event == "start":
            if tag == "Track":
                self._start_track(element)
            elif tag == "Model":
                self.has_model, self.model = True, dict(element.attrib)
            elif tag == "TrackMate":
                self.root = dict(element.attrib)
            return
        if tag == "Spot":
            self._spot(element)
        elif tag == "Edge":
            self.edges.append(element.items())
            self.edge_tracks.append(self.track)
            element.clear()
        elif tag in ("SpotsInFrame", "Track"):
            element.clear()
        elif tag == "FeatureDeclarations":
            self._declarations(element)
        elif tag == "FilteredTracks":
            self.has_filtered = True
            self.shown = {_integer(child.get("TRACK_ID"), -1) for child in element}
        elif tag in KEPT and element.getparent().tag == "TrackMate":
            self.kept[tag] = etree.tostring(element, encoding="utf-8", with_tail=False)
            image = element.find("ImageData")
            self.image = dict(image.attrib) if image is not None else self.image
            element.clear()

    def tracks(self, visible_only: bool) -> Tracks:
        if not self.has_model:
            raise FormatError(f"Reading {self.file} failed: it has no Model element, so no spots and tracks.")
        spots = self.spots
        ids = spots.whole("ID") if spots.rows else np.empty(0, np.int64)
        if len(np.unique(ids)) < len(ids):
            raise FormatError(f"Reading {self.file} failed: {len(ids) - len(np.unique(ids))} spots share their ID.")
        links, kept, track_of = self._links(ids)
        built = Tracks.build(
            spots.whole("FRAME"),
            reverse_axes(np.stack([spots.needed(f"POSITION_{axis}") for axis in "XYZ"], axis=-1)),
            covariance=self._covariance(),
            links=links,
            label=self._labels(ids),
            quality=spots.optional("QUALITY", np.nan),
            id=ids,
            features=(*self._features("spot", None), *self._features("link", kept)),
            tag_sets=self._tag_sets(kept),
            space_unit=self.model.get("spatialunits", "pixel"),
            time_unit=self.model.get("timeunits", "frame"),
            interval=self._interval(),
            attributes=self._attributes(),
            carried=self._carried(track_of, len(links)),
        ).validate()
        if not visible_only:
            return built
        shown = (built.carried.spots["track_shown"] != 0) & (spots.optional("VISIBILITY", 1) != 0)
        return built.select(shown)

    def _start_track(self, element: Any) -> None:
        self.track = _integer(element.get("TRACK_ID"), -1)
        if element.get("name"):
            self.track_names[self.track] = element.get("name")

    def _spot(self, element: Any) -> None:
        if element.get("ROI_N_POINTS") and element.text and element.text.strip():
            self.outlines[self.spots.rows] = element.text.strip()
        self.spots.append(element.items())
        element.clear()

    def _declarations(self, element: Any) -> None:
        for group in element:
            target = GROUPS.get(group.tag)
            for item in group if target else ():
                key = item.get("feature", "")
                name = item.get("name", key)
                self.declared[target or ""][key] = Declaration(
                    key, name, item.get("shortname", name), item.get("dimension", "NONE"), item.get("isint") == "true"
                )

    def _labels(self, ids: I64) -> Any:
        names = [None if name == f"ID{i}" else name for name, i in zip(self.spots.names, ids.tolist(), strict=True)]
        return np.array(names, dtype=LABEL_DTYPE)

    def _covariance(self) -> F64:
        """Spheres, or the ellipsoids that Howdah stored, in the size that RADIUS says: a person may have changed it."""
        radius = self.spots.optional("RADIUS", np.nan)
        unknown = ~(radius > 0)
        if unknown.any():
            known = float(np.median(radius[~unknown])) if not unknown.all() else 1.0
            log.warning("%s: %d spots have no positive RADIUS; they get %g.", self.file, unknown.sum(), known)
            radius = np.where(unknown, known, radius)
        covariance = radius[:, None, None] ** 2 * np.eye(3)
        if not all(key in self.spots.values for key in COVARIANCE):
            return covariance
        upper = np.stack([self.spots.optional(key, np.nan) for key in COVARIANCE], axis=-1)
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

    def _links(self, ids: I64) -> tuple[I64, I64, dict[int, int]]:
        """Links as rows, which edges of the file they are, and the track of each linked spot."""
        if not self.edges.rows:
            return np.empty((0, 2), np.int64), np.empty(0, np.int64), {}
        ends = np.stack([self.edges.whole("SPOT_SOURCE_ID"), self.edges.whole("SPOT_TARGET_ID")], axis=1)
        order = np.argsort(ids)
        place = np.searchsorted(ids, ends, sorter=order).clip(max=max(len(ids) - 1, 0))
        rows = order[place] if len(ids) else np.zeros_like(ends)
        there = (ids[rows] == ends).all(axis=1) if len(ids) else np.zeros(len(ends), dtype=bool)
        frames = self.spots.whole("FRAME")[rows] if len(ids) else np.zeros_like(ends)
        rows = np.where((frames[:, 0] > frames[:, 1])[:, None], rows[:, ::-1], rows)
        apart = frames[:, 0] != frames[:, 1]
        first = np.zeros(len(rows), dtype=bool)
        first[np.unique(rows, axis=0, return_index=True)[1]] = True
        for bad, why in (
            (~there, "name a spot that is not in the file"),
            (there & ~apart, "join two spots of one frame"),
            (there & apart & ~first, "occur more than once"),
        ):
            if bad.any():
                log.warning("%s: %d of %d edges %s; they are left out.", self.file, bad.sum(), len(rows), why)
        kept = np.flatnonzero(there & apart & first)
        tracks = np.array(self.edge_tracks, dtype=np.int64)[kept]
        track_of = dict(zip(rows[kept].ravel().tolist(), np.repeat(tracks, 2).tolist(), strict=True))
        return rows[kept], kept, track_of

    def _features(self, target: Any, kept: I64 | None) -> list[Feature]:
        columns = self.edges if target == "link" else self.spots
        own = {"SPOT_SOURCE_ID", "SPOT_TARGET_ID"} if target == "link" else OWN_SPOT_ATTRIBUTES | set(COVARIANCE)
        found = []
        for key in columns.values:
            if key in own or key.startswith(TAGS):
                continue
            feature = columns.feature(self.declared[target].get(key, Declaration(key, key, key)), target)
            found.append(feature if kept is None else feature.take(kept, kept))
        return found

    def _tag_sets(self, kept: I64) -> tuple[TagSet, ...]:
        sets = []
        for key in sorted({*self.declared["spot"], *self.declared["link"]}):
            if not key.startswith(TAGS):
                continue
            said = self.declared["spot"].get(key) or self.declared["link"][key]
            tags = tags_of_legend(said.name, said.shortname)
            spots = self._tag_column(self.spots, key, len(tags))
            sets.append(TagSet(said.shortname, tags, spots, self._tag_column(self.edges, key, len(tags))[kept]))
        return tuple(sets)

    def _tag_column(self, columns: _Columns, key: str, n_tags: int) -> Any:
        values = columns.optional(key, -1)
        good = (values >= -1) & (values < n_tags) & (values == np.floor(values))
        if not good.all():
            log.warning("%s: %d values of %s name no tag; they are left out.", self.file, (~good).sum(), key)
        return np.where(good, values, -1).astype(np.int32)

    def _carried(self, track_of: dict[int, int], n_links: int) -> Carried:
        n = self.spots.rows
        track = np.full(n, -1, dtype=np.int64)
        track[list(track_of)] = list(track_of.values())
        hidden = (track >= 0) & ~np.isin(track, list(self.shown)) if self.has_filtered else np.zeros(n, dtype=bool)
        columns: dict[str, Any] = dict(zip(TRACK_COLUMNS, (track, (~hidden).astype(np.int8)), strict=True))
        if self.outlines:
            outline = np.full(n, None, dtype=LABEL_DTYPE)
            outline[list(self.outlines)] = np.array(list(self.outlines.values()), dtype=LABEL_DTYPE)
            columns["roi"] = outline
        names = {
            target: {key: [said.name, said.shortname] for key, said in declared.items()}
            for target, declared in self.declared.items()
        }
        notes = {"feature_names": names, "track_names": {str(k): v for k, v in self.track_names.items()}}
        entries = {
            **self.kept,
            "names.json": json.dumps(notes).encode(),
            "version": self.root.get("version", "").encode(),
        }
        return Carried("trackmate", entries, columns, {}, n, n_links)

    def _interval(self) -> float | None:
        try:
            interval = float(self.image.get("timeinterval", "nan"))
        except ValueError:
            return None
        return interval if interval > 0 and np.isfinite(interval) else None

    def _attributes(self) -> dict[str, str]:
        name = self.image.get("filename", "")
        if not name:
            return {}
        folder = self.image.get("folder", "")
        beside = self.file.parent / name
        named = Path(folder) / name if folder else beside
        return {"image": str(beside if not named.is_file() and beside.is_file() else named)}


def _integer(text: str | None, default: int) -> int:
    try:
        return int(float(text)) if text is not None else default
    except ValueError:
        return default
