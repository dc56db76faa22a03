"""Parquet tables for pandas, polars, R and DuckDB: one of spots, one of links. Nothing is lost in them.

Columns are named as in :mod:`bdv_io.csv_table`, but have types: whole numbers stay whole, what is not given is null, NaN stays NaN. Tags
are texts (dictionary-encoded). Outlines are four columns of lists a spot: ``outline_z`` and ``outline_vertices`` (one number a
ring), ``outline_y`` and ``outline_x`` (one a vertex, ring after ring). The schema's metadata has under ``howdah`` a JSON text with units,
interval, tags with colours, the names of features, and what was carried.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import BdvIoError, FormatError, MissingDataError, MissingExtraError
from bdv_io.ids import rows_of_ids
from bdv_io.outlines import Outlines
from bdv_io.safe_write import replacing_together
from bdv_io.tags import UNTAGGED, Feature, Tag, TagSet
from bdv_io.tracks import LABEL_DTYPE, Carried, Tracks, spheres

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Column = tuple[str, Any]

__all__ = ["is_parquet", "lost_in_parquet", "parquet_files", "read_parquet", "write_parquet"]

log = logging.getLogger(__name__)

KEY = b"howdah"
MAGIC = b"PAR1"
BIG = 1 << 30  # bytes in memory; tables that claim more are looked at
MOST_SQUEEZED = 10_000  # bytes in memory for one on the disk
CELLS = {"zz": (0, 0), "zy": (0, 1), "zx": (0, 2), "yy": (1, 1), "yx": (1, 2), "xx": (2, 2)}
LOWER = {"yz": (1, 0), "xz": (2, 0), "xy": (2, 1)}
TAG, FEATURE, CARRIED = "tag: ", "feature: ", "carried: "
RINGS = ("outline_z", "outline_vertices", "outline_y", "outline_x")


def _arrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError(
            "Parquet tables were asked for, but pyarrow is not installed. Install it with: pip install 'howdah[tables]'"
        ) from error


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a Parquet table of spots. Without pyarrow, whether it is Parquet at all."""
    try:
        with Path(path).open("rb") as file:
            if file.read(4) != MAGIC:
                return False
    except OSError:
        return False
    try:
        arrow, parquet = _arrow()
    except MissingExtraError:
        return True
    try:
        names = parquet.read_schema(path).names
    except (arrow.ArrowException, OSError, ValueError):
        return False
    return "frame" in names and all(any(name.startswith(f"{axis}_") for name in names) for axis in "zyx")


def lost_in_parquet(tracks: Tracks) -> list[str]:
    """Return sentences about what of an annotation these tables cannot hold: only carried columns of more than one dimension."""
    columns = [*tracks.carried.spots.items(), *tracks.carried.links.items()]
    left = [name for name, column in columns if not _is_plain(column)]
    return [f"Carried columns that are no plain numbers or texts ({', '.join(left)}) are left out."] if left else []


def write_parquet(path: str | os.PathLike[str], tracks: Tracks) -> tuple[Path, Path]:
    """Write the table of spots and the table of links.

    Args:
        path: ``folder/name`` (an ending ``.parquet`` is dropped) for ``name-spots.parquet`` and ``name-links.parquet``; or a
            folder that exists, for ``spots.parquet`` and ``links.parquet`` in it.
        tracks: The annotation.

    Returns:
        Paths of the two tables. What stood there before is kept as ``name~1~``.

    Raises:
        ValidationError: The annotation is not consistent.
        WriteError: The disk is full or the folder is missing; the old files are intact.
        MissingExtraError: pyarrow is not installed.
    """
    arrow, parquet = _arrow()
    tracks.validate(odd_is_fine=True)
    paths, said = parquet_files(Path(path)), _said(tracks)
    columns = (_spots(arrow, tracks, said), _links(arrow, tracks, said))

    def verify(written: Sequence[Path]) -> None:
        for file in written:
            parquet.read_schema(file)

    with replacing_together(paths, verify=verify) as temporaries:
        for temporary, named in zip(temporaries, columns, strict=True):
            names, values = zip(*named, strict=True)
            table = arrow.table(dict(zip(names, values, strict=True)))
            table = table.replace_schema_metadata({KEY: json.dumps(said).encode()})
            parquet.write_table(table, temporary, compression="zstd")
    return paths


