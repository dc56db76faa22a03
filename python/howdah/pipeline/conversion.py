"""From one format to another, and what two annotations of one movie have in common: convert, diff, merge, restore."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bdv_io import BdvIoError, ImageSeries, Tracks
from bdv_io.difference import difference, review
from bdv_io.formats import Format, identify, open_image, read_tracks, write_tracks, writer_for, writing_image
from bdv_io.image import Hints, WriteOptions
from bdv_io.merge import CONFLICT, merged
from bdv_io.repair import mended
from bdv_io.safe_write import restore as restore_version
from howdah.errors import ConfigError
from howdah.pipeline.openable import warn_unopenable
from howdah.pipeline.overwriting import files_of, refuse_overwriting
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
        mended, ``beside`` the files that were written besides ``out``.

    Raises:
        ConfigError: The target is an input, or a folder that holds something else.
        BdvIoError: The source is damaged, or the target's format cannot hold this kind of data.
    """
    start, target, chosen = Path(source), Path(out), how or Conversion()
    found = identify(start, key=chosen.source_format)
    writer = writer_for(target, found.kind, key=chosen.target_format)
    check_target(target, folder=True)
    inputs = [start, *(file for file in found.files_of(start) if file.exists())]
    refuse_overwriting(target, writer, inputs)
    settings = {"from": found.key, "to": writer.key, "repair": chosen.repair, **_given(chosen.hints)}
    with recorded(target, "convert", inputs={"source": start}, settings=settings) as record:
        if found.kind == "annotation":
            record.facts |= _convert_tracks(start, target, chosen, writer)
            yield Progress("convert", 1, 1)
        else:
            movie = open_image(start, hints=_hints_for(found, chosen.hints), key=chosen.source_format)
            try:
                refuse_overwriting(target, writer, files_of(movie))
                record.facts |= {"frames": movie.n_frames, "setups": len(movie.setups)}
                yield Progress("convert", 0, movie.n_frames)
                for done in writing_image(target, movie, options=chosen.options, key=chosen.target_format):
                    yield Progress("convert", done, movie.n_frames)
                record.facts |= _said(writer, movie)
            finally:
                movie.close()
    return {**_written(target, writer), **record.facts}


def _written(target: Path, writer: Format) -> dict[str, Any]:
    """What was written, by the names under which it is found."""
    first, *others = writer.files_of(target)
    beside = {"beside": [str(file) for file in others]} if others else {}
    return {"out": str(first), **beside, "format": writer.name}


def _convert_tracks(start: Path, target: Path, how: Conversion, writer: Format) -> dict[str, Any]:
    tracks, said = _annotation(start, how)
    named = how.image or (tracks.attributes.get("image") if writer.names_image else None)
    movie = _movie(named, required=how.image is not None, hints=_for_the_movie(start, how))
    try:
        refuse_overwriting(target, writer, _movie_files(named, movie))
        warn_unopenable(writer, movie, how.hints)
        write_tracks(target, tracks, image=movie, key=how.target_format)
    finally:
        if movie is not None:
            movie.close()
    facts: dict[str, Any] = {"spots": tracks.n_spots, "links": tracks.n_links}
    return facts | ({"repaired": list(said)} if said else {}) | _said(writer, tracks)


def _annotation(start: Path, how: Conversion) -> tuple[Tracks, tuple[str, ...]]:
    found = identify(start, key=how.source_format)
    hints = how.hints if how.image is None else _understood(found, how.hints)
    tracks = read_tracks(start, hints=_hints_for(found, hints), key=how.source_format, lenient=how.repair)
    if how.repair:
        return mended(tracks)
    for problem in tracks.problems():
        log.warning("%s: %s It is kept as it is; --repair mends it.", start, problem)
    return tracks, ()


def _hints_for(found: Format, hints: Hints) -> Hints | None:
    """The hints, or None where there are none (a format that needs none refuses any)."""
    return hints if hints.given else None


def _understood(found: Format, hints: Hints) -> Hints:
    """Those of the hints that mean something to a format; the rest is said of the movie."""
    return replace(hints, **{name: None for name in hints.given if name not in found.hints})


