"""Tables that TrackMate and Mastodon export, read as annotations.

TrackMate ("Export spots / edges to CSV"): the first line has the keys, and up to three more have names, short names and units in
brackets. Mastodon (its feature tables): three lines with feature, projection and units. A table of spots has no links;
they are read from the table of edges beside it: ``movie_edges.csv`` for ``movie_spots.csv``, ``movie-Link.csv`` for
``movie-Spot.csv``, or the only one in the folder that has ``edges`` in its name.
"""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io._axes import reverse_axes
from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import Hints
from bdv_io.tags import Feature
from bdv_io.tracks import LABEL_DTYPE, Carried, Tracks
from bdv_io.untrusted import bounded_lines, first_line, refuse_special

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Key = tuple[str, str]  # name and projection

__all__ = ["is_exported_csv", "read_exported_csv"]

log = logging.getLogger(__name__)

HEAD = 4
TRACKMATE = frozenset({"ID", "POSITION_X", "POSITION_Y", "POSITION_Z", "FRAME"})


class _Layout(NamedTuple):
    """Where a program puts what; each entry lists the spellings of its versions."""

    program: str
    position: tuple[tuple[Key, ...], ...]  # x, y, z
    frame: tuple[Key, ...]
    radius: tuple[Key, ...]
    label: Key
    id: Key
    ends: tuple[tuple[Key, ...], tuple[Key, ...]]  # source and target of a link
    names: tuple[tuple[str, str], ...]  # from the name of a table of spots to that of its links
    quality: tuple[Key, ...] = ()
    time: tuple[Key, ...] = ()
    track: tuple[Key, ...] = ()
    missing: str = ""


OF_TRACKMATE = _Layout(
    "TrackMate",
    tuple(((f"POSITION_{axis}", ""),) for axis in "XYZ"),
    (("FRAME", ""),),
    (("RADIUS", ""),),
    ("LABEL", ""),
    ("ID", ""),
    ((("SPOT_SOURCE_ID", ""),), (("SPOT_TARGET_ID", ""),)),
    (("spots", "edges"), ("Spots", "Edges"), ("spot", "edge"), ("Spot", "Edge")),
    quality=(("QUALITY", ""),),
    time=(("POSITION_T", ""),),
    track=(("TRACK_ID", ""),),
    missing="Export the whole table of spots.",
)
OF_MASTODON = _Layout(
    "Mastodon",
    tuple((("Spot position", axis), (f"Spot position {axis}", axis)) for axis in "XYZ"),
    (("Spot frame", ""), ("frame", "")),
    (("Spot radius", ""),),
    ("Label", ""),
    ("ID", ""),
    ((("Link target IDs", "Source spot id"),), (("Link target IDs", "Target spot id"),)),
    (("Spot", "Link"), ("spot", "link")),
    missing="Compute this feature in Mastodon, and export the table again.",
)


