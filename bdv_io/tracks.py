"""The annotation model: spots, links, tags and features as columns.

A :class:`Tracks` holds what biologists annotate: *spots* (ellipsoids at one time point), *links* between them forward
in time, *tag sets*, and *features* (declared numbers). Everything is a numpy column, so ten million spots move at
memory speed: about 150 bytes a spot with its link. Objects are immutable in style: operations return new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numpy.dtypes import StringDType

from bdv_io import _tracks_check, _tracks_join
from bdv_io.errors import ValidationError
from bdv_io.outlines import Outlines
from bdv_io.safe_write import Stamp
from bdv_io.tags import UNTAGGED, Feature, Tag, TagSet

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Rows = npt.ArrayLike

LABEL_DTYPE = StringDType(na_object=None)

__all__ = ["LABEL_DTYPE", "Carried", "Tracks", "spheres"]


@dataclass(frozen=True)
class Carried:
    """What a format stored and Howdah does not interpret, kept so that writing back loses nothing.

    Attributes:
        format: The format that it belongs to (``"mastodon"``, ``"trackmate"``); other writers ignore it.
        entries: Named blobs, byte for byte.
        spots: Uninterpreted columns with one row a spot; they follow every selection.
        links: The same for links.
        n_spots: Number of spots of the file that ``entries`` was read from.
        n_links: Number of links of that file.
    """

    format: str = ""
    entries: Mapping[str, bytes] = field(default_factory=dict)
    spots: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    links: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    n_spots: int = 0
    n_links: int = 0

    @property
    def alone(self) -> str:
        """A sentence about what no other format has a place for; empty if that is nothing that a user would miss."""
        what = {
            "mastodon": "Mastodon project holds (windows, bookmarks)",
            "trackmate": "TrackMate file holds (log, settings, filters, display)",
        }.get(self.format)
        return f"What only a {what} is left out." if what and self.entries else ""

    def take(self, spots: npt.NDArray[Any], links: npt.NDArray[Any]) -> Carried:
        """Return the same with the columns of a selection of rows."""
        return replace(
            self,
            spots={name: column[spots] for name, column in self.spots.items()},
            links={name: column[links] for name, column in self.links.items()},
        )


@dataclass(frozen=True, eq=False)
class Tracks:
    """Spots and links of a movie, as columns. Build one with :meth:`build`.

    Attributes:
        t: (N,) int32, frame of each spot: the index of the time point, not its name.
        centre: (N, 3) float64, (z, y, x) in world coordinates.
        covariance: (N, 3, 3) float64, (z, y, x) order, squared world units. Its eigenvalues are the squared
            half-axes of the ellipsoid: a sphere of radius r has r² on the diagonal.
        label: (N,) text, None where no label was given.
        quality: (N,) float64, confidence of a detection, NaN if unknown.
        id: (N,) int64, unique; stays with a spot through selections.
        links: (M, 2) int64, rows of the source (earlier) and the target (later) spot.
        tag_sets: Tag sets, each with one column for spots and one for links.
        features: Declared features, one column each.
        outlines: Polygons of spots that have a shape beyond the ellipsoid.
        space_unit: Unit of length. time_unit: Unit of ``interval``. interval: Time between two frames, None if unknown.
        carried: What the source format stored and Howdah does not interpret.
        attributes: Facts of the source about the whole annotation, such as ``image`` (path of the movie, as text).
        origin: The file that it was read from, as it was then; None for an annotation that was made.
    """

    t: I32
    centre: F64
    covariance: F64
    label: npt.NDArray[Any]
    quality: F64
    id: I64
    links: I64
    tag_sets: tuple[TagSet, ...] = ()
    features: tuple[Feature, ...] = ()
    outlines: Outlines = field(default_factory=Outlines.empty)
    space_unit: str = "pixel"
    time_unit: str = "frame"
    interval: float | None = None
    carried: Carried = field(default_factory=Carried)
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    origin: Stamp | None = None

    @classmethod
    def build(
        cls,
        t: npt.ArrayLike,
        centre: npt.ArrayLike,
        *,
        covariance: npt.ArrayLike | None = None,
        radius: npt.ArrayLike | None = None,
        links: npt.ArrayLike | None = None,
        label: Any = None,
        **columns: Any,
    ) -> Self:
        """Build from array-likes, filling what is not given; dtypes and shapes are checked, values by :meth:`validate`.

        Args:
            t: (N,) frames.
            centre: (N, 3) centres (z, y, x), world.
            covariance: (N, 3, 3); or give ``radius``.
            radius: One radius, or (N,) radii, of spheres; world units.
            links: (M, 2) rows of source and target; none by default.
            label: (N,) texts or None; no labels by default.
            columns: Any other attribute of the class.

        Raises:
            ValidationError: Shapes do not fit together, or neither or both of covariance and radius are given.
        """
        frames = _column(t, np.int32, (-1,), "t")
        n = len(frames)
        if (covariance is None) == (radius is None):
            raise ValidationError("Building spots needs either covariance (N, 3, 3) or radius; found both or neither.")
        shape = spheres(radius, n) if covariance is None else _column(covariance, np.float64, (n, 3, 3), "covariance")
        labels = no_labels(n) if label is None else np.asarray(label, dtype=LABEL_DTYPE)
        if labels.shape != (n,):
            raise ValidationError(
                f"Building spots failed: label has shape {labels.shape}; expected ({n},), one text a spot."
            )
        quality, ids = columns.pop("quality", None), columns.pop("id", None)
        return cls(
            t=frames,
            centre=_column(centre, np.float64, (n, 3), "centre"),
            covariance=shape,
            label=labels,
            quality=np.full(n, np.nan) if quality is None else _column(quality, np.float64, (n,), "quality"),
            id=np.arange(n, dtype=np.int64) if ids is None else _column(ids, np.int64, (n,), "id"),
            links=np.empty((0, 2), np.int64) if links is None else _column(links, np.int64, (-1, 2), "links"),
            **columns,
        )

    @classmethod
    def empty(cls, **columns: Any) -> Self:
        """Return an annotation without spots; ``columns`` as in :meth:`build`."""
        return cls.build(np.empty(0), np.empty((0, 3)), covariance=np.empty((0, 3, 3)), **columns)

    # ---- size and validity -------------------------------------------------------------------------------------

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.t)

    @property
    def n_links(self) -> int:
        """Number of links."""
        return len(self.links)

    @property
    def n_frames(self) -> int:
        """One more than the largest frame that has a spot; 0 without spots."""
        return int(self.t.max()) + 1 if self.n_spots else 0

    @property
    def nbytes(self) -> int:
        """Bytes that the columns occupy."""
        own: tuple[npt.NDArray[Any], ...] = (
            self.t,
            self.centre,
            self.covariance,
            self.label,
            self.quality,
            self.id,
            self.links,
        )
        more: list[npt.NDArray[Any]] = [column for tags in self.tag_sets for column in (tags.spots, tags.links)]
        more += [feature.values for feature in self.features]
        more += [*self.carried.spots.values(), *self.carried.links.values()]
        return self.outlines.nbytes + sum(column.nbytes for column in (*own, *more))

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence a kind of problem with the first rows that show it; empty if all is well."""
        return _tracks_check.problems(self)

    def validate(self, *, odd_is_fine: bool = False) -> Self:
        """Return self, or raise a ValidationError that lists every problem.

        Args:
            odd_is_fine: Let pass what files of other programs do hold and can be written back: links that do not run
                forward in time or occur twice, centres that are not finite, covariances that are no ellipsoids.
        """
        found = _tracks_check.contradictions(self) if odd_is_fine else self.problems()
        if found:
            raise ValidationError("The annotation is not consistent. " + " ".join(found))
        return self

    # ---- graph -------------------------------------------------------------------------------------------------

    def tracks(self) -> tuple[int, I32]:
        """Connected components: their number, and for each spot the number of its track from 0, by first spot."""
        from scipy.sparse import coo_array  # half of the time that importing this package would take
        from scipy.sparse.csgraph import connected_components

        ones = np.ones(self.n_links, dtype=np.int8)
        graph = coo_array((ones, (self.links[:, 0], self.links[:, 1])), shape=(self.n_spots, self.n_spots))
        count, track = connected_components(graph.tocsr(), directed=False)
        return int(count), track.astype(np.int32, copy=False)

    def n_children(self) -> I64:
        """(N,) number of outgoing links of each spot."""
        return np.bincount(self.links[:, 0], minlength=self.n_spots)

    def n_parents(self) -> I64:
        """(N,) number of incoming links of each spot."""
        return np.bincount(self.links[:, 1], minlength=self.n_spots)

    def divisions(self) -> I64:
        """Rows of the spots that have two or more children."""
        return np.flatnonzero(self.n_children() > 1)

    # ---- new annotations from this one -------------------------------------------------------------------------

    def select(self, spots: Rows) -> Self:
        """Return the annotation of some spots, in the order given; links stay where both ends stay.

        Args:
            spots: (N,) bool mask, or rows (no row twice).
        """
        rows = _rows(spots, self.n_spots, "spots")
        new_row = np.full(self.n_spots, -1, dtype=np.int64)
        new_row[rows] = np.arange(len(rows))
        moved = new_row[self.links]
        kept = np.flatnonzero((moved >= 0).all(axis=1))
        return replace(
            self,
            t=self.t[rows],
            centre=self.centre[rows],
            covariance=self.covariance[rows],
            label=self.label[rows],
            quality=self.quality[rows],
            id=self.id[rows],
            links=moved[kept],
            tag_sets=tuple(tags.take(rows, kept) for tags in self.tag_sets),
            features=tuple(feature.take(rows, kept) for feature in self.features),
            outlines=self.outlines.take(rows, self.n_spots),
            carried=self.carried.take(rows, kept),
        )

    def select_links(self, links: Rows) -> Self:
        """Return the annotation with all spots and some links: an (M,) bool mask, or rows."""
        kept, every = _rows(links, self.n_links, "links"), np.arange(self.n_spots)
        return replace(
            self,
            links=self.links[kept],
            tag_sets=tuple(tags.take(every, kept) for tags in self.tag_sets),
            features=tuple(feature.take(every, kept) for feature in self.features),
            carried=self.carried.take(every, kept),
        )

    def with_links(self, links: npt.ArrayLike) -> Self:
        """Return the annotation with further links (K, 2), rows of source and target; they are untagged."""
        return _tracks_join.with_links(self, _column(links, np.int64, (-1, 2), "links"))

    def concatenate(self, other: Tracks) -> Self:
        """Return both annotations in one: first these spots, then the other's.

        Tag sets of one name become one; features of one name too, undefined where an annotation lacks them. Ids stay
        unless both have the same: then the other's are counted on from the largest. Units and carried content are
        this annotation's.

        Raises:
            ValidationError: The units of length differ.
        """
        return _tracks_join.concatenate(self, other)

    def sorted_by_frame(self) -> Self:
        """Return the annotation with spots in order of frame, otherwise in the order that they have."""
        return self.select(np.argsort(self.t, kind="stable"))

    def relabelled(self, label: Any) -> Self:
        """Return the annotation with new labels: (N,) texts or None."""
        labels = np.asarray(label, dtype=LABEL_DTYPE)
        if labels.shape != (self.n_spots,):
            raise ValidationError(f"Relabelling failed: {labels.shape} labels were given for {self.n_spots} spots.")
        return replace(self, label=labels)

    def renumbered(self, first: int = 0) -> Self:
        """Return the annotation with ids counted from ``first`` in row order."""
        return replace(self, id=np.arange(first, first + self.n_spots, dtype=np.int64))

    # ---- tags and features -------------------------------------------------------------------------------------

    def tag_set(self, name: str) -> TagSet | None:
        """Return the tag set of this name, or None."""
        return next((tags for tags in self.tag_sets if tags.name == name), None)

    def tagged(self, tag_set: str, tag: str, *, links: bool = False) -> Bool:
        """Return the (N,) mask of spots (or (M,) of links) that carry a tag; all False where set or tag are unknown."""
        tags = self.tag_set(tag_set)
        if tags is None or tags.position(tag) == UNTAGGED:
            return np.zeros(self.n_links if links else self.n_spots, dtype=bool)
        mask: Bool = (tags.links if links else tags.spots) == tags.position(tag)
        return mask

    def with_tag_set(self, name: str, tags: Iterable[Tag]) -> Self:
        """Return the annotation with this tag set; an existing set of the name keeps its tags and gains the others."""
        return _tracks_join.with_tag_set(self, name, tuple(tags))

    def with_tag(self, tag_set: str, tag: Tag, *, spots: Rows | None = None, links: Rows | None = None) -> Self:
        """Return the annotation with some spots and links tagged; set and tag are made if they are not there."""
        grown = self.with_tag_set(tag_set, (tag,))
        tags = grown.tag_set(tag_set)
        assert tags is not None  # noqa: S101  it was just made
        spot_column, link_column = tags.spots.copy(), tags.links.copy()
        if spots is not None:
            spot_column[_rows(spots, self.n_spots, "spots")] = tags.position(tag.name)
        if links is not None:
            link_column[_rows(links, self.n_links, "links")] = tags.position(tag.name)
        return grown.with_tags(replace(tags, spots=spot_column, links=link_column))

    def with_tags(self, tags: TagSet) -> Self:
        """Return the annotation with this tag set in the place of the one of its name, or at the end."""
        others = [tags if known.name == tags.name else known for known in self.tag_sets]
        return replace(self, tag_sets=tuple(others if self.tag_set(tags.name) else [*others, tags]))

    def feature(self, name: str, projection: str = "", target: str = "spot") -> Feature | None:
        """Return a feature, or None."""
        return next((known for known in self.features if known.key == (target, name, projection)), None)

    def with_feature(self, feature: Feature) -> Self:
        """Return the annotation with this feature in the place of the one of its key, or at the end."""
        known = [feature if old.key == feature.key else old for old in self.features]
        return replace(self, features=tuple(known if any(old is feature for old in known) else [*known, feature]))


