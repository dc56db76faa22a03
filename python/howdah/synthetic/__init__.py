"""Synthetic embryos: movies with the truth known, for tests, demonstrations and benchmarks.

An embryo turns and drifts; its nuclei wander, keep apart, condense, brighten and divide. A microscope blurs it, loses light
with depth and adds noise. Everything follows from the settings and a seed::

    movie = embryo(seed=3, n_frames=8)
    movie.frame(0)          # (Z, Y, X) uint16
    movie.truth             # bdv_io.Tracks, (z, y, x), micrometres
    marks(movie, 10)        # what a person would annotate
"""

from __future__ import annotations

from howdah.synthetic.movie import SyntheticMovie, embryo, marks
from howdah.synthetic.settings import EmbryoSettings

__all__ = ["EmbryoSettings", "SyntheticMovie", "embryo", "marks"]
