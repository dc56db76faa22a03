"""Tables of lineages as files, the list of places to look at, and the export for the Cell Tracking Challenge."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.ctc.table import chains_of
from bdv_io.formats import writer_for
from bdv_io.safe_write import replacing
from bdv_io.tags import UNTAGGED, Tag, TagSet
from howdah import lineages
from howdah.errors import ConfigError, DataError
from howdah.linking import LinkingConfig
from howdah.linking.proposals import find_proposals
from howdah.methods.elephant.status import TRACKING, TRACKING_TAGS, Status, spot_status
from howdah.pipeline.lineages import Annotation, Facts, PathLike, edit, open_annotation
from howdah.pipeline.sources import check_target

__all__ = [
    "cycle_times",
    "division_counts",
    "export_ctc",
    "frame_statistics",
    "open_ends",
    "propose",
    "write_table",
]

Table = lineages.Table
SHOWN = 30
PROPOSAL_COLOURS = {
    "end": 0xFFFF00FF,
    "start": 0xFFFFFF00,
    "gap": 0xFFFF8000,
    "low quality link": 0xFFFF4040,
    "possible division": 0xFF00FFFF,
    "candidate": 0xFF00FF00,
}


def division_counts(
    source: PathLike,
    *,
    by: str = "frame",
    out: PathLike | None = None,
    spots: Sequence[str] = (),
    approved_only: bool = False,
    whole: bool = False,
) -> Facts:
    """Count divisions.

    Args:
        source: The annotation.
        by: ``"frame"``, ``"track"`` or ``"progenitor"``.
        out: A table (.csv or .json) for all rows.
        spots: The progenitors, as a user names them; by default the roots of the first frame that has spots.
        approved_only: Only divisions whose mother, or whose links, are tagged Approved.
        whole: Return all rows, not only the first ones.
    """
    makers: dict[str, Callable[[Tracks], Table]] = {
        "frame": lambda tracks: lineages.divisions_per_frame(tracks, approved_only=approved_only),
        "track": lambda tracks: lineages.divisions_per_track(tracks, approved_only=approved_only),
        "progenitor": lambda tracks: lineages.divisions_per_progenitor(
            tracks, lineages.find_spots(tracks, spots) if spots else None, approved_only=approved_only
        ),
    }
    if by not in makers:
        raise ConfigError(f"Divisions are counted by {', '.join(makers)}; '{by}' was given.")

    def about(table: Table) -> Facts:
        return {"n_divisions": int(table["divisions"].sum()), "counted_by": by}

    return _tabled(source, makers[by], about, "divisions", out, whole=whole)


def cycle_times(
    source: PathLike, *, out: PathLike | None = None, complete_only: bool = True, whole: bool = False
) -> Facts:
    """List the cells with the time from division to division; see :func:`howdah.lineages.cell_cycles`."""

    def about(table: Table) -> Facts:
        known = (table["begins"] == "division") & (table["end"] == "division")
        frames = table["frames"][known]
        facts: Facts = {"complete_cycles": len(frames)}
        if len(frames):
            facts |= {"median_frames": float(np.median(frames)), "shortest_frames": int(frames.min())}
            facts |= {"longest_frames": int(frames.max())}
            if np.isfinite(table["time"]).all():
                facts["median_time"] = float(np.median(table["time"][known]))
        return facts

    def make(tracks: Tracks) -> Table:
        return lineages.cell_cycles(tracks, complete_only=complete_only)

    return _tabled(source, make, about, "cells", out, whole=whole)


def frame_statistics(source: PathLike, *, out: PathLike | None = None, whole: bool = False) -> Facts:
    """Say what each frame holds; see :func:`howdah.lineages.statistics_per_frame`."""

    def about(table: Table) -> Facts:
        names = ("spots", "links", "divisions")
        return {"n_frames": len(table["frame"]), **{f"all_{name}": int(table[name].sum()) for name in names}}

    return _tabled(source, lineages.statistics_per_frame, about, "frames", out, whole=whole)


def open_ends(
    source: PathLike,
    *,
    out: PathLike | None = None,
    ends: tuple[str, str] | None = None,
    image: PathLike | None = None,
    whole: bool = False,
) -> Facts:
    """List where lineages are incomplete, the largest lineages first; see :func:`howdah.lineages.open_places`."""
    given = open_annotation(source, image=image)
    may_end = None if ends is None else given.tracks.tagged(*lineages.chosen_tag(given.tracks, *ends))

    def make(tracks: Tracks) -> Table:
        first = int(tracks.t.min()) if tracks.n_spots else 0
        return lineages.open_places(tracks, first=first, last=given.last_frame, ends=may_end)

    def about(table: Table) -> Facts:
        kinds, counts = np.unique(table["what"], return_counts=True)
        return {"last_frame": given.last_frame} | {str(kind): int(n) for kind, n in zip(kinds, counts, strict=True)}

    return _tabled(given, make, about, "places", out, whole=whole)


def propose(
    source: PathLike,
    out: PathLike,
    *,
    table: PathLike | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int | None = None,
    add_links: bool = False,
    whole: bool = False,
) -> Facts:
    """Write what to look at first: a ranked table, and a project with the spots concerned tagged in the set "Proposal".

    Args:
        source: The annotation.
        out: The project for review.
        table: Where the table goes (.csv or .json); beside the project by default.
        settings: ``{"linking": {...}}``, fields of :class:`LinkingConfig`.
        limit: Most proposals.
        add_links: Also add the proposed links, where they give no spot a second parent or a third child; they are tagged
            Tracking = unlabeled.
        whole: Return all rows, not only the first ones.

    Returns:
        The files, the counts by kind, and the first proposals.
    """
    config = LinkingConfig.of((settings or {}).get("linking", {}))
    rows_at = check_target(table or f"{Path(out).with_suffix('')}-proposals.csv")
    found: dict[str, Table] = {}

    def change(given: Annotation) -> tuple[Tracks, Facts]:
        tracks = given.tracks
        rejected = np.isin(spot_status(tracks), [Status.FP, Status.TN, Status.TB, Status.FB])
        proposals = find_proposals(
            tracks, config, candidates=~rejected & np.isfinite(tracks.centre).all(axis=1), limit=limit
        )
        found["table"] = proposals_table(tracks, proposals)
        marked, added = marked_for_review(tracks, proposals, add_links=add_links)
        kinds, counts = np.unique(found["table"]["what"], return_counts=True)
        facts: Facts = {"proposals": len(proposals.spot)}
        facts |= {str(kind): int(n) for kind, n in zip(kinds, counts, strict=True)}
        return marked, facts | ({"added_links": added} if add_links else {})

    asked = {"linking": config.model_dump(), "limit": limit, "add_links": add_links}
    facts = edit(source, out, change, task="lineage propose", settings=asked)
    write_table(rows_at, found["table"])
    return {**facts, "table": str(rows_at), **_listed(found["table"], "look_at", whole, "all are in the table")}


def proposals_table(tracks: Tracks, proposals: Any) -> Table:
    """Return proposals as a table for people: rank, what, score, the spot and where to look."""
    rows = np.asarray(proposals.spot)
    other = np.asarray(proposals.candidate)
    about = lineages.about(tracks, rows)
    candidate = np.array([str(tracks.id[row]) if row >= 0 else "" for row in other.tolist()], dtype=object)
    z, y, x = np.asarray(proposals.position).reshape(-1, 3).T
    return {
        "rank": np.arange(1, len(rows) + 1),
        "what": np.array(proposals.kinds, dtype=object),
        "score": np.asarray(proposals.score),
        "spot": about["spot"],
        "label": about["label"],
        "frame": about["frame"],
        "candidate": candidate,
        "look_at_frame": np.asarray(proposals.at),
        "z": z,
        "y": y,
        "x": x,
    }


def marked_for_review(tracks: Tracks, proposals: Any, *, add_links: bool) -> tuple[Tracks, int]:
    """Tag the spots of proposals in the set "Proposal" by their kind (the first proposal of a spot counts), and candidates.

    Returns:
        The annotation, and how many links were added.
    """
    kinds, spots, others = list(proposals.kinds), np.asarray(proposals.spot), np.asarray(proposals.candidate)
    tags = tuple(Tag(name, colour) for name, colour in PROPOSAL_COLOURS.items())
    column = np.full(tracks.n_spots, UNTAGGED, dtype=np.int32)
    column[others[others >= 0]] = len(tags) - 1
    place = {tag.name: i for i, tag in enumerate(tags)}
    column[spots[::-1]] = [place[kind] for kind in kinds[::-1]]  # the first one is written last
    links = np.full(tracks.n_links, UNTAGGED, dtype=np.int32)
    marked = tracks.with_tags(TagSet(lineages.PROPOSAL, tags, column, links))
    if not add_links:
        return marked, 0
    new = _possible_links(tracks, kinds, np.stack([spots, others], axis=1))
    grown = marked.with_links(new).with_tag_set(TRACKING, TRACKING_TAGS)
    added = np.arange(marked.n_links, grown.n_links)
    return grown.with_tag(TRACKING, TRACKING_TAGS[1], links=added), len(new)


def _possible_links(tracks: Tracks, kinds: Sequence[str], pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Links of proposals in their order, each only while it gives nobody a second parent or a third child."""
    n_children, has_parent = tracks.n_children(), tracks.n_parents() > 0
    chosen = []
    for kind, (spot, other) in zip(kinds, pairs.tolist(), strict=True):
        if other < 0 or kind == "low quality link":  # that would be a second parent: a person decides
            continue
        source, target = (spot, other) if tracks.t[spot] < tracks.t[other] else (other, spot)
        most = 2 if kind == "possible division" else 1
        if tracks.t[source] < tracks.t[target] and not has_parent[target] and n_children[source] < most:
            chosen.append((source, target))
            n_children[source] += 1
            has_parent[target] = True
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def export_ctc(source: PathLike, out: PathLike, *, completed: bool = False, image: PathLike | None = None) -> Facts:
    """Write masks and the table of tracks of the Cell Tracking Challenge, and which spot became which label.

    Args:
        source: The annotation.
        out: The folder (``01_RES`` ...). Beside it goes ``<folder>-id_map.csv``: spot id, label, frame, track number, parent.
        completed: Only lineages whose root is tagged Status = Completed.
        image: The movie, which says how large the masks are.

    Raises:
        DataError: No root is tagged Completed.
        ConfigError: The folder's name asks for another format.
    """
    writer = writer_for(out, key="ctc")
    mapped: dict[str, Table] = {}
    table_at = check_target(f"{Path(out)}-id_map.csv")

    def change(given: Annotation) -> tuple[Tracks, Facts]:
        tracks = given.tracks
        if completed:
            tracks = _completed_only(tracks)
        chains = chains_of(tracks)
        parent = dict(chains.table[:, [0, 3]].tolist())
        about = lineages.about(tracks, np.arange(tracks.n_spots))
        number = chains.label
        mapped["table"] = {
            "spot": about["spot"],
            "label": about["label"],
            "frame": about["frame"],
            "track": number,
            "parent_track": np.array([parent[value] for value in number.tolist()], dtype=np.int64),
        }
        lost = writer.losses(tracks)
        return tracks, {"tracks": len(chains.table), **({"not_kept": lost} if lost else {})}

    facts = edit(
        source, out, change, task="lineage export-ctc", settings={"completed": completed}, image=image, key="ctc"
    )
    write_table(table_at, mapped["table"])
    return {**facts, "id_map": str(table_at)}


