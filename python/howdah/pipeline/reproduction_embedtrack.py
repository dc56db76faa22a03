"""The table of the EmbedTrack paper, as far as public data carry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdv_io import MissingDataError
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job
from howdah.pipeline.embedtrack import track_embedtrack, train_embedtrack
from howdah.pipeline.reproduction_scores import challenge_scores
from howdah.pipeline.truth import sequences_of
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.pipeline.reproduction import Reproduction

__all__ = ["embedtrack_challenge"]

SEEN = "seen in training"


def embedtrack_challenge(one: Reproduction, folder: Path, out: Path) -> Steps[dict[str, Any]]:
    """Learn sequences, track them, and score SEG, DET, TRA and OP = (SEG + TRA) / 2.

    Each sequence is learned and the others are tracked (``"01 -> 02"``): an honest comparison. Then, as the paper trained for the
    challenge, all are learned together (``"01+02 -> 01 (seen in training)"``): such scores say how well the network fits its
    teachers, no more, for the challenge's test movies have no public truth. Work that is there is not done again.

    Args:
        one: The data set, with its settings.
        folder: Holds ``01``, ``01_GT``, ``01_ST`` and so on.
        out: Weights and results.

    Raises:
        MissingDataError: No sequence with its truth is there.
    """
    teachers = [path for path in sequences_of(folder) if path.name in one.facts["sequences"]]
    pupils = [folder / name for name in one.facts["sequences"] if (folder / name).is_dir()]
    if not teachers:
        raise MissingDataError(
            f"Reproducing {one.name} failed: {folder} holds no sequence with its truth (01 and 01_GT)."
        )
    runs = [(teacher.name, teacher, [path for path in pupils if path != teacher]) for teacher in teachers]
    if len(teachers) > 1:
        runs.append(("+".join(path.name for path in teachers), folder, pupils))
    elif not runs[0][2]:
        runs = [(teachers[0].name, teachers[0], pupils)]
    ours: dict[str, Any] = {}
    for name, source, tracked in runs:
        where = out / f"learned-{name}"
        where.mkdir(parents=True, exist_ok=True)
        weights = where / "embedtrack.safetensors"
        if tracked and not weights.is_file():
            yield from train_embedtrack(Job(source), weights, settings=one.settings)
        for pupil in tracked:
            result = where / f"{pupil.name}_RES"
            if not result.is_dir():
                rules = Challenge(border=int(one.facts.get("border", 0)), fill_empty=True)
                yield from track_embedtrack(Job(pupil), result, settings=one.settings, weights=weights, challenge=rules)
            truth = pupil.with_name(f"{pupil.name}_GT")
            if truth.is_dir():
                seen = f" ({SEEN})" if pupil.name in name.split("+") else ""
                ours[f"{name} -> {pupil.name}{seen}"] = scores = _with_op(challenge_scores(result, truth))
                yield Progress("score", 1, 1, values=scores)
    return ours


def _with_op(scores: dict[str, float]) -> dict[str, float]:
    if "SEG" not in scores:
        return scores
    return {**scores, "OP": round((scores["SEG"] + scores["TRA"]) / 2, 4)}