def no_labels(n: int) -> npt.NDArray[Any]:
    """Return a column of ``n`` labels that are not given."""
    labels = np.empty(n, dtype=LABEL_DTYPE)
    labels[...] = np.array(None, dtype=LABEL_DTYPE)  # three times faster than np.full
    return labels


def spheres(radius: npt.ArrayLike | None, n: int) -> F64:
    """Return (n, 3, 3) covariances of spheres: r² on the diagonal; one radius or n of them, world units."""
    covariance = np.zeros((n, 3, 3))
    with np.errstate(over="ignore"):  # what is beyond all measure is infinite, and found by validate
        covariance[:, [0, 1, 2], [0, 1, 2]] = np.broadcast_to(np.asarray(radius, dtype=np.float64) ** 2, (n,))[:, None]
    return covariance


def _column(values: npt.ArrayLike, dtype: type[np.generic], shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.size == 0:
        array = array.reshape([max(length, 0) for length in shape])
    fits = array.ndim == len(shape) and all(want in (-1, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits:
        expected = " x ".join("any" if length == -1 else str(length) for length in shape)
        raise ValidationError(
            f"Building an annotation failed: column '{name}' has shape {array.shape}; expected {expected}."
        )
    if (
        np.issubdtype(dtype, np.integer)
        and array.dtype.kind not in "iub"
        and not np.array_equal(array, np.floor(array))
    ):
        raise ValidationError(
            f"Building an annotation failed: column '{name}' needs whole numbers; found fractions or NaN."
        )
    if np.issubdtype(dtype, np.integer) and array.dtype != dtype and array.size:
        least, most = array.min().item(), array.max().item()
        bounds: Any = np.iinfo(np.dtype(dtype).name)
        if least < bounds.min or most > bounds.max:
            raise ValidationError(
                f"Building an annotation failed: column '{name}' runs from {least} to {most}, beyond {np.dtype(dtype).name}."
            )
    return array.astype(dtype, copy=False)


def _rows(selection: Rows, n: int, name: str) -> npt.NDArray[np.intp]:
    array = np.asarray(selection)
    if array.dtype == bool:
        if array.shape != (n,):
            raise ValidationError(f"Selecting {name} failed: the mask has shape {array.shape}; expected ({n},).")
        return np.flatnonzero(array)
    rows = array.astype(np.intp, copy=False).reshape(-1)
    if rows.size and (rows.min() < 0 or rows.max() >= n):
        raise ValidationError(
            f"Selecting {name} failed: rows run from {rows.min()} to {rows.max()}, but there are {n} {name}."
        )
    return rows
