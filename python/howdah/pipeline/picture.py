"""A picture of a result that one can show: projections of the movie with the ellipsoids, and the lineage tree."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from bdv_io.safe_write import replacing
from howdah.errors import DataError

F64 = npt.NDArray[np.float64]

__all__ = ["draw_result", "lineage_layout"]

UNTAGGED_GREY = 0.55
ANGLES = np.linspace(0, 2 * np.pi, 41)


def draw_result(
    path: str | os.PathLike[str],
    image: ImageSeries | None,
    tracks: Tracks,
    *,
    setup: int = 0,
    frames: Sequence[int] | None = None,
    title: str = "",
    tag_set: str | None = None,
) -> None:
    """Write a PNG: above, maximum projections along z with the outline of each ellipsoid in the colour of its track or tag;
    below, the lineage trees of the longest tracks, time running down.

    Args:
        path: The PNG.
        image: The movie; None draws the ellipsoids on black, in world coordinates.
        tracks: Its annotation, in world units.
        setup: View setup that is shown.
        frames: Frames that are shown; four over the movie by default.
        title: One line above.
        tag_set: Colour spots and links by their tag in this set (grey where they have none, or a transparent one) instead of
            by track.

    Raises:
        DataError: The annotation has no such tag set.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = list(frames) if frames is not None else _spread(*_span(image, tracks), 4)
    figure = Figure(figsize=(3.4 * max(len(chosen), 2), 6.4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, len(chosen), height_ratios=[3, 2.4])
    _, track = tracks.tracks()
    spots, links = _colours(tracks, track, tag_set)
    for column, frame in enumerate(chosen):
        axes = figure.add_subplot(grid[0, column])
        if image is None:
            _draw_empty_frame(axes, tracks, frame, spots)
        else:
            _draw_frame(axes, image, tracks, (frame, setup), spots)
    _draw_lineage(figure.add_subplot(grid[1, :]), tracks, track, links)
    if title:
        figure.suptitle(title, fontsize=10)
    with replacing(path, keep_previous=False) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _span(image: ImageSeries | None, tracks: Tracks) -> tuple[int, int]:
    """First and last frame that is worth showing."""
    if image is not None:
        return 0, image.n_frames - 1
    return (int(tracks.t.min()), int(tracks.t.max())) if tracks.n_spots else (0, 0)


def _spread(first: int, last: int, count: int) -> list[int]:
    return sorted({first + round(i * (last - first) / max(count - 1, 1)) for i in range(min(count, last - first + 1))})


def _colours(tracks: Tracks, track: npt.NDArray[np.int32], tag_set: str | None) -> tuple[F64, F64]:
    """(N, 3) colours of spots and (M, 3) of links, red, green, blue from 0 to 1."""
    if tag_set is None:
        palette = _palette(int(track.max()) + 1 if tracks.n_spots else 1)
        return palette[track], palette[track[tracks.links[:, 0]]]
    tags = tracks.tag_set(tag_set)
    if tags is None:
        names = ", ".join(f"'{known.name}'" for known in tracks.tag_sets) or "none"
        raise DataError(f"Drawing failed: there is no tag set '{tag_set}'. Tag sets are: {names}.")
    codes = np.array([tag.colour for tag in tags.tags], dtype=np.int64)
    rgb = np.stack([codes >> 16 & 255, codes >> 8 & 255, codes & 255], axis=1) / 255
    rgb[codes >> 24 == 0] = UNTAGGED_GREY
    table = np.concatenate([rgb, np.full((1, 3), UNTAGGED_GREY)])  # the last row is for -1
    on_links = np.where(tags.links >= 0, tags.links, tags.spots[tracks.links[:, 1]])
    return table[tags.spots], table[on_links]


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


def _draw_empty_frame(axes: Any, tracks: Tracks, frame: int, colours: F64) -> None:
    """Ellipsoids on black, seen along z, those above over those below; all frames in the same window."""
    from matplotlib.collections import PolyCollection

    axes.set_title(f"frame {frame}", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    axes.set_aspect("equal")
    here = np.flatnonzero(tracks.t == frame)
    here = here[np.argsort(tracks.centre[here, 0], kind="stable")]
    outlines = _outlines(tracks.centre[here], tracks.covariance[here])
    axes.add_collection(PolyCollection(list(outlines), facecolors=colours[here], edgecolors="black", linewidths=0.3))
    reach = np.sqrt(np.trace(tracks.covariance, axis1=1, axis2=2).max(initial=1.0) / 3)
    low, high = tracks.centre.min(axis=0, initial=np.inf) - reach, tracks.centre.max(axis=0, initial=-np.inf) + reach
    if tracks.n_spots:
        axes.set_xlim(low[2], high[2])
        axes.set_ylim(high[1], low[1])
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


def _draw_lineage(axes: Any, tracks: Tracks, track: npt.NDArray[np.int32], colours: F64, most: int = 40) -> None:
    from matplotlib.collections import LineCollection

    size = np.bincount(track, minlength=1)
    longest = np.argsort(-size, kind="stable")[:most]
    rows = np.flatnonzero(np.isin(track, longest))
    rows = rows[np.argsort(track[rows], kind="stable")]
    place = lineage_layout(tracks, rows)
    seen = np.isfinite(place[tracks.links]).all(axis=1)
    shown = tracks.links[seen]
    above = np.stack([place[shown[:, 0]], tracks.t[shown[:, 0]]], axis=1)
    corner = np.stack([place[shown[:, 1]], tracks.t[shown[:, 0]]], axis=1)
    below = np.stack([place[shown[:, 1]], tracks.t[shown[:, 1]]], axis=1)
    lines = np.stack([above, corner, below], axis=1)
    axes.add_collection(LineCollection(list(lines), colors=colours[seen], linewidths=1.2))
    division = tracks.divisions()
    division = division[np.isfinite(place[division])]
    axes.plot(place[division], tracks.t[division], "o", color="black", markersize=3)
    axes.set_xlim(-1, np.nanmax(place, initial=1.0) + 1)
    axes.set_ylim((tracks.n_frames - 1 or 1) + 0.3, tracks.t.min(initial=tracks.n_frames) - 0.3)
    axes.set_ylabel("frame", fontsize=8)
    axes.set_xticks([])
    axes.tick_params(labelsize=7)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    count = min(most, len(size)) if tracks.n_spots else 0
    axes.set_title(
        f"lineages of the {count} longest tracks; a dot is a division ({len(tracks.divisions())} in all)", fontsize=9
    )
