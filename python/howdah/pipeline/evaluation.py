"""``howdah evaluate``: how good is a result, measured against a truth by what both hold: spots, links, divisions, masks, tracks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bdv_io import BdvIoError, ImageSeries
from bdv_io.formats import open_image, write_tracks, writer_for
from bdv_io.image import Hints
from bdv_io.safe_write import replacing
from howdah import __version__
from howdah.errors import ConfigError, DataError
from howdah.metrics import Matching, find_mistakes
from howdah.metrics.challenge_library import library_versions
from howdah.metrics.mistakes import KINDS, Mistakes
from howdah.pipeline.error_tags import tagged as with_mistakes
from howdah.pipeline.evaluation_challenge import challenge_facts, chosen_measures
from howdah.pipeline.evaluation_matching import Found, by_centres, by_masks, one_to_one
from howdah.pipeline.evaluation_places import Places, calibration, places, short
from howdah.pipeline.evaluation_sides import Side, in_unit_of, read_side
from howdah.pipeline.lineage_tables import write_table
from howdah.pipeline.record import versions
from howdah.pipeline.report import write_report
from howdah.pipeline.sources import check_target, movie_of
from howdah.progress import Progress, Steps

PathLike = str | os.PathLike[str]

__all__ = ["Judging", "evaluate", "listed"]

WORST = 1000  # mistakes that are listed one by one in the JSON


@dataclass(frozen=True)
class Judging:
    """How a result is judged.

    Attributes:
        reach: How far a spot may be from its true place, world units; None: the median true radius.
        frame_tolerance: Frames that a division may be early or late.
        sparse: The truth holds some cells only; where it is silent nothing is counted as wrong.
        hints: What the files do not say of voxels and axes.
        measures: Measures of the challenge to compute; none named: all.
        quality: Features of spots or links that shall be tested as qualities, beside those that Howdah writes.
        match: Match cells by ``"masks"``, as the challenge does, by ``"centres"``, or (``"auto"``) by masks where one side has some.
        check: Ask traccuracy, too, and say whether it agrees.
    """

    reach: float | None = None
    frame_tolerance: int = 0
    sparse: bool = False
    hints: Hints = field(default_factory=Hints)
    measures: tuple[str, ...] = ()
    quality: tuple[str, ...] = ()
    match: Literal["auto", "masks", "centres"] = "auto"
    check: bool = False


def listed(text: str | None) -> tuple[str, ...]:
    """Return names that are given between commas: ``"SEG, TRA"``."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def evaluate(
    result: PathLike,
    truth: PathLike,
    how: Judging | None = None,
    *,
    out: PathLike | None = None,
    report: PathLike | None = None,
    tagged: PathLike | None = None,
) -> Steps[dict[str, Any]]:
    """Compare a result with the truth.

    Spots are matched one to one within ``reach``; links and divisions are right where their spots are. For the challenge's measures
    cells are matched by masks, where both have some or can be painted on the other's frames, else by those same pairs of spots. What
    is not defined is None, and a note says why.

    Args:
        result: An annotation, a label image, a challenge's folder (``01_RES``).
        truth: The same (``01_GT``).
        how: Details.
        out: Where the measures are written, ``.json`` (everything) or ``.csv`` (a row a measure); None: nowhere.
        report: Where a page for people is written, ``.html``.
        tagged: Where the result is written with its mistakes as tags and features, in a format of annotations.

    Returns:
        ``measures``: rows for spots, links and divisions (precision, recall, F1 and counts); ``divisions``: rows for tolerances of
        0, 1, 2 frames, by mothers alone and with both daughters; ``distances``: rows of precision and recall at growing distances;
        ``calibration``: a row a quality with ``bins`` (``low, high, n, quality, right``); ``segmentation``: SEG, AP50, F1, IoU;
        ``challenge``: value or None by name; ``corrections``; ``without_divisions``; ``agreement`` with the libraries;
        ``mistakes``: number of each kind; ``worst``: the worst of them; ``matched_by``, ``matched_within``, ``unit``,
        ``median_error``, ``frame_tolerance``, ``sparse``, ``versions``; ``notes``: sentences about what could not be compared.

    Raises:
        DataError: The two have nothing in common that can be compared.
        ConfigError, BdvIoError: As the sentence says.
    """
    chosen = how or Judging()
    target = _checked(out, (result, truth), "the measures", (".csv", ".json"))
    page = _checked(report, (result, truth), "the report", (".html",))
    errors = _checked(tagged, (truth,), "the mistakes", ())
    wanted = chosen_measures(chosen.measures)
    yield Progress("read", 0, 2)
    drawn = page is not None or errors is not None
    true = read_side(Path(truth), chosen.hints, outlines=drawn)
    yield Progress("read", 1, 2)
    found = read_side(Path(result), chosen.hints, outlines=drawn)
    yield Progress("read", 2, 2)
    true = in_unit_of(true, found)
    if not true.tracks.n_spots:
        raise DataError(f"The truth {true.path} holds no spot, so that nothing can be measured. Is it the right file?")
    judged = yield from _judged(true, found, chosen, wanted)
    return _written(judged, target, page, errors)


