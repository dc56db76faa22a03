"""Table 3 of the EfficientCellSeg paper, as far as public data carry: SEG and PESEG of three data sets of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bdv_io import MissingDataError
from bdv_io.ctc.layout import Folder, find, read_mask
from bdv_io.image import Hints
from howdah.errors import DataError
from howdah.metrics.segmentation import overlaps, peseg
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job
from howdah.pipeline.efficientcellseg import segment_efficientcellseg, train_efficientcellseg
from howdah.pipeline.truth import sequences_of
from howdah.pipeline.weights_of import read_weights_of
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.pipeline.reproduction import Reproduction

__all__ = ["efficientcellseg_challenge", "segmentation_score"]

SEEN = "seen in training"
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # of a network; they are no parameters


def efficientcellseg_challenge(one: Reproduction, folder: Path, out: Path) -> Steps[dict[str, Any]]:
    """Learn one sequence, segment the other, and score SEG and PESEG = SEG / N * 10^6, N the parameters of the trained networks.

    Where there is one sequence only it is segmented itself, and the name of the score says so. Work that is there is not done again.

    Args:
        one: The data set, with its settings.
        folder: Holds ``01``, ``01_GT`` and so on.
        out: Weights and results.

    Raises:
        MissingDataError: No sequence with its truth is there.
    """
    facts = one.facts
    hints = Hints(voxel_size=tuple(facts["voxel_size"]), unit=facts["unit"])
    teachers = [path for path in sequences_of(folder) if path.name in facts["sequences"]]
    pupils = [folder / name for name in facts["sequences"] if (folder / name).is_dir()]
    if not teachers:
        raise MissingDataError(
            f"Reproducing {one.name} failed: {folder} holds no sequence with its truth (01 and 01_GT)."
        )
    pairs = [(a, b) for a in teachers for b in pupils if a != b] or [(a, a) for a in teachers]
    ours: dict[str, Any] = {}
    for teacher, pupil in pairs:
        where = out / f"learned-{teacher.name}"
        where.mkdir(parents=True, exist_ok=True)
        weights, result = where / "efficientcellseg.safetensors", where / f"{pupil.name}_RES"
        if not weights.is_file():
            yield from train_efficientcellseg(Job(teacher, hints=hints), weights, settings=one.settings)
        if not result.is_dir():
            rules = Challenge(border=int(facts.get("border", 0)), fill_empty=True)
            job = Job(pupil, hints=hints)
            yield from segment_efficientcellseg(job, result, settings=one.settings, weights=weights, challenge=rules)
        truth = pupil.with_name(f"{pupil.name}_GT")
        if truth.is_dir():
            seen = f" ({SEEN})" if teacher == pupil else ""
            ours[f"{teacher.name} -> {pupil.name}{seen}"] = scores = _scores(result, truth, weights)
            yield Progress("score", 1, 1, values={name: float(value) for name, value in scores.items()})
    return ours


def _scores(result: Path, truth: Path, weights: Path) -> dict[str, float]:
    seg, n_cells = segmentation_score(result, truth)
    n_parameters = parameters_of(weights)
    return {
        "SEG": round(seg, 4),
        "cells": n_cells,
        "parameters": n_parameters,
        "PESEG": round(peseg(seg, n_parameters), 4),
    }


def parameters_of(weights: Path) -> int:
    """Return how many numbers the networks in a weights file have that are learned."""
    members = read_weights_of("efficientcellseg", weights).members
    return sum(value.numel() for state in members for key, value in state.items() if not key.endswith(BUFFERS))


def segmentation_score(result: Path, truth: Path) -> tuple[float, int]:
    """Score a result folder by SEG as the challenge does, against gold masks of whole frames or of single planes.

    A true cell of a single plane is compared with the cells of the result as they are in this plane.

    Args:
        result: ``01_RES``.
        truth: ``01_GT``.

    Returns:
        SEG, and the number of true cells; NaN and 0 where there are none.

    Raises:
        MissingDataError: There are no gold masks, or the result lacks a frame.
        DataError: Result and truth differ in size.
    """
    found, answer = find(truth), find(result)
    if found is None or not found.segmented:
        raise MissingDataError(f"Scoring {result} failed: {truth} holds no masks (SEG/man_seg000.tif).")
    scores = [_jaccard(found, key, answer, result) for key in sorted(found.segmented, key=lambda k: (k[0], k[1] or 0))]
    every = np.concatenate(scores)
    return (float(every.mean()) if len(every) else float("nan")), len(every)


def _jaccard(
    truth: Folder, key: tuple[int, int | None], answer: Folder | None, result: Path
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    frame, plane = key
    if answer is None or frame not in answer.masks:
        raise MissingDataError(f"Scoring {result} failed: it has no mask of frame {frame}. Run the segmentation again.")
    mask, found = read_mask(truth.segmented[key]), read_mask(answer.masks[frame])
    if plane is not None:
        found = found[plane : plane + 1]
    if mask.shape != found.shape:
        raise DataError(
            f"Scoring {result} failed: in frame {frame} the truth {truth.segmented[key].name} has (Z, Y, X) = {mask.shape} pixels, the "
            f"result {found.shape}."
        )
    return overlaps(mask, found).jaccard()
