"""Curves as SVG: the numbers of a running job, one small plot a name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Plot", "plots"]

WIDTH, HEIGHT, MOST_POINTS = 360.0, 130.0, 600


@dataclass(frozen=True)
class Plot:
    """One curve, in the units of its drawing.

    Attributes:
        name: ``stage/name``. points: For an SVG polyline. latest: Its last value. low, high: Its range. first, last: Its steps.
    """

    name: str
    points: str
    latest: float
    low: float
    high: float
    first: int
    last: int


def plots(curves: Mapping[str, Sequence[tuple[int, float | None]]]) -> list[Plot]:
    """Return a plot for each curve that has two finite points; long ones are thinned, first and last point stay."""
    return [plot for name, points in curves.items() if (plot := _plot(name, points)) is not None]


def _plot(name: str, points: Sequence[tuple[int, float | None]]) -> Plot | None:
    finite = [(step, value) for step, value in points if value is not None and math.isfinite(value)]
    if len(finite) < 2:
        return None
    every = math.ceil(len(finite) / MOST_POINTS)
    kept = finite[::every] + ([finite[-1]] if (len(finite) - 1) % every else [])
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    # A stage that runs twice (resumed, or once a fold) begins again at step 1: then the order of time is the axis.
    in_order = all(a[0] <= b[0] for a, b in itertools.pairwise(kept))
    xs = [float(step) for step, _ in kept] if in_order else [float(i) for i in range(len(kept))]
    wide, tall = (xs[-1] - xs[0]) or 1.0, (high - low) or 1.0
    drawn = " ".join(
        f"{(x - xs[0]) / wide * WIDTH:.1f},{HEIGHT - (value - low) / tall * HEIGHT:.1f}"
        for x, (_, value) in zip(xs, kept, strict=True)
    )
    return Plot(name, drawn, finite[-1][1], low, high, finite[0][0], finite[-1][0])
