"""The worst errors of each kind as pictures: the image, the truth and the result beside each other, and where to find the place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from howdah.metrics.matching import UNMATCHED, Matching
from howdah.metrics.mistakes import Mistakes
from howdah.pipeline.report_page import escaped, number
from howdah.pipeline.report_panes import SIDE, Pane, Panes, SpotsByFrame, figure
from howdah.pipeline.report_words import KIND_WORDS

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Gallery", "named", "shown_first"]

EACH = 6  # errors of a kind that are shown
POOL = 4  # times as many may be chosen from, so that the movie is seen and not one bad frame
BOX = 'width="100" height="100" viewBox="0 0 100 100"'
GAP = 14.0  # between two frames beside each other, units
ROOM = 3.4  # half of a crop, in radii of the cell
LEAST_HALF = 8.0  # half of a crop, pixels
NO_OVERLAP = 0.6  # severity of a poor mask that covers nothing; it falls as the overlap grows (see find_mistakes)
MOST_BYTES = 3_500_000  # of all pictures; the page stays below 5 MB


def shown_first(mistakes: Mistakes, most: int = EACH) -> Mistakes:
    """Return those of the worst errors that are shown: by severity, spread over time.

    Chosen from are the four times as many worst ones, and those that are as bad. No frame is shown twice while there is another, nor a
    stretch of time: that from the first to the last of them, cut into as many parts as are shown. Worst first.
    """
    if len(mistakes) <= most:
        return mistakes.worst()
    level = np.partition(mistakes.severity, -min(POOL * most, len(mistakes)))[-min(POOL * most, len(mistakes))]
    pool = mistakes.take(np.flatnonzero(mistakes.severity >= level)).worst()
    first, last = int(pool.frame.min()), int(pool.frame.max())
    part = (pool.frame - first) * most // (last - first + 1)
    order = np.lexsort((-pool.severity, _places(part), _places(pool.frame)))
    shown = pool.take(order[:most])
    return shown.take(np.lexsort((shown.frame, -shown.severity)))


def _places(group: I64) -> I64:
    """(K,) how many of the same group come before each."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    places = np.empty(len(group), dtype=np.int64)
    places[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    return places


def named(tracks: Tracks, row: int) -> str:
    """Return how the programs show a spot: its label if it has one, and its number; text."""
    label, track = tracks.label[row], tracks.feature("CTC track")
    said = f"#{int(tracks.id[row])}" if track is None else f"label {int(track.values[row])}"
    return said if label is None or not str(label).strip() or str(label) == said[1:] else f"{label} ({said})"


class _Side:
    """The truth or the result, as it is drawn."""

    def __init__(self, name: str, classes: str, tracks: Tracks) -> None:
        self.name, self.classes, self.tracks = name, classes, tracks
        self.by_frame = SpotsByFrame(tracks)
        self._order = np.argsort(tracks.links[:, 0], kind="stable")
        self._sources = tracks.links[self._order, 0]

    def drawn(self, pane: Pane, subject: I64) -> str:
        """SVG of all spots in a pane, the ones that matter bold and on top."""
        others = pane.near(self.by_frame)
        others = others[~np.isin(others, subject)]
        return pane.outlines(self.tracks, others, self.classes) + pane.outlines(
            self.tracks, subject, f"{self.classes} me", always=True
        )

    def links_of(self, rows: I64) -> I64:
        """(K, 2) links that leave some spots."""
        first, last = (np.searchsorted(self._sources, rows, side=side) for side in ("left", "right"))
        places = [np.arange(start, stop) for start, stop in zip(first.tolist(), last.tolist(), strict=True)]
        found: I64 = self.tracks.links[self._order[np.concatenate([np.empty(0, np.int64), *places])]]
        return found

    def children(self, row: int) -> I64:
        """Rows of the spots that a spot is linked to."""
        return self.links_of(np.array([row]))[:, 1]


class Gallery:
    """Draws cards of errors.

    Args:
        result: What was judged. truth: The truth. matching: Their pairs.
        image: The movie, read crop by crop; None for plain ground.
        setup: View setup that is shown.
    """

    def __init__(
        self, result: Tracks, truth: Tracks, matching: Matching, *, image: ImageSeries | None, setup: int = 0
    ) -> None:
        truth, result = _drawable(truth), _drawable(result)
        self._sides = (
            _Side("truth", "t", truth),
            _Side("result", "r", result),
        )
        self._partner = (matching.predicted_of, matching.truth_of)
        centres = np.concatenate([truth.centre, result.centre])
        self._panes = Panes(image, setup, flat=not len(centres) or float(np.ptp(centres[:, 0])) == 0)
        sizes = np.abs(np.linalg.det(truth.covariance)) ** (1 / 6) if truth.n_spots else np.zeros(1)
        self._usual = float(np.median(sizes))  # radius of a true cell: what is around a tiny error is seen, too
        pixel = 0.0 if image is None else float(min(image.setups[setup].voxel_size[1:]))
        wide = float(np.ptp(centres, axis=0).max()) if len(centres) else 0.0
        self._least = LEAST_HALF * pixel or (0.0 if self._usual else wide / 20 or 1.0)
        self._unit = truth.space_unit
        units = {tracks.space_unit for tracks in (truth, result) if tracks.n_spots}
        #: Why there are no pictures; empty where there are some.
        self.why_none = (
            f"No pictures: the truth is in {truth.space_unit}, the result in {result.space_unit}."
            if len(units) > 1
            else ""
        )
        self._bytes = 0

    def cards(self, mistakes: Mistakes, kind: str) -> Iterator[str]:
        """Yield one card an error of this kind, markup; fewer once the pictures fill what a page may hold."""
        chosen = shown_first(mistakes.of(kind))
        for place in range(len(chosen)):
            if self._bytes > MOST_BYTES or self.why_none:
                return
            one = _One(*(column[place] for column in vars(chosen).values()))
            draw = {"link": self._link, "division": self._division}.get(kind.split()[0], self._spot)
            card = f'<figure class="card"><div class="rows">{draw(kind, one)}</div>{self._caption(kind, one)}</figure>'
            self._bytes += len(card)
            yield card

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def _spot(self, kind: str, one: _One) -> str:
        """Image, truth, result; in 3D the slice along y as well."""
        spots = [(side, row) for side, row in zip(self._sides, one.rows, strict=True) if row != UNMATCHED]
        half = max(ROOM * max(_radius(spots), self._usual), self._least)
        drawn = []
        for along in (0,) if self._panes.flat else (0, 1):
            room = half if along == 0 else max(half, 1.6 * _radius(spots, along))
            pane = self._panes.cut(int(one.frame), one.centre, room, along=along)
            seen = "" if self._panes.flat else f", {('xy', 'xz')[along]} slice"
            cells = [(pane.ground, "image" + seen, f"Frame {one.frame}{seen}: the image around the place.")]
            for place, (side, row) in enumerate(zip(self._sides, one.rows, strict=True)):
                subject = np.array([row] if row != UNMATCHED else [], dtype=np.int64)
                content = pane.again + side.drawn(pane, subject)
                if not len(subject):  # where it should be: as the other side has it
                    other = np.array([one.rows[1 - place]], dtype=np.int64)
                    content += pane.outlines(self._sides[1 - place].tracks, other, "lost", always=True)
                has = "the cell" if len(subject) else "no cell"
                cells.append((content, side.name, f"The same with the spots of the {side.name}: {has} in the middle."))
            drawn.append(
                _row(figure(f"<svg {BOX}>{content}</svg>", alt) + _under(name) for content, name, alt in cells)
            )
        return "".join(drawn)

    def _link(self, kind: str, one: _One) -> str:
        """Both frames beside each other, once with what is true and once with what was found."""
        owner = 1 if one.predicted != UNMATCHED else 0
        tracks = self._sides[owner].tracks
        ends = tracks.links[one.predicted if owner else one.truth]
        theirs = self._partner[owner][ends]
        radius = _radius([(self._sides[owner], row) for row in ends.tolist()])
        frames = (int(tracks.t[ends[0]]), int(tracks.t[ends[1]]))
        panes = self._two(frames, tracks.centre[ends], (tracks.centre[ends[0]], tracks.centre[ends[1]]), radius)
        subjects = (theirs[theirs != UNMATCHED], ends) if owner else (ends, theirs[theirs != UNMATCHED])
        return self._pair(panes, subjects, lost=ends if kind == "link missed" else None)

    def _division(self, kind: str, one: _One) -> str:
        """The mother's frame and the daughters', once with what is true and once with what was found."""
        owner = 1 if kind == "division false" else 0
        side = self._sides[owner]
        mother = one.rows[owner]
        daughters = side.children(mother)
        later = int(side.tracks.t[daughters].min())
        family = [np.array([mother]), daughters]
        places = side.tracks.centre[np.concatenate(family)]
        radius = _radius([(side, mother)])
        panes = self._two(
            (int(one.frame), later),
            places,
            (side.tracks.centre[mother], side.tracks.centre[daughters].mean(axis=0)),
            radius,
        )
        other = one.rows[1 - owner]
        known = (
            [np.array([other]), self._sides[1 - owner].children(other)]
            if other != UNMATCHED
            else [np.empty(0, np.int64)]
        )
        mine, theirs = np.concatenate(family), np.concatenate(known)
        return self._pair(panes, (theirs, mine) if owner else (mine, theirs))

    def _two(self, frames: tuple[int, int], places: F64, depths: tuple[F64, F64], radius: float) -> tuple[Pane, Pane]:
        """The same square of two frames, wide enough for all ``places``; in 3D each at its own depth."""
        low, high = places.min(axis=0), places.max(axis=0)
        middle = (low + high) / 2
        cell = max(radius, self._usual)
        half = max(float((high - low)[1:].max()) / 2 + 1.8 * cell, 2.6 * cell, self._least)
        first, second = (
            self._panes.cut(frame, np.array([depth[0], middle[1], middle[2]]), half)
            for frame, depth in zip(frames, depths, strict=True)
        )
        return first, second

    def _pair(self, panes: tuple[Pane, Pane], subjects: tuple[I64, I64], *, lost: I64 | None = None) -> str:
        """Two rows, truth and result: two panes each, and the links between them.

        Args:
            panes: Of both frames.
            subjects: Rows of the cells in question, in the truth and in the result.
            lost: The ends of a true link that the result lacks; where it lacks an end, this is shown as well.
        """
        drawn = []
        for side, subject in zip(self._sides, subjects, strict=True):
            again = side is not self._sides[0]
            parts, shown = [], []
            for place, pane in enumerate(panes):
                here = subject[side.tracks.t[subject] == pane.frame]
                ground = pane.again if again else pane.ground
                content = ground + side.drawn(pane, here)
                if again and lost is not None and self._partner[0][lost[place]] == UNMATCHED:
                    content += pane.outlines(self._sides[0].tracks, lost[place : place + 1], "lost", always=True)
                parts.append(f'<svg x="{place * (SIDE + GAP):g}" {BOX}>{content}</svg>')
                near = np.concatenate([here, pane.near(side.by_frame)])
                inside = (np.abs(pane.places(side.tracks.centre[near]) - SIDE / 2) < SIDE / 2).all(axis=1)
                shown.append(near[inside])
            links = side.links_of(np.unique(shown[0]))
            between = links[np.isin(links[:, 1], shown[1])]
            bold = np.isin(between, subject).all(axis=1)
            for ends, strong in zip(between[np.argsort(bold, kind="stable")], np.sort(bold), strict=True):
                parts.append(_arrow(panes, side.tracks.centre[ends], f"{side.classes}{' me' if strong else ''}"))
            if lost is not None and again:
                parts.append(_arrow(panes, self._sides[0].tracks.centre[lost], "lost"))
            frames = f"frame {panes[0].frame} on the left, frame {panes[1].frame} on the right"
            alt = (
                f"{side.name.capitalize()}: {frames}; {len(between)} links, {int(bold.sum())} of the cells in question."
            )
            under = _under(f"{side.name}: frame {panes[0].frame} → {panes[1].frame}")
            drawn.append(_row([figure("".join(parts), alt, width=2 * SIDE + GAP) + under]))
        return "".join(drawn)

    # ---- words -------------------------------------------------------------------------------------------------------

    def _caption(self, kind: str, one: _One) -> str:
        lines = [
            ("frame", str(one.frame)),
            ("z, y, x", f"{', '.join(f'{v:.2f}' for v in one.centre)} {escaped(self._unit)}"),
        ]
        for side, row in zip(self._sides, one.rows, strict=True):
            if row != UNMATCHED:
                rows = side.tracks.links[row].tolist() if kind.startswith("link") else [row]
                lines.append((side.name, escaped(" → ".join(named(side.tracks, r) for r in rows))))
        if kind == "mask poor":
            lines.append(("overlap (IoU)", number(NO_OVERLAP - float(one.severity), 2)))
        lines.append(("severity", number(float(one.severity), 2)))
        facts = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in lines)
        title = KIND_WORDS[kind].title
        return f"<figcaption><b>{title.removesuffix('s')} in frame {one.frame}</b><dl>{facts}</dl></figcaption>"


