"""Outlines of spots: closed polygons in planes of constant z, as columns.

A spot may have no outline, one (the usual 2D object), or many *rings*: the parts and the holes of one object, or the
slices of a 3D object. Rings of one spot in one plane are joined by the even-odd rule: what lies inside an odd number of
them belongs to the object. So a mask of any shape has exactly one meaning, and comes back pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from bdv_io.errors import ValidationError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Outlines"]


@dataclass(frozen=True, eq=False)
class Outlines:
    """Rings of spots, in order of the spots' rows. Build them with :meth:`build` or :meth:`of_polygons`.

    Attributes:
        spot: (R,) int64, the row of the spot that each ring belongs to; never descending.
        z: (R,) float64, the plane of each ring, world.
        start: (R + 1,) int64; ring i has the vertices ``vertices[start[i]:start[i + 1]]``, at least three, not closed.
        vertices: (V, 2) float64, (y, x), world; not relative to the spot.
    """

    spot: I64
    z: F64
    start: I64
    vertices: F64

    @classmethod
    def empty(cls) -> Self:
        """Return no outlines at all."""
        return cls(np.empty(0, np.int64), np.empty(0), np.zeros(1, np.int64), np.empty((0, 2)))

    @classmethod
    def build(
        cls, spot: npt.ArrayLike, z: npt.ArrayLike, *, n_vertices: npt.ArrayLike, vertices: npt.ArrayLike
    ) -> Self:
        """Build from rings in any order of spots.

        Args:
            spot: (R,) rows of spots.
            z: (R,) planes, or one plane for all, world.
            n_vertices: (R,) number of vertices of each ring.
            vertices: (V, 2) vertices (y, x) of all rings, one after the other, world.

        Raises:
            ValidationError: The numbers do not fit together, or a ring has fewer than three vertices.
        """
        rows, counts = np.asarray(spot, dtype=np.int64).ravel(), np.asarray(n_vertices, dtype=np.int64).ravel()
        points = np.asarray(vertices, dtype=np.float64).reshape(-1, 2)
        planes = np.broadcast_to(np.asarray(z, dtype=np.float64), rows.shape)
        if len(rows) != len(counts) or counts.sum() != len(points):
            raise ValidationError(
                f"Building outlines failed: {len(rows)} rings with {counts.sum()} vertices in {len(counts)} counts were "
                f"given, and {len(points)} vertices."
            )
        if len(counts) and counts.min() < 3:
            raise ValidationError(
                f"Building outlines failed: ring {int(counts.argmin())} has {counts.min()} vertices; a polygon has three or more."
            )
        start = np.concatenate([[0], np.cumsum(counts)])
        made = cls(rows, np.array(planes), start, points)
        return made if (rows[1:] >= rows[:-1]).all() else made.reordered(np.argsort(rows, kind="stable"))

    @classmethod
    def of_polygons(cls, spot: Sequence[int], polygons: Iterable[npt.ArrayLike], z: npt.ArrayLike) -> Self:
        """Build from one (K, 2) array of vertices (y, x) a ring; ``spot`` and ``z`` as in :meth:`build`."""
        rings = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in polygons]
        points = np.concatenate(rings) if rings else np.empty((0, 2))
        return cls.build(spot, z, n_vertices=[len(ring) for ring in rings], vertices=points)

    def __len__(self) -> int:
        """Return the number of rings."""
        return len(self.spot)

    @property
    def n_vertices(self) -> I64:
        """(R,) number of vertices of each ring."""
        return np.diff(self.start)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns occupy."""
        return self.spot.nbytes + self.z.nbytes + self.start.nbytes + self.vertices.nbytes

    def ring(self, index: int) -> F64:
        """Return the (K, 2) vertices (y, x) of one ring."""
        return self.vertices[self.start[index] : self.start[index + 1]]

    def of_spot(self, row: int) -> range:
        """Return the rings of one spot."""
        first, last = np.searchsorted(self.spot, [row, row + 1])
        return range(int(first), int(last))

    def n_rings(self, n_spots: int) -> I64:
        """(N,) number of rings of each spot."""
        return np.bincount(self.spot, minlength=n_spots)

    def areas(self) -> F64:
        """(R,) signed area of each ring (shoelace formula), squared world units; positive from the y to the x axis."""
        if not len(self):
            return np.empty(0)
        following = np.arange(1, len(self.vertices) + 1)
        following[self.start[1:] - 1] = self.start[:-1]
        (y, x), (y2, x2) = self.vertices.T, self.vertices[following].T
        areas: F64 = np.add.reduceat(y * x2 - y2 * x, self.start[:-1]) / 2
        return areas

    def take(self, rows: I64, n_spots: int) -> Self:
        """Return the rings of a selection of spots; ``rows`` are their old rows in the new order, of ``n_spots``."""
        new_row = np.full(n_spots, -1, dtype=np.int64)
        new_row[rows] = np.arange(len(rows))
        return self.given_to(new_row)

    def given_to(self, new_row: I64) -> Self:
        """Return the rings given to other spots: (N,) the new row of each spot, -1 to leave its rings out."""
        if not len(self):
            return self
        target = new_row[self.spot]
        kept = np.flatnonzero(target >= 0)
        kept = kept[np.argsort(target[kept], kind="stable")]
        return replace(self.reordered(kept), spot=target[kept])

    def followed_by(self, other: Outlines, n_spots: int) -> Self:
        """Return these rings, then those of another annotation whose rows begin at ``n_spots``."""
        return replace(
            self,
            spot=np.concatenate([self.spot, other.spot + n_spots]),
            z=np.concatenate([self.z, other.z]),
            start=np.concatenate([self.start, other.start[1:] + self.start[-1]]),
            vertices=np.concatenate([self.vertices, other.vertices]),
        )

    def moved(self, shift: F64) -> Self:
        """Return the rings shifted with their spots: (N, 3) shifts (z, y, x) a spot, world."""
        by = shift[self.spot]
        return replace(
            self, z=self.z + by[:, 0], vertices=self.vertices + np.repeat(by[:, 1:], self.n_vertices, axis=0)
        )

    def problems(self, n_spots: int) -> list[str]:
        """Return what is wrong, one sentence a kind of problem."""
        found = []
        if len(self) and (self.spot.min() < 0 or self.spot.max() >= n_spots):
            found.append(
                f"Outlines belong to spots {self.spot.min()} to {self.spot.max()}, but there are {n_spots} spots."
            )
        if len(self) and (self.spot[1:] < self.spot[:-1]).any():
            found.append("Outlines are not in the order of their spots; build them with Outlines.build.")
        good = len(self.start) == len(self) + 1 and self.start[0] == 0 and self.start[-1] == len(self.vertices)
        if not good or (np.diff(self.start) < 3).any():
            found.append("The vertices of outlines do not fit to their rings; each ring has three or more.")
        if not np.isfinite(self.vertices).all() or not np.isfinite(self.z).all():
            bad = int((~np.isfinite(self.vertices).all(axis=1)).sum() + (~np.isfinite(self.z)).sum())
            found.append(f"{bad} vertices or planes of outlines are not finite numbers.")
        return found

    def reordered(self, rings: I64) -> Self:
        """Return a selection of rings, in the order given; their spots must not descend."""
        counts = self.n_vertices[rings]
        start = np.concatenate([[0], np.cumsum(counts)])
        source = np.repeat(self.start[rings] - start[:-1], counts) + np.arange(start[-1])
        return replace(self, spot=self.spot[rings], z=self.z[rings], start=start, vertices=self.vertices[source])
