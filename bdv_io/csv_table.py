"""Tables for spreadsheets, R and pandas: one CSV of spots, one of links; UTF-8, comma, one header line.

Spots (``<name>-spots.csv``), one row a spot; ``um`` stands for the unit of length of the annotation:

    id                          number of the spot, unique; links refer to it
    label                       text; empty if there is none
    track                       number of the track (connected component), from 0
    frame                       index of the time point, from 0
    time_s                      frame times interval, in the annotation's unit; only if the interval is known
    z_um y_um x_um              centre, world coordinates
    radius_um                   geometric mean of the half-axes
    radius_a_um ... radius_c_um half-axes of the ellipsoid, the longest first
    cov_zz_um2 ... cov_xx_um2   upper triangle of the covariance: zz zy zx yy yx xx
    quality                     confidence of the detection; empty if unknown
    parents, children           number of incoming and outgoing links
    tag: <set>                  name of the tag of each tag set; empty if untagged
    feature: <name> | <projection> [<unit>]   declared features; empty if undefined
    outline                     JSON, only if there are outlines: [[z, [[y, x], ...]], ...], one entry a ring; empty for none

Links (``<name>-links.csv``), one row a link: ``source`` and ``target`` (ids of spots), ``source_frame``,
``target_frame``, ``displacement_um``, then tags and features as above. Numbers have all their digits, so reading back
gives the same; NaN is an empty cell, infinity is ``inf``. What the tables cannot hold :func:`lost_in_csv` says; for types,
colours of tags and all else there is :mod:`bdv_io.parquet_table`.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.ids import rows_of_ids
from bdv_io.outlines import Outlines
from bdv_io.safe_write import replacing_together
from bdv_io.tags import UNTAGGED, Feature, Tag, TagSet
from bdv_io.tracks import LABEL_DTYPE, Tracks, spheres
from bdv_io.untrusted import bounded_lines, first_line, refuse_special

F64 = npt.NDArray[np.float64]
Column = tuple[str, list[Any]]
Columns = Iterator[tuple[str, Callable[[slice], list[Any]]]]

__all__ = ["csv_files", "is_csv", "lost_in_csv", "read_csv", "write_csv"]

log = logging.getLogger(__name__)

BLOCK = 50_000
MOST_TEXT = 1 << 28  # characters in a cell
UPPER = {"zz": (0, 0), "zy": (0, 1), "zx": (0, 2), "yy": (1, 1), "yx": (1, 2), "xx": (2, 2)}
TAG, FEATURE, OUTLINE = "tag: ", "feature: ", "outline"
DEFAULT_COLOUR = Tag("").colour
WHOLE = frozenset({"id", "source", "target"})  # beyond the whole numbers that float64 has
TEXTS = re.compile(rf"label$|{OUTLINE}$|{TAG}")
NAMED = re.compile(r"feature: (?P<name>.*?)(?: \| (?P<projection>.*?))?(?: \[(?P<units>.*)\])?", re.DOTALL)


def is_csv(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a table of spots: its header line names ``frame``, and centres ``z_``, ``y_``, ``x_``."""
    try:
        header = next(csv.reader([first_line(Path(path))]), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return "frame" in header and all(any(name.startswith(f"{axis}_") for name in header) for axis in "zyx")


def lost_in_csv(tracks: Tracks) -> list[str]:
    """Return sentences about what of an annotation CSV tables cannot hold; empty if they hold all."""
    lost, carried = [], tracks.carried
    features, tags = tracks.features, [tag for tags in tracks.tag_sets for tag in tags.tags]
    nan = [f for f in features if f.values.dtype.kind == "f" and _has_known_nan(f)]
    unused = [
        t.name
        for s in tracks.tag_sets
        for i, t in enumerate(s.tags)
        if not ((s.spots == i).any() or (s.links == i).any())
    ]
    later = tracks.interval is not None and not (tracks.t > 0).any()
    for what, found in (
        ("Colours of tags are left out", [tag.name for tag in tags if tag.colour != DEFAULT_COLOUR]),
        ("Tags that nothing carries are left out", unused),
        ("Kinds of quantity of features are left out", [f.name for f in features if f.dimension != "NONE"]),
        ("Whole numbers of features become decimal ones", [f.name for f in features if f.values.dtype.kind in "iu"]),
        ("NaN of features is read as undefined", [f.name for f in nan]),
        ("Features of branches become those of spots", [f.name for f in features if f.target == "branch"]),
        (
            "Labels that are empty texts are read as none",
            [str(tracks.id[row]) for row, text in enumerate(tracks.label.tolist()) if text == ""],
        ),
        ("The interval is lost, for no spot is later than frame 0", [str(tracks.interval)] if later else []),
        ("Facts about the source are left out", [n for n in tracks.attributes if n not in ("version", "image_stored")]),
        (f"What only a {carried.format} file holds is left out", [*carried.spots, *carried.links]),
    ):
        if found:
            lost.append(f"{what} ({', '.join(found[:3])}{' ...' if len(found) > 3 else ''}).")
    return [*lost, carried.alone] if carried.alone else lost


def _has_known_nan(feature: Feature) -> bool:
    known = feature.values if feature.defined is None else feature.values[feature.defined]
    return bool(np.isnan(known).any())


def write_csv(path: str | os.PathLike[str], tracks: Tracks) -> tuple[Path, Path]:
    """Write the table of spots and the table of links.

    Args:
        path: ``folder/name`` (an ending ``.csv`` is dropped) for ``name-spots.csv`` and ``name-links.csv``; or a folder
            that exists, for ``spots.csv`` and ``links.csv`` in it.
        tracks: The annotation.

    Returns:
        Paths of the two tables. What stood there before is kept as ``name~1~``.

    Raises:
        ValidationError: The annotation is not consistent.
        WriteError: The disk is full or the folder is missing; the old files are intact.
    """
    tracks.validate()
    spots, links = csv_files(Path(path))
    with replacing_together([spots, links]) as (spot_file, link_file):
        _write(spot_file, tracks.n_spots, _spot_columns(tracks))
        _write(link_file, tracks.n_links, _link_columns(tracks))
    return spots, links


def read_csv(path: str | os.PathLike[str], *, lenient: bool = False) -> Tracks:
    """Read tables that :func:`write_csv` wrote, or others with these column names.

    A table of spots needs ``frame``, ``z_...``, ``y_...``, ``x_...`` (the unit follows the underscore), and a covariance or
    ``radius_...``. Without ``id`` spots are numbered from 0; without a table of links there are none.

    Args:
        path: As given to :func:`write_csv`, or the table of spots itself.
        lenient: Let pass what :func:`bdv_io.repair.mended` mends: unknown ends of links, ids twice, no place, no frame.

    Raises:
        MissingDataError: There is no table of spots.
        FormatError: A column is missing, a cell is no number, a link names an unknown spot, or a tag is unclear.
    """
    spot_path, link_path = csv_files(Path(path))
    spots = _Table(spot_path)
    unit = spots.unit("z")
    n, frame = spots.n_rows, spots.numbers("frame")
    ids = spots.columns["id"] if "id" in spots.columns else np.arange(n)
    frame = np.where(np.isfinite(frame) & (np.abs(frame) < 2**31), np.floor(frame), -1) if lenient else frame
    _whole(frame, "frame", spot_path)
    links = np.empty((0, 2), np.int64)
    table = None
    if link_path.is_file():
        table = _Table(link_path)
        links = _rows_of_ids(ids, table, lenient=lenient)
    else:
        log.warning("%s: there is no table of links %s beside it; the spots are not linked.", spot_path, link_path.name)
    quality = spots.numbers("quality") if "quality" in spots.columns else None
    time_unit, interval = _time(spots, frame)
    features = [*_features(spots, "spot"), *(_features(table, "link") if table else [])]
    tracks = Tracks.build(
        frame,
        np.stack([spots.numbers(f"{axis}_{unit}") for axis in "zyx"], axis=-1).reshape(-1, 3),
        covariance=_covariance(spots, unit),
        links=links,
        label=spots.columns.get("label"),
        quality=quality,
        id=ids,
        tag_sets=_tag_sets(spots, table, len(links)),
        features=tuple(features),
        outlines=_read_outlines(spots),
        space_unit=unit,
        time_unit=time_unit,
        interval=interval,
    )
    return tracks if lenient else tracks.validate()


# ---- writing -------------------------------------------------------------------------------------------------------


def csv_files(path: Path) -> tuple[Path, Path]:
    """Return the table of spots and the table of links that a name stands for, see :func:`write_csv`."""
    if path.is_dir():
        return path / "spots.csv", path / "links.csv"
    if path.name == "spots.csv":
        return path, path.with_name("links.csv")
    stem = path.name.removesuffix(".csv").removesuffix("-spots")
    return path.with_name(f"{stem}-spots.csv"), path.with_name(f"{stem}-links.csv")


def _write(path: Path, n_rows: int, columns: Columns) -> None:
    names, cells = zip(*columns, strict=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, start + BLOCK)
            writer.writerows(zip(*(column(rows) for column in cells), strict=True))


def _spot_columns(tracks: Tracks) -> Columns:
    unit = tracks.space_unit
    _, track = tracks.tracks()
    yield "id", _plain(tracks.id)
    yield "label", lambda rows: list(tracks.label[rows])
    yield "track", _plain(track)
    yield "frame", _plain(tracks.t)
    if tracks.interval is not None:
        yield f"time_{tracks.time_unit}", _floats(tracks.t * tracks.interval)
    for i, axis in enumerate("zyx"):
        yield f"{axis}_{unit}", _floats(tracks.centre[:, i])
    half_axes = np.sqrt(np.linalg.eigvalsh(tracks.covariance))[:, ::-1]
    yield f"radius_{unit}", _floats(np.prod(half_axes, axis=1) ** (1 / 3))
    for i, name in enumerate("abc"):
        yield f"radius_{name}_{unit}", _floats(half_axes[:, i])
    for axes, (i, j) in UPPER.items():
        yield f"cov_{axes}_{unit}2", _floats(tracks.covariance[:, i, j])
    yield "quality", _floats(tracks.quality)
    yield "parents", _plain(tracks.n_parents())
    yield "children", _plain(tracks.n_children())
    yield from _tag_columns(tracks, links=False)
    yield from _feature_columns([f for f in tracks.features if f.target != "link"])
    if len(tracks.outlines):
        yield OUTLINE, lambda rows: [_outline(tracks.outlines, row) for row in range(tracks.n_spots)[rows]]


def _link_columns(tracks: Tracks) -> Columns:
    source, target = tracks.links.T
    yield "source", _plain(tracks.id[source])
    yield "target", _plain(tracks.id[target])
    yield "source_frame", _plain(tracks.t[source])
    yield "target_frame", _plain(tracks.t[target])
    away = np.linalg.norm(tracks.centre[target] - tracks.centre[source], axis=1)
    yield f"displacement_{tracks.space_unit}", _floats(away)
    yield from _tag_columns(tracks, links=True)
    yield from _feature_columns([f for f in tracks.features if f.target == "link"])


def _tag_columns(tracks: Tracks, *, links: bool) -> Columns:
    for tags in tracks.tag_sets:
        names = np.array([*(tag.name for tag in tags.tags), None], dtype=object)  # -1, untagged, is the last
        column = tags.links if links else tags.spots
        yield f"{TAG}{tags.name}", _plain(names[column])


def _feature_columns(features: Sequence[Feature]) -> Columns:
    for feature in features:
        projection = f" | {feature.projection}" if feature.projection else ""
        units = f" [{feature.units}]" if feature.units else ""
        yield f"{FEATURE}{feature.name}{projection}{units}", _floats(feature.values, feature.defined)


def _outline(outlines: Outlines, row: int) -> str | None:
    rings = outlines.of_spot(row)
    return json.dumps([[float(outlines.z[i]), outlines.ring(i).tolist()] for i in rings]) if rings else None


def _plain(values: npt.NDArray[Any]) -> Callable[[slice], list[Any]]:
    return lambda rows: list(values[rows].tolist())


def _floats(values: npt.NDArray[Any], defined: npt.NDArray[np.bool_] | None = None) -> Callable[[slice], list[Any]]:
    """Cells of a column of numbers; None, an empty cell, for NaN and where nothing is defined."""

    def cells(rows: slice) -> list[Any]:
        part = values[rows]
        empty = np.isnan(part) if part.dtype.kind == "f" else np.zeros(len(part), dtype=bool)
        if defined is not None:
            empty |= ~defined[rows]
        listed: list[Any] = part.tolist()
        for row in np.flatnonzero(empty).tolist():
            listed[row] = None
        return listed

    return cells


# ---- reading -------------------------------------------------------------------------------------------------------


class _Table:
    """A CSV file as columns: (N,) float64, NaN for an empty cell; texts for labels and tags."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_rows = 0
        limit = csv.field_size_limit(MOST_TEXT)  # an outline may be long
        try:
            refuse_special(path)
            with path.open(newline="", encoding="utf-8-sig") as file:
                self._read(csv.reader(bounded_lines(file, path), strict=True))
        except FileNotFoundError:
            raise MissingDataError(f"Reading the table {path} failed: there is no such file.") from None
        except (csv.Error, UnicodeDecodeError) as error:
            raise FormatError(f"Reading the table {path} failed: it is no CSV in UTF-8 ({error}).") from error
        finally:
            csv.field_size_limit(limit)

    def _read(self, reader: Iterator[list[str]]) -> None:
        self.names = next(reader, [])
        if len(set(self.names)) < len(self.names):
            raise FormatError(f"Reading the table {self.path} failed: two columns have the same name.")
        parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self.names}
        while rows := list(islice(reader, BLOCK)):
            if any(len(row) != len(self.names) for row in rows):
                line = next(i for i, row in enumerate(rows) if len(row) != len(self.names)) + self.n_rows + 2
                raise FormatError(
                    f"Reading the table {self.path} failed: row {line} does not have {len(self.names)} cells as the header has."
                )
            for name, cells in zip(self.names, zip(*rows, strict=True), strict=True):
                parts[name].append(self._column(name, cells))
            self.n_rows += len(rows)
        self.columns = {
            name: np.concatenate(blocks) if blocks else self._column(name, ()) for name, blocks in parts.items()
        }

    def _column(self, name: str, cells: Sequence[str]) -> npt.NDArray[Any]:
        if TEXTS.match(name):
            return np.array([cell or None for cell in cells], dtype=LABEL_DTYPE)
        try:
            if name in WHOLE:
                return np.array([int(cell) for cell in cells], dtype=np.int64)
            return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)
        except (ValueError, OverflowError) as error:
            raise FormatError(
                f"Reading the table {self.path} failed: column '{name}' has a cell that is no number ({error})."
            ) from None

    def numbers(self, name: str) -> F64:
        """A column that must be there."""
        if name not in self.columns:
            raise FormatError(
                f"Reading the table {self.path} failed: it has no column '{name}'; found: {', '.join(self.names)[:300]}."
            )
        column: F64 = self.columns[name]
        return column

    def unit(self, axis: str) -> str:
        """The unit that follows the name of an axis."""
        found = [name for name in self.names if name.startswith(f"{axis}_")]
        if len(found) != 1:
            raise FormatError(
                f"Reading the table {self.path} failed: it needs one column '{axis}_' with the unit after the underscore, "
                f"such as '{axis}_um'; found: {', '.join(found or self.names)[:300]}."
            )
        return found[0].removeprefix(f"{axis}_")


def _read_outlines(spots: _Table) -> Outlines:
    if OUTLINE not in spots.columns:
        return Outlines.empty()
    owners, planes, polygons = [], [], []
    for row, text in enumerate(spots.columns[OUTLINE].tolist()):
        try:
            for z, ring in json.loads(text) if text else ():
                planes.append(float(z))
                polygons.append(np.array(ring, dtype=np.float64).reshape(-1, 2))
                owners.append(row)
        except (ValueError, TypeError, RecursionError) as error:
            raise FormatError(
                f"Reading the table {spots.path} failed: the outline in row {row + 2} is not [[z, [[y, x], ...]], ...] ({error})."
            ) from None
    return Outlines.of_polygons(owners, polygons, planes)


def _whole(values: F64, name: str, path: Path) -> None:
    if not np.array_equal(values, np.floor(values)):
        raise FormatError(f"Reading the table {path} failed: column '{name}' needs a whole number in every row.")


def _covariance(spots: _Table, unit: str) -> F64:
    names = [f"cov_{axes}_{unit}2" for axes in UPPER]
    if not all(name in spots.columns for name in names):
        return spheres(spots.numbers(f"radius_{unit}"), spots.n_rows)
    covariance = np.empty((spots.n_rows, 3, 3))
    for name, (i, j) in zip(names, UPPER.values(), strict=True):
        covariance[:, i, j] = covariance[:, j, i] = spots.numbers(name)
    return covariance


def _rows_of_ids(ids: npt.NDArray[np.int64], table: _Table, *, lenient: bool) -> npt.NDArray[np.int64]:
    ends = np.stack([table.numbers("source"), table.numbers("target")], axis=-1).reshape(-1, 2)
    rows, known = rows_of_ids(ids, ends)
    if not lenient and not known.all():
        first = ends[~known][0]
        raise FormatError(
            f"Reading the table {table.path} failed: {(~known).sum()} links name a spot that the table of spots does not have, "
            f"the first joins {first[0]} and {first[1]}. `howdah convert --repair` leaves them out."
        )
    return rows


def _time(spots: _Table, frame: F64) -> tuple[str, float | None]:
    name = next((name for name in spots.names if name.startswith("time_")), None)
    later = np.flatnonzero(frame > 0)
    if name is None or not len(later):
        return (name.removeprefix("time_") if name else "frame"), None
    row = later[np.argmin(frame[later])]
    return name.removeprefix("time_"), float(spots.numbers(name)[row] / frame[row])


def _tag_sets(spots: _Table, links: _Table | None, n_links: int) -> tuple[TagSet, ...]:
    sets = []
    for name in (name for name in spots.names if name.startswith(TAG)):
        columns = [spots.columns[name], np.full(n_links, None, dtype=LABEL_DTYPE)]
        if links is not None and name in links.columns:
            columns[1] = links.columns[name]
        known = list(dict.fromkeys(tag for column in columns for tag in column.tolist() if tag is not None))
        place = {**{tag: i for i, tag in enumerate(known)}, None: UNTAGGED}
        places = [np.array([place[tag] for tag in column.tolist()], dtype=np.int32) for column in columns]
        sets.append(TagSet(name.removeprefix(TAG), tuple(Tag(tag) for tag in known), places[0], places[1]))
    return tuple(sets)


def _features(table: _Table, target: Any) -> list[Feature]:
    found = []
    for name in (name for name in table.names if name.startswith(FEATURE)):
        parts = NAMED.fullmatch(name)
        if parts is None:
            continue
        values = table.numbers(name)
        said = {key: text or "" for key, text in parts.groupdict().items()}
        missing = np.isnan(values)
        defined = ~missing if missing.any() else None
        found.append(Feature(said["name"], said["projection"], values, target, said["units"], defined=defined))
    return found
