"""``howdah evaluate``: how good is a result, measured against a truth by what both hold: spots, links, divisions, masks, tracks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bdv_io import BdvIoError
from bdv_io.image import Hints
from bdv_io.safe_write import replacing
from howdah.errors import ConfigError, DataError
from howdah.metrics import find_mistakes
from howdah.metrics.mistakes import KINDS, Mistakes
from howdah.pipeline.evaluation_challenge import challenge_facts, chosen_measures
from howdah.pipeline.evaluation_matching import Found, by_centres, by_masks, one_to_one
from howdah.pipeline.evaluation_places import Places, calibration, places, short
from howdah.pipeline.evaluation_sides import Side, read_side
from howdah.pipeline.lineage_tables import write_table
from howdah.pipeline.record import versions
from howdah.pipeline.sources import check_target
from howdah.progress import Progress, Steps

PathLike = str | os.PathLike[str]

__all__ = ["Judging", "evaluate"]

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
        ``calibration``: a row a quality with ``bins`` (``low, high, n, quality, right``); ``segmentation``: SEG, AP50, F1 and IoU; ``challenge``: value
        or None by name; ``corrections``; ``without_divisions``; ``agreement`` with the libraries; ``mistakes``: number of each kind;
        ``worst``: the worst of them; ``matched_by``, ``matched_within``, ``unit``, ``median_error``, ``frame_tolerance``, ``sparse``,
        ``versions``; ``notes``: sentences about what could not be compared.

    Raises:
        DataError: The two have nothing in common that can be compared.
        ConfigError, BdvIoError: As the sentence says.
    """
    chosen = how or Judging()
    target = _checked(out, (result, truth), (".csv", ".json"))
    wanted = chosen_measures(chosen.measures)
    yield Progress("read", 0, 2)
    drawn = report is not None or tagged is not None
    true = read_side(Path(truth), chosen.hints, outlines=drawn)
    yield Progress("read", 1, 2)
    found = read_side(Path(result), chosen.hints, outlines=drawn)
    yield Progress("read", 2, 2)
    if not true.tracks.n_spots:
        raise DataError(f"The truth {true.path} holds no spot, so that nothing can be measured. Is it the right file?")
    notes: list[str] = []
    seen = places(true, found, chosen, notes)
    matched = yield from _matched(true, found, chosen, seen, notes)
    if matched is None:
        raise DataError(f"{result} cannot be compared with {truth}. {' '.join(notes)}")
    facts: dict[str, Any] = {"result": str(result), "truth": str(truth), **(seen.facts if seen else {})}
    facts |= {"frame_tolerance": chosen.frame_tolerance, "sparse": chosen.sparse, "matched_by": matched.how}
    if matched.masks is not None:
        facts["segmentation"] = _segmentation(matched, sparse=chosen.sparse)
    facts |= challenge_facts(true, found, matched, sparse=chosen.sparse, check=chosen.check, wanted=wanted, notes=notes)
    pairs = seen.pairs if seen else one_to_one(matched.cover)
    facts["calibration"] = calibration(true.tracks, found.tracks, pairs, chosen, notes)
    mistakes = find_mistakes(
        true.tracks,
        found.tracks,
        pairs,
        frame_tolerance=chosen.frame_tolerance,
        sparse=chosen.sparse,
        overlap=matched.overlap,
    )
    facts |= {"mistakes": mistakes.counts(), "worst": _worst(mistakes, true, found)}
    facts |= {"versions": versions(), "notes": notes}
    return _written(facts, target)


def _checked(out: PathLike | None, inputs: tuple[PathLike, ...], endings: tuple[str, ...]) -> Path | None:
    target = None if out is None else check_target(out)
    if target is not None and target.suffix.lower() not in endings:
        raise ConfigError(
            f"Writing the measures to {target} is not possible: the name must end in {' or '.join(endings)}."
        )
    if target is not None and target.resolve() in [Path(path).resolve() for path in inputs]:
        raise ConfigError(f"Writing the measures to {target} is not possible: it is an input. Name another target.")
    return target


def _matched(true: Side, found: Side, how: Judging, seen: Places | None, notes: list[str]) -> Steps[Found | None]:
    """Match cells by masks where that is wished and possible, else by places."""
    masks = None
    if how.match == "masks" or (how.match == "auto" and (true.has_masks or found.has_masks)):
        try:
            masks = yield from by_masks(true, found)
        except (DataError, BdvIoError) as error:
            if how.match == "masks" or seen is None or (true.has_masks and found.has_masks):
                raise
            notes.append(f"Cells were matched by their centres. {error}")
        else:
            if masks is None:
                notes.append(_unpainted(true, found))
    if masks is not None or seen is None:
        return masks
    return by_centres(true, found, seen.pairs, seen.reach)


def _unpainted(true: Side, found: Side) -> str:
    lacking = "truth" if not true.has_masks else "result"
    return (
        f"Masks were not compared: the {lacking} has none, and nothing says how it lies on the pixels of the other. Cells were matched "
        "by their centres."
    )


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


def _written(facts: dict[str, Any], target: Path | None) -> dict[str, Any]:
    """Write the facts where that was wished."""
    if target is None:
        return facts
    if target.suffix.lower() == ".csv":
        return {**facts, "out": str(write_table(target, _table(facts)))}
    with replacing(target) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, default=str, allow_nan=False) + "\n", encoding="utf-8")
    return {**facts, "out": str(target)}


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