@dataclass(frozen=True, eq=False)
class _Judged:
    """All that is known of the two."""

    true: Side
    found: Side
    pairs: Matching
    matched: Found
    mistakes: Mistakes
    facts: dict[str, Any]
    notes: list[str]


def _judged(true: Side, found: Side, how: Judging, wanted: tuple[str, ...]) -> Steps[_Judged]:
    notes: list[str] = []
    seen = places(true, found, how, notes)
    matched = yield from _matched(true, found, how, seen, notes)
    if matched is None:
        raise DataError(f"{found.path} cannot be compared with {true.path}. {' '.join(notes)}")
    facts: dict[str, Any] = {"result": str(found.path), "truth": str(true.path), **(seen.facts if seen else {})}
    facts |= {"frame_tolerance": how.frame_tolerance, "sparse": how.sparse, "matched_by": matched.how}
    if matched.masks is not None:
        facts["segmentation"] = _segmentation(matched, sparse=how.sparse)
    facts |= challenge_facts(true, found, matched, sparse=how.sparse, check=how.check, wanted=wanted, notes=notes)
    pairs = seen.pairs if seen else one_to_one(matched.cover)
    facts["calibration"] = calibration(true.tracks, found.tracks, pairs, how, notes)
    mistakes = find_mistakes(
        true.tracks,
        found.tracks,
        pairs,
        frame_tolerance=how.frame_tolerance,
        sparse=how.sparse,
        overlap=matched.overlap,
    )
    facts |= {"mistakes": mistakes.counts(), "worst": _worst(mistakes, true, found)}
    facts |= {"versions": {"howdah": __version__, **versions(), **library_versions()}, "notes": notes}
    return _Judged(true, found, pairs, matched, mistakes, facts, notes)


def _checked(out: PathLike | None, inputs: tuple[PathLike, ...], what: str, endings: tuple[str, ...]) -> Path | None:
    """Return where something goes, None for nowhere; say early what would fail late."""
    target = None if out is None else check_target(out)
    if target is None:
        return None
    if endings and target.suffix.lower() not in endings:
        raise ConfigError(f"Writing {what} to {target} is not possible: the name must end in {' or '.join(endings)}.")
    if target.resolve() in [Path(path).resolve() for path in inputs]:
        raise ConfigError(f"Writing {what} to {target} is not possible: it is an input. Name another target.")
    if not endings:
        writer_for(target)
    return target


def _matched(true: Side, found: Side, how: Judging, seen: Places | None, notes: list[str]) -> Steps[Found | None]:
    """Match cells by masks where that is wished and possible, else by places."""
    masks = None
    if how.match == "masks" or (how.match == "auto" and (true.has_masks or found.has_masks)):
        try:
            masks = yield from by_masks(true, found)
        except (DataError, BdvIoError) as error:
            if how.match == "masks" or seen is None or (true.has_pixels and found.has_pixels):
                raise
            notes.append(f"Cells were matched by their centres. {error}")
        else:
            if masks is None and how.match == "masks":
                raise DataError(f"{found.path} cannot be compared with {true.path} by masks: {_lacking(true, found)}.")
            if masks is None:
                notes.append(f"Masks were not compared: {_lacking(true, found)}. Cells were matched by their centres.")
    if masks is not None or seen is None:
        return masks
    return by_centres(true, found, seen.pairs, seen.reach)


def _lacking(true: Side, found: Side) -> str:
    if not true.has_masks and not found.has_masks:
        return "neither has masks, and no movie says how large its frames are"
    return f"the {'result' if true.has_masks else 'truth'} has none, and nothing says how it lies on the pixels of the other"