def is_exported_csv(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a table of spots as TrackMate or Mastodon export it, from its first line."""
    try:
        header = next(csv.reader([first_line(Path(path))]), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return _layout(header) is not None


def _layout(header: Sequence[str]) -> _Layout | None:
    if set(header) >= TRACKMATE:
        return OF_TRACKMATE
    mastodon = list(header[:2]) == ["Label", "ID"] and any(name.startswith("Spot position") for name in header)
    return OF_MASTODON if mastodon else None


def read_exported_csv(path: str | os.PathLike[str], *, hints: Hints | None = None) -> Tracks:
    """Read a table of spots that TrackMate or Mastodon exported, and the links from the table beside it.

    Spots are spheres of their radius. What else is a number is a feature with its units. A label that is only the number
    is none.

    Args:
        path: The table of spots.
        hints: ``unit`` of length for tables without a line of units; ``interval`` where no times are given.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is another table, a cell is no number, a column is missing, or the unit is not said.
    """
    table = _Table(Path(path))
    layout = _layout(table.header)
    if layout is None:
        raise FormatError(
            f"Reading {path} failed: its first line names neither TrackMate's columns (ID, POSITION_X, FRAME ...) nor "
            f"Mastodon's (Label, ID, Spot position ...); found: {', '.join(table.header[:6])[:300]}."
        )
    given = hints or Hints()
    ids, frame = table.whole((layout.id,), layout), table.whole(layout.frame, layout)
    centre = reverse_axes(np.stack([table.numbers(keys, layout) for keys in layout.position], axis=-1).reshape(-1, 3))
    links, edges, kept = _links(table.path, ids, frame, layout)
    used = {layout.label, layout.id, *layout.frame, *layout.radius, *layout.quality, *layout.track}
    used |= {key for keys in layout.position for key in keys} | set(layout.time)
    features = table.features("spot", used)
    if edges is not None:
        linked = edges.features("link", {layout.label, layout.id, *layout.track, *layout.ends[0], *layout.ends[1]})
        features += [feature.take(kept, kept) for feature in linked]
    interval, time_unit = _time(table, layout, frame, given)
    return Tracks.build(
        frame,
        centre,
        radius=table.numbers(layout.radius, layout),
        links=links,
        label=_labels(table, layout, ids),
        quality=table.numbers(layout.quality, layout) if table.find(layout.quality) else None,
        id=ids,
        features=tuple(features),
        space_unit=_unit(table, layout, given),
        time_unit=time_unit,
        interval=interval,
        carried=_carried(table, layout, len(links)),
    ).validate()


class _Table:
    """A table as texts by column, below its lines of names and units."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            refuse_special(path)
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [row for row in csv.reader(bounded_lines(file, path)) if row]
        except FileNotFoundError:
            raise MissingDataError(f"Reading the table {path} failed: there is no such file.") from None
        except (csv.Error, UnicodeDecodeError) as error:
            raise FormatError(f"Reading the table {path} failed: it is no CSV in UTF-8 ({error}).") from error
        self.header = rows[0] if rows else []
        n_head = next((i for i, row in enumerate(rows[1:HEAD], 1) if _is_data(self.header, row)), min(HEAD, len(rows)))
        self.has_units = n_head > 1
        body = rows[n_head:]
        wrong = next((i for i, row in enumerate(body) if len(row) != len(self.header)), None)
        if wrong is not None:
            raise FormatError(
                f"Reading the table {path} failed: line {wrong + n_head + 1} has {len(body[wrong])} cells; expected "
                f"{len(self.header)}, as the first line has."
            )
        heads = [[*row, *[""] * len(self.header)] for row in rows[:n_head]]
        columns: Sequence[Sequence[str]] = list(zip(*body, strict=True)) or [()] * len(self.header)
        trackmate = ("ID" in self.header and "Label" not in self.header) or "SPOT_SOURCE_ID" in self.header
        self.n_rows = len(body)
        self.texts: dict[Key, Sequence[str]] = {}
        self.units: dict[Key, str] = {}
        for i, (name, column) in enumerate(zip(self.header, columns, strict=True)):
            projection = heads[1][i].strip() if n_head > 1 and not trackmate else ""
            key, number = (name, projection), 2
            while key in self.texts:
                key, number = (name, f"{projection} {number}".strip()), number + 1
            self.texts[key] = column
            self.units[key] = heads[-1][i].strip().removeprefix("(").removesuffix(")") if n_head > 2 else ""

    def find(self, keys: Sequence[Key]) -> Key | None:
        """The first of these columns that the table has."""
        return next((key for key in keys if key in self.texts), None)

    def numbers(self, keys: Sequence[Key], layout: _Layout) -> F64:
        """A needed column as float64, NaN for empty cells."""
        key = self.find(keys)
        if key is None:
            raise FormatError(
                f"Reading the table {self.path} failed: it has no column '{' '.join(keys[0]).strip()}'. {layout.missing}"
            )
        values = _numbers(self.texts[key])
        if values is None:
            raise FormatError(f"Reading the table {self.path} failed: column '{key[0]}' has a cell that is no number.")
        return values

    def whole(self, keys: Sequence[Key], layout: _Layout) -> I64:
        """A needed column of whole numbers without empty cells."""
        values = self.numbers(keys, layout)
        if not (np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2.0**53)).all():
            raise FormatError(
                f"Reading the table {self.path} failed: '{keys[0][0]}' needs a whole number in every row."
            )
        return values.astype(np.int64)

    def features(self, target: Any, used: set[Key]) -> list[Feature]:
        """Every other column that is numbers; the others are named in the log."""
        found, texts = [], []
        for key, column in self.texts.items():
            if key in used or not key[0]:
                continue
            values = _numbers(column)
            if values is None:
                texts.append(key[0])
                continue
            empty = np.array([not cell.strip() for cell in column], dtype=bool)
            if len(empty) and empty.all():
                continue
            defined = ~empty if empty.any() else None
            found.append(Feature(key[0], key[1], values, target, units=self.units[key], defined=defined))
        if texts:
            log.warning("%s: columns that are no numbers are left out: %s.", self.path, ", ".join(texts))
        return found


