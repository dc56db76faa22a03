"""A picture of a result that one can show: projections of the movie with the ellipsoids, and the lineage tree."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from bdv_io.safe_write import replacing

F64 = npt.NDArray[np.float64]

__all__ = ["draw_result", "lineage_layout"]

ANGLES = np.linspace(0, 2 * np.pi, 41)


def draw_result(
    path: str | os.PathLike[str],
    image: ImageSeries,
    tracks: Tracks,
    *,
    setup: int = 0,
    frames: Sequence[int] | None = None,
    title: str = "",
) -> None:
    """Write a PNG: above, maximum projections along z with the outline of each ellipsoid in the colour of its track;
    below, the lineage trees of the longest tracks, time running down.

    Args:
        path: The PNG.
        image: The movie.
        tracks: Its annotation, in world units.
        setup: View setup that is shown.
        frames: Frames that are shown; four over the movie by default.
        title: One line above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = list(frames) if frames is not None else _spread(image.n_frames, 4)
    figure = Figure(figsize=(3.4 * max(len(chosen), 2), 6.4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, len(chosen), height_ratios=[3, 2.4])
    _, track = tracks.tracks()
    palette = _palette(int(track.max()) + 1 if tracks.n_spots else 1)
    for column, frame in enumerate(chosen):
        _draw_frame(figure.add_subplot(grid[0, column]), image, tracks, (frame, setup), palette[track])
    _draw_lineage(figure.add_subplot(grid[1, :]), tracks, track, palette)
    if title:
        figure.suptitle(title, fontsize=10)
    with replacing(path, keep_previous=False) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _spread(n_frames: int, count: int) -> list[int]:
    return sorted({round(i * (n_frames - 1) / max(count - 1, 1)) for i in range(min(count, n_frames))})


def _palette(n: int) -> F64:
    """Colours that neighbours in number do not share: golden-ratio steps around the hue circle."""
    from matplotlib.colors import hsv_to_rgb

    hue = (np.arange(n) * 0.61803398875 + 0.12) % 1.0
    return np.asarray(hsv_to_rgb(np.stack([hue, np.full(n, 0.75), np.full(n, 1.0)], axis=1)))


def _draw_frame(axes: Any, image: ImageSeries, tracks: Tracks, view: tuple[int, int], colours: F64) -> None:
    from matplotlib.collections import LineCollection

    frame, setup = view
    axes.set_title(f"frame {frame}", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    if image.is_missing(frame, setup):
        axes.text(0.5, 0.5, "missing view", ha="center", va="center", transform=axes.transAxes)
        return
    projection = image.read(frame, setup).max(axis=0)
    low, high = np.percentile(projection, (1, 99.7))
    axes.imshow(projection, cmap="gray", vmin=low, vmax=max(high, low + 1), interpolation="nearest")
    here = np.flatnonzero(tracks.t == frame)
    linear = np.linalg.inv(image.affine(frame, setup))
    centre = tracks.centre[here] @ linear[:3, :3].T + linear[:3, 3]
    shape = linear[:3, :3] @ tracks.covariance[here] @ linear[:3, :3].T
    axes.add_collection(LineCollection(list(_outlines(centre, shape)), colors=colours[here], linewidths=1.0))
    axes.set_xlim(-0.5, projection.shape[1] - 0.5)
    axes.set_ylim(projection.shape[0] - 0.5, -0.5)
    axes.text(0.02, 0.02, f"{len(here)} nuclei", color="white", fontsize=8, transform=axes.transAxes)


def _outlines(centre: F64, covariance: F64) -> F64:
    """(N, 41, 2) outlines (x, y) of ellipsoids projected along z; voxel coordinates."""
    value, vector = np.linalg.eigh(covariance[:, 1:, 1:])
    circle = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
    points = vector @ (np.sqrt(np.maximum(value, 0))[:, :, None] * circle)
    outline: F64 = np.moveaxis(points + centre[:, 1:, None], 1, 2)[..., ::-1]
    return outline


def lineage_layout(tracks: Tracks, rows: npt.NDArray[np.intp]) -> F64:
    """Horizontal places of spots in a lineage tree: leaves side by side, a parent above the middle of its children.

    Args:
        tracks: The annotation.
        rows: Rows of the spots to place; other spots get NaN.
    """
    place = np.full(tracks.n_spots, np.nan)
    wanted = np.zeros(tracks.n_spots, dtype=bool)
    wanted[rows] = True
    children: dict[int, list[int]] = {}
    for source, target in tracks.links[wanted[tracks.links].all(axis=1)].tolist():
        children.setdefault(source, []).append(target)
    has_parent = {target for targets in children.values() for target in targets}
    next_leaf = 0
    for root in (row for row in rows.tolist() if row not in has_parent):
        order, stack = [], [root]
        while stack:
            spot = stack.pop()
            order.append(spot)
            stack.extend(reversed(children.get(spot, [])))
        for spot in order:
            if spot not in children:
                place[spot] = next_leaf
                next_leaf += 1
        for spot in reversed(order):
            if spot in children:
                place[spot] = np.mean(place[children[spot]])
    return place


def _draw_lineage(axes: Any, tracks: Tracks, track: npt.NDArray[np.int32], palette: F64, most: int = 40) -> None:
    from matplotlib.collections import LineCollection

    size = np.bincount(track, minlength=1)
    longest = np.argsort(-size, kind="stable")[:most]
    rows = np.flatnonzero(np.isin(track, longest))
    rows = rows[np.argsort(track[rows], kind="stable")]
    place = lineage_layout(tracks, rows)
    shown = tracks.links[np.isfinite(place[tracks.links]).all(axis=1)]
    above = np.stack([place[shown[:, 0]], tracks.t[shown[:, 0]]], axis=1)
    corner = np.stack([place[shown[:, 1]], tracks.t[shown[:, 0]]], axis=1)
    below = np.stack([place[shown[:, 1]], tracks.t[shown[:, 1]]], axis=1)
    lines = np.stack([above, corner, below], axis=1)
    axes.add_collection(LineCollection(list(lines), colors=palette[track[shown[:, 0]]], linewidths=1.2))
    division = tracks.divisions()
    division = division[np.isfinite(place[division])]
    axes.plot(place[division], tracks.t[division], "o", color="black", markersize=3)
    axes.set_xlim(-1, np.nanmax(place, initial=1.0) + 1)
    axes.set_ylim((tracks.n_frames - 1 or 1) + 0.3, -0.3)
    axes.set_ylabel("frame", fontsize=8)
    axes.set_xticks([])
    axes.tick_params(labelsize=7)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    count = min(most, len(size)) if tracks.n_spots else 0
    axes.set_title(
        f"lineages of the {count} longest tracks; a dot is a division ({len(tracks.divisions())} in all)", fontsize=9
    )