def _radius(spots: Sequence[tuple[_Side, int]], along: int = 0) -> float:
    """The largest half-axis of some spots as they are seen along an axis, world units."""
    seen = np.ix_([1 - along, 2], [1 - along, 2])
    most = [np.linalg.eigvalsh(side.tracks.covariance[row][seen])[-1] for side, row in spots]
    return float(np.sqrt(max(0.0, *most)))


def _drawable(tracks: Tracks) -> Tracks:
    """The annotation with shapes that can be drawn; files of other programs hold some that are not finite."""
    if np.isfinite(tracks.covariance).all():
        return tracks
    return replace(tracks, covariance=np.nan_to_num(tracks.covariance, nan=0.0, posinf=0.0, neginf=0.0))


@dataclass(frozen=True, eq=False)
class _One:
    """One error: a row of the table."""

    kind: int
    frame: int
    centre: F64
    predicted: int
    truth: int
    severity: float

    @property
    def rows(self) -> tuple[int, int]:
        """Row in the truth, row in the result."""
        return int(self.truth), int(self.predicted)


def _row(cells: Iterable[str]) -> str:
    return '<div class="row">' + "".join(f"<div>{cell}</div>" for cell in cells) + "</div>"


def _under(name: str) -> str:
    return f'<span class="of">{escaped(name)}</span>'


def _arrow(panes: tuple[Pane, Pane], ends: F64, classes: str) -> str:
    """A line from a place in the first pane to one in the second, a dot where it ends."""
    (y, x), (y2, x2) = (np.clip(pane.places(end[None])[0], 0, SIDE) for pane, end in zip(panes, ends, strict=True))
    x2 += SIDE + GAP
    dot = "" if classes == "lost" else f'<circle class="dot {classes}" cx="{x2:.1f}" cy="{y2:.1f}" r="2"/>'
    return f'<line class="arrow {classes}" x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>{dot}'