def _is_data(header: Sequence[str], row: Sequence[str]) -> bool:
    """Whether a line is no more of the header: it has a number where the number of the spot or of its end stands."""
    place = next((header.index(name) for name in ("ID", "SPOT_SOURCE_ID") if name in header), 0)
    return len(row) > place and re.fullmatch(r"\s*-?\d+(\.0*)?\s*", row[place]) is not None


def _numbers(column: Sequence[str]) -> F64 | None:
    try:
        return np.array([float(cell) if cell.strip() else np.nan for cell in column], dtype=np.float64)
    except ValueError:
        return None


def _labels(table: _Table, layout: _Layout, ids: I64) -> Any:
    texts = table.texts.get(layout.label, [""] * len(ids))
    plain = [text in ("", f"ID{i}" if layout is OF_TRACKMATE else str(i)) for text, i in zip(texts, ids, strict=True)]
    return np.array([None if bare else text for text, bare in zip(texts, plain, strict=True)], dtype=LABEL_DTYPE)


def _unit(table: _Table, layout: _Layout, hints: Hints) -> str:
    said = table.units.get(table.find(layout.position[0]) or ("", ""), "")
    if hints.unit and said and hints.unit != said:
        log.warning("%s: the unit is %s as asked for, though the table says %s.", table.path, hints.unit, said)
    if not (hints.unit or said):
        raise FormatError(
            f"Reading the table {table.path} failed: it does not say the unit of length. Give it, for example --unit µm."
        )
    return hints.unit or said


def _time(table: _Table, layout: _Layout, frame: I64, hints: Hints) -> tuple[float | None, str]:
    if hints.interval is not None:
        return hints.interval
    key, later = table.find(layout.time), np.flatnonzero(frame > 0)
    unit = table.units.get(key, "") if key else ""
    if key is None or not unit or not len(later):
        return None, unit or "frame"
    step = table.numbers((key,), layout)[later] / frame[later]
    same = np.isfinite(step).all() and step[0] > 0 and np.allclose(step, step[0], rtol=1e-6)
    return (float(step[np.argmin(frame[later])]) if same else None), unit


def _carried(table: _Table, layout: _Layout, n_links: int) -> Carried:
    key = table.find(layout.track)
    values = _numbers(table.texts[key]) if key else None
    if values is None:
        return Carried()
    track = np.where(np.abs(values) < 2.0**53, values, -1).astype(np.int64)
    shown = np.ones(len(track), dtype=np.int8)
    return Carried("trackmate", {}, {"track_id": track, "track_shown": shown}, {}, len(track), n_links)


def _links(path: Path, ids: I64, frame: I64, layout: _Layout) -> tuple[I64, _Table | None, I64]:
    """Links as rows, forward in time, the table that they come from, and which of its rows they are."""
    beside = _beside(path, layout)
    if beside is None:
        log.warning(
            "%s: a table of spots has no links, and there is no table of links beside it; spots are not linked.", path
        )
        return np.empty((0, 2), np.int64), None, np.empty(0, np.int64)
    table = _Table(beside)
    ends = np.stack([table.whole(keys, layout) for keys in layout.ends], axis=-1).reshape(-1, 2)
    order = np.argsort(ids, kind="stable")
    rows = order[np.searchsorted(ids, ends, sorter=order).clip(max=max(len(ids) - 1, 0))] if len(ids) else ends
    known = (ids[rows] == ends).all(axis=1) if len(ids) else np.zeros(len(ends), dtype=bool)
    when = frame[rows] if len(ids) else np.zeros_like(ends)
    kept = np.flatnonzero(known & (when[:, 0] != when[:, 1]))
    if len(kept) < len(ends):
        log.warning("%s: %d of %d links are left out: their spots are not in the table, or in one frame.",
                    beside, len(ends) - len(kept), len(ends))  # fmt: skip
    rows = np.where((when[:, 0] > when[:, 1])[:, None], rows[:, ::-1], rows)[kept]
    first = np.sort(np.unique(rows[:, 0] * max(len(ids), 1) + rows[:, 1], return_index=True)[1])
    return rows[first], table, kept[first]


def _beside(path: Path, layout: _Layout) -> Path | None:
    for spots, links in layout.names:
        head, found, tail = path.name.rpartition(spots)
        if found and (other := path.with_name(head + links + tail)).is_file():
            return other
    folder = path.parent.glob("*.csv") if layout is OF_TRACKMATE else ()
    named = [other for other in folder if "edges" in other.name.lower()]
    return named[0] if len(named) == 1 else None