def _for_the_movie(start: Path, how: Conversion) -> Hints:
    """The hints for a named movie: those that mean something to it, and those that mean nothing to the source either."""
    if how.image is None:
        return Hints()
    own, known = identify(start, key=how.source_format).hints, identify(how.image).hints
    return replace(how.hints, **{name: None for name in how.hints.given if name in own and name not in known})


def _given(hints: Hints) -> dict[str, Any]:
    return {name: getattr(hints, name) for name in hints.given}


def _said(writer: Format, content: ImageSeries | Tracks) -> dict[str, Any]:
    """What the target does not hold, as ``not_kept``: what the format cannot, and what the source's reader passes over."""
    unread: tuple[str, ...] = getattr(content, "unread", ())
    losses = list(dict.fromkeys((*unread, *writer.losses(content))))
    for sentence in losses:
        log.info("%s", sentence)
    return {"not_kept": losses} if losses else {}


def _movie(path: PathLike | None, *, required: bool, hints: Hints) -> ImageSeries | None:
    """Open the movie of an annotation; one that only the annotation names may be missing or damaged."""
    if path is None or (not required and not Path(path).exists()):
        return None
    if required:
        return open_image(path, hints=_hints_for(identify(path), hints))
    try:
        return open_image(path)
    except BdvIoError as error:
        log.warning("The annotation is written without its movie. %s", error)
        return None


def _movie_files(named: PathLike | None, movie: ImageSeries | None) -> list[Path]:
    return [*([Path(named)] if named else []), *files_of(movie)]


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
        ConfigError: ``out`` is one of them, or their movie.
        BdvIoError: One of them cannot be read, or their units differ.
    """
    _check_reach(reach)
    target = None if out is None else check_target(out, folder=True)
    before, after = read_tracks(first), read_tracks(second)
    if target is not None:
        _refuse(target, [first, second], after)
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
    if target is not None:
        reviewed = review(before, after, found)
        write_tracks(target, reviewed, image=_movie_of(after))
        facts |= {**_written(target, writer_for(target)), **_said(writer_for(target), reviewed)}
    return facts


def _check_reach(reach: float | None) -> None:
    if reach is not None and not (reach >= 0 and math.isfinite(reach)):
        raise ConfigError(
            f"A reach of {reach:g} was given; expected a length from 0 on, in the unit of the annotations."
        )


def _refuse(target: Path, inputs: Sequence[PathLike | None], tracks: Tracks) -> None:
    given = [Path(path) for path in inputs if path is not None]
    movie = tracks.attributes.get("image")
    refuse_overwriting(target, writer_for(target), [*given, *([Path(movie)] if movie else [])])


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
        ConfigError: ``out`` is one of them, or their movie.
        BdvIoError: One of them cannot be read, or their units differ.
    """
    _check_reach(reach)
    target = check_target(out, folder=True)
    inputs = {name: Path(path) for name, path in (("first", first), ("second", second), ("base", base)) if path}
    with recorded(target, "merge", inputs=inputs, settings={"reach": reach}) as record:
        mine, theirs = read_tracks(first), read_tracks(second)
        _refuse(target, [first, second, base], mine)
        origin = read_tracks(base) if base is not None else None
        both = merged(mine, theirs, base=origin, reach=reach)
        write_tracks(target, both, image=_movie_of(both))
        tags = both.tag_set(CONFLICT)
        conflicts = {} if tags is None else {t.name: int((tags.spots == i).sum()) for i, t in enumerate(tags.tags)}
        record.facts |= {"spots": both.n_spots, "links": both.n_links, "conflicts": sum(conflicts.values())}
        record.facts |= {name: count for name, count in conflicts.items() if count} | _said(writer_for(target), both)
    return {**_written(target, writer_for(target)), **record.facts}


def _movie_of(tracks: Tracks) -> ImageSeries | None:
    return _movie(tracks.attributes.get("image"), required=False, hints=Hints())


def restore(path: PathLike, *, number: int = 1) -> dict[str, Any]:
    """Bring a former version of a file back; what stands there now becomes ``name~1~``.

    Raises:
        BdvIoError: There is no such version, or the folder may not be written to.
    """
    return {"restored": str(restore_version(path, number)), "former": f"{Path(path).name}~1~"}
