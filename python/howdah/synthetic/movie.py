"""A synthetic movie with its truth, and the marks that a person would make in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.image import ArrayImage
from bdv_io.tracks import Tracks
from howdah.ellipsoids import covariance_from, equivalent_radius, radii_and_axes
from howdah.errors import DataError
from howdah.synthetic.lineage import Lineage, grow
from howdah.synthetic.optics import expose
from howdah.synthetic.settings import EmbryoSettings

__all__ = ["SyntheticMovie", "embryo", "marks"]


@dataclass(frozen=True, eq=False)
class SyntheticMovie:
    """A movie that is made when it is looked at; build one with :func:`embryo`.

    Attributes:
        settings: What it was made from.
        seed: Seed of everything random.
        lineage: The nuclei, with what the renderer needs.
    """

    settings: EmbryoSettings
    seed: int
    lineage: Lineage

    @property
    def truth(self) -> Tracks:
        """Spots sorted by frame, links, names (daughters of n03 are n03a, n03b); (z, y, x) micrometres."""
        return self.lineage.truth

    @property
    def n_frames(self) -> int:
        """Number of time points."""
        return self.settings.n_frames

    def frame(self, t: int) -> npt.NDArray[np.uint16]:
        """Make frame ``t``: (Z, Y, X) uint16, the same each time.

        Raises:
            DataError: There is no such frame.
        """
        if not 0 <= t < self.n_frames:
            raise DataError(f"Frame {t} was asked for; this synthetic movie has the frames 0 to {self.n_frames - 1}.")
        return expose(self.settings, self.lineage, t, self.seed)

    def frames(self) -> npt.NDArray[np.uint16]:
        """Make all frames: (T, Z, Y, X) uint16."""
        return np.stack([self.frame(t) for t in range(self.n_frames)])

    def image(self) -> ArrayImage:
        """Make all frames and return them as a movie in memory, calibrated in micrometres and seconds."""
        return ArrayImage(
            self.frames(),
            voxel_size=self.settings.voxel_size,
            unit="micrometer",
            interval=(self.settings.interval_s, "second"),
        )


def embryo(settings: EmbryoSettings | None = None, *, seed: int = 0, **changes: Any) -> SyntheticMovie:
    """Grow a synthetic embryo.

    Args:
        settings: All settings; the defaults if None.
        seed: Seed; the same seed and settings give the same movie, voxel for voxel.
        changes: Single settings to change, by name.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    chosen = (settings or EmbryoSettings()).but(**changes)
    return SyntheticMovie(chosen, seed, grow(chosen, np.random.default_rng([seed, 0])))


def marks(
    movie: SyntheticMovie,
    n: int = 10,
    *,
    frames: Sequence[int] = (0,),
    follow: int = 1,
    sloppiness: float = 0.08,
    seed: int = 0,
) -> Tracks:
    """Choose nuclei as a person would mark them: some, and not quite exactly.

    Args:
        movie: The movie.
        n: Nuclei to choose.
        frames: Frames that they are chosen from; as evenly as can be.
        follow: Frames that each is marked in, from the chosen one on; the links between are kept, and a division is
            followed into both daughters.
        sloppiness: Error of the centre, and relative error of half-axes (standard deviations), in parts of the radius.
        seed: Seed of the choice and of the errors.

    Returns:
        The chosen spots of the truth with their ids, moved and reshaped a little, sorted by frame, without names.

    Raises:
        DataError: The frames do not have that many nuclei.
    """
    rng = np.random.default_rng([movie.seed, seed, 4])
    truth = movie.truth
    candidates = np.flatnonzero(np.isin(truth.t, list(frames)))
    if n > len(candidates):
        raise DataError(f"Marking {n} nuclei was asked for; the frames {list(frames)} have {len(candidates)}.")
    shuffled = rng.permutation(candidates)
    # Deal them out frame by frame: the k-th nucleus of each frame before the (k+1)-th of any.
    turn = np.zeros(len(shuffled), dtype=np.int64)
    for frame in np.unique(truth.t[shuffled]):
        mine = truth.t[shuffled] == frame
        turn[mine] = np.arange(mine.sum())
    chosen = np.zeros(truth.n_spots, dtype=bool)
    newest = np.zeros(truth.n_spots, dtype=bool)
    newest[shuffled[np.argsort(turn, kind="stable")[:n]]] = True
    for _ in range(follow):
        chosen |= newest
        after = np.zeros_like(newest)
        after[truth.links[newest[truth.links[:, 0]], 1]] = True
        newest = after
    return _sloppily(truth.select(chosen), sloppiness, rng)


def _sloppily(spots: Tracks, sloppiness: float, rng: np.random.Generator) -> Tracks:
    size = equivalent_radius(spots.covariance)[:, None]
    radii, axes = radii_and_axes(spots.covariance)
    radii = radii * np.exp(rng.normal(0, sloppiness, radii.shape))
    tilt = scipy.spatial.transform.Rotation.from_rotvec(rng.normal(0, sloppiness, radii.shape)).as_matrix()
    moved = replace(
        spots,
        centre=spots.centre + rng.normal(0, sloppiness / np.sqrt(3), radii.shape) * size,
        covariance=covariance_from(radii, tilt @ axes),
    )
    return moved.relabelled(np.full(moved.n_spots, None))
