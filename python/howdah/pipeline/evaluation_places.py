"""Scores by places in the world: spots, links and divisions, distances, and whether qualities can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.tags import Feature
from howdah.errors import ConfigError
from howdah.metrics import Counts, Matching, match_spots, score_tracking
from howdah.metrics.calibration import reliability
from howdah.metrics.detection_curve import PARTS, detection_curve
from howdah.metrics.divisions import whole_divisions
from howdah.metrics.tracking import division_verdicts, link_verdicts
from howdah.pipeline.evaluation_sides import Side

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Places", "calibration", "places", "short"]

DIGITS = 6
TOLERANCES = (0, 1, 2)
LINK_QUALITY = "Howdah link quality"
MANY = (
    (3.0, 0.5),
    (1.5, 0.8),
)  # so many times the truth's spots, while this part of it is found: the truth looks sparse
SPARSE = (
    "The truth is taken for sparse: a spot that it does not have is unknown, not false; a link is false only if the truth gives its target "
    "another parent, a division only if the truth's cell goes on undivided. So precision is that of what the truth can judge."
)


class How(Protocol):
    """What of the settings is needed here."""

    @property
    def reach(self) -> float | None:
        """How far a spot may be off."""

    @property
    def frame_tolerance(self) -> int:
        """Frames that a division may be early or late."""

    @property
    def sparse(self) -> bool:
        """Whether the truth holds some cells only."""

    @property
    def quality(self) -> tuple[str, ...]:
        """Features to be tested."""


@dataclass(frozen=True, eq=False)
class Places:
    """Spots that were matched by their places.

    Attributes:
        pairs: Who is whose partner.
        reach: Largest distance of a pair, world units.
        facts: ``measures``, ``divisions``, ``distances``, ``matched_within``, ``unit``, ``median_error``.
    """

    pairs: Matching
    reach: float
    facts: dict[str, Any]


def places(true: Side, found: Side, how: How, notes: list[str]) -> Places | None:
    """Score spots, links and divisions; None, with a note, where the two are in different units."""
    units = true.tracks.space_unit, found.tracks.space_unit
    if units[0] != units[1] and found.tracks.n_spots:
        notes.append(
            f"Places were not compared: those of the truth are in {units[0]}, those of the result in {units[1]}. Say what a voxel "
            f"measures: --voxel-size Z,Y,X --unit {units[1] if units[0] == 'pixel' else units[0]}."
        )
        return None
    reach = how.reach
    if reach is None:
        reach = float(np.median(np.linalg.det(true.tracks.covariance) ** (1 / 6)))
        if not reach > 0:
            reach = float(np.median(np.sqrt(np.linalg.eigvalsh(true.tracks.covariance)[:, -1])))
    truth, result = true.tracks, found.tracks
    pairs = match_spots(truth, result, max_distance=reach)
    score = score_tracking(
        truth,
        result,
        max_distance=reach,
        frame_tolerance=how.frame_tolerance,
        sparse=how.sparse,
        matching=pairs,
    )
    notes += [SPARSE] if how.sparse else _looks_odd(truth, result, pairs, f"{reach:.4g} {units[0]}")
    named = (("spots", score.detection.spots), ("links", score.links), ("divisions", score.divisions))
    curve = detection_curve(truth, result, [reach * part for part in PARTS], sparse=how.sparse)
    facts = {
        "matched_within": short(reach),
        "unit": units[0],
        "median_error": short(score.detection.median_error),
        "measures": [{"of": name, **_row(counts, sparse=how.sparse and name == "spots")} for name, counts in named],
        "divisions": _divisions(truth, result, pairs, sparse=how.sparse),
        "distances": [{"distance": short(distance), **_row(counts, sparse=how.sparse)} for distance, counts in curve],
    }
    return Places(pairs, reach, facts)


def short(value: float) -> float | int | None:
    """Return a number as it is written: whole ones whole, others to six digits, None for NaN."""
    if isinstance(value, int | np.integer):
        return int(value)
    return round(float(value), DIGITS) if np.isfinite(value) else None


def _row(counts: Counts, *, sparse: bool = False) -> dict[str, Any]:
    """Counts and ratios; of spots that a sparse truth does not know nobody knows the precision."""
    row = {key: short(value) for key, value in counts.to_dict().items()}
    return row | dict.fromkeys(("precision", "f1")) if sparse else row


def _divisions(truth: Tracks, result: Tracks, pairs: Matching, *, sparse: bool) -> list[dict[str, Any]]:
    """A row for each tolerance: divisions that are right by their mothers, and those with both daughters."""
    rows = []
    for by, judge in (("mother", division_verdicts), ("mother and daughters", whole_divisions)):
        for tolerance in TOLERANCES:
            counts = judge(truth, result, pairs, frame_tolerance=tolerance, sparse=sparse).counts
            rows.append({"frame_tolerance": tolerance, "by": by, **_row(counts)})
    return rows


def _looks_odd(truth: Tracks, result: Tracks, pairs: Matching, within: str) -> list[str]:
    """Say so where the two hardly belong together, or where the truth seems to hold some cells or frames only."""
    if not result.n_spots:
        return []
    if not len(pairs.truth):
        return [
            f"No spot of the result lies within {within} of a true one of its frame. Do they belong together? The truth holds "
            f"{_extent(truth)}, the result {_extent(result)}."
        ]
    notes, found = [], len(pairs.truth) / truth.n_spots
    if any(found >= known and result.n_spots > many * truth.n_spots for many, known in MANY):
        notes.append(
            f"The truth looks sparse: it holds {truth.n_spots} spots, of which {len(pairs.truth)} were found, but the result holds "
            f"{result.n_spots}. If it does not name every cell, say --sparse; else everything more counts as false."
        )
    silent = ~np.isin(result.t, truth.t)
    if silent.any():
        frames = np.unique(result.t[silent])
        notes.append(
            f"The truth has no spot in {len(frames)} frame{'s' * (len(frames) > 1)} where the result has {int(silent.sum())} (the first is "
            f"frame {frames[0]}): these count as false. If nobody looked at these frames, say --sparse."
        )
    return notes


def _extent(tracks: Tracks) -> str:
    low, high = (
        ", ".join(f"{v:.4g}" for v in corner) for corner in (tracks.centre.min(axis=0), tracks.centre.max(axis=0))
    )
    return f"frames {tracks.t.min()} to {tracks.t.max()}, (z, y, x) from ({low}) to ({high})"


def calibration(truth: Tracks, result: Tracks, pairs: Matching, how: How, notes: list[str]) -> list[dict[str, Any]]:
    """Test qualities: of spots and links as Howdah writes them, and features that were named.

    Returns:
        A row each: ``of`` (spots or links), ``quality`` (its name), ``n``, ``n_right``, ``ece``, ``brier``, ``auc``, ``bins``.

    Raises:
        ConfigError: There is no such feature.
    """
    known: list[tuple[str, str, F64]] = []
    if np.isfinite(result.quality).any():
        known.append(("spots", "quality", result.quality))
    named = [(feature, "links") for feature in result.features if feature.key == ("link", LINK_QUALITY, "")]
    for name in how.quality:
        named += _named(result, name)
    known += [(of, _name(feature), _values(feature)) for feature, of in named]
    spots = pairs.truth_of >= 0
    verdicts = link_verdicts(truth, result, pairs, sparse=how.sparse)
    judged = {
        "spots": (spots, spots if how.sparse else np.ones(len(spots), dtype=bool)),
        "links": (verdicts.right, verdicts.right | verdicts.false),
    }
    rows = []
    for of, name, values in known:
        right, there = judged[of]
        there = there & np.isfinite(values)
        table = reliability(values[there], right[there])
        row = {key: value if key == "bins" else short(value) for key, value in table.to_dict().items()}
        if how.sparse and row["n"] == row["n_right"]:  # nothing can be wrong: how sure something is cannot be tested
            row |= {"ece": None, "brier": None, "bins": []}
        rows.append({"of": of, "quality": name, **row})
        notes += _about(of, name, row, sparse=how.sparse)
    return rows


def _about(of: str, name: str, row: dict[str, Any], *, sparse: bool) -> list[str]:
    if sparse and row["n"] == row["n_right"]:
        return [f"The '{name}' of {of} says nothing here: a sparse truth does not call any of them false."]
    if row["ece"] is None and row["n"]:
        return [f"The '{name}' of {of} is no probability (it leaves 0 to 1): only its AUC is given."]
    return []


def _named(result: Tracks, name: str) -> list[tuple[Feature, str]]:
    found = [
        (feature, "links" if feature.target == "link" else "spots")
        for feature in result.features
        if name.casefold() in (feature.name.casefold(), _name(feature).casefold()) and feature.target != "branch"
    ]
    if not found and not (name.casefold() == "quality" and np.isfinite(result.quality).any()):
        there = ", ".join(sorted({_name(feature) for feature in result.features if feature.target != "branch"}))
        raise ConfigError(f"The result has no feature '{name}' of spots or links; it has: {there or 'none'}.")
    return [(feature, of) for feature, of in found if feature.name != LINK_QUALITY]


def _name(feature: Feature) -> str:
    return f"{feature.name} {feature.projection}".strip()


def _values(feature: Feature) -> F64:
    values = feature.values.astype(np.float64)
    return values if feature.defined is None else np.where(feature.defined, values, np.nan)
