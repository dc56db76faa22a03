"""Reading GEFF by the geff library, array by array."""

from __future__ import annotations

import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from geff.core_io._base_read import GeffReader

from bdv_io.errors import BdvIoError, FormatError, MissingDataError
from bdv_io.geff_graph.chunks import check_chunks
from bdv_io.geff_graph.names import AXES, EXTRA, GROUP, geff_unit
from bdv_io.geff_graph.shapes import covariances, polygons
from bdv_io.geff_graph.sidecar import Sidecar, carried_of, mark, outlines_of, read_sidecar
from bdv_io.ids import rows_of_ids
from bdv_io.image import Hints
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature, Tag, TagSet
from bdv_io.tracks import LABEL_DTYPE, Carried, Tracks

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

__all__ = ["is_geff", "read_geff"]

log = logging.getLogger(__name__)

MOST_METADATA = 64 << 20
BIG = 256 << 20  # bytes; arrays that claim more are looked at
MOST_SQUEEZED = 1000  # bytes in memory for one on the disk
ANY_TIME = (None, "", "frame", "frames")
# What the library, zarr and pydantic raise on damaged content; the latter two are ValueErrors where not named.
DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    OSError,
    AttributeError,
    IndexError,
    OverflowError,
    SystemError,
)


def is_geff(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a Zarr group whose attributes have ``geff``. False where it cannot be read."""
    folder = Path(path)
    for name, inner in ((".zattrs", None), ("zarr.json", "attributes")):
        try:
            file = folder / name
            if not file.is_file() or file.stat().st_size > MOST_METADATA:
                continue
            said = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if inner is not None and isinstance(said, dict):
            said = said.get(inner)
        if isinstance(said, dict) and isinstance(said.get("geff"), dict):
            return True
    return False


def read_geff(path: str | os.PathLike[str], *, hints: Hints | None = None, lenient: bool = False) -> Tracks:
    """Read a GEFF (Zarr v2 or v3): the group that has the attribute ``geff``.

    Centres are in the unit of the axes, after their scale and offset. Frames are the values of the time axis; where these
    are times, the interval must be given. A sphere or an ellipsoid gives the size; else one radius for all is taken, and
    said in the log. Properties that are numbers are features; others are carried, so that :func:`write_geff` puts them back.

    Args:
        path: The folder.
        hints: ``interval`` where the file has times instead of frames, ``unit`` where it has none.
        lenient: Let pass what :func:`bdv_io.repair.mended` mends: unknown ends of edges, numbers twice.

    Raises:
        MissingDataError: There is no such folder.
        FormatError: It is no GEFF or damaged, claims absurd sizes, or does not say what its axes are.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise MissingDataError(f"Reading the GEFF {folder} failed: there is no such folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of units that are not in its list
            return _Reader(folder, hints or Hints(), lenient=lenient).tracks()
    except BdvIoError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:300]
        raise FormatError(
            f"Reading the GEFF {folder} failed: it is damaged, or no GEFF ({type(error).__name__}: {reason})."
        ) from error


@dataclass(frozen=True)
class _Axes:
    """Where coordinates are: names of properties, and the way from their values to world units."""

    time: str
    space: list[str]  # y, x or z, y, x
    order: list[int]  # place of each of these among the space axes of the file
    scale: F64
    offset: F64
    unit: str | None
    time_unit: str | None
    interval: tuple[float, str] | None


class _Reader:
    def __init__(self, folder: Path, hints: Hints, *, lenient: bool) -> None:
        self.folder, self.hints, self.lenient = folder, hints, lenient
        check_chunks(folder)
        self.library = GeffReader(str(folder), validate=not lenient)
        self.metadata = self.library.metadata
        said = self.metadata.extra.get(EXTRA)
        self.own: dict[str, Any] = said if isinstance(said, dict) and said.get("version") == 1 else {}
        self.used: set[str] = set()

    def tracks(self) -> Tracks:
        library, polygon = self.library, self.metadata.polygon
        for array in (library.nodes, library.edges):
            self._look(array)
        library.read_node_props([name for name in library.node_prop_names if name != polygon])
        library.read_edge_props()
        for prop in (*library.node_props.values(), *library.edge_props.values()):
            for name in prop:
                self._look(prop[name])  # type: ignore[literal-required]
        graph = library.build()
        self.nodes, self.edges = graph["node_props"], graph["edge_props"]
        ids, ends = np.asarray(graph["node_ids"]), np.asarray(graph["edge_ids"]).reshape(-1, 2)
        side = self._sidecar(mark(ids, ends))
        axes = self._axes()
        t, interval, time_unit = self._frames(axes)
        centre = self._centres(axes)
        links, kept = self._links(ids, ends, t)
        carried = carried_of(side, self.own["carried"]) if side else None
        spot_id = side.arrays["id"] if side and "id" in side.arrays else _int64(ids, self.folder)
        label = self._label(side)
        quality = self._masked("quality") if self._is_number("quality") else None
        covariance = self._covariances(axes, len(ids))
        outlines = (outlines_of(side) if side else None) or self._polygons(axes, centre)
        self.used |= {axes.time, *axes.space, *self._own_tracks()}
        tag_sets, features = self._tag_sets(kept), self._features(kept)
        carried, more = self._foreign(carried, axes, kept)
        tracks = Tracks.build(
            t,
            centre,
            covariance=covariance,
            links=links,
            label=label,
            quality=quality,
            id=spot_id,
            tag_sets=tag_sets,
            features=(*features, *more),
            outlines=outlines,
            space_unit=self._unit(axes),
            time_unit=time_unit,
            interval=interval,
            carried=carried,
            attributes={str(k): str(v) for k, v in self.own.get("attributes", {}).items()},
        )
        return tracks if self.lenient else tracks.validate(odd_is_fine=True)

    def _look(self, array: Any) -> None:
        """Refuse an array that claims far more than is on the disk."""
        if array.nbytes > BIG and array.nbytes > MOST_SQUEEZED * max(array.nbytes_stored(), 1):
            raise FormatError(
                f"Reading the GEFF {self.folder} was refused: {array.path or 'an array'} claims the shape {array.shape}, "
                f"{array.nbytes / 1e9:.0f} GB, but holds {array.nbytes_stored()} bytes."
            )

    def _load(self, array: Any) -> Array:
        self._look(array)
        return np.asarray(array[...])

    def _own_tracks(self) -> list[str]:
        """Properties of lineages and tracklets that follow from the links, so that they need not be kept."""
        features = {said[1] for said in self.own.get("features", ())}
        return [name for name in (self.own.get("track_props") or {}).values() if name not in features]

    def _sidecar(self, found: str) -> Sidecar | None:
        if not self.own:
            return None
        if self.own.get("mark") != found or GROUP not in self.library.group:
            log.warning(
                "%s: another program has changed nodes or edges since Howdah wrote them; exact outlines, texts and what was "
                "carried are left out.", self.folder,
            )  # fmt: skip
            return None
        group = self.library.group[GROUP]
        if not isinstance(group, zarr.Group):
            raise FormatError(f"Reading the GEFF {self.folder} failed: '{GROUP}' is no group.")
        return read_sidecar(group, self.own["columns"], self._load)

    # ---- axes --------------------------------------------------------------------------------------------------

    def _axes(self) -> _Axes:
        declared = list(self.metadata.axes or ())
        if not declared:
            names = [name for name in AXES if name in self.nodes]
            if not {"t", "y", "x"} <= set(names):
                raise FormatError(
                    f"Reading the GEFF {self.folder} failed: it does not say what its axes are, and has no properties t, y and x; "
                    f"found: {', '.join(sorted(self.nodes))}."
                )
            log.warning(
                "%s: it does not say what its axes are; the properties %s are taken.", self.folder, ", ".join(names)
            )
            return _Axes("t", names[1:], list(range(len(names) - 1)), np.ones(len(names) - 1), np.zeros(len(names) - 1),
                         None, None, None)  # fmt: skip
        times = [a for a in declared if a.type == "time"] or [
            a for a in declared if a.name.lower() in ("t", "time", "frame")
        ]
        space = [a for a in declared if a.type == "space" or (a.type is None and a not in times)]
        if len(times) != 1 or len(space) not in (2, 3):
            raise FormatError(
                f"Reading the GEFF {self.folder} failed: it has {len(times)} axes of time and {len(space)} of space "
                f"({', '.join(a.name for a in declared)}); expected one, and two or three."
            )
        wanted = "zyx"[3 - len(space) :]
        last = [a.name.lower()[-1:] for a in space]
        if sorted(last) == sorted(wanted):
            order = [last.index(axis) for axis in wanted]
        else:
            order = list(range(len(space)))
            log.warning(
                "%s: the axes %s are taken as %s, in their order.",
                self.folder,
                ", ".join(a.name for a in space),
                wanted,
            )
        ordered, time = [space[i] for i in order], times[0]
        units = {a.scaled_unit if a.scale is not None and a.scaled_unit else a.unit for a in ordered}
        if len(units) > 1:
            raise FormatError(
                f"Reading the GEFF {self.folder} failed: its axes of space have different units ({', '.join(map(str, units))})."
            )
        scaled = time.scale is not None and time.scale > 0
        return _Axes(
            time.name,
            [a.name for a in ordered],
            order,
            np.array([1.0 if a.scale is None else a.scale for a in ordered]),
            np.array([0.0 if a.offset is None else a.offset for a in ordered]),
            units.pop(),
            time.unit,
            (float(time.scale), time.scaled_unit or "") if scaled and time.scale is not None else None,
        )

    def _frames(self, axes: _Axes) -> tuple[Array, float | None, str]:
        values = np.asarray(self.nodes[axes.time]["values"])
        hint = self.hints.interval
        interval, unit = hint or axes.interval or (None, "")
        if axes.time_unit not in ANY_TIME and axes.interval is None:
            if hint is None:
                raise FormatError(
                    f"Reading the GEFF {self.folder} failed: its axis '{axes.time}' has times in '{axes.time_unit}', not frames. "
                    "Give the time between frames, for example --interval 30s."
                )
            values = values / hint[0]
        whole = np.round(values.astype(np.float64))
        if not (np.abs(values - whole) < 1e-3).all():
            raise FormatError(
                f"Reading the GEFF {self.folder} failed: '{axes.time}' is no whole number of frames everywhere. Give the time "
                "between frames, for example --interval 30s."
            )
        own_unit = str(self.own.get("time_unit", ""))
        if hint is None and own_unit and (interval is None or geff_unit(own_unit) == unit):
            unit = own_unit
        return whole.astype(np.int64), interval, unit or "frame"

    def _centres(self, axes: _Axes) -> F64:
        values = [np.asarray(self.nodes[name]["values"], dtype=np.float64) for name in axes.space]
        places = np.stack(values, axis=-1) * axes.scale + axes.offset
        return places if len(values) == 3 else np.column_stack([np.zeros(len(places)), places])

    def _unit(self, axes: _Axes) -> str:
        own = str(self.own.get("space_unit", ""))
        if self.hints.unit:
            if axes.unit and geff_unit(self.hints.unit) != axes.unit:
                log.warning(
                    "%s: the unit is %s as asked for, though the file says %s.", self.folder, self.hints.unit, axes.unit
                )
            return self.hints.unit
        if own and geff_unit(own) == axes.unit:
            return own
        if not axes.unit:
            log.warning("%s: it does not say the unit of length; 'pixel' is taken. Give it with --unit.", self.folder)
        return axes.unit or "pixel"

    # ---- graph and shapes --------------------------------------------------------------------------------------

    def _links(self, ids: Array, ends: Array, t: Array) -> tuple[I64, I64]:
        order = np.argsort(ids, kind="stable")
        if len(ids) and (ids[order][1:] == ids[order][:-1]).any() and not self.lenient:
            raise FormatError(f"Reading the GEFF {self.folder} failed: nodes share their number.")
        if not len(ends):
            return np.empty((0, 2), np.int64), np.empty(0, np.int64)
        rows, known = rows_of_ids(ids, ends)
        unknown = ~known
        if unknown.any() and not self.lenient:
            raise FormatError(
                f"Reading the GEFF {self.folder} failed: {unknown.sum()} edges name nodes that are not there, the first joins "
                f"{ends[unknown][0][0]} and {ends[unknown][0][1]}. `howdah convert --repair` leaves them out."
            )
        if not len(ids):
            return rows, np.arange(len(rows))
        back = (t[rows[:, 0]] > t[rows[:, 1]]) & (not self.metadata.directed)
        rows = np.where(back[:, None], rows[:, ::-1], rows)
        return rows, np.arange(len(rows))

    def _covariances(self, axes: _Axes, n: int) -> F64:
        ellipsoid, sphere = self.metadata.ellipsoid, self.metadata.sphere
        if not ellipsoid and not sphere and self._is_number("radius"):
            log.info("%s: no sphere is declared; the property 'radius' is taken.", self.folder)
            sphere = "radius"
        self.used |= {name for name in (ellipsoid, sphere) if name}
        shape = self._masked(ellipsoid) if ellipsoid else None
        radius = self._masked(sphere) if sphere else None
        return covariances(shape, radius, n, scale=axes.scale, order=axes.order, file=self.folder)

    def _polygons(self, axes: _Axes, centre: F64) -> Outlines:
        name = self.metadata.polygon
        if not name or name not in self.library.node_prop_names:
            return Outlines.empty()
        group = zarr.open_group(self.library.group.store, path=f"nodes/props/{name}", mode="r")
        values = self._load(group["values"])
        missing = self._load(group["missing"]).astype(bool) if "missing" in group else None
        if "data" in group:
            data = self._load(group["data"])
        else:  # all of one size
            n, k, d = (*values.shape, 1, 1)[:3]
            data, values = values.ravel(), np.column_stack([np.arange(n) * k * d, np.full(n, k), np.full(n, d)])
        return polygons(values, data, missing, centre=centre, scale=axes.scale, order=axes.order, file=self.folder)

    # ---- properties --------------------------------------------------------------------------------------------

    def _is_number(self, name: str) -> bool:
        return (
            name in self.nodes
            and self.nodes[name]["values"].dtype.kind in "fiu"
            and self.nodes[name]["values"].ndim == 1
        )

    def _masked(self, name: str) -> F64:
        """A property as float64, NaN where it is missing."""
        self.used.add(name)
        if name not in self.nodes or self.nodes[name]["values"].dtype.kind not in "fiub":
            raise FormatError(
                f"Reading the GEFF {self.folder} failed: it names the property '{name}', which is no number."
            )
        values = np.array(self.nodes[name]["values"], dtype=np.float64)
        missing = self.nodes[name]["missing"]
        if missing is not None:
            values[missing] = np.nan
        return values

    def _label(self, side: Sidecar | None) -> Any:
        prop = self.nodes.get("label")
        if prop is None or prop["values"].dtype.kind not in "UT":
            return side.texts.get("label") if side else None
        self.used.add("label")
        if side:
            return side.texts.get("label")
        return _texts(prop)

    def _tag_sets(self, kept: I64) -> tuple[TagSet, ...]:
        sets = []
        for said in self.own.get("tag_sets", ()):
            tags = tuple(Tag(str(name), int(colour)) for name, colour in said["tags"])
            columns = []
            for props, where, n in ((self.nodes, "node", None), (self.edges, "edge", kept)):
                prop = props.get(said.get(where))
                length = self.library.nodes.shape[0] if n is None else self.library.edges.shape[0]
                column = np.full(length, -1) if prop is None else np.array(prop["values"], dtype=np.int64)
                if prop is not None and prop["missing"] is not None:
                    column[prop["missing"]] = -1
                if prop is not None:
                    self.used.add(f"{where}:{said[where]}")
                bad = (column < -1) | (column >= len(tags))
                if bad.any():
                    log.warning(
                        "%s: %d values of '%s' name no tag; they are left out.", self.folder, bad.sum(), said["name"]
                    )
                columns.append(np.where(bad, -1, column).astype(np.int32))
            sets.append(TagSet(str(said["name"]), tags, columns[0], columns[1]))
        return tuple(sets)

    def _features(self, kept: I64) -> list[Feature]:
        found = []
        for where, prop_name, name, projection, target, units, dimension, dtype in self.own.get("features", ()):
            prop = (self.nodes if where == "node" else self.edges).get(prop_name)
            if prop is None or prop["values"].ndim != 1 or prop["values"].dtype.kind not in "fiub":
                continue
            self.used.add(f"{where}:{prop_name}")
            values, missing = np.asarray(prop["values"]), prop["missing"]
            if np.dtype(dtype).kind in "fi" and np.array_equal(
                values.astype(dtype), values, equal_nan=values.dtype.kind == "f"
            ):
                values = values.astype(dtype)
            defined = None if missing is None else ~missing
            found.append(Feature(name, projection, _storable(values), target, units, dimension, defined))
        return found

    def _foreign(self, carried: Carried | None, axes: _Axes, kept: I64) -> tuple[Carried, list[Feature]]:
        """Features of properties that nobody has taken yet, and what is carried of the others and of the metadata."""
        tracks = dict(self.metadata.track_node_props or {})
        columns: dict[str, dict[str, Any]] = {"node": {}, "edge": {}}
        dtypes: dict[str, dict[str, str]] = {"node": {}, "edge": {}}
        features, known = [], carried or Carried()
        for where, props, before in (("node", self.nodes, known.spots), ("edge", self.edges, known.links)):
            described = self.metadata.node_props_metadata if where == "node" else self.metadata.edge_props_metadata
            for name, prop in props.items():
                taken = (
                    f"{where}:{name}" in self.used or (where == "node" and name in self.used) or f"@{name}" in before
                )
                if taken:
                    continue
                values, missing = prop["values"], prop["missing"]
                plain = values.ndim == 1 and values.dtype.kind in "fiub" and not _is_huge(values)
                if plain and name not in tracks.values():
                    dtypes[where][name] = values.dtype.name
                    defined = None if missing is None else ~np.asarray(missing, dtype=bool)
                    target: Any = "spot" if where == "node" else "link"
                    unit = described[name].unit or ""
                    features.append(Feature(name, "", _storable(values), target, units=unit, defined=defined))
                    continue
                columns[where][f"@{name}"] = _texts(prop) if values.dtype.kind in "UT" else values
                if missing is not None and values.dtype.kind not in "UT":
                    columns[where][f"?{name}"] = missing
        if carried is not None:
            left = [name[1:] for found in columns.values() for name in found]
            if left:
                log.warning(
                    "%s: properties that another program has added are left out: %s.", self.folder, ", ".join(left)
                )
            return carried, features
        notes = {
            "dtypes": dtypes,
            "track_props": tracks,
            "axes": {"t": axes.time, **dict(zip("zyx"[-len(axes.space) :], axes.space, strict=True))},
            "frame_dtype": self.nodes[axes.time]["values"].dtype.name,
        }
        entries = {
            "geff.json": json.dumps(_without_own(self.metadata.model_dump(mode="json"))).encode(),
            "notes.json": json.dumps(notes).encode(),
        }
        n, m = int(self.library.nodes.shape[0]), int(self.library.edges.shape[0])
        return Carried("geff", entries, columns["node"], columns["edge"], n, m), features


def _without_own(said: dict[str, Any]) -> dict[str, Any]:
    extra = {key: value for key, value in said.get("extra", {}).items() if key != EXTRA}
    return {**{key: value for key, value in said.items() if value is not None}, "extra": extra}


def _texts(prop: Any) -> Any:
    texts = np.array([str(text) for text in prop["values"].ravel().tolist()], dtype=LABEL_DTYPE)
    if prop["missing"] is not None:
        texts[np.asarray(prop["missing"], dtype=bool)] = None
    return texts


def _is_huge(values: Array) -> bool:
    return values.dtype == np.uint64 and bool(len(values)) and int(values.max()) > np.iinfo(np.int64).max


def _storable(values: Array) -> Array:
    """The same numbers in a type that features have."""
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    small = values.dtype.itemsize < 4 or values.dtype == np.int32
    return values.astype(np.int32 if small else np.int64)


def _int64(ids: Array, folder: Path) -> I64:
    if len(ids) and int(ids.max()) > np.iinfo(np.int64).max:
        raise FormatError(f"Reading the GEFF {folder} failed: a node has the number {ids.max()}, which is too large.")
    return ids.astype(np.int64)
