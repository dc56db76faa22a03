"""Where spots were one frame earlier, or several: what a flow says, or where they are now."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.errors import DataError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

Estimate = Callable[[int, F64, F64], F64]
"""``estimate(frame, centre, covariance)``: the (N, 3) places one frame before ``frame`` of ellipsoids (N, 3), (N, 3, 3) at
``frame``; all (z, y, x), world units. A row with NaN means that nothing is known of it."""

__all__ = ["Earlier", "Estimate", "Ghosts"]


class Ghosts(NamedTuple):
    """Spots that are followed backwards in time through frames where they were not found.

    Attributes:
        spot: (G,) rows of the spots.
        age: (G,) how many frames each has gone back.
        trail: (G, A, 3) their places 1, 2 ... frames back, as far as ``age`` goes; world (z, y, x).
    """

    spot: I64
    age: I64
    trail: F64

    @classmethod
    def of(cls, spot: I64, origin: F64, longest: int) -> Ghosts:
        """Return ghosts one frame back at ``origin`` (G, 3), which can go back ``longest`` frames."""
        trail = np.full((len(spot), longest, 3), np.nan)
        trail[:, 0] = origin
        return cls(spot, np.ones(len(spot), dtype=np.int64), trail)

    @property
    def place(self) -> F64:
        """(G, 3) where they are."""
        return self.trail[np.arange(len(self.spot)), self.age - 1]

    def only(self, mask: npt.NDArray[np.bool_] | I64) -> Ghosts:
        """Return the ghosts of a (G,) mask, or of rows."""
        return Ghosts(self.spot[mask], self.age[mask], self.trail[mask])

    def at(self, frame: int, t: npt.NDArray[np.int32]) -> Ghosts:
        """Return the ghosts that are at ``frame`` and may go further; ``t`` (N,) are the frames of all spots."""
        return self.only((self.age < self.trail.shape[1]) & (t[self.spot] - self.age == frame))

    def joined(self, other: Ghosts) -> Ghosts:
        """Return these ghosts and the others."""
        return Ghosts(*(np.concatenate(columns) for columns in zip(self, other, strict=True)))

    def moved(self, place: F64) -> Ghosts:
        """Return the ghosts one frame further back, at ``place`` (G, 3)."""
        trail = self.trail.copy()
        trail[np.arange(len(self.spot)), self.age] = place
        return Ghosts(self.spot, self.age + 1, trail)


class Earlier:
    """Estimates for the spots of an annotation. Each frame is asked for once if frames are taken from late to early.

    Attributes:
        origin: (N, 3) where each spot was one frame earlier, as far as is known by now; else its centre.
        move: (N,) how far that is from where it is; NaN where there is no estimate.
    """

    def __init__(self, tracks: Tracks, predicted: npt.ArrayLike | None, estimate: Estimate | None) -> None:
        self._tracks, self._estimate = tracks, estimate
        self.origin = tracks.centre.copy()
        self.move = np.full(tracks.n_spots, np.nan)
        self._given = predicted is not None
        if predicted is None:
            return
        places = np.asarray(predicted, dtype=np.float64)
        if places.shape != tracks.centre.shape:
            raise DataError(
                f"Linking failed: predicted positions have shape {places.shape}; expected {tracks.centre.shape}, one a spot."
            )
        self._know(np.arange(tracks.n_spots), places)

    def step(self, frame: int, rows: I64, ghosts: Ghosts) -> Ghosts:
        """Learn where the spots ``rows`` of ``frame`` were one frame earlier; return ``ghosts`` moved there, too."""
        if self._estimate is None:
            return ghosts.moved(ghosts.place)
        asked = np.empty(0, dtype=np.int64) if self._given else rows
        if not len(asked) and not len(ghosts.spot):
            return ghosts
        place = np.concatenate([self._tracks.centre[asked], ghosts.place])
        shape = self._tracks.covariance[np.concatenate([asked, ghosts.spot])]
        answer = np.asarray(self._estimate(frame, place, shape), dtype=np.float64)
        if answer.shape != place.shape:
            raise DataError(
                f"Linking failed: the estimate for frame {frame} has shape {answer.shape}; expected {place.shape}, one place "
                "(z, y, x) a spot."
            )
        n = len(asked)
        self._know(asked, answer[:n])
        known = np.isfinite(answer[n:]).all(axis=1, keepdims=True)
        return ghosts.moved(np.where(known, answer[n:], ghosts.place))

    def _know(self, rows: I64, places: F64) -> None:
        known = np.isfinite(places).all(axis=1)
        rows, places = rows[known], places[known]
        self.origin[rows] = places
        self.move[rows] = np.linalg.norm(places - self._tracks.centre[rows], axis=1)
