"""Writing GEFF: Zarr v2, which geff-java reads too."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from geff.core_io import write_arrays
from geff.validate.structure import validate_structure
from geff_spec import Axis, GeffMetadata, PropMetadata

from bdv_io.errors import WriteError
from bdv_io.geff_graph.names import AXES, EXTRA, GROUP, geff_unit, property_name
from bdv_io.geff_graph.shapes import covariance_of_plane
from bdv_io.geff_graph.sidecar import content_of, mark, write_sidecar
from bdv_io.safe_write import replacing
from bdv_io.tags import UNTAGGED, Feature
from bdv_io.tracks import LABEL_DTYPE, Tracks

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Props = dict[str, Any]

__all__ = ["lost_in_geff", "write_geff"]

MOST_TEXT = 1 << 28  # bytes of a column of texts of one width, as GEFF has them
OWN = ("radius", "covariance", "quality", "label", "polygon")


def lost_in_geff(tracks: Tracks) -> list[str]:
    """Return sentences about what of an annotation a GEFF cannot hold: nothing but columns of Python objects."""
    odd = [n for c in (tracks.carried.spots, tracks.carried.links) for n, column in c.items() if column.dtype == object]
    return [f"Carried columns of Python objects ({', '.join(odd)}) are left out."] if odd else []


def write_geff(path: str | os.PathLike[str], tracks: Tracks) -> None:
    """Write an annotation as GEFF (Zarr v2); what stood at ``path`` before is kept as ``name~1~``.

    Axes are t (frame), z, y, x in world units; the interval is the scale of t. Every spot has a sphere (geometric mean of the
    half-axes) and an ellipsoid; an outline's largest ring is its polygon. Tag sets are whole numbers, missing where nothing
    is tagged. Lineages and tracklets are numbered anew where those that were read no longer fit the links.

    Args:
        path: The folder.
        tracks: The annotation.

    Raises:
        ValidationError: The annotation is not consistent.
        WriteError: The disk is full, the folder is missing, or the library finds the result invalid; the old one is intact.
        BusyError: Another Howdah is writing the same folder.
    """
    tracks.validate(odd_is_fine=True)
    target = Path(path)

    def verify(written: Path) -> None:
        try:
            validate_structure(str(written))
            n = int(zarr.open_array(str(written), path="nodes/ids", mode="r").shape[0])
        except (ValueError, TypeError, KeyError) as error:
            raise WriteError(
                f"Writing {target} failed: the geff library found the result invalid ({error})."
            ) from error
        if n != tracks.n_spots:
            raise WriteError(f"Writing {target} failed: it read back {n} nodes; expected {tracks.n_spots}.")

    # Zarr leaves out chunks that hold nothing but the fill value, and geff-java fails where a chunk is missing.
    every_chunk = zarr.config.set({"array.write_empty_chunks": True})
    with replacing(target, verify=verify, folder=True) as temporary, warnings.catch_warnings(), every_chunk:
        warnings.simplefilter("ignore")  # the library warns of units that are not in its list
        _Writer(tracks).write(str(temporary))


class _Writer:
    def __init__(self, tracks: Tracks) -> None:
        self.tracks = tracks
        own = tracks.carried.format == "geff"
        self.columns = dict(tracks.carried.spots) if own else {}
        self.link_columns = dict(tracks.carried.links) if own else {}
        self.before: dict[str, Any] = json.loads(tracks.carried.entries.get("geff.json", b"{}")) if own else {}
        self.notes: dict[str, Any] = json.loads(tracks.carried.entries.get("notes.json", b"{}")) if own else {}
        self.axes: dict[str, str] = {**{axis: axis for axis in AXES}, **self.notes.get("axes", {})}
        self.space = "zyx" if "z" in self.notes.get("axes", "z") or not is_flat(tracks) else "yx"
        self.extra: dict[str, Any] = {"version": 1}
        self.described: dict[str, dict[str, PropMetadata]] = {"node": {}, "edge": {}}

    def write(self, path: str) -> None:
        tracks = self.tracks
        negative = bool(tracks.n_spots) and int(tracks.id.min()) < 0
        ids = (np.arange(tracks.n_spots) if negative else tracks.id).astype(np.uint64)
        edges = ids[tracks.links].reshape(-1, 2)
        nodes, links = self._nodes(), self._links()
        side = content_of(tracks)
        self.extra |= {
            "mark": mark(ids, edges),
            "space_unit": tracks.space_unit,
            "time_unit": tracks.time_unit,
            "interval": tracks.interval,
            "attributes": dict(tracks.attributes),
            "carried": {
                "format": tracks.carried.format,
                "n_spots": tracks.carried.n_spots,
                "n_links": tracks.carried.n_links,
            },
        }
        write_arrays(path, ids, nodes, edges, links, self._metadata(), zarr_format=2, structure_validation=False)
        root = zarr.open_group(path, mode="r+")
        polygon = self._polygons(root)
        self.extra["columns"] = write_sidecar(root.create_group(GROUP), side)
        self._finish(path, polygon)

    def _nodes(self) -> Props:
        tracks = self.tracks
        half_axes = np.abs(np.linalg.det(tracks.covariance)) ** (1 / 6)
        side = tracks.covariance[:, 0, 0]
        sphere = (tracks.covariance == side[:, None, None] * np.eye(3)).all(axis=(1, 2)) & (side > 0)
        radius = np.where(sphere, np.sqrt(side.clip(0)), half_axes)
        frame = tracks.t.astype(self.notes.get("frame_dtype", np.int64))
        props: Props = {self.axes["t"]: _prop(frame if np.array_equal(frame, tracks.t) else tracks.t.astype(np.int64))}
        skip = 3 - len(self.space)
        props |= {self.axes[axis]: _prop(tracks.centre[:, i + skip]) for i, axis in enumerate(self.space)}
        props |= {
            "radius": _prop(radius),
            "covariance": _prop(np.ascontiguousarray(tracks.covariance[:, skip:, skip:])),
        }
        unknown = np.isnan(tracks.quality)
        if not unknown.all():
            props["quality"] = _prop(np.where(unknown, 0.0, tracks.quality), unknown)
        self._label(props)
        _, lineage = tracks.tracks()
        features = [f for f in tracks.features if f.target != "link"]
        for kind, made in (("lineage", lineage), ("tracklet", tracklets(tracks))):
            self._track_numbers(props, kind, made.astype(np.int64), features)
        self._features(props, features, "node")
        self._tags(props, "node")
        self._foreign(props, self.columns, "node")
        return props

    def _track_numbers(self, props: Props, kind: str, made: I64, features: list[Feature]) -> None:
        """Lineages or tracklets: those that were read (and a feature that is just that) where they still fit the links."""
        names = self.extra.setdefault("track_props", {})
        name = str(self.notes.get("track_props", {}).get(kind, kind))
        rival = next((f for f in features if f.name == name and not f.projection), None)
        known = self.columns.get(f"@{name}") if rival is None else rival.values
        fits = known is not None and known.dtype.kind in "iu" and _same_partition(known, made)
        if rival is not None and fits and rival.defined is None:
            names[kind] = name  # it is written with the features
            return
        names[kind] = name if rival is None else property_name(kind, [f.name for f in features])
        props[names[kind]] = _prop(known if rival is None and fits and known is not None else made)

    def _links(self) -> Props:
        props: Props = {}
        self._features(props, [f for f in self.tracks.features if f.target == "link"], "edge")
        self._tags(props, "edge")
        self._foreign(props, self.link_columns, "edge")
        return props

    def _label(self, props: Props) -> None:
        texts = self.tracks.label.tolist()
        width = max((len(text) for text in texts if text), default=0)
        if any(text is not None for text in texts) and width * 4 * len(texts) <= MOST_TEXT:
            missing = np.array([text is None for text in texts])
            props["label"] = _prop(np.array([text or "" for text in texts], dtype=f"<U{max(width, 1)}"), missing)

    def _features(self, props: Props, features: list[Feature], where: str) -> None:
        told = self.extra.setdefault("features", [])
        kept = self.notes.get("dtypes", {}).get(where, {})
        for feature in features:
            wanted = f"{feature.name} {feature.projection}".strip()
            name = property_name(wanted, {*props, *OWN, *self.axes.values()})
            values = feature.values
            if name in kept and (cast := values.astype(kept[name])).astype(values.dtype).tobytes() == values.tobytes():
                values = cast  # as wide as it was before
            props[name] = _prop(values, None if feature.defined is None else ~feature.defined)
            unit = feature.units or None
            self.described[where][name] = PropMetadata(
                identifier=name, dtype=values.dtype.name, unit=unit, name=wanted or None
            )
            said = [feature.name, feature.projection, feature.target, feature.units, feature.dimension]
            told.append([where, name, *said, feature.values.dtype.name])

    def _tags(self, props: Props, where: str) -> None:
        told = self.extra.setdefault("tag_sets", [])
        for i, tags in enumerate(self.tracks.tag_sets):
            column = tags.spots if where == "node" else tags.links
            name = property_name(f"tag_{tags.name}", {*props, *OWN, *self.axes.values()})
            props[name] = _prop(column.clip(0), column == UNTAGGED)
            legend = ", ".join(f"{place}: {tag.name}" for place, tag in enumerate(tags.tags))
            self.described[where][name] = PropMetadata(
                identifier=name, dtype="int32", name=tags.name, description=legend
            )
            if where == "node":
                told.append({"name": tags.name, "tags": [[tag.name, tag.colour] for tag in tags.tags]})
            told[i][where] = name

    def _foreign(self, props: Props, columns: dict[str, Any], where: str) -> None:
        """Put back properties that another program wrote and that are no features."""
        for key, column in columns.items():
            if not key.startswith("@") or key[1:] in props or column.dtype == object:
                continue
            mask = columns.get(f"?{key[1:]}")
            if column.dtype == LABEL_DTYPE:
                texts = [text or "" for text in column.tolist()]
                mask = np.array([text is None for text in column.tolist()])
                column = np.array(texts, dtype=f"<U{max((len(text) for text in texts), default=1) or 1}")
            props[key[1:]] = _prop(column, mask if mask is None else mask.astype(bool))

    def _metadata(self) -> GeffMetadata:
        tracks, kept = (
            self.tracks,
            {key: self.before[key] for key in ("related_objects", "display_hints") if key in self.before},
        )
        scaled = tracks.interval is not None
        time = Axis(
            name=self.axes["t"],
            type="time",
            unit="frame",
            scale=tracks.interval,
            scaled_unit=geff_unit(tracks.time_unit) if scaled else None,
        )
        space = [Axis(name=self.axes[axis], type="space", unit=geff_unit(tracks.space_unit)) for axis in self.space]
        described = {where: dict(known) for where, known in self.described.items()}
        for where, known in described.items():
            for name, said in self.before.get(f"{where}_props_metadata", {}).items():
                known.setdefault(name, PropMetadata(**said))
        return GeffMetadata(
            directed=True,
            axes=[time, *space],
            node_props_metadata=described["node"],
            edge_props_metadata=described["edge"],
            sphere="radius",
            ellipsoid="covariance",
            track_node_props=self.extra.get("track_props"),
            extra={**self.before.get("extra", {}), EXTRA: self.extra},
            **kept,
        )

    def _polygons(self, root: zarr.Group) -> str | None:
        """The largest ring of each spot, relative to its centre: a property of variable length, written without the library."""
        outlines, n = self.tracks.outlines, self.tracks.n_spots
        if not len(outlines):
            return None
        order = np.lexsort((-np.arange(len(outlines)), np.abs(outlines.areas())))
        ring = np.full(n, -1, dtype=np.int64)
        ring[outlines.spot[order]] = order
        spots = np.flatnonzero(ring >= 0)
        chosen = ring[spots]
        counts = np.zeros(n, dtype=np.int64)
        counts[spots] = outlines.n_vertices[chosen]
        ends = np.cumsum(counts)
        first = np.repeat(outlines.start[chosen] - (ends - counts)[spots], counts[spots])
        vertices = outlines.vertices[first + np.arange(ends[-1])]
        points = np.column_stack([np.repeat(outlines.z[chosen], counts[spots]), vertices])
        points = (points - np.repeat(self.tracks.centre[spots], counts[spots], axis=0))[:, 3 - len(self.space) :]
        dims = len(self.space)
        values = np.stack([(ends - counts) * dims, counts, np.full(n, dims)], axis=1).astype(np.uint64)
        group = root.create_group("nodes/props/polygon")
        for name, array in (("values", values), ("data", points.ravel()), ("missing", ring < 0)):
            rows = max(min(len(array), 1 << 20), 1)
            group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=(rows, *array.shape[1:]))[...] = array
        return "polygon"

    def _finish(self, path: str, polygon: str | None) -> None:
        """Complete the metadata by what the library does not know: the polygon, and the names of our columns."""
        metadata = GeffMetadata.read(path)
        described = {name: said for name, said in metadata.node_props_metadata.items() if said is not None}
        if polygon:
            described[polygon] = PropMetadata(identifier=polygon, dtype="float64", varlength=True)
        present = {
            where: set(zarr.open_group(path, path=f"{where}s/props", mode="r").group_keys())
            for where in ("node", "edge")
        }
        metadata.node_props_metadata = {name: said for name, said in described.items() if name in present["node"]}
        metadata.edge_props_metadata = {n: s for n, s in metadata.edge_props_metadata.items() if n in present["edge"]}
        metadata.polygon = polygon
        metadata.extra = {**metadata.extra, EXTRA: self.extra}
        metadata.write(path)


def is_flat(tracks: Tracks) -> bool:
    """Whether spots are as :func:`bdv_io.geff_graph.shapes.covariance_of_plane` makes them: in the plane z = 0."""
    c = tracks.covariance
    flat = (tracks.centre[:, 0] == 0).all() and (tracks.outlines.z == 0).all()
    return bool(flat) and np.array_equal(c, covariance_of_plane(c[:, 1:, 1:]))


def tracklets(tracks: Tracks) -> I64:
    """(N,) number of the tracklet of each spot: spots joined by links that are the only ones out of one and into the other."""
    source, target = tracks.links.T
    single = (tracks.n_children()[source] == 1) & (tracks.n_parents()[target] == 1)
    return tracks.select_links(single).tracks()[1].astype(np.int64)


def _same_partition(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether two columns put the same spots together, whatever they call them."""
    pairs = len(np.unique(np.stack([a.astype(np.int64), b.astype(np.int64)], axis=1), axis=0))
    return len(np.unique(a)) == len(np.unique(b)) == pairs


def _prop(values: npt.NDArray[Any], missing: npt.NDArray[np.bool_] | None = None) -> dict[str, Any]:
    return {"values": values, "missing": missing if missing is not None and missing.any() else None}
