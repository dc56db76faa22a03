"""Tag sets and declared features: the columns that people and programs hang on spots and links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

I32 = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp] | Bool
Target = Literal["spot", "link", "branch"]

__all__ = ["DIMENSIONS", "Feature", "Tag", "TagSet"]

UNTAGGED = -1
DIMENSIONS = frozenset(  # kinds of quantity that Mastodon and TrackMate know; the readers of both stop at any other one
    [
        "NONE",
        "QUALITY",
        "COST",
        "INTENSITY",
        "INTENSITY_SQUARED",
        "POSITION",
        "VELOCITY",
        "LENGTH",
        "AREA",
        "TIME",
        "ANGLE",
        "RATE",
        "ANGLE_RATE",
    ]
)


@dataclass(frozen=True)
class Tag:
    """One tag: its name and its colour as 0xAARRGGBB (unsigned)."""

    name: str
    colour: int = 0xFF00FFFF


@dataclass(frozen=True, eq=False)
class TagSet:
    """A tag set: an object carries at most one tag of each set.

    Attributes:
        name: Any text.
        tags: The tags of the set, in their order.
        spots: (N,) int32, for each spot the position of its tag in ``tags``, or -1.
        links: (M,) int32, the same for links.
    """

    name: str
    tags: tuple[Tag, ...]
    spots: I32
    links: I32

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", tuple(self.tags))
        object.__setattr__(self, "spots", np.asarray(self.spots, dtype=np.int32))
        object.__setattr__(self, "links", np.asarray(self.links, dtype=np.int32))

    @classmethod
    def empty(cls, name: str, tags: Sequence[Tag], n_spots: int, n_links: int) -> TagSet:
        """Return a set in which nothing is tagged yet."""
        spots = np.full(n_spots, UNTAGGED, dtype=np.int32)
        return cls(name, tuple(tags), spots, np.full(n_links, UNTAGGED, dtype=np.int32))

    def position(self, tag: str) -> int:
        """Return the position of the tag with this name, or -1 if the set has none."""
        return next((i for i, known in enumerate(self.tags) if known.name == tag), UNTAGGED)

    def take(self, spots: Rows, links: Rows) -> TagSet:
        """Return the set for a selection of rows."""
        return replace(self, spots=self.spots[spots], links=self.links[links])


@dataclass(frozen=True, eq=False)
class Feature:
    """A declared number per spot, link or branch: one column.

    Attributes:
        name: The feature, for example ``"Spot intensity"``.
        projection: Its part, for example ``"Mean ch1"``; empty if the feature has one part only.
        values: (N,) or (M,) float64 or int32 or int64.
        target: What a row stands for. ``"branch"`` values sit at the spot that the program keyed them by.
        units: The unit as text; empty for pure numbers.
        dimension: Kind of quantity in Mastodon's words (``"NONE"``, ``"LENGTH"``, ``"QUALITY"`` ...).
        defined: (N,) or (M,) bool, False where the program stored no value; None if all are stored.
    """

    name: str
    projection: str
    values: npt.NDArray[Any]
    target: Target = "spot"
    units: str = ""
    dimension: str = "NONE"
    defined: Bool | None = field(default=None)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes the feature unique within an annotation: target, name, projection."""
        return (self.target, self.name, self.projection)

    def take(self, spots: Rows, links: Rows) -> Feature:
        """Return the column for a selection of rows."""
        rows = links if self.target == "link" else spots
        return replace(self, values=self.values[rows], defined=None if self.defined is None else self.defined[rows])

    def extended(self, n_rows: int) -> Feature:
        """Return the column with undefined rows appended until it has ``n_rows`` rows."""
        missing = n_rows - len(self.values)
        if not missing:
            return self
        filler: float | int = np.nan if self.values.dtype.kind == "f" else 0
        values = np.concatenate([self.values, np.full(missing, filler, dtype=self.values.dtype)])
        known = np.ones(len(self.values), dtype=bool) if self.defined is None else self.defined
        return replace(self, values=values, defined=np.concatenate([known, np.zeros(missing, dtype=bool)]))
