"""Candidate events as spots: a ranked list that a biologist jumps through in Mastodon or TrackMate, from division to division."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io import Tracks
from bdv_io.formats import writer_for
from bdv_io.safe_write import replacing
from bdv_io.tags import UNTAGGED, Feature, Tag
from howdah.errors import ConfigError, DataError
from howdah.methods.elephant.merge import replaceable
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job
from howdah.pipeline.machine_marks import marked, recognised
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.results import check_targets, write_results
from howdah.pipeline.staying import own_names
from howdah.pipeline.tap_features import QUALITY, RANK, own_tap_names
from howdah.pipeline.tap_maps import MapImage, check_image_target, writing
from howdah.pipeline.tap_network import PathLike, Sections, Seen, in_world, look
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods.tap.attribution import Attribution
    from howdah.methods.tap.events import Events

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = [
    "EVENT",
    "QUALITY",
    "RANK",
    "TAG_SET",
    "Listing",
    "events_tap",
    "ranked_table",
    "with_events",
    "without_events",
]

log = logging.getLogger("howdah")

TAG_SET, EVENT = "TAP", Tag("event", 0xFFFF00FF)
BLANK = "blank (one value everywhere). Is it the right channel (--setup)?"
SHARE = 6  # radius of an event's spot as share of the crop: a crop is some three nuclei wide, a dividing pair fits in
COLUMNS = ("rank", "t", "z", "y", "x", "quality")


@dataclass(frozen=True)
class Listing:
    """How many events are listed, and where.

    Attributes:
        top: So many, the best; 0 = all.
        apart: Each event gets a spot of its own, also where there is a spot already.
    """

    top: int = 100
    apart: bool = False


def events_tap(
    job: Job,
    out: PathLike,
    *,
    weights: PathLike,
    settings: Sections,
    also: Sequence[PathLike] = (),
    map_to: PathLike | None = None,
    listing: Listing | None = None,
) -> Steps[dict[str, Any]]:
    """Find where something happened, and write it as spots with rank, quality, and the tag "TAP" = "event".

    In a project, an event that lies on a spot tags that spot; elsewhere a spot is added. What a person made stays as it is: no spot is
    moved or renamed, and a tag that she gave in this set stays. Events of an earlier run that nobody touched are replaced.

    Args:
        job: A movie, or a project that names its movie. ``frames``: where to look.
        out: The result; its ending chooses the format: ``.mastodon``, TrackMate ``.xml``, ``.geff``, or ``.csv``, the list alone: rank, t,
            z, y, x (world units), quality.
        weights: Of a network, from training, or published ones.
        settings: ``{"tap": {...}}``.
        also: Further results.
        map_to: Where to write the map of where time has an arrow, too; see :func:`howdah.pipeline.tap_maps.map_tap`.
        listing: How many, and where.

    Returns:
        The files, the number of events, of those that lie on a spot, and the best ones.

    Raises:
        DataError, ConfigError, WeightsError, BdvIoError: As the sentence says.
    """
    seen, listed = look(job, weights, settings=settings), listing or Listing()
    source = seen.opened.source
    targets = [_check(target, seen) for target in [out, *also]]
    image_target = None if map_to is None else check_image_target(map_to, source, more=[seen.file])
    if all(seen.frames.is_blank(t) for t in seen.opened.frames):
        raise DataError(f"Looking for events in {seen.opened.movie.name} is not possible: all frames are {BLANK}")
    if len({path.resolve() for path in targets}) < len(targets):
        raise ConfigError("A result was named twice. Name each once.")
    with recorded(
        targets[0], "tap-events", inputs=seen.inputs, settings={"tap": dict(settings.get("tap", {}))}
    ) as record:
        yield Progress("events", 0, seen.opened.source.image.n_frames, message=seen.embedder.place.sentence)
        found, facts = yield from _found(seen, image_target)
        kept = found.take(slice(None, listed.top or None))
        tracks, on_spots = with_events(source.tracks, kept, seen, apart=listed.apart)
        written = _write(targets, tracks, kept, seen, job)
        facts = {"events": len(kept), "peaks": len(found), "on_spots": on_spots, **facts}
        record.facts |= {**facts, **seen.facts, "weights": fingerprint(seen.file), "results": [str(p) for p in written]}
    more: dict[str, Any] = {"also": [str(path) for path in written[1:]]} if len(written) > 1 else {}
    more |= {} if image_target is None else {"map": str(image_target)}
    return {"out": str(written[0]), **more, "weights": str(seen.file), **facts, "best": _shown(kept, seen)}


def _check(target: PathLike, seen: Seen) -> Path:
    return check_targets([target], seen.opened.source, more=[seen.file])[0]


def _found(seen: Seen, image_target: Path | None) -> Steps[tuple[Events, dict[str, Any]]]:
    """Find the events of a movie, and write the map in which they are, if it is asked for."""
    from howdah.methods.tap.events import Peaks
    from howdah.methods.tap.movies import voxel_of

    peaks = Peaks(seen.config, voxel_of(seen.opened.movie, seen.config))
    blank: list[int] = []

    def told(one: Attribution) -> None:
        """Take the peaks of a map, unless there is nothing in the frame."""
        if seen.frames.is_blank(one.time):
            blank.append(one.time)
        else:
            peaks.add(one)

    image = MapImage(seen, told=told)
    if image_target is not None:
        yield from writing(image_target, image, "events")
    else:
        for done, _ in enumerate(image.maps(), start=1):
            yield Progress("events", done, len(image.times))
    if blank:
        log.warning("No event is looked for in %d frames of %s: they are %s", len(blank), seen.opened.movie.name, BLANK)
    return peaks.ranked(), image.facts()


def with_events(tracks: Tracks, events: Events, seen: Seen, *, apart: bool = False) -> tuple[Tracks, int]:
    """Put events into an annotation: as tags of spots that are there, or as new spots.

    Args:
        tracks: The annotation; events of an earlier run leave it first.
        events: Ranked, in pixels of the maps.
        seen: Movie and network.
        apart: Do not look for spots that are there.

    Returns:
        The annotation, and how many events lie on a spot.
    """
    from howdah.methods.tap.events import settled_events

    named = own_tap_names(own_names(recognised(tracks)))
    refused = named.id[_refused(named)]
    before = without_events(named)
    centre = in_world(seen.opened, events.t, events.centre, shrink=seen.config.shrink)
    size = seen.opened.movie.voxel_size[2] * seen.config.shrink
    reach = settled_events(seen.config)[0] / 2 * size
    row = np.full(len(events), -1) if apart else _spot_of(before, events.t, centre, reach=reach)
    new = np.flatnonzero(row < 0)
    digits = len(str(len(events)))
    spots = Tracks.build(
        events.t[new],
        centre[new],
        radius=seen.config.crop_size / SHARE * size,
        label=[f"#{rank + 1:0{digits}d}" for rank in new.tolist()],
        quality=events.quality[new],
        space_unit=before.space_unit,
    )
    n = before.n_spots
    both = before.concatenate(spots)
    row = np.where(row < 0, n + np.cumsum(row < 0) - 1, row)
    tagged = both.with_tag_set(TAG_SET, [EVENT])
    tags = tagged.tag_set(TAG_SET)
    free = row if tags is None else row[tags.spots[row] == UNTAGGED]  # what a person said of a spot stays
    free = free[~np.isin(both.id[free], refused)]
    tagged = tagged.with_tag(TAG_SET, EVENT, spots=free)
    for name, values, dimension in (
        (RANK, np.arange(1, len(events) + 1, dtype=np.int32), "NONE"),
        (QUALITY, events.quality, "QUALITY"),
    ):
        filler = 0 if values.dtype.kind == "i" else np.nan
        column, defined = np.full(both.n_spots, filler, dtype=values.dtype), np.zeros(both.n_spots, dtype=bool)
        column[row], defined[row] = values, True
        tagged = tagged.with_feature(Feature(name, "", column, dimension=dimension, defined=defined))
    made = np.arange(n, both.n_spots)
    return marked(tagged, spots=made, links=np.empty(0, dtype=np.int64)), len(events) - len(new)


def without_events(tracks: Tracks) -> Tracks:
    """Return an annotation without the events of an earlier run: untouched spots that were made for them, tags and numbers of others."""
    tracks = own_tap_names(tracks)
    tags = tracks.tag_set(TAG_SET)
    features = tuple(f for f in tracks.features if f.name not in (RANK, QUALITY))
    tracks = replace(tracks, features=features)
    if tags is None or tags.position(EVENT.name) == UNTAGGED:
        return tracks
    mine = tags.spots == tags.position(EVENT.name)
    column = tags.spots.copy()
    column[mine] = UNTAGGED
    cleared = tracks.with_tags(replace(tags, spots=column))
    named = [name is not None and mine[row] and _is_rank(name) for row, name in enumerate(tracks.label.tolist())]
    bare = cleared.relabelled([None if gone else name for gone, name in zip(named, tracks.label.tolist(), strict=True)])
    gone = mine & replaceable(bare)
    return bare.select(~gone) if gone.any() else bare


def _refused(tracks: Tracks) -> Bool:
    """(N,) whether a spot was an event of an earlier run, and a person has taken the tag away."""
    rank, tags = tracks.feature(RANK), tracks.tag_set(TAG_SET)
    if rank is None or tags is None:
        return np.zeros(tracks.n_spots, dtype=bool)
    ranked = np.isfinite(rank.values) if rank.defined is None else rank.defined
    found: Bool = ranked & (tags.spots == UNTAGGED)
    return found


def _is_rank(name: str) -> bool:
    return name.startswith("#") and name[1:].isdecimal()


def _spot_of(tracks: Tracks, t: I64, centre: F64, *, reach: float) -> I64:
    """Return the spot (row) on which each event lies, -1 where there is none; no spot twice, the better event has the choice.

    An event lies on a spot of its frame if it is within its ellipsoid; else on the nearest one within reach.
    """
    found = np.full(len(t), -1, dtype=np.int64)
    taken: set[int] = set()
    for frame in np.unique(t).tolist():
        rows, here = np.flatnonzero(tracks.t == frame), np.flatnonzero(t == frame)
        if not len(rows):
            continue
        widest = float(np.sqrt(np.linalg.eigvalsh(tracks.covariance[rows])[:, -1].max(initial=0.0)))
        tree = scipy.spatial.cKDTree(tracks.centre[rows])
        near = tree.query_ball_point(centre[here], max(reach, widest))
        for event, candidates in zip(here.tolist(), near, strict=True):
            free = np.array([row for row in rows[candidates].tolist() if row not in taken], dtype=np.int64)
            if not len(free):
                continue
            apart = centre[event] - tracks.centre[free]
            inverse = np.linalg.pinv(tracks.covariance[free], hermitian=True)
            depth = np.einsum("ni,nij,nj->n", apart, inverse, apart)  # below 1 within the ellipsoid
            distance = np.linalg.norm(apart, axis=1)
            on = (depth <= 1) | (distance <= reach)
            if on.any():
                best = free[on][np.argmin(np.where(depth <= 1, depth, 1 + distance)[on])]
                found[event] = best
                taken.add(int(best))
    return found


def _write(targets: Sequence[Path], tracks: Tracks, events: Events, seen: Seen, job: Job) -> list[Path]:
    """Write the annotation, and the list alone where a table is asked for."""
    written = []
    for target in targets:
        if writer_for(target).key == "csv":
            with replacing(target) as temporary:
                temporary.write_text(ranked_table(events, seen), encoding="utf-8")
            written.append(target)
        else:
            source = seen.opened.source
            written += write_results([target], tracks, source, hints=job.hints, challenge=Challenge())
    return written


def ranked_table(events: Events, seen: Seen) -> str:
    """Return the list as CSV: rank, frame, place (world units), quality."""
    centre = in_world(seen.opened, events.t, events.centre, shrink=seen.config.shrink)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for rank, (t, place, quality) in enumerate(
        zip(events.t.tolist(), centre.tolist(), events.quality.tolist(), strict=True)
    ):
        table.writerow([rank + 1, t, *(f"{value:.6g}" for value in place), f"{quality:.6f}"])
    return text.getvalue()


def _shown(events: Events, seen: Seen, most: int = 10) -> list[dict[str, Any]]:
    """The first lines of the list, for the terminal."""
    best = events.take(slice(most))
    centre = in_world(seen.opened, best.t, best.centre, shrink=seen.config.shrink)
    return [
        {
            "rank": i + 1,
            "frame": int(t),
            "z": round(z, 2),
            "y": round(y, 2),
            "x": round(x, 2),
            "quality": round(float(q), 3),
        }
        for i, (t, (z, y, x), q) in enumerate(zip(best.t, centre.tolist(), best.quality, strict=True))
    ]