def read_parquet(path: str | os.PathLike[str], *, lenient: bool = False) -> Tracks:
    """Read tables that :func:`write_parquet` wrote, or others with these column names.

    A table of spots needs ``frame``, ``z_...``, ``y_...``, ``x_...`` (the unit follows the underscore), and a covariance or
    ``radius_...``. Without ``id`` spots are numbered from 0; without a table of links there are none.

    Args:
        path: As given to :func:`write_parquet`, or the table of spots itself.
        lenient: Let pass what :func:`bdv_io.repair.mended` mends: unknown ends of links, ids twice.

    Raises:
        MissingDataError: There is no table of spots.
        FormatError: The file is damaged, a column is missing or of the wrong type, or a link names an unknown spot.
        MissingExtraError: pyarrow is not installed.
    """
    arrow, parquet = _arrow()
    spot_path, link_path = parquet_files(Path(path))
    spot_path = spot_path if spot_path.is_file() or not Path(path).is_file() else Path(path)
    try:
        spots = _Table(spot_path, parquet)
        links = _Table(link_path, parquet) if link_path.is_file() and link_path != spot_path else None
        if links is None:
            log.warning(
                "%s: there is no table of links %s beside it; the spots are not linked.", spot_path, link_path.name
            )
        tracks = _tracks(spots, links, lenient=lenient)
        return tracks if lenient else tracks.validate(odd_is_fine=True)
    except BdvIoError:
        raise
    except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FormatError(
            f"Reading the table {spot_path} failed: it is damaged, or no table of spots ({reason})."
        ) from error


def parquet_files(path: Path) -> tuple[Path, Path]:
    """Return the table of spots and the table of links that a name stands for, see :func:`write_parquet`."""
    if path.is_dir():
        return path / "spots.parquet", path / "links.parquet"
    if path.name == "spots.parquet":
        return path, path.with_name("links.parquet")
    stem = path.name.removesuffix(".parquet").removesuffix("-spots")
    return path.with_name(f"{stem}-spots.parquet"), path.with_name(f"{stem}-links.parquet")


# ---- writing -------------------------------------------------------------------------------------------------------


def _said(tracks: Tracks) -> dict[str, Any]:
    carried = tracks.carried
    return {
        "version": 1,
        "space_unit": tracks.space_unit,
        "time_unit": tracks.time_unit,
        "interval": tracks.interval,
        "attributes": dict(tracks.attributes),
        "tag_sets": [{"name": s.name, "tags": [[t.name, t.colour] for t in s.tags]} for s in tracks.tag_sets],
        "features": [],
        "carried": {
            "format": carried.format,
            "n_spots": carried.n_spots,
            "n_links": carried.n_links,
            "entries": {name: base64.b64encode(entry).decode() for name, entry in carried.entries.items()},
        },
    }


def _spots(arrow: Any, tracks: Tracks, said: dict[str, Any]) -> Iterator[Column]:
    unit, covariance = tracks.space_unit, tracks.covariance
    yield "id", tracks.id
    yield "label", arrow.array(tracks.label.tolist(), arrow.string())
    yield "track", tracks.tracks()[1]
    yield "frame", tracks.t
    if tracks.interval is not None:
        yield f"time_{tracks.time_unit}", tracks.t * tracks.interval
    for i, axis in enumerate("zyx"):
        yield f"{axis}_{unit}", np.ascontiguousarray(tracks.centre[:, i])
    yield f"radius_{unit}", np.abs(np.linalg.det(covariance)) ** (1 / 6)
    skew = (covariance != covariance.transpose(0, 2, 1)).any()
    for axes, (i, j) in {**CELLS, **(LOWER if skew else {})}.items():
        yield f"cov_{axes}_{unit}2", np.ascontiguousarray(covariance[:, i, j])
    yield "quality", tracks.quality
    taken = {"id", "label", "track", "frame", "quality"}
    yield from _tags(arrow, tracks, said, links=False)
    yield from _features(arrow, [f for f in tracks.features if f.target != "link"], said, taken)
    yield from _carried(arrow, tracks.carried.spots)
    if len(tracks.outlines):
        yield from _outlines(arrow, tracks)


