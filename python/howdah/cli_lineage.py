"""Commands about lineages: tags, counts, editing, places to look at. One call each; see :mod:`howdah.pipeline.lineages`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah import pipeline
from howdah.cli_hints import with_movie
from howdah.cli_options import with_settings
from howdah.cli_show import guarded, run, show_result
from howdah.errors import ConfigError
from howdah.pipeline import lineage_tables, lineages
from howdah.pipeline.backtrack import backtrack as follow
from howdah.pipeline.lineage_texts import box_of, range_of, tag_of
from howdah.pipeline.sections import SECTIONS

__all__ = ["add_to"]

lineage = typer.Typer(
    name="lineage",
    help="Analyse and edit lineages: progenitors, divisions, cell cycles, short or incomplete tracks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Project = Annotated[Path, typer.Argument(metavar="PROJECT", help="An annotation of any known format (.mastodon ...).")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="The result; its ending chooses the format.")
]
TableOut = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE.csv", help="Write all rows as a table (.csv or .json).")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line.")]
Image = Annotated[
    Path | None, typer.Option("--image", metavar="FILE", help="The movie, if the project names none or it has moved.")
]
Spots = Annotated[
    list[str],
    typer.Option(
        "--spot",
        metavar="SPOT",
        help="A spot by its id, its label, or t,z,y,x (world units); may be given several times.",
    ),
]
AlsoMine = Annotated[bool, typer.Option("--also-mine", help="Also remove what a person made or approved.")]
MayEnd = Annotated[
    str | None,
    typer.Option("--may-end", metavar="SET=TAG", help="Spots with this tag may end early, for example cells that die."),
]
Approved = Annotated[bool, typer.Option("--approved", help="Count only divisions that are tagged Tracking = Approved.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(lineage)
    app.command()(backtrack)


def _show(work: Callable[[], Any], *, as_json: bool) -> None:
    code = guarded(lambda: show_result(work(), as_json=as_json), as_json=as_json)
    if code:
        raise typer.Exit(code)


def _target(out: Path | None, project: Path, ending: str) -> Path:
    return out or pipeline.default_target(project, f"{ending}.mastodon")


# ---- tags ----------------------------------------------------------------------------------------------------------


@lineage.command()
def progenitors(
    project: Project,
    out: Out = None,
    spot: Spots = [],  # noqa: B006  typer copies it
    frame: Annotated[
        int | None,
        typer.Option(
            "--frame", metavar="N", help="Tracks that begin here are progenitors (default: first frame).", min=0
        ),
    ] = None,
    tag_set: Annotated[str, typer.Option("--tag-set", metavar="NAME", help="Name of the tag set.")] = "Progenitor",
    json: Json = False,
) -> None:
    """Give each progenitor a colour of its own, which all its descendants inherit: a fate map."""
    target = _target(out, project, "progenitors")
    _show(
        lambda: lineages.tag_progenitor_lineages(project, target, spots=spot, frame=frame, tag_set=tag_set),
        as_json=json,
    )


@lineage.command()
def proliferators(
    project: Project,
    out: Out = None,
    frames: Annotated[
        str | None, typer.Option("--frames", metavar="100-350", help="The period that is looked at (default: all).")
    ] = None,
    json: Json = False,
) -> None:
    """Tag lineages that divide in a period, and those that do not; what is not known for the whole period stays blank."""

    def work() -> Any:
        first, last = range_of(frames)
        target = _target(out, project, "proliferators")
        return lineages.tag_proliferating(project, target, first=first or 0, last=last)

    _show(work, as_json=json)


@lineage.command()
def dividing(
    project: Project,
    out: Out = None,
    around: Annotated[
        int,
        typer.Option(
            "--around", metavar="N", help="So many more frames before and after a division are tagged.", min=0
        ),
    ] = 0,
    json: Json = False,
) -> None:
    """Tag cells that are about to divide, and daughters that just did."""
    _show(lambda: lineages.tag_dividing_cells(project, _target(out, project, "dividing"), around=around), as_json=json)


@lineage.command("map-tag")
def map_tag(
    project: Project,
    old: Annotated[str, typer.Argument(metavar="SET=TAG", help="What has this tag ...")],
    new: Annotated[str, typer.Argument(metavar="SET=TAG", help="... gets this one, too (in one set: instead).")],
    out: Out = None,
    links: Annotated[bool, typer.Option("--links", help="Links instead of spots.")] = False,
    json: Json = False,
) -> None:
    """Give everything that has one tag another one, for example Detection=unlabeled to Detection=tp: accept all."""
    target = _target(out, project, "tagged")
    _show(lambda: lineages.map_tags(project, target, tag_of(old), tag_of(new), links=links), as_json=json)


@lineage.command()
def approve(
    project: Project,
    spot: Spots,
    out: Out = None,
    descendants: Annotated[
        bool, typer.Option("--descendants", help="Only the spot and its descendants, not the whole lineage.")
    ] = False,
    as_marks: Annotated[
        bool, typer.Option("--as-marks", help="Also accept its predicted nuclei as true, to train on them.")
    ] = False,
    json: Json = False,
) -> None:
    """Approve whole lineages, so that no later step changes them."""
    target = _target(out, project, "approved")
    _show(
        lambda: lineages.approve_lineages(project, target, spots=spot, whole=not descendants, as_marks=as_marks),
        as_json=json,
    )


@lineage.command()
def complete(
    project: Project,
    out: Out = None,
    from_first: Annotated[
        bool, typer.Option("--from-first", help="Only lineages that begin in the first frame with spots.")
    ] = False,
    may_end: MayEnd = None,
    gaps: Annotated[bool, typer.Option("--gaps", help="Links that skip frames do not matter.")] = False,
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="Only lineages that a person made or approved as a whole.")
    ] = False,
    image: Image = None,
    json: Json = False,
) -> None:
    """Mark lineages as completed (Status = Completed) that reach the last frame with every branch."""

    def work() -> Any:
        ends = None if may_end is None else tag_of(may_end)
        target = _target(out, project, "completed")
        return lineages.complete_lineages(
            project, target, from_first=from_first, ends=ends, gaps=gaps, confirmed=confirmed, image=image
        )

    _show(work, as_json=json)


# ---- numbers -------------------------------------------------------------------------------------------------------


@lineage.command()
def divisions(
    project: Project,
    out: TableOut = None,
    by: Annotated[
        str, typer.Option("--by", metavar="frame|track|progenitor", help="What divisions are counted by.")
    ] = "frame",
    spot: Spots = [],  # noqa: B006
    approved: Approved = False,
    json: Json = False,
) -> None:
    """Count divisions in each frame, each track, or among the descendants of each progenitor."""
    _show(
        lambda: lineage_tables.division_counts(project, by=by, out=out, spots=spot, approved_only=approved, whole=json),
        as_json=json,
    )


@lineage.command()
def cycles(
    project: Project,
    out: TableOut = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also cells whose birth or division was not seen; the table says which.")
    ] = False,
    json: Json = False,
) -> None:
    """List cell cycle times: from the division that made a cell to its own division."""
    _show(lambda: lineage_tables.cycle_times(project, out=out, complete_only=not every, whole=json), as_json=json)


@lineage.command()
def stats(project: Project, out: TableOut = None, json: Json = False) -> None:
    """Say for each frame how many spots, tracks, divisions, beginnings and ends of tracks it has."""
    _show(lambda: lineage_tables.frame_statistics(project, out=out, whole=json), as_json=json)


@lineage.command("open")
def open_(
    project: Project, out: TableOut = None, may_end: MayEnd = None, image: Image = None, json: Json = False
) -> None:
    """List where lineages are incomplete (begin late, end early, skip frames), the largest lineages first."""

    def work() -> Any:
        ends = None if may_end is None else tag_of(may_end)
        return lineage_tables.open_ends(project, out=out, ends=ends, image=image, whole=json)

    _show(work, as_json=json)


# ---- editing -------------------------------------------------------------------------------------------------------


@lineage.command()
def short(
    project: Project,
    min_links: Annotated[
        int, typer.Option("--min-links", metavar="N", help="Tracks with fewer links are removed.", min=0)
    ],
    out: Out = None,
    also_mine: AlsoMine = False,
    json: Json = False,
) -> None:
    """Remove short tracks. Those with anything that a person made or approved stay."""
    target = _target(out, project, "long")
    _show(lambda: lineages.remove_short(project, target, min_links=min_links, also_mine=also_mine), as_json=json)


@lineage.command()
def remove(
    project: Project,
    out: Out = None,
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="SET=TAG", help="Remove the spots that have this tag.")
    ] = None,
    links: Annotated[bool, typer.Option("--links", help="With --tag: remove links instead of spots.")] = False,
    frames: Annotated[
        str | None, typer.Option("--frames", metavar="10-20", help="Remove the spots of these frames.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option("--box", metavar="Z,Y,X:Z,Y,X", help="Remove the spots with centres in this box (world)."),
    ] = None,
    also_mine: AlsoMine = False,
    json: Json = False,
) -> None:
    """Remove spots or links by their tag, or spots by frames and place. What a person made or approved stays."""

    def work() -> Any:
        target = _target(out, project, "removed")
        by_place = frames is not None or box is not None
        if (tag is not None) == by_place or (links and tag is None):
            raise ConfigError(
                "Say what shall be removed: either --tag SET=TAG (with --links for links), or --frames and --box."
            )
        if tag is not None:
            return lineages.remove_tagged(project, target, tag_of(tag), links=links, also_mine=also_mine)
        first, last = range_of(frames)
        return lineages.remove_places(project, target, first=first, last=last, box=box_of(box), also_mine=also_mine)

    _show(work, as_json=json)


@lineage.command("bad-links")
def bad_links(project: Project, out: Out = None, also_mine: AlsoMine = False, json: Json = False) -> None:
    """Remove links of a spot with itself, and links that do not run forward in time."""
    _show(lambda: lineages.remove_bad(project, _target(out, project, "mended"), also_mine=also_mine), as_json=json)


# ---- review and export ---------------------------------------------------------------------------------------------


@lineage.command()
@with_settings(SECTIONS, "linking", from_file=("flow",))
def propose(
    project: Project,
    settings: dict[str, dict[str, Any]],
    out: Out = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE.csv", help="Where the ranked table goes (default: beside).")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="Most proposals.", min=1)] = None,
    add_links: Annotated[
        bool, typer.Option("--add-links", help="Also add the proposed links, tagged Tracking = unlabeled.")
    ] = False,
    json: Json = False,
) -> None:
    """Say where to look first: ends, starts, gaps and doubtful links, ranked, and tagged "Proposal" in a project."""
    target = _target(out, project, "review")
    _show(
        lambda: lineage_tables.propose(
            project, target, table=table, settings=settings, limit=limit, add_links=add_links, whole=json
        ),
        as_json=json,
    )


@lineage.command()
def draw(
    project: Project,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.png", help="The picture.")] = None,
    tag_set: Annotated[
        str | None, typer.Option("--tag-set", metavar="NAME", help="Colour by this tag set (default: by progenitor).")
    ] = None,
    frames: Annotated[str | None, typer.Option("--frames", metavar="0,10,20", help="Frames that are shown.")] = None,
    image: Image = None,
    json: Json = False,
) -> None:
    """Draw the nuclei of some frames and the lineage trees, in the colours of progenitors or of a tag set."""
    target = out or pipeline.default_target(project, "lineages.png")
    _show(lambda: lineages.draw_lineages(project, target, tag_set=tag_set, frames=frames, image=image), as_json=json)


@lineage.command("export-ctc")
def export_ctc(
    project: Project,
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="The result: a folder such as 01_RES or 01_GT.")],
    completed: Annotated[
        bool, typer.Option("--completed", help="Only lineages whose first spot is tagged Status = Completed.")
    ] = False,
    image: Image = None,
    json: Json = False,
) -> None:
    """Write masks and tracks for the Cell Tracking Challenge, and a table that says which spot has which number."""
    _show(lambda: lineage_tables.export_ctc(project, out, completed=completed, image=image), as_json=json)


@with_settings(SECTIONS, "backtrack", from_file=("elephant", "flow"))
@with_movie("image", "setup")
def backtrack(
    project: Annotated[Path, typer.Argument(metavar="PROJECT", help="A project (.mastodon ...) that names its movie.")],
    spot: Annotated[
        str,
        typer.Option(
            "--spot",
            metavar="SPOT",
            help="The spot: its number (as Mastodon shows), its label, or t,z,y,x (world units).",
        ),
    ],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    out: Out = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE", help="A detector, to find nuclei without a spot.")
    ] = None,
    flow: Annotated[
        Path | None, typer.Option("--flow", metavar="FILE", help="A flow network, that says where a nucleus came from.")
    ] = None,
    json: Json = False,
) -> None:
    """Follow one nucleus back in time until it meets a track; missing spots are found or bridged, and tagged unlabeled."""
    job = pipeline.Job(project, **movie)
    target = _target(out, project, "followed")

    def work() -> Any:
        steps = follow(job, target, spot=spot, weights=weights, flow_weights=flow, settings=settings)
        return run(steps, quiet=json)

    _show(work, as_json=json)
