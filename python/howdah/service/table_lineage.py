"""Tasks on lineages: tags, counts, editing, places to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from howdah.errors import ConfigError
from howdah.pipeline import default_target, lineage_tables, lineages
from howdah.pipeline.lineage_texts import box_of, range_of, tag_of
from howdah.service.parameters import InFile, OutFile, Parameters
from howdah.service.table_fields import at_once
from howdah.service.tasks import Task

__all__ = ["LINEAGE"]


class Project(Parameters):
    """An annotation."""

    source: InFile = Field(description="An annotation of any known format (.mastodon ...).")
    out: OutFile | None = Field(default=None, description="The result; its ending chooses the format.")


class Progenitors(Project):
    """What `lineage.progenitors` is told."""

    spot: list[str] = Field(default=[], description="Spots by id, label, or t,z,y,x (world units).")
    frame: int | None = Field(default=None, ge=0, description="Tracks that begin here are progenitors.")
    tag_set: str = Field(default="Progenitor", description="Name of the tag set.")


class Period(Project):
    """What `lineage.proliferators` is told."""

    frames: str | None = Field(default=None, description='The period: "100-350"; none: all.')


class Dividing(Project):
    """What `lineage.dividing` is told."""

    around: int = Field(default=0, ge=0, description="So many more frames before and after a division are tagged.")


class Divisions(Project):
    """What `lineage.divisions` is told."""

    by: str = Field(default="frame", description="What divisions are counted by: frame, track, progenitor.")
    spot: list[str] = Field(default=[], description="Progenitors by id, label, or t,z,y,x (world units).")
    approved: bool = Field(default=False, description="Count only divisions that are tagged Tracking = Approved.")


class Cycles(Project):
    """What `lineage.cycles` is told."""

    all: bool = Field(default=False, description="Also cells whose birth or division was not seen.")


class Open(Project):
    """What `lineage.open` is told."""

    may_end: str | None = Field(default=None, description="Spots with this tag may end early: SET=TAG.")
    image: InFile | None = Field(default=None, description="The movie, if the project names none or it has moved.")


class Complete(Open):
    """What `lineage.complete` is told."""

    from_first: bool = Field(default=False, description="Only lineages that begin in the first frame with spots.")
    gaps: bool = Field(default=False, description="Links that skip frames do not matter.")
    confirmed: bool = Field(default=False, description="Only lineages that a person made or approved as a whole.")


class Short(Project):
    """What `lineage.short` is told."""

    min_links: int = Field(ge=0, description="Tracks with fewer links are removed.")
    also_mine: bool = Field(default=False, description="Also remove what a person made or approved.")


class BadLinks(Project):
    """What `lineage.bad-links` is told."""

    also_mine: bool = Field(default=False, description="Also remove what a person made or approved.")


class Propose(Project):
    """What `lineage.propose` is told."""

    table: OutFile | None = Field(default=None, description="Where the ranked table goes; none: beside the result.")
    limit: int | None = Field(default=None, ge=1, description="Most proposals.")
    add_links: bool = Field(default=False, description="Also add the proposed links, tagged Tracking = unlabeled.")


class Draw(Project):
    """What `lineage.draw` is told."""

    tag_set: str | None = Field(default=None, description="Colour by this tag set; none: by progenitor.")
    frames: str | None = Field(default=None, description='Frames that are shown: "0,10,20".')
    image: InFile | None = Field(default=None, description="The movie, if the project names none or it has moved.")


class Export(Project):
    """What `lineage.export-ctc` is told."""

    completed: bool = Field(default=False, description="Only lineages whose first spot is Status = Completed.")
    image: InFile | None = Field(default=None, description="The movie, if the project names none or it has moved.")


def _ends(text: str | None) -> tuple[str, str] | None:
    return None if text is None else tag_of(text)


def _proliferating(p: Period) -> dict[str, Any]:
    first, last = range_of(p.frames)
    return lineages.tag_proliferating(p.source, _out(p), first=first or 0, last=last)


def _complete(p: Complete) -> dict[str, Any]:
    return lineages.complete_lineages(
        p.source,
        _out(p),
        from_first=p.from_first,
        ends=_ends(p.may_end),
        gaps=p.gaps,
        confirmed=p.confirmed,
        image=p.image,
    )


class MapTag(Project):
    """What `lineage.map-tag` is told."""

    old: str = Field(description="What has this tag (SET=TAG) ...")
    new: str = Field(description="... gets this one, too (in one set: instead).")
    links: bool = Field(default=False, description="Links instead of spots.")


class Approve(Project):
    """What `lineage.approve` is told."""

    spot: list[str] = Field(min_length=1, description="Spots by id, label, or t,z,y,x (world units).")
    descendants: bool = Field(default=False, description="Only the spot and its descendants, not the whole lineage.")
    as_marks: bool = Field(default=False, description="Also accept its predicted nuclei as true, to train on them.")


class Remove(Project):
    """What `lineage.remove` is told: a tag, or frames and a box."""

    tag: str | None = Field(default=None, description="Remove the spots that have this tag: SET=TAG.")
    links: bool = Field(default=False, description="With a tag: remove links instead of spots.")
    frames: str | None = Field(default=None, description='Remove the spots of these frames: "10-20".')
    box: str | None = Field(default=None, description='Remove the spots in this box: "z,y,x:z,y,x" (world units).')
    also_mine: bool = Field(default=False, description="Also remove what a person made or approved.")


def _remove(p: Remove) -> dict[str, Any]:
    by_place = p.frames is not None or p.box is not None
    if (p.tag is not None) == by_place or (p.links and p.tag is None):
        raise ConfigError(
            "Say what shall be removed: either a tag (SET=TAG; with links for links), or frames and a box."
        )
    if p.tag is not None:
        return lineages.remove_tagged(p.source, _out(p), tag_of(p.tag), links=p.links, also_mine=p.also_mine)
    first, last = range_of(p.frames)
    return lineages.remove_places(p.source, _out(p), first=first, last=last, box=box_of(p.box), also_mine=p.also_mine)


def _out(p: Project) -> Path:
    """The result, which :func:`howdah.service.running.prepare` has named where the client did not."""
    return p.out or default_target(p.source, "edited.mastodon")


def _quick(
    name: str, summary: str, parameters: type[Parameters], work: Callable[[Any], dict[str, Any]], ending: str = ""
) -> Task:
    """A task that runs at once and uses no network."""
    results = {"out": ending} if ending else {}
    return Task(f"lineage.{name}", summary, parameters, lambda p: at_once(lambda: work(p)), False, results=results)


LINEAGE = [
    _quick(
        "progenitors",
        "Give each progenitor a colour of its own, which all its descendants inherit: a fate map.",
        Progenitors,
        lambda p: lineages.tag_progenitor_lineages(p.source, _out(p), spots=p.spot, frame=p.frame, tag_set=p.tag_set),
        "progenitors.mastodon",
    ),
    _quick(
        "proliferators",
        "Tag lineages that divide in a period, and those that do not.",
        Period,
        _proliferating,
        "proliferators.mastodon",
    ),
    _quick(
        "dividing",
        "Tag cells that are about to divide, and daughters that just did.",
        Dividing,
        lambda p: lineages.tag_dividing_cells(p.source, _out(p), around=p.around),
        "dividing.mastodon",
    ),
    _quick(
        "map-tag",
        "Give everything that has one tag another one.",
        MapTag,
        lambda p: lineages.map_tags(p.source, _out(p), tag_of(p.old), tag_of(p.new), links=p.links),
        "tagged.mastodon",
    ),
    _quick(
        "approve",
        "Approve whole lineages, so that no later step changes them.",
        Approve,
        lambda p: lineages.approve_lineages(
            p.source, _out(p), spots=p.spot, whole=not p.descendants, as_marks=p.as_marks
        ),
        "approved.mastodon",
    ),
    _quick(
        "complete",
        "Mark lineages as completed that reach the last frame with every branch.",
        Complete,
        _complete,
        "completed.mastodon",
    ),
    _quick(
        "divisions",
        "Count divisions in each frame, each track, or among the descendants of each progenitor.",
        Divisions,
        lambda p: lineage_tables.division_counts(
            p.source, by=p.by, out=p.out, spots=p.spot, approved_only=p.approved, whole=True
        ),
    ),
    _quick(
        "cycles",
        "List cell cycle times: from the division that made a cell to its own division.",
        Cycles,
        lambda p: lineage_tables.cycle_times(p.source, out=p.out, complete_only=not p.all, whole=True),
    ),
    _quick(
        "stats",
        "Say for each frame how many spots, tracks, divisions, beginnings and ends of tracks it has.",
        Project,
        lambda p: lineage_tables.frame_statistics(p.source, out=p.out, whole=True),
    ),
    _quick(
        "open",
        "List where lineages are incomplete (begin late, end early, skip frames), the largest first.",
        Open,
        lambda p: lineage_tables.open_ends(p.source, out=p.out, ends=_ends(p.may_end), image=p.image, whole=True),
    ),
    _quick(
        "short",
        "Remove short tracks. Those with anything that a person made or approved stay.",
        Short,
        lambda p: lineages.remove_short(p.source, _out(p), min_links=p.min_links, also_mine=p.also_mine),
        "long.mastodon",
    ),
    _quick(
        "remove",
        "Remove spots or links by their tag, or spots by frames and place.",
        Remove,
        _remove,
        "removed.mastodon",
    ),
    _quick(
        "bad-links",
        "Remove links of a spot with itself, and links that do not run forward in time.",
        BadLinks,
        lambda p: lineages.remove_bad(p.source, _out(p), also_mine=p.also_mine),
        "mended.mastodon",
    ),
    Task(
        "lineage.propose",
        "Say where to look first: ends, starts, gaps and doubtful links, ranked, and tagged in a project.",
        Propose,
        lambda p: at_once(
            lambda: lineage_tables.propose(
                p.source,
                _out(p),
                table=p.table,
                settings=p.settings,
                limit=p.limit,
                add_links=p.add_links,
                whole=True,
            )
        ),
        learns=False,
        sections=("linking", "flow"),
        results={"out": "review.mastodon"},
    ),
    _quick(
        "draw",
        "Draw the nuclei of some frames and the lineage trees.",
        Draw,
        lambda p: lineages.draw_lineages(p.source, _out(p), tag_set=p.tag_set, frames=p.frames, image=p.image),
        "lineages.png",
    ),
    _quick(
        "export-ctc",
        "Write masks and tracks for the Cell Tracking Challenge.",
        Export,
        lambda p: lineage_tables.export_ctc(p.source, _out(p), completed=p.completed, image=p.image),
        "01_RES",
    ),
]