def _links(arrow: Any, tracks: Tracks, said: dict[str, Any]) -> Iterator[Column]:
    source, target = tracks.links.T
    yield "source", tracks.id[source]
    yield "target", tracks.id[target]
    yield "source_frame", tracks.t[source]
    yield "target_frame", tracks.t[target]
    yield from _tags(arrow, tracks, said, links=True)
    yield from _features(arrow, [f for f in tracks.features if f.target == "link"], said, set())
    yield from _carried(arrow, tracks.carried.links)


def _tags(arrow: Any, tracks: Tracks, said: dict[str, Any], *, links: bool) -> Iterator[Column]:
    for tags, entry in zip(tracks.tag_sets, said["tag_sets"], strict=True):
        codes = tags.links if links else tags.spots
        names = [tag.name for tag in tags.tags]
        numbers = arrow.array(codes, mask=codes == UNTAGGED)
        entry["column"] = f"{TAG}{tags.name}"
        if len(set(names)) < len(names):  # texts would not tell them apart
            yield entry["column"], numbers
        else:
            yield entry["column"], arrow.DictionaryArray.from_arrays(numbers, arrow.array(names, arrow.string()))


def _features(arrow: Any, features: Sequence[Feature], said: dict[str, Any], taken: set[str]) -> Iterator[Column]:
    for feature in features:
        projection = f" | {feature.projection}" if feature.projection else ""
        units = f" [{feature.units}]" if feature.units else ""
        wanted = column = f"{FEATURE}{feature.name}{projection}{units}"
        number = 2
        while column in taken:
            column, number = f"{wanted} {number}", number + 1
        taken.add(column)
        names = [column, feature.name, feature.projection, feature.target, feature.units, feature.dimension]
        said["features"].append(names)
        yield column, arrow.array(feature.values, mask=None if feature.defined is None else ~feature.defined)


def _carried(arrow: Any, columns: Mapping[str, Any]) -> Iterator[Column]:
    for name, column in columns.items():
        if _is_plain(column):
            texts = column.dtype == LABEL_DTYPE
            yield f"{CARRIED}{name}", arrow.array(column.tolist(), arrow.string()) if texts else arrow.array(column)


def _is_plain(column: npt.NDArray[Any]) -> bool:
    return column.ndim == 1 and (column.dtype == LABEL_DTYPE or column.dtype.kind in "iufb")


def _outlines(arrow: Any, tracks: Tracks) -> Iterator[Column]:
    rings = tracks.outlines
    per_spot = np.searchsorted(rings.spot, np.arange(tracks.n_spots + 1))
    vertices = rings.start[per_spot]
    for name, offsets, values in zip(
        RINGS, (per_spot, per_spot, vertices, vertices), (rings.z, rings.n_vertices, *rings.vertices.T), strict=True
    ):
        yield (
            name,
            arrow.LargeListArray.from_arrays(
                arrow.array(offsets, arrow.int64()), arrow.array(np.ascontiguousarray(values))
            ),
        )


# ---- reading -------------------------------------------------------------------------------------------------------