def _segmentation(matched: Found, *, sparse: bool) -> dict[str, Any]:
    """Score the masks; of a sparse truth only what does not count the result's other cells."""
    if matched.masks is None:
        return {}
    kept = {name: short(value) for name, value in matched.masks.to_dict().items()}
    return kept | dict.fromkeys(("AP50", "F1", "IoU_of_pixels")) if sparse else kept


def _worst(mistakes: Mistakes, true: Side, found: Side) -> list[dict[str, Any]]:
    """Return the worst mistakes, a row each; ids are those that Mastodon and TrackMate show, of a link those of its target."""
    rows = []
    worst = mistakes.worst(WORST)
    for kind, frame, centre, mine, theirs, severity in zip(
        *(getattr(worst, name).tolist() for name in ("kind", "frame", "centre", "predicted", "truth", "severity")),
        strict=True,
    ):
        link = KINDS[kind].startswith("link")
        z, y, x = (round(number, 3) for number in centre)
        ids = [
            None if row < 0 else int(side.tracks.id[side.tracks.links[row, 1] if link else row])
            for side, row in ((found, mine), (true, theirs))
        ]
        where = {"kind": KINDS[kind], "frame": frame, "z": z, "y": y, "x": x}
        rows.append({**where, "id_in_result": ids[0], "id_in_truth": ids[1], "severity": round(severity, 3)})
    return rows


def _written(judged: _Judged, target: Path | None, page: Path | None, errors: Path | None) -> dict[str, Any]:
    """Write what was wished."""
    facts, more = judged.facts, {}
    if page is not None or errors is not None:
        more = _pictured(judged, page, errors)
    if target is not None:
        if target.suffix.lower() == ".csv":
            write_table(target, _table(facts))
        else:
            with replacing(target) as temporary:
                text = json.dumps(facts, indent=1, default=str, allow_nan=False)
                temporary.write_text(text + "\n", encoding="utf-8")
        more["out"] = str(target)
    return {**facts, **more}


def _pictured(judged: _Judged, page: Path | None, errors: Path | None) -> dict[str, str]:
    """Write the page and the tagged result."""
    true, found, pairs = judged.true.tracks, judged.found.tracks, judged.pairs
    image, more = _movie(judged), {}
    if image is None:
        judged.notes.append("The movie was not found: it is not in the report, and the tagged file does not name it.")
    try:
        if errors is not None:
            colours = writer_for(errors).key == "trackmate"
            grown = with_mistakes(
                found, true, judged.mistakes, pairs, overlap=judged.matched.overlap, manual_colours=colours
            )
            write_tracks(errors, grown, image=image)
            more["tagged"] = str(errors)
        if page is not None:
            write_report(page, judged.facts, judged.mistakes, result=found, truth=true, matching=pairs, image=image)
            more["report"] = str(page)
    finally:
        if image is not None:
            image.close()
    return more


def _movie(judged: _Judged) -> ImageSeries | None:
    """Open the movie of the result, or that of the truth."""
    for side in (judged.found, judged.true):
        try:
            return open_image(movie_of(side.path, side.tracks, None))
        except BdvIoError:
            continue
    return None


def _table(facts: Mapping[str, Any]) -> dict[str, Any]:
    """One row a measure: what is measured, the name, the value."""
    rows: list[tuple[str, str, float | None]] = []
    for row in facts.get("measures", ()):
        rows += [(row["of"], name, value) for name, value in row.items() if name != "of"]
    for row in facts.get("divisions", ()):
        of = f"divisions within {row['frame_tolerance']} frames, {row['by']}"
        rows += [(of, name, row[name]) for name in ("precision", "recall", "f1")]
    for row in facts.get("distances", ()):
        rows += [(f"spots within {row['distance']:g}", name, row[name]) for name in ("precision", "recall", "f1")]
    for row in facts.get("calibration", ()):
        rows += [(f"{row['quality']} of {row['of']}", name, row[name]) for name in ("n", "ece", "brier", "auc")]
    for of in ("segmentation", "challenge", "corrections", "without_divisions", "mistakes"):
        rows += [(of.replace("_", " "), name, value) for name, value in facts.get(of, {}).items()]
    numbers = np.array([np.nan if value is None else value for _, _, value in rows], dtype=np.float64)
    return {
        "of": np.array([of for of, _, _ in rows]),
        "measure": np.array([name for _, name, _ in rows]),
        "value": numbers,
    }