def _completed_only(tracks: Tracks) -> Tracks:
    roots = np.flatnonzero(tracks.tagged("Status", "Completed"))
    if not len(roots):
        raise DataError(
            "Exporting complete lineages failed: no spot is tagged Status = Completed. Tag them (howdah lineage complete), or "
            "export all lineages without --completed."
        )
    return tracks.select(lineages.grow(tracks).founder(roots) >= 0)


def write_table(path: PathLike, table: Table) -> Path:
    """Write a table as CSV, or as JSON (a list of rows) where the name ends in .json.

    Raises:
        ConfigError: The name has another ending.
        WriteError: Writing is not possible.
    """
    target = check_target(path)
    if target.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(f"Writing the table {target} is not possible: the name must end in .csv or .json.")
    if target.suffix.lower() == ".json":
        text = json.dumps(_as_rows(table, None), indent=0, default=str) + "\n"
    else:
        buffer = io.StringIO()
        rows = csv.writer(buffer, lineterminator="\n")
        rows.writerow(table)
        rows.writerows(zip(*(_plain(column) for column in table.values()), strict=True))
        text = buffer.getvalue()
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _tabled(
    source: PathLike | Annotation,
    make: Callable[[Tracks], Table],
    about: Callable[[Table], Facts],
    title: str,
    out: PathLike | None,
    *,
    whole: bool,
) -> Facts:
    given = source if isinstance(source, Annotation) else open_annotation(source)
    if out is not None and check_target(out).resolve() == given.path.resolve():
        raise ConfigError(f"Writing the table {out} is not possible: it is the input. Name another target.")
    table = make(given.tracks)
    if out is None:
        return {**about(table), **_listed(table, title, whole)}
    return {"out": str(write_table(out, table)), **about(table), **({title: _as_rows(table, None)} if whole else {})}


def _listed(table: Table, title: str, whole: bool, hint: str = "-o FILE.csv writes all") -> Facts:
    rows = _as_rows(table, None if whole else SHOWN)
    n = len(next(iter(table.values())))
    more = {} if whole or n <= SHOWN else {"shown": f"the first {SHOWN} of {n} rows; {hint}."}
    return {**more, title: rows} if rows else more


def _as_rows(table: Table, most: int | None) -> list[dict[str, Any]]:
    columns = [_plain(column[:most]) for column in table.values()]
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(column: npt.NDArray[Any]) -> list[Any]:
    """Return a column as Python values; what is not known is None (JSON knows no NaN, and a table leaves the cell empty)."""
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        return [value if np.isfinite(value) else None for value in values]
    return values