class _Table:
    """A Parquet file: its columns, and what its metadata says."""

    def __init__(self, path: Path, parquet: Any) -> None:
        self.path = path
        if not path.is_file():
            raise MissingDataError(f"Reading the table {path} failed: there is no such file.")
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
            claimed = max(sum(groups), 8 * file.metadata.num_rows)
            if claimed > BIG and claimed > MOST_SQUEEZED * path.stat().st_size:
                raise FormatError(
                    f"Reading the table {path} was refused: it claims {file.metadata.num_rows} rows and {claimed / 1e9:.0f} GB, "
                    f"but holds {path.stat().st_size} bytes."
                )
            self.table = file.read()
        said = json.loads((self.table.schema.metadata or {}).get(KEY, b"{}"))
        self.said: dict[str, Any] = said if isinstance(said, dict) and said.get("version") == 1 else {}
        self.names: list[str] = self.table.column_names
        if len(set(self.names)) < len(self.names):
            raise FormatError(f"Reading the table {path} failed: two columns have the same name.")

    @property
    def n_rows(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> Any:
        """One column as one Arrow array."""
        if name not in self.names:
            raise FormatError(
                f"Reading the table {self.path} failed: it has no column '{name}'; found: {', '.join(self.names)[:300]}."
            )
        column = self.table.column(name)
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers; null is NaN in it."""
        values: npt.NDArray[Any] = self.column(name).to_numpy(zero_copy_only=False)
        if values.dtype.kind not in "fiub":
            raise FormatError(
                f"Reading the table {self.path} failed: column '{name}' holds no numbers, but {values.dtype}."
            )
        return values

    def whole(self, name: str) -> I64:
        values = self.numbers(name)
        if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
            raise FormatError(
                f"Reading the table {self.path} failed: column '{name}' needs a whole number in every row."
            )
        return values.astype(np.int64)

    def texts(self, name: str) -> Any:
        column = self.column(name)
        if str(column.type) in ("string", "large_string"):
            return np.array(column.to_numpy(zero_copy_only=False), dtype=LABEL_DTYPE)
        texts = column.to_pylist()
        return np.array([None if text is None else str(text) for text in texts], dtype=LABEL_DTYPE)

    def masked(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """A column in its own type, 0 or NaN where it is null, and where it is not null (None: everywhere)."""
        column = self.column(name)
        if not column.null_count:
            return self.numbers(name), None
        defined = ~column.is_null().to_numpy(zero_copy_only=False)
        floating = column.type.to_pandas_dtype()(0).dtype.kind == "f"
        return column.fill_null(float("nan") if floating else 0).to_numpy(zero_copy_only=False), defined


def _tracks(spots: _Table, links: _Table | None, *, lenient: bool) -> Tracks:
    said = spots.said
    unit = said["space_unit"] if said else _unit(spots)
    n = spots.n_rows
    ids = spots.whole("id") if "id" in spots.names else np.arange(n)
    rows = _rows_of_ids(ids, links, lenient=lenient) if links is not None else np.empty((0, 2), np.int64)
    every = [(spots, "spot"), *([(links, "link")] if links is not None else [])]
    frame = spots.whole("frame")
    interval, time_unit = (said["interval"], said["time_unit"]) if said else _time(spots, frame)
    return Tracks.build(
        frame,
        np.stack([spots.numbers(f"{axis}_{unit}") for axis in "zyx"], axis=-1).reshape(-1, 3),
        covariance=_covariance(spots, unit),
        links=rows,
        label=spots.texts("label") if "label" in spots.names else None,
        quality=spots.numbers("quality") if "quality" in spots.names else None,
        id=ids,
        tag_sets=_tag_sets(spots, links, len(rows)),
        features=tuple(feature for table, target in every for feature in _read_features(table, target)),
        outlines=_read_outlines(spots),
        space_unit=unit,
        time_unit=time_unit,
        interval=interval,
        attributes=said.get("attributes", {}),
        carried=_read_carried(spots, links),
    )


def _unit(spots: _Table) -> str:
    found = [name for name in spots.names if name.startswith("z_")]
    if len(found) != 1:
        raise FormatError(
            f"Reading the table {spots.path} failed: it needs one column 'z_' with the unit after the underscore, such as "
            f"'z_um'; found: {', '.join(found or spots.names)[:300]}."
        )
    return found[0].removeprefix("z_")


def _time(spots: _Table, frame: I64) -> tuple[float | None, str]:
    name = next((name for name in spots.names if name.startswith("time_")), None)
    later = np.flatnonzero(frame > 0)
    if name is None or not len(later):
        return None, name.removeprefix("time_") if name else "frame"
    row = later[np.argmin(frame[later])]
    return float(spots.numbers(name)[row] / frame[row]), name.removeprefix("time_")


def _covariance(spots: _Table, unit: str) -> F64:
    if f"cov_zz_{unit}2" not in spots.names:
        radius = spots.numbers(f"radius_{unit}").astype(np.float64)
        return spheres(radius, len(radius))
    covariance = np.empty((spots.n_rows, 3, 3))
    for axes, (i, j) in CELLS.items():
        covariance[:, i, j] = covariance[:, j, i] = spots.numbers(f"cov_{axes}_{unit}2")
    for axes, (i, j) in LOWER.items():
        if f"cov_{axes}_{unit}2" in spots.names:
            covariance[:, i, j] = spots.numbers(f"cov_{axes}_{unit}2")
    return covariance


def _rows_of_ids(ids: I64, table: _Table, *, lenient: bool) -> I64:
    ends = np.stack([table.whole("source"), table.whole("target")], axis=-1).reshape(-1, 2)
    rows, known = rows_of_ids(ids, ends)
    if not lenient and not known.all():
        first = ends[~known][0]
        raise FormatError(
            f"Reading the table {table.path} failed: {(~known).sum()} links name a spot that the table of spots does not have, "
            f"the first joins {first[0]} and {first[1]}. `howdah convert --repair` leaves them out."
        )
    return rows


def _tag_sets(spots: _Table, links: _Table | None, n_links: int) -> tuple[TagSet, ...]:
    plain = [{"name": n.removeprefix(TAG), "column": n, "tags": None} for n in spots.names if n.startswith(TAG)]
    sets = []
    for said in spots.said.get("tag_sets", plain):
        name, known = said["column"], [Tag(str(t), int(c)) for t, c in said["tags"] or ()]
        places = {tag.name: i for i, tag in enumerate(known)}
        columns = []
        for table, n in ((spots, spots.n_rows), (links, n_links)):
            if table is None or name not in table.names:
                columns.append(np.full(n, UNTAGGED, dtype=np.int32))
                continue
            codes = _codes(table, name, known, places)
            columns.append(codes)
        sets.append(TagSet(said["name"], tuple(known), columns[0], columns[1]))
    return tuple(sets)


def _codes(table: _Table, name: str, known: list[Tag], places: dict[str, int]) -> npt.NDArray[np.int32]:
    """Places of tags; ``known`` and ``places`` grow by texts that the metadata does not name."""
    column = table.column(name)
    if str(column.type) in ("string", "large_string"):
        column = column.dictionary_encode()
    if not hasattr(column, "dictionary"):
        numbers, defined = table.masked(name)
        return np.where(True if defined is None else defined, numbers, UNTAGGED).astype(np.int32)
    texts = [str(text) for text in column.dictionary.to_pylist()]
    for text in texts:
        if text not in places:
            places[text] = len(known)
            known.append(Tag(text))
    place_of = np.array([*(places[text] for text in texts), UNTAGGED], dtype=np.int32)
    codes: npt.NDArray[np.int32] = place_of[column.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)]
    return codes


def _read_features(table: _Table, target: Any) -> Iterator[Feature]:
    told = {said[0]: said[1:] for said in table.said.get("features", ()) if (said[3] == "link") == (target == "link")}
    for column in table.names:
        if column.startswith(FEATURE):
            values, defined = table.masked(column)
            if values.dtype.kind not in "fiu":
                log.warning("%s: column '%s' holds no numbers; it is left out.", table.path, column)
                continue
            values = (
                values
                if values.dtype in (np.int32, np.int64)
                else values.astype("f8" if values.dtype.kind == "f" else "i8")
            )
            name, projection, of, units, dimension = told.get(
                column, (column.removeprefix(FEATURE), "", target, "", "NONE")
            )
            yield Feature(name, projection, values, of, units, dimension, defined)


def _read_outlines(spots: _Table) -> Outlines:
    if not all(name in spots.names for name in RINGS):
        return Outlines.empty()
    z, counts, y, x = (spots.column(name) for name in RINGS)
    per_spot = np.diff(z.offsets.to_numpy())
    n_vertices = counts.flatten().to_numpy(zero_copy_only=False)
    points = np.stack([axis.flatten().to_numpy(zero_copy_only=False) for axis in (y, x)], axis=-1)
    spot = np.repeat(np.arange(spots.n_rows), per_spot)
    return Outlines.build(spot, z.flatten().to_numpy(zero_copy_only=False), n_vertices=n_vertices, vertices=points)


def _read_carried(spots: _Table, links: _Table | None) -> Carried:
    said = spots.said.get("carried")
    if not said:
        return Carried()
    columns: list[dict[str, Any]] = [{}, {}]
    for place, table in enumerate((spots, links)):
        for name in table.names if table is not None else ():
            if table is not None and name.startswith(CARRIED):
                text = str(table.column(name).type) == "string"
                columns[place][name.removeprefix(CARRIED)] = table.texts(name) if text else table.numbers(name)
    entries = {name: base64.b64decode(text) for name, text in said["entries"].items()}
    return Carried(said["format"], entries, columns[0], columns[1], said["n_spots"], said["n_links"])
