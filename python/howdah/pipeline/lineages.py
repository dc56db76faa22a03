"""Analysing and editing the lineages of an annotation file: reads one, works on it, writes the next.

The movie is not needed; where the annotation names one that is there, its number of frames says where lineages end, and
the result names it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io import BdvIoError, ImageSeries, Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks, writer_for
from howdah import lineages
from howdah.errors import ConfigError
from howdah.pipeline.overwriting import files_of, refuse_overwriting
from howdah.pipeline.picture import draw_result
from howdah.pipeline.record import recorded
from howdah.pipeline.saving import save
from howdah.pipeline.sources import as_shown, check_target, parse_frames

PathLike = str | os.PathLike[str]
Facts = dict[str, Any]
Change = Callable[["Annotation"], tuple[Tracks, Facts]]
Corner = Sequence[float]
DRAWN = "Progenitor (drawn)"  # beside a tag set of the file

__all__ = [
    "Annotation",
    "approve_lineages",
    "complete_lineages",
    "draw_lineages",
    "edit",
    "map_tags",
    "open_annotation",
    "remove_bad",
    "remove_places",
    "remove_short",
    "remove_tagged",
    "tag_dividing_cells",
    "tag_progenitor_lineages",
    "tag_proliferating",
]


@dataclass(frozen=True)
class Annotation:
    """An annotation file, and its movie if that is there."""

    path: Path
    tracks: Tracks
    image: ImageSeries | None = None

    @property
    def last_frame(self) -> int:
        """The last frame of the movie; without it, the last one that has spots."""
        return max(self.image.n_frames if self.image else 0, self.tracks.n_frames) - 1

    @property
    def inputs(self) -> dict[str, Path]:
        """The files, for the record."""
        movie = self.image.path if self.image else None
        return {"project": self.path, **({"image": movie} if movie else {})}


def open_annotation(path: PathLike, *, image: PathLike | None = None) -> Annotation:
    """Read an annotation of any format; its movie is opened if it is there, and must be there if ``image`` names it.

    Raises:
        BdvIoError: One of them cannot be read.
    """
    tracks = as_shown(path, read_tracks(path))
    named = tracks.attributes.get("image", "")
    movie = None
    if image is not None:
        movie = open_image(image)
    elif named and Path(named).exists():
        try:
            movie = open_image(named)
        except BdvIoError:
            movie = None  # reading the annotation has said so
    return Annotation(Path(path), tracks, movie)


def edit(
    source: PathLike,
    out: PathLike,
    change: Change,
    *,
    task: str,
    settings: Mapping[str, Any],
    image: PathLike | None = None,
    key: str | None = None,
) -> Facts:
    """Read an annotation, change it, and write it with a record and a log beside it.

    Args:
        source: The annotation.
        out: The result; its ending chooses the format. It may be the source: its former version is kept as ``name~1~``.
        change: Takes the :class:`Annotation` and returns the new one with facts for the user.
        task: Name of the work, for the record.
        settings: What was asked for, for the record.
        image: The movie, where the annotation does not name it or it has moved.
        key: The format of the result, where its ending does not say it.

    Returns:
        The file, the facts, and the counts of spots and links.
    """
    writer = writer_for(out, key=key)
    target = check_target(out, folder=True)
    given = open_annotation(source, image=image)
    refuse_overwriting(target, writer, [*files_of(given.image), *([] if _same(target, source) else [given.path])])
    with recorded(target, task, inputs=given.inputs, settings=settings) as record:
        changed, facts = change(given)
        written = target
        if given.image is None or key is not None:
            write_tracks(target, changed, image=given.image, key=key)
        else:
            written = save(target, changed, given.image)
        record.facts |= {**facts, "spots": changed.n_spots, "links": changed.n_links}
    return {"out": str(written), **record.facts}


def _same(target: Path, source: PathLike) -> bool:
    return target.resolve() == Path(source).resolve()


def draw_lineages(
    source: PathLike,
    out: PathLike,
    *,
    tag_set: str | None = None,
    frames: str | None = None,
    image: PathLike | None = None,
) -> Facts:
    """Draw projections and lineage trees as a PNG, coloured by a tag set; without it by progenitor.

    Args:
        source: The annotation.
        out: The picture, ``.png``.
        tag_set: Tag set whose colours are taken. None: the progenitors of the first frame, whether tagged or not.
        frames: Frames that are shown, ``"0,10,20"``; four by default.
        image: The movie, where the annotation does not name it.
    """
    target = check_target(out, ending=".png")
    given = open_annotation(source, image=image)
    tracks = given.tracks if tag_set is not None else lineages.tag_progenitors(given.tracks, tag_set=DRAWN)
    shown = None if frames is None else parse_frames(frames, given.last_frame + 1)
    draw_result(target, given.image, tracks, frames=shown, tag_set=tag_set or DRAWN)
    return {"out": str(target), "spots": tracks.n_spots, "tracks": tracks.tracks()[0]}


# ---- tags ----------------------------------------------------------------------------------------------------------


def tag_progenitor_lineages(
    source: PathLike,
    out: PathLike,
    *,
    spots: Sequence[str] = (),
    frame: int | None = None,
    tag_set: str = lineages.PROGENITOR,
) -> Facts:
    """Tag the descendants of each progenitor; see :func:`howdah.lineages.tag_progenitors`. Spots are named as users do."""

    def change(given: Annotation) -> tuple[Tracks, Facts]:
        rows = lineages.find_spots(given.tracks, spots) if spots else None
        tagged = lineages.tag_progenitors(given.tracks, spots=rows, frame=frame, tag_set=tag_set)
        column = _tags(tagged, tag_set)
        n = len(column.tags) - 1
        return tagged, {"progenitors": n, "descendants": int((column.spots < n).sum()), "tag_set": tag_set}

    settings = {"spots": list(spots), "frame": frame, "tag_set": tag_set}
    return edit(source, out, change, task="lineage progenitors", settings=settings)


def tag_proliferating(source: PathLike, out: PathLike, *, first: int = 0, last: int | None = None) -> Facts:
    """Tag lineages by whether they divide in a range of frames; see :func:`howdah.lineages.tag_proliferators`."""

    def change(given: Annotation) -> tuple[Tracks, Facts]:
        end = given.last_frame if last is None else last
        tagged = lineages.tag_proliferators(given.tracks, first=first, last=end)
        roots = tagged.n_parents() == 0
        return tagged, {"first_frame": first, "last_frame": end, **_counted(tagged, lineages.PROLIFERATOR, roots)}

    return edit(source, out, change, task="lineage proliferators", settings={"first": first, "last": last})


def tag_dividing_cells(source: PathLike, out: PathLike, *, around: int = 0) -> Facts:
    """Tag mothers and daughters; see :func:`howdah.lineages.tag_dividing`."""

    def change(given: Annotation) -> tuple[Tracks, Facts]:
        tagged = lineages.tag_dividing(given.tracks, around=around)
        return tagged, _counted(tagged, lineages.DIVISION, np.ones(tagged.n_spots, dtype=bool))

    return edit(source, out, change, task="lineage dividing", settings={"around": around})


def map_tags(
    source: PathLike, out: PathLike, old: tuple[str, str], new: tuple[str, str], *, links: bool = False
) -> Facts:
    """Give everything with one tag another one; see :func:`howdah.lineages.map_tag`."""

    def change(given: Annotation) -> tuple[Tracks, Facts]:
        mapped, n = lineages.map_tag(given.tracks, old, new, links=links)
        return mapped, {"tagged": n}

    return edit(source, out, change, task="lineage map-tag", settings={"from": old, "to": new, "links": links})


def approve_lineages(
    source: PathLike, out: PathLike, *, spots: Sequence[str], whole: bool = True, as_marks: bool = False
) -> Facts:
    """Approve the lineages of some spots; see :func:`howdah.lineages.approve`."""

    def change(given: Annotation) -> tuple[Tracks, Facts]:
        rows = lineages.find_spots(given.tracks, spots)
        approved, n_spots, n_links = lineages.approve(given.tracks, rows, whole=whole, as_marks=as_marks)
        return approved, {"approved_spots": n_spots, "approved_links": n_links}

    settings = {"spots": list(spots), "whole": whole, "as_marks": as_marks}
    return edit(source, out, change, task="lineage approve", settings=settings)


def complete_lineages(
    source: PathLike,
    out: PathLike,
    *,
    from_first: bool = False,
    ends: tuple[str, str] | None = None,
    gaps: bool = False,
    confirmed: bool = False,
    image: PathLike | None = None,
) -> Facts:
    """Tag the roots of complete lineages Status = Completed; see :func:`howdah.lineages.complete_roots`.

    Args:
        source: The annotation.
        out: The result.
        from_first: Only lineages that begin in the first frame that has spots.
        ends: Tag set and tag of spots that may end before the last frame, for example of cells that die.
        gaps: Links that skip frames are fine.
        confirmed: Everything in the lineage must be made or approved by a person.
        image: The movie, whose last frame lineages must reach.
    """

    def change(given: Annotation) -> tuple[Tracks, Facts]:
        tracks = given.tracks
        may_end = None if ends is None else tracks.tagged(*lineages.chosen_tag(tracks, *ends))
        roots = lineages.complete_roots(
            tracks,
            first=int(tracks.t.min()) if from_first and tracks.n_spots else None,
            last=given.last_frame,
            ends=may_end,
            without_gaps=not gaps,
            confirmed=confirmed,
        )
        marked, new, other = lineages.mark_completed(tracks, roots)
        facts: Facts = {"complete": len(roots), "newly_marked": new, "last_frame": given.last_frame}
        facts |= {"lineages": int((tracks.n_parents() == 0).sum())}
        stale = np.setdiff1d(np.flatnonzero(tracks.tagged("Status", "Completed")), roots)
        if other:
            facts["with_another_status"] = other
        if len(stale):
            facts["completed_but_open"] = [int(spot) for spot in tracks.id[stale[:20]]]
        return marked, facts

    settings = {"from_first": from_first, "ends": ends, "gaps": gaps, "confirmed": confirmed}
    return edit(source, out, change, task="lineage complete", settings=settings, image=image)


# ---- removal -------------------------------------------------------------------------------------------------------


def remove_short(source: PathLike, out: PathLike, *, min_links: int, also_mine: bool = False) -> Facts:
    """Remove tracks with fewer links; see :func:`howdah.lineages.remove_short_tracks`."""
    return _removing(
        source,
        out,
        lambda tracks: lineages.remove_short_tracks(tracks, min_links=min_links, also_by_person=also_mine),
        {"min_links": min_links, "also_mine": also_mine},
    )


def remove_tagged(
    source: PathLike, out: PathLike, tag: tuple[str, str], *, links: bool = False, also_mine: bool = False
) -> Facts:
    """Remove spots or links with a tag; see :func:`howdah.lineages.remove_by_tag`."""
    return _removing(
        source,
        out,
        lambda tracks: lineages.remove_by_tag(tracks, *tag, links=links, also_by_person=also_mine),
        {"tag": tag, "links": links, "also_mine": also_mine},
    )


def remove_places(
    source: PathLike,
    out: PathLike,
    *,
    first: int | None = None,
    last: int | None = None,
    box: tuple[Corner, Corner] | None = None,
    also_mine: bool = False,
) -> Facts:
    """Remove the spots of a range of frames and a box; see :func:`howdah.lineages.remove_range`."""
    return _removing(
        source,
        out,
        lambda tracks: lineages.remove_range(tracks, first=first, last=last, box=box, also_by_person=also_mine),
        {"first": first, "last": last, "box": box, "also_mine": also_mine},
    )


def remove_bad(source: PathLike, out: PathLike, *, also_mine: bool = False) -> Facts:
    """Remove links that cannot be; see :func:`howdah.lineages.remove_bad_links`."""
    return _removing(
        source,
        out,
        lambda tracks: lineages.remove_bad_links(tracks, also_by_person=also_mine),
        {"bad_links": True, "also_mine": also_mine},
    )


def _removing(
    source: PathLike, out: PathLike, remove: Callable[[Tracks], lineages.Removal], settings: Mapping[str, Any]
) -> Facts:
    def change(given: Annotation) -> tuple[Tracks, Facts]:
        done = remove(given.tracks)
        facts: Facts = {"removed_spots": done.spots, "removed_links": done.links}
        kept = [f"{n} {what}" for n, what in ((done.kept_spots, "spots"), (done.kept_links, "links")) if n]
        if kept:
            facts["kept"] = (
                f"{' and '.join(kept)} stay because a person made or approved them (nothing says that a program made them); "
                "--also-mine removes them, too."
            )
        return done.tracks, facts

    return edit(source, out, change, task="lineage remove", settings=settings)


def _tags(tracks: Tracks, name: str) -> Any:
    tags = tracks.tag_set(name)
    if tags is None:
        raise ConfigError(f"There is no tag set '{name}'.")
    return tags


def _counted(tracks: Tracks, name: str, of: Any) -> Facts:
    """How many of some spots have each tag of a set."""
    tags = _tags(tracks, name)
    count = np.bincount(tags.spots[of & (tags.spots >= 0)], minlength=len(tags.tags))
    return {tag.name: int(n) for tag, n in zip(tags.tags, count, strict=True)}
