"""Curves of a page as SVG: lines with axes, in the colours of the style sheet, so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from howdah.pipeline.report_page import escaped

F64 = npt.NDArray[np.float64]

__all__ = ["Line", "chart"]

WIDTH, HEIGHT = 360.0, 215.0
LEFT, RIGHT, TOP, BOTTOM = 38.0, 10.0, 10.0, 34.0
MOST_POINTS = 300  # of a line; more are put together, their mean is shown
DOTS = 40  # points up to which each is marked


class Line(NamedTuple):
    """A line: its name, (K,) places along x, (K,) heights (NaN leaves a gap), and its number in the palette (0 truth, 1 result)."""

    name: str
    x: F64
    y: F64
    colour: int


def chart(
    title: str,
    said: str,
    lines: Sequence[Line],
    *,
    axes: tuple[str, str],
    top: float | None = 1.0,
    diagonal: bool = False,
    mark: float | None = None,
) -> str:
    """Return a figure with some lines over one axis; empty if none of them has two points.

    Args:
        title: Its heading, text.
        said: What one sees, a sentence, text.
        lines: What is drawn; later ones lie on top.
        axes: Names of the axes x and y.
        top: The upper end of y; None: that of the data.
        diagonal: Draw where x equals y.
        mark: A place on x that is marked.
    """
    drawn = [_thinned(line) for line in lines if np.isfinite(line.y).sum() > 1]
    if not drawn:
        return ""
    x_all = np.concatenate([line.x for line in drawn])
    y_all = np.concatenate([line.y for line in drawn])
    x_ticks = _ticks(float(x_all.min()), float(x_all.max()), 6)
    y_ticks = _ticks(0.0, float(np.nanmax(y_all)) if top is None else top, 5)
    low, high = float(x_all.min()), float(x_all.max())
    frame = _Frame(low, high if high > low else low + 1, y_ticks[-1])
    parts = [_grid(frame, x_ticks, y_ticks), _names(axes)]
    if diagonal:
        first, last = max(low, 0.0), min(high, frame.most)
        parts.append(f'<path class="mark" d="M{frame.at(first, first)}L{frame.at(last, last)}"/>')
    if mark is not None and low <= mark <= high:
        parts.append(f'<path class="mark" d="M{frame.at(mark, 0)}L{frame.at(mark, frame.most)}"/>')
    parts += [_path(frame, line, number) for number, line in enumerate(drawn)]
    alt = f"{title}. {said} " + " ".join(_in_words(line, axes) for line in drawn)
    svg = f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escaped(alt, most=900)}">{"".join(parts)}</svg>'
    keys = "".join(
        f'<li><svg viewBox="0 0 22 8" aria-hidden="true"><path class="line c{line.colour} k{number}" d="M1 4H21"/></svg>'
        f"{escaped(line.name)}</li>"
        for number, line in enumerate(drawn)
    )
    legend = f'<ul class="legend">{keys}</ul>' if len(drawn) > 1 else ""
    return f'<figure class="chart"><figcaption><b>{escaped(title)}</b><span>{escaped(said)}</span></figcaption>{legend}{svg}</figure>'


class _Frame(NamedTuple):
    """What places of the data are in the picture."""

    low: float
    high: float
    most: float

    def right(self, x: float) -> float:
        return LEFT + (x - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        return HEIGHT - BOTTOM - y / self.most * (HEIGHT - TOP - BOTTOM)

    def at(self, x: float, y: float) -> str:
        return f"{self.right(x):.1f} {self.down(y):.1f}"


def _grid(frame: _Frame, x_ticks: F64, y_ticks: F64) -> str:
    parts = []
    for y in y_ticks.tolist():
        kind = "axis" if y == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{LEFT:g} {frame.down(y):.1f}H{WIDTH - RIGHT:g}"/>')
        parts.append(f'<text x="{LEFT - 5:g}" y="{frame.down(y) + 3:.1f}" text-anchor="end">{y:g}</text>')
    for x in x_ticks[(x_ticks >= frame.low) & (x_ticks <= frame.high)].tolist():
        right = frame.right(x)
        parts.append(f'<path class="axis" d="M{right:.1f} {HEIGHT - BOTTOM:g}v4"/>')
        parts.append(f'<text x="{right:.1f}" y="{HEIGHT - BOTTOM + 15:g}" text-anchor="middle">{x:g}</text>')
    return "".join(parts)


def _names(axes: tuple[str, str]) -> str:
    across, up = (escaped(name) for name in axes)
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    return (
        f'<text x="{middle:g}" y="{HEIGHT - 3:g}" text-anchor="middle">{across}</text>'
        f'<text x="9" y="{(HEIGHT - BOTTOM) / 2:g}" text-anchor="middle" transform="rotate(-90 9 {(HEIGHT - BOTTOM) / 2:g})">{up}</text>'
    )


def _path(frame: _Frame, line: Line, number: int) -> str:
    good = np.isfinite(line.y)
    commands, dots, joined = [], [], False
    few = int(good.sum()) <= DOTS
    for x, y, fine in zip(line.x.tolist(), line.y.tolist(), good.tolist(), strict=True):
        if fine:
            place = frame.at(x, min(y, frame.most))
            commands.append(("L" if joined else "M") + place)
            if few:
                right, down = place.split()
                dots.append(f'<circle class="f{line.colour}" cx="{right}" cy="{down}" r="2.4"/>')
        joined = fine
    return f'<path class="line c{line.colour} k{number}" d="{"".join(commands)}"/>' + "".join(dots)


def _thinned(line: Line) -> Line:
    """A line of not too many points: means of stretches."""
    n = len(line.x)
    if n <= MOST_POINTS:
        return line
    part = np.arange(n) * MOST_POINTS // n
    good = np.isfinite(line.y)
    count = np.bincount(part, weights=good)
    total = np.bincount(part, weights=np.where(good, line.y, 0.0))
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return line._replace(x=np.bincount(part, weights=line.x) / np.bincount(part), y=mean)


def _ticks(low: float, high: float, count: int) -> F64:
    """About ``count`` round numbers that cover a range."""
    span = max(high - low, 1e-9)
    raw = span / count
    unit = 10.0 ** np.floor(np.log10(raw))
    step = unit * next(m for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    ticks: F64 = np.arange(first, max(last, first + 1) + 1) * step
    return ticks


def _in_words(line: Line, axes: tuple[str, str]) -> str:
    good = np.flatnonzero(np.isfinite(line.y))
    y = line.y[good]
    return (
        f"{line.name}: from {y[0]:.3g} at {axes[0]} {line.x[good[0]]:.3g} to {y[-1]:.3g} at {line.x[good[-1]]:.3g}, "
        f"least {y.min():.3g}, most {y.max():.3g}."
    )
