"""Small pictures of a place in a movie: a crop of the image with the outlines of spots over it, as SVG that a page carries.

A pane is 100 × 100 units. The crop is one small PNG of the pixels as they are; outlines are lines, sharp at any size. In 3D a pane
is a slice, and of an ellipsoid its section with that slice is drawn.
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import BdvIoError, ImageSeries, Tracks
from howdah.pipeline.report_page import escaped

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["SIDE", "Pane", "Panes", "SpotsByFrame", "figure"]

log = logging.getLogger("howdah")

SIDE = 100.0  # units of a pane
MOST_PIXELS = 96  # along an edge of a crop; a larger one is thinned
MOST_SPOTS = 60  # in a pane, the nearest ones
MOST_VERTICES = 48  # of an outline
DARK, BRIGHT = 0.5, 99.8  # percentiles of a crop that are shown black and white
GAMMA = 0.7  # faint cells beside bright ones are seen, too
LEAST_RADIUS = 0.8  # of what is drawn, units


class SpotsByFrame:
    """Rows of an annotation by frame, found at once."""

    def __init__(self, tracks: Tracks) -> None:
        self.tracks = tracks
        self._order = np.argsort(tracks.t, kind="stable")
        self._frames = tracks.t[self._order]

    def rows(self, frame: int) -> I64:
        """Return the rows of the spots of a frame."""
        first, last = np.searchsorted(self._frames, [frame, frame + 1])
        return self._order[first:last].astype(np.int64)


@dataclass(frozen=True, eq=False)
class Pane:
    """A square of one frame: where it lies, how places come to lie in it, and the picture on its ground.

    Attributes:
        frame: The frame.
        along: Axis that it is seen along: 0 for z (y down, x right), 1 for y (z down, x right).
        centre: (3,) its centre (z, y, x) in the image's own axes, world units.
        scale: Units of the pane per world unit.
        linear: (3, 3) and ``shift`` (3,): world to the image's own axes.
        ground: SVG of its ground.
        again: SVG that shows the same ground a second time.
        flat: The movie has one plane.
        plane: Distance of two planes, world units; 0 where no movie says it.
    """

    frame: int
    along: int
    centre: F64
    scale: float
    linear: F64
    shift: F64
    ground: str
    again: str
    flat: bool
    plane: float = 0.0

    @property
    def _axes(self) -> tuple[int, int]:
        return (1, 2) if self.along == 0 else (0, 2)

    def places(self, centre: F64) -> F64:
        """(N, 2) (down, right) in the pane, of world places (N, 3)."""
        return (self._own(centre)[:, self._axes] - self.centre[list(self._axes)]) * self.scale + SIDE / 2

    def outlines(self, tracks: Tracks, rows: I64, classes: str, *, always: bool = False) -> str:
        """Return SVG of the outlines of some spots: polygons where they have some, sections of their ellipsoids elsewhere.

        Args:
            tracks: The annotation.
            rows: The spots.
            classes: How they look: classes of the style sheet.
            always: Show those, too, that the slice does not meet: as what is seen of them along the axis.
        """
        drawn = []
        own, shape = (
            self._own(tracks.centre[rows]),
            self.linear @ tracks.covariance[rows] @ self.linear.T * self.scale**2,
        )
        depth = (self.centre[self.along] - own[:, self.along]) * self.scale
        if self.flat:
            depth[:] = 0
        middle = (own[:, self._axes] - self.centre[list(self._axes)]) * self.scale + SIDE / 2
        for row, place, covariance, off in zip(rows.tolist(), middle, shape, depth.tolist(), strict=True):
            rings = self._rings(tracks, row)
            if rings:
                drawn.append(f'<path class="{classes}" d="{rings}"/>')
            elif tracks.outlines.of_spot(row) and self.along == 0 and not always:
                continue  # its outline does not reach this slice
            else:
                drawn.append(_ellipse(place, covariance, off, self.along, classes, always))
        return "".join(drawn)

    def near(self, by_frame: SpotsByFrame) -> I64:
        """Return the rows of the spots that lie in the pane or reach into it, nearest first."""
        rows = by_frame.rows(self.frame)
        if not len(rows):
            return rows
        tracks = by_frame.tracks
        away = np.abs(self._own(tracks.centre[rows]) - self.centre)
        reach = np.sqrt(np.trace(tracks.covariance[rows], axis1=1, axis2=2))
        axes = list(self._axes)
        inside = (away[:, axes].max(axis=1) - reach) * self.scale < SIDE / 2
        if not self.flat:
            inside &= away[:, self.along] < reach
        kept = rows[inside]
        nearest: I64 = kept[np.argsort(away[inside][:, axes].max(axis=1), kind="stable")[:MOST_SPOTS]]
        return nearest

    def _own(self, centre: F64) -> F64:
        return centre @ self.linear.T + self.shift

    def _rings(self, tracks: Tracks, row: int) -> str:
        """Path of the rings of a spot in this slice; empty where it has none."""
        outlines, parts = tracks.outlines, []
        rings = outlines.of_spot(row) if self.along == 0 else range(0)
        planes = np.unique(outlines.z[rings.start : rings.stop])
        thick = self.plane or (float(np.diff(planes).min()) if len(planes) > 1 else 1.0)
        for index in rings:
            ring = tracks.outlines.ring(index)
            ring = ring[:: max(1, -(-len(ring) // MOST_VERTICES))]
            points = np.column_stack([np.full(len(ring), tracks.outlines.z[index]), ring])
            if not self.flat and abs(self._own(points[:1])[0, 0] - self.centre[0]) > thick / 2:
                continue
            parts.append("M" + "L".join(f"{_short(x)} {_short(y)}" for y, x in np.round(self.places(points), 1)) + "Z")
        return "".join(parts)


class Panes:
    """Cuts panes out of a movie; crops only are read.

    Args:
        image: The movie; None for plain ground.
        setup: View setup that is shown.
        flat: What there is lies in one plane; with a movie the movie tells.
    """

    def __init__(self, image: ImageSeries | None, setup: int, *, flat: bool) -> None:
        self._image, self._setup = image, setup
        self._count = 0
        self.flat = image.setups[setup].shape[0] == 1 if image is not None else flat

    def cut(self, frame: int, centre: F64, half: float, *, along: int = 0) -> Pane:
        """Return the pane around a place.

        Args:
            frame: The frame.
            centre: (3,) world (z, y, x).
            half: Half of its edge, world units.
            along: Axis that it is seen along, 0 or 1.
        """
        scale = SIDE / (2 * half)
        image = self._image
        if image is None or not 0 <= frame < image.n_frames or image.is_missing(frame, self._setup):
            return self._plain(frame, centre, scale, along, "" if image is None else "no image of this frame")
        level = self._level(image, half)
        affine = image.affine(frame, self._setup, level)
        size = np.linalg.norm(affine[:3, :3], axis=0)
        inverse = np.linalg.inv(affine)
        linear, shift = size[:, None] * inverse[:3, :3], size * inverse[:3, 3]
        own = linear @ centre + shift
        shape = np.array(image.shape(frame, self._setup, level))
        plane = int(np.clip(np.rint(own[along] / size[along]), 0, shape[along] - 1))
        axes = [1, 2] if along == 0 else [0, 2]
        beyond = 0.3 * half  # so that a cell at the border is seen whole
        low, high = -0.5 * size[axes] - beyond, (shape[axes] - 0.5) * size[axes] + beyond
        own[axes] = _within(own[axes], half, low, high)
        own[along] = plane * size[along]
        first = np.clip(np.floor((own - half) / size + 0.5), 0, shape - 1).astype(int)
        last = np.clip(np.ceil((own + half) / size + 0.5), first + 1, shape).astype(int)
        first[along], last[along] = plane, plane + 1
        thin = np.maximum(1, -(-(last - first) // MOST_PIXELS))
        last -= (last - first) % thin
        region = (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2]))
        try:
            pixels = np.asarray(image.read(frame, self._setup, level, region=region)).take(0, axis=along)
        except BdvIoError as error:  # one damaged block must not cost the page
            log.warning("Frame %d of %s is not shown. %s", frame, image.path, error)
            return self._plain(frame, centre, scale, along, "this frame cannot be read")
        pixels = pixels[:: thin[axes[0]], :: thin[axes[1]]]
        low = ((first - 0.5) * size - own)[axes] * scale + SIDE / 2
        high = ((last - 0.5) * size - own)[axes] * scale + SIDE / 2
        self._count += 1
        name = f"crop{self._count}"
        box = f'x="{low[1]:.2f}" y="{low[0]:.2f}" width="{high[1] - low[1]:.2f}" height="{high[0] - low[0]:.2f}"'
        ground = '<rect class="ground" width="100" height="100"/>'
        picture = f'<image id="{name}" {box} preserveAspectRatio="none" href="{_png(pixels)}"/>'
        again = f'{ground}<use href="#{name}"/>'
        return Pane(frame, along, own, scale, linear, shift, ground + picture, again, self.flat, float(size[0]))

    def _plain(self, frame: int, centre: F64, scale: float, along: int, said: str) -> Pane:
        words = f'<text class="none" x="50" y="94">{said}</text>' if said else ""
        ground = f'<rect class="ground" width="100" height="100"/>{words}'
        return Pane(frame, along, centre, scale, np.eye(3), np.zeros(3), ground, ground, self.flat)

    def _level(self, image: ImageSeries, half: float) -> int:
        """The finest level in which a crop is not too large."""
        setup = image.setups[self._setup]
        for number, factors in enumerate(setup.levels):
            pixel = min(setup.voxel_size[1] * factors[1], setup.voxel_size[2] * factors[2])
            if 2 * half / pixel <= 2 * MOST_PIXELS:
                return number
        return len(setup.levels) - 1


def _within(centre: F64, half: float, low: F64, high: F64) -> F64:
    """The centre of a crop, moved so that it shows no more of what lies beyond the image than it must."""
    middle = (low + high) / 2
    room = np.maximum((high - low) / 2 - half, 0)
    inside: F64 = np.clip(centre, middle - room, middle + room)
    return inside


def _ellipse(place: F64, covariance: F64, off: float, along: int, classes: str, always: bool) -> str:
    """The section of an ellipsoid with the slice that lies ``off`` from its centre along an axis; units of the pane."""
    axes = [1, 2] if along == 0 else [0, 2]
    across, own = covariance[np.ix_(axes, axes)], float(covariance[along, along])
    lean = covariance[axes, along]
    if own > 0 and off**2 < own:
        across = (across - np.outer(lean, lean) / own) * (1 - off**2 / own) if off or lean.any() else across
        place = place + lean / own * off
    elif off:
        if not always:
            return ""
        classes += " away"
    values, vectors = np.linalg.eigh(across)
    radii = np.maximum(np.sqrt(np.maximum(values, 0)), LEAST_RADIUS)
    angle = np.degrees(np.arctan2(vectors[0, 1], vectors[1, 1]))  # of the longer axis, from right to down
    y, x = place
    turn = f' transform="rotate({angle:.0f} {x:.1f} {y:.1f})"' if radii[1] - radii[0] > 0.1 else ""
    return f'<ellipse class="{classes}" cx="{x:.1f}" cy="{y:.1f}" rx="{radii[1]:.1f}" ry="{radii[0]:.1f}"{turn}/>'


def _png(pixels: npt.NDArray[Any]) -> str:
    """A crop (Y, X) as the address of a grey PNG that holds it."""
    import imagecodecs

    grey = np.nan_to_num(pixels.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(grey, (DARK, BRIGHT))
    grey = np.clip((grey - low) / max(high - low, np.finfo(float).tiny), 0, 1) ** GAMMA * 255
    data = imagecodecs.png_encode(np.rint(grey).astype(np.uint8), level=9)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def figure(content: str, alt: str, *, width: float = SIDE, height: float = SIDE) -> str:
    """Return an SVG with a text for those who do not see it."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escaped(alt)}">{content}</svg>'


def _short(value: float) -> str:
    return f"{value:g}"
