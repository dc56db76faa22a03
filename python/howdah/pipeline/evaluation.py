"""``howdah evaluate``: how good is a result, measured against a truth by what both hold: spots, links, divisions, masks."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io import Tracks
from bdv_io.formats import Format, identify, read_tracks
from bdv_io.image import Hints
from howdah.errors import ConfigError, DataError, MissingExtraError
from howdah.metrics import score_tracking
from howdah.pipeline.lineage_tables import write_table
from howdah.pipeline.mask_scores import Masks, MaskScore, masks_of
from howdah.pipeline.reproduction_scores import challenge_scores
from howdah.pipeline.sources import check_target
from howdah.progress import Progress, Steps

PathLike = str | os.PathLike[str]

__all__ = ["Judging", "evaluate"]

DIGITS = 4


@dataclass(frozen=True)
class Judging:
    """How a result is judged.

    Attributes:
        reach: How far a spot may be from its true place, world units; None: the median true radius.
        frame_tolerance: Frames that a division may be early or late.
        sparse: The truth holds some cells only; where it is silent nothing is counted as wrong.
        hints: What the files do not say of voxels and axes.
    """

    reach: float | None = None
    frame_tolerance: int = 0
    sparse: bool = False
    hints: Hints = field(default_factory=Hints)


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two: its spots, and its masks where it has some."""

    path: Path
    format: Format
    tracks: Tracks
    masks: Masks | None


def evaluate(
    result: PathLike, truth: PathLike, how: Judging | None = None, *, out: PathLike | None = None
) -> Steps[dict[str, Any]]:
    """Compare a result with the truth.

    Spots are matched one to one within ``reach``; links and divisions are right where their spots are. Masks are compared where the truth
    has some. Two challenge folders with tables are also scored by the challenge's own measures (DET, TRA, SEG), if py-ctcmetrics is there.

    Args:
        result: An annotation, a label image, a challenge's folder (``01_RES``).
        truth: The same (``01_GT``).
        how: Details.
        out: Where the measures are written, ``.json`` or ``.csv``; None: nowhere.

    Returns:
        ``measures``: rows for spots, links and divisions (precision, recall, F1 and counts); ``segmentation``: SEG, AP50, F1 and IoU;
        ``challenge``; ``notes``: sentences about what could not be compared.

    Raises:
        DataError: The two have nothing in common that can be compared.
        ConfigError, BdvIoError: As the sentence says.
    """
    chosen = how or Judging()
    target = None if out is None else check_target(out)
    if target is not None and target.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(f"Writing the measures to {target} is not possible: the name must end in .csv or .json.")
    if target is not None and target.resolve() in (Path(result).resolve(), Path(truth).resolve()):
        raise ConfigError(f"Writing the measures to {target} is not possible: it is an input. Name another target.")
    yield Progress("read", 0, 2)
    reads = []
    for number, path in enumerate((Path(truth), Path(result)), start=1):
        reads.append((path, *_read(path, chosen.hints)))
        yield Progress("read", number, 2)
    hints = chosen.hints if chosen.hints.given else None
    true, found = (
        _Side(path, known, tracks, masks_of(path, known, tracks, hints=hints, beside=reads[1 - place][2]))
        for place, (path, known, tracks) in enumerate(reads)
    )
    notes: list[str] = []
    facts: dict[str, Any] = {"result": str(result), "truth": str(truth), **_places(true, found, chosen, notes)}
    masks = yield from _masks(true, found, notes)
    if masks is not None:
        facts["segmentation"] = {name: _short(value) for name, value in masks.to_dict().items()}
    facts |= _challenge(true, found, notes)
    if not {"measures", "segmentation"} & set(facts):
        raise DataError(f"{result} cannot be compared with {truth}. {' '.join(notes)}")
    if notes:
        facts["notes"] = notes
    if target is not None:
        facts["out"] = str(write_table(target, _table(facts)))
    return facts


def _read(path: Path, hints: Hints) -> tuple[Format, Tracks]:
    known = identify(path)
    given = hints if hints.given else None
    if known.kind == "image":
        return known, read_tracks(path, key="labels", hints=given)
    return known, read_tracks(path, hints=given if known.hints else None)


def _places(true: _Side, found: _Side, how: Judging, notes: list[str]) -> dict[str, Any]:
    """Score spots, links and divisions by their places in the world."""
    if not true.tracks.n_spots:
        raise DataError(f"The truth {true.path} holds no spot, so that nothing can be measured. Is it the right file?")
    units = true.tracks.space_unit, found.tracks.space_unit
    if units[0] != units[1] and found.tracks.n_spots:
        notes.append(
            f"Places were not compared: those of the truth are in {units[0]}, those of the result in {units[1]}. Say what a voxel "
            f"measures: --voxel-size Z,Y,X --unit {units[1] if units[0] == 'pixel' else units[0]}."
        )
        return {}
    reach = how.reach
    if reach is None:
        reach = float(np.median(np.linalg.det(true.tracks.covariance) ** (1 / 6)))
        if not reach > 0:
            reach = float(np.median(np.sqrt(np.linalg.eigvalsh(true.tracks.covariance)[:, -1])))
    score = score_tracking(
        true.tracks, found.tracks, max_distance=reach, frame_tolerance=how.frame_tolerance, sparse=how.sparse
    )
    rows = [
        {"of": name, **{key: _short(value) for key, value in counts.to_dict().items()}}
        for name, counts in (("spots", score.detection.spots), ("links", score.links), ("divisions", score.divisions))
    ]
    return {
        "matched_within": _short(reach),
        "unit": units[0],
        "median_error": _short(score.detection.median_error),
        "measures": rows,
    }


def _masks(true: _Side, found: _Side, notes: list[str]) -> Steps[MaskScore | None]:
    """Score masks where the truth has some."""
    if true.masks is None or found.masks is None:
        if (true.masks is None) != (found.masks is None):
            which = "truth" if true.masks is None else "result"
            notes.append(f"Masks were not compared: the {which} has none.")
        return None
    score = MaskScore()
    keys = true.masks.keys
    for number, (frame, plane) in enumerate(keys):
        score = score + MaskScore.of(true.masks.read(frame, plane), found.masks.read(frame, plane))
        yield Progress("masks", number + 1, len(keys))
    return score


def _challenge(true: _Side, found: _Side, notes: list[str]) -> dict[str, Any]:
    """Score two folders of the challenge by its own measures."""
    if not ((found.path / "res_track.txt").is_file() and (true.path / "TRA").is_dir()):
        return {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            return {"challenge": challenge_scores(found.path, true.path)}
    except (MissingExtraError, AssertionError) as error:  # it asserts that there are as many masks as frames
        notes.append(f"DET and TRA were not computed: {error}")
        return {}


def _short(value: float) -> float | int | None:
    if isinstance(value, int | np.integer):
        return int(value)
    return round(float(value), DIGITS) if np.isfinite(value) else None


def _table(facts: Mapping[str, Any]) -> dict[str, Any]:
    """One row a measure: what is measured, the name, the value."""
    rows: list[tuple[str, str, float]] = []
    for row in facts.get("measures", ()):
        rows += [(row["of"], name, value) for name, value in row.items() if name != "of"]
    for of in ("segmentation", "challenge"):
        rows += [(of, name, value) for name, value in facts.get(of, {}).items()]
    numbers = np.array([np.nan if value is None else value for _, _, value in rows], dtype=np.float64)
    return {
        "of": np.array([of for of, _, _ in rows]),
        "measure": np.array([name for _, name, _ in rows]),
        "value": numbers,
    }
