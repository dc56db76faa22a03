"""From one format to another, and what two annotations of one movie have in common: convert, diff, merge, restore."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bdv_io import ImageSeries, Tracks
from bdv_io.difference import difference, review
from bdv_io.formats import Format, identify, open_image, read_tracks, write_tracks, writer_for, writing_image
from bdv_io.image import Hints, WriteOptions
from bdv_io.merge import CONFLICT, merged
from bdv_io.repair import mended
from bdv_io.safe_write import restore as restore_version
from howdah.errors import ConfigError
from howdah.pipeline.record import recorded
from howdah.pipeline.sources import check_target
from howdah.progress import Progress, Steps

PathLike = str | os.PathLike[str]

__all__ = ["Conversion", "compare", "convert", "join", "restore"]

log = logging.getLogger("howdah")

SHOWN = 20  # spots and links of each kind that a comparison lists


@dataclass(frozen=True)
class Conversion:
    """How something is converted.

    Attributes:
        image: For annotations: the movie, so that the target can name it.
        source_format: Key of the source's format, where its content does not tell (``"labels"``).
        target_format: Key of the target's format, where its ending does not tell (``"mamut"``).
        hints: What is known of the source and it does not say.
        options: How an image is written.
        repair: Mend what contradicts itself in an annotation, and list it.
    """

    image: PathLike | None = None
    source_format: str | None = None
    target_format: str | None = None
    hints: Hints = field(default_factory=Hints)
    options: WriteOptions = field(default_factory=WriteOptions)
    repair: bool = False


def convert(source: PathLike, out: PathLike, how: Conversion | None = None) -> Steps[dict[str, Any]]:
    """Convert an annotation, or a movie, to the format that the ending of ``out`` asks for.

    Args:
        source: What to convert.
        out: The target; what stood there before is kept as ``name~1~``.
        how: Details.

    Returns:
        Facts of the result; ``not_kept`` lists in sentences what the target's format cannot hold, ``repaired`` what was
        mended.

    Raises:
        ConfigError: Source and target are the same file.
        BdvIoError: The source is damaged, or the target's format cannot hold this kind of data.
    """
    start, target, chosen = Path(source), Path(out), how or Conversion()
    found = identify(start, key=chosen.source_format)
    _refuse_same(start, target, found)
    writer = writer_for(target, found.kind, key=chosen.target_format)
    check_target(target, folder=True)
    settings = {"from": found.key, "to": writer.key, "repair": chosen.repair, **_given(chosen.hints)}
    with recorded(target, "convert", inputs={"source": start}, settings=settings) as record:
        if found.kind == "annotation":
            record.facts |= _convert_tracks(start, target, chosen, writer)
            yield Progress("convert", 1, 1)
        else:
            movie = open_image(start, hints=_hints_for(found, chosen.hints), key=chosen.source_format)
            record.facts["not_kept"] = _said(writer, movie)
            yield Progress("convert", 0, movie.n_frames)
            for done in writing_image(target, movie, options=chosen.options, key=chosen.target_format):
                yield Progress("convert", done, movie.n_frames)
            movie.close()
    return {"out": str(target), "format": writer.name, **record.facts}


def _convert_tracks(start: Path, target: Path, how: Conversion, writer: Format) -> dict[str, Any]:
    tracks, said = _annotation(start, how)
    movie = _movie(how.image or tracks.attributes.get("image"), required=how.image is not None, hints=how.hints)
    facts: dict[str, Any] = {"spots": tracks.n_spots, "links": tracks.n_links, "repaired": list(said)}
    facts["not_kept"] = _said(writer, tracks)
    write_tracks(target, tracks, image=movie, key=how.target_format)
    return {key: value for key, value in facts.items() if value != []}


def _annotation(start: Path, how: Conversion) -> tuple[Tracks, tuple[str, ...]]:
    found = identify(start, key=how.source_format)
    tracks = read_tracks(start, hints=_hints_for(found, how.hints), key=how.source_format, lenient=how.repair)
    if how.repair:
        return mended(tracks)
    for problem in tracks.problems():
        log.warning("%s: %s It is kept as it is; --repair mends it.", start, problem)
    return tracks, ()


def _hints_for(found: Format, hints: Hints) -> Hints | None:
    """The hints, or None where there are none (a format that needs none refuses any)."""
    return hints if hints.given else None


def _given(hints: Hints) -> dict[str, Any]:
    return {name: getattr(hints, name) for name in hints.given}


def _said(writer: Format, content: ImageSeries | Tracks) -> list[str]:
    losses = list(writer.losses(content))
    for sentence in losses:
        log.warning("%s", sentence)
    return losses


def _refuse_same(start: Path, target: Path, found: Format) -> None:
    """Raise a ConfigError if writing the target would overwrite what is being read."""
    twins = {path.resolve() for path in (start, start.with_suffix(".h5")) if found.kind == "image" or path == start}
    own = {path.resolve() for path in (target, target.with_suffix(".h5")) if found.kind == "image" or path == target}
    if twins & own:
        raise ConfigError(f"Converting {start} failed: source and target are the same file. Name another target.")


def _movie(path: PathLike | None, *, required: bool, hints: Hints) -> ImageSeries | None:
    if path is None or (not required and not Path(path).exists()):
        return None
    if not required:
        return open_image(path)
    return open_image(path, hints=_hints_for(identify(path), hints))


def compare(
    first: PathLike, second: PathLike, *, out: PathLike | None = None, reach: float | None = None
) -> dict[str, Any]:
    """Say what differs between two annotations of one movie.

    Args:
        first: The earlier one.
        second: The later one.
        out: Where to write the later one for review, with the spots that it lacks and a tag set ``Difference``.
        reach: How far a spot may have moved and still be the same, world units; default the mean radius.

    Returns:
        Counts of each kind of difference, the first spots and links of each kind, and notes.

    Raises:
        BdvIoError: One of them cannot be read, or their units differ.
    """
    before, after = read_tracks(first), read_tracks(second)
    found = difference(before, after, reach=reach)
    facts: dict[str, Any] = {"same": not found, **found.counts, "notes": list(found.notes)}
    facts["details"] = [
        *_spots("added", after, found.added),
        *_spots("removed", before, found.removed),
        *_spots("moved", after, found.pairs[found.moved, 1], found.distance[found.moved]),
        *_spots("relabelled", after, found.pairs[found.relabelled, 1]),
        *(
            row
            for name, mask in found.retagged.items()
            for row in _spots(f"retagged: {name}", after, found.pairs[mask, 1])
        ),
    ]
    if out is not None:
        target = check_target(out, folder=True)
        write_tracks(target, review(before, after, found), image=_movie_of(after))
        facts["out"] = str(target)
    return facts


def _spots(what: str, tracks: Tracks, rows: Any, distance: Any = None) -> list[Mapping[str, Any]]:
    listed: list[Mapping[str, Any]] = []
    for place, row in enumerate(rows[:SHOWN].tolist()):
        z, y, x = tracks.centre[row].round(3).tolist()
        listed.append(
            {
                "what": what,
                "spot": int(tracks.id[row]),
                "label": tracks.label[row] or "",
                "frame": int(tracks.t[row]),
                "z": z,
                "y": y,
                "x": x,
                "by": round(float(distance[place]), 3) if distance is not None else "",
            }
        )
    if len(rows) > SHOWN:
        listed.append({**dict.fromkeys(listed[0], ""), "what": f"{what}: {len(rows) - SHOWN} more"})
    return listed


def join(
    first: PathLike, second: PathLike, out: PathLike, *, base: PathLike | None = None, reach: float | None = None
) -> dict[str, Any]:
    """Merge two annotations of one movie.

    Args:
        first: Wins where the two contradict each other; the spot is tagged in the tag set ``Merge conflict``.
        second: The other one.
        out: Where the result goes.
        base: The version that both began from, if there is one: then also what was removed is merged.
        reach: How far a spot may have been moved and still be the same, world units; default the mean radius.

    Returns:
        Counts of the result, and of the conflicts.

    Raises:
        BdvIoError: One of them cannot be read, or their units differ.
    """
    target = check_target(out, folder=True)
    inputs = {name: Path(path) for name, path in (("first", first), ("second", second), ("base", base)) if path}
    with recorded(target, "merge", inputs=inputs, settings={"reach": reach}) as record:
        mine, theirs = read_tracks(first), read_tracks(second)
        origin = read_tracks(base) if base is not None else None
        both = merged(mine, theirs, base=origin, reach=reach)
        write_tracks(target, both, image=_movie_of(both))
        tags = both.tag_set(CONFLICT)
        conflicts = {} if tags is None else {t.name: int((tags.spots == i).sum()) for i, t in enumerate(tags.tags)}
        record.facts |= {"spots": both.n_spots, "links": both.n_links, "conflicts": sum(conflicts.values())}
        record.facts |= {name: count for name, count in conflicts.items() if count}
    return {"out": str(target), **record.facts}


def _movie_of(tracks: Tracks) -> ImageSeries | None:
    return _movie(tracks.attributes.get("image"), required=False, hints=Hints())


def restore(path: PathLike, *, number: int = 1) -> dict[str, Any]:
    """Bring a former version of a file back; what stands there now becomes ``name~1~``.

    Raises:
        BdvIoError: There is no such version, or the folder may not be written to.
    """
    return {"restored": str(restore_version(path, number)), "former": f"{Path(path).name}~1~"}
