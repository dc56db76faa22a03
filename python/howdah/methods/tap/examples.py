"""Labelled spots: what a classifier learns from. They are made of arrays, and know no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["LEAST", "Examples", "division_examples", "joined", "tagged_examples"]

LEAST = 2  # of each class, to learn from at all
UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Examples:
    """Spots, each with its class.

    Attributes:
        movie: (N,) int64, which movie the spot is in.
        t: (N,) int64, frame.
        centre: (N, 3) float64 (z, y, x), pixels of the movie.
        covariance: (N, 3, 3) float64, squared pixels of the movie; eigenvalues are squared half-axes.
        label: (N,) int64, position of its class in ``classes``.
        classes: Names of the classes.
        name: What was labelled, for example the name of a tag set.
    """

    movie: I64
    t: I64
    centre: F64
    covariance: F64
    label: I64
    classes: tuple[str, ...]
    name: str = ""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def counts(self) -> I64:
        """Spots of each class."""
        return np.bincount(self.label, minlength=len(self.classes))

    def take(self, rows: npt.ArrayLike) -> Self:
        """Return some of the spots."""
        at = np.asarray(rows)
        return replace(
            self,
            movie=self.movie[at],
            t=self.t[at],
            centre=self.centre[at],
            covariance=self.covariance[at],
            label=self.label[at],
        )

    def checked(self) -> Self:
        """Return these without the classes that no spot has, or say why nothing can be learned from them.

        Raises:
            DataError: There are no spots, one class only, or too few of a class.
        """
        counts = self.counts
        present = np.flatnonzero(counts)
        what = f" of '{self.name}'" if self.name else ""
        if not len(self):
            raise DataError(f"Learning classes{what} failed: no spot is labelled. Tag some spots first.")
        if len(present) < 2:
            raise DataError(
                f"Learning classes{what} failed: all {len(self)} labelled spots are '{self.classes[present[0]]}'. "
                "Label spots of another class, too."
            )
        few = [f"'{self.classes[k]}' has {counts[k]}" for k in present[counts[present] < LEAST]]
        if few:
            raise DataError(
                f"Learning classes{what} failed: {', '.join(few)} labelled spots; each class needs at least {LEAST}, and ten or more to "
                "say how good it is. Label more, or leave the class out."
            )
        position = np.cumsum(counts > 0) - 1
        return replace(self, label=position[self.label], classes=tuple(self.classes[k] for k in present))


def tagged_examples(
    t: npt.ArrayLike,
    centre: npt.ArrayLike,
    covariance: npt.ArrayLike,
    tag: npt.ArrayLike,
    *,
    classes: Sequence[str],
    movie: int = 0,
    name: str = "",
    untagged: str | None = None,
) -> Examples:
    """Make examples of tagged spots; a spot without a tag is unknown, unless ``untagged`` says what it is.

    Args:
        t: (N,) frame.
        centre: (N, 3) pixels of the movie.
        covariance: (N, 3, 3) squared pixels.
        tag: (N,) position of the spot's tag in ``classes``, -1 without one.
        classes: Names of the tags.
        movie: Number of the movie.
        name: Of the tag set.
        untagged: Class of spots without a tag; a new one is added after the others. None: they are left out.

    Raises:
        DataError: ``tag`` names no class.
    """
    label, names = np.array(tag, dtype=np.int64), list(classes)
    if len(label) and (label.min() < UNKNOWN or label.max() >= len(names)):
        raise DataError(
            f"Tags of '{name}' run from {label.min()} to {label.max()}, but there are {len(names)} classes."
        )
    if untagged is not None:
        if untagged not in names:
            names.append(untagged)
        label[label == UNKNOWN] = names.index(untagged)
    return _of(t, centre, covariance, label, classes=names, movie=movie, name=name)


def division_examples(
    t: npt.ArrayLike,
    centre: npt.ArrayLike,
    covariance: npt.ArrayLike,
    links: npt.ArrayLike,
    *,
    leave_out: int = 2,
    movie: int = 0,
) -> Examples:
    """Make examples of a lineage: a mother (two children in the next frame or later) divides, other linked spots with a child do not.

    What lies on the same track within ``leave_out`` frames of a division is ambiguous, and left out; so is a spot without a child,
    of which nothing is known.

    Args:
        t: (N,) frame.
        centre: (N, 3) pixels of the movie.
        covariance: (N, 3, 3) squared pixels.
        links: (M, 2) rows, earlier spot and later spot.
        leave_out: Frames.
        movie: Number of the movie.

    Returns:
        Examples of the classes "no division" (0) and "division" (1).
    """
    times, pairs = np.asarray(t, dtype=np.int64), np.asarray(links, dtype=np.int64).reshape(-1, 2)
    children = np.bincount(pairs[:, 0], minlength=len(times))
    mothers = children >= 2
    after, before = mothers.copy(), mothers.copy()  # spots near a division, looking down and up the tree
    for _ in range(leave_out):
        grown = after.copy()
        grown[pairs[after[pairs[:, 0]], 1]] = True
        after = grown
        grown = before.copy()
        grown[pairs[before[pairs[:, 1]], 0]] = True
        before = grown
    label = np.where(mothers, 1, np.where((children == 1) & ~after & ~before, 0, UNKNOWN))
    classes = ("no division", "division")
    return _of(times, centre, covariance, label, classes=classes, movie=movie, name="divisions")


def joined(parts: Sequence[Examples]) -> Examples:
    """Return the examples of several movies as one table.

    Raises:
        DataError: There are none, or their classes differ.
    """
    if not parts:
        raise DataError("Joining examples failed: there are none.")
    first = parts[0]
    for part in parts:
        if part.classes != first.classes:
            raise DataError(
                f"Joining examples failed: classes are {', '.join(first.classes)} in one movie and {', '.join(part.classes)} in another. "
                "Give the tag sets the same tags."
            )
    return replace(
        first,
        movie=np.concatenate([part.movie for part in parts]),
        t=np.concatenate([part.t for part in parts]),
        centre=np.concatenate([part.centre for part in parts]),
        covariance=np.concatenate([part.covariance for part in parts]),
        label=np.concatenate([part.label for part in parts]),
    )


def _of(
    t: npt.ArrayLike,
    centre: npt.ArrayLike,
    covariance: npt.ArrayLike,
    label: I64,
    *,
    classes: Sequence[str],
    movie: int,
    name: str,
) -> Examples:
    kept = np.flatnonzero(label != UNKNOWN)
    return Examples(
        np.full(len(kept), movie, np.int64),
        np.asarray(t, np.int64)[kept],
        np.asarray(centre, np.float64).reshape(-1, 3)[kept],
        np.asarray(covariance, np.float64).reshape(-1, 3, 3)[kept],
        label[kept],
        tuple(classes),
        name,
    )
