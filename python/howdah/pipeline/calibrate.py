"""Making quality mean something: predictions against what a person judged, and a weights file that has learned from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.safe_write import replacing
from howdah.ellipsoids import squared_distance
from howdah.errors import ConfigError, DataError
from howdah.methods.elephant.calibration import reliability
from howdah.methods.elephant.status import Status, spot_status
from howdah.pipeline.detection import Job, detector_of
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.sources import check_target
from howdah.progress import Progress, Steps

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Sections = Mapping[str, Mapping[str, Any]]

__all__ = ["calibrate"]

LEAST_JUDGED = 10


def calibrate(
    job: Job,
    weights: str | os.PathLike[str],
    *,
    settings: Sections | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Steps[dict[str, Any]]:
    """Fit the quality of detections to what a person judged, and write it into the weights file.

    The frames with judged spots are predicted anew. A detection in or near an accepted nucleus (tag tp or fn, or none) is
    right, one in a rejected place (fp, tn, tb, fb) wrong; others are unknown and do not count. Calibrate on other
    frames than the training's where there are some: there, the network is surer than elsewhere.

    Args:
        job: The project with the judgement; ``frames`` limits it.
        weights: The weights; they get a new header, their numbers stay.
        settings: ``{"elephant": {...}}`` as for predicting.
        out: Where the calibrated weights go. None: into the same file; the former one is kept as ``name~1~``. Beside it
            go the reliability curve as a picture and as JSON, ``name.reliability.png`` and ``.json``.

    Returns:
        The files; how many detections were judged right and wrong; expected calibration error and Brier score before and after. The
        "after" is of the same detections that were fitted to.

    Raises:
        DataError: Fewer than ten detections were judged, or all alike.
    """
    source, frames = job.open()
    file = Path(weights)
    if out is None and file.suffix != ".safetensors":
        raise ConfigError(
            f"The calibration is kept in the header of the weights, and {file} has none. Name a new file: --out NAME.safetensors"
        )
    target = check_target(file if out is None else out, source, ending=".safetensors")
    judged = _judged(source.tracks, frames)
    detector = detector_of(file, settings or {}, marks=source.tracks)
    image, setup, read = source.image, source.setup, source.reader(detector.config.temporal_mean)
    seen, right = [], []
    times = np.unique(judged.t).tolist()
    with recorded(target, "calibrate", inputs={**source.inputs, "weights": file}, settings=settings or {}) as record:
        yield Progress("predict", 0, len(times), message=detector.place.sentence)
        for number, time in enumerate(times):
            if not image.is_missing(time, setup):
                spots, what = detector.predict_seen(read(time), image.affine(time, setup))
                rows, verdict = verdicts(spots.centre, spots.covariance, judged.select(judged.t == time))
                seen.append(what[rows])
                right.append(verdict)
            yield Progress("predict", number + 1, len(times), values={"judged": float(sum(map(len, right)))})
        features, truth = _enough(seen, right)
        before = detector.calibration
        after = before.refined(features, truth)
        header = {**detector.weights.header, "calibration": after.to_header()}
        _save(target, replace(detector.weights, header=header))
        curves = {
            "before": reliability(before.quality(features), truth),
            "after": reliability(after.quality(features), truth),
        }
        record.facts |= {"weights": fingerprint(target), "calibration": after.to_header()}
        picture, table = (target.with_name(f"{target.stem}.reliability{ending}") for ending in (".png", ".json"))
        with replacing(table, keep_previous=False) as temporary:
            temporary.write_text(json.dumps(curves, indent=2) + "\n", encoding="utf-8")
        draw_reliability(picture, curves)
    return {
        "weights": str(target),
        "picture": str(picture),
        "table": str(table),
        "right": int(truth.sum()),
        "wrong": int((~truth).sum()),
        "ece_before": curves["before"]["ece"],
        "ece_after": curves["after"]["ece"],
        "brier_before": curves["before"]["brier"],
        "brier_after": curves["after"]["brier"],
    }


def verdicts(centre: F64, covariance: F64, judged: Tracks) -> tuple[npt.NDArray[np.int64], Bool]:
    """Tell which detections of a frame a person judged, and how.

    A judged spot speaks of the nearest detection whose ellipsoid holds its centre, or whose centre it holds. Where two speak of
    one, acceptance wins. A further detection in an accepted nucleus is a double, and wrong.

    Args:
        centre: (N, 3) of the detections, world units.
        covariance: (N, 3, 3) of the detections.
        judged: Spots of the frame with a person's verdict.

    Returns:
        Rows of the detections that were judged, rising, and whether each is right.
    """
    accepted = np.isin(spot_status(judged), (Status.TP, Status.FN))
    right: dict[int, bool] = {}
    for wanted in (False, True):
        spots = judged.select(accepted == wanted)
        if not len(centre) or not spots.n_spots:
            continue
        holds = squared_distance(spots.centre[:, None], centre, covariance) < 1
        held = (squared_distance(centre[:, None], spots.centre, spots.covariance) < 1).T
        away = np.linalg.norm(spots.centre[:, None] - centre, axis=2)
        away[~(holds | held)] = np.inf
        hit = np.isfinite(away.min(axis=1))
        if wanted:
            right |= dict.fromkeys(np.flatnonzero(held.any(axis=0)).tolist(), False)
        right |= dict.fromkeys(away.argmin(axis=1)[hit].tolist(), wanted)
    rows = np.array(sorted(right), dtype=np.int64)
    return rows, np.array([right[row] for row in rows.tolist()], dtype=bool)


def draw_reliability(path: Path, curves: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a PNG: how often detections were right, against their quality, one line for each curve; below, how many there are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 5.4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="perfect")
    width = 0.09 / max(len(curves), 1)
    for number, (name, curve) in enumerate(curves.items()):
        bins, colour = curve["bins"], f"C{number}"
        x, y, n = (np.array([b[key] for b in bins]) for key in ("quality", "share", "n"))
        spread = np.sqrt(np.maximum(y * (1 - y), 0.01) / np.maximum(n, 1))
        label = f"{name}: ECE {curve['ece']:.3f}, Brier {curve['brier']:.3f}"
        above.errorbar(x, y, yerr=spread, fmt="o-", color=colour, capsize=2, markersize=4, label=label)
        low = np.array([b["low"] for b in bins])
        below.bar(low + 0.005 + number * width, n, width=width, align="edge", color=colour)
    above.set(xlim=(0, 1), ylim=(-0.02, 1.05), ylabel="part that was right")
    above.legend(fontsize=8, loc="lower right")
    below.set(xlabel="quality of a detection", ylabel="detections")
    with replacing(path, keep_previous=False) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _judged(tracks: Tracks, frames: list[int]) -> Tracks:
    known = np.isin(tracks.t, frames) & (spot_status(tracks) != Status.UNLABELLED)
    known &= np.isfinite(tracks.centre).all(axis=1)
    return tracks.select(known)


def _enough(seen: list[F64], right: list[Bool]) -> tuple[F64, Bool]:
    truth = np.concatenate([np.empty(0, dtype=bool), *right])
    if len(truth) < LEAST_JUDGED or truth.all() or not truth.any():
        raise DataError(
            f"Calibrating failed: of the detections {int(truth.sum())} were accepted and {int((~truth).sum())} rejected by a person; "
            f"at least {LEAST_JUDGED}, of both kinds, are needed. Judge some more predictions in Mastodon: tag nuclei 'tp' and "
            "what is none 'fp' in the tag set 'Detection', and save the project."
        )
    return np.concatenate(seen), truth


def _save(target: Path, weights: Any) -> None:
    from howdah.nn.checkpoint import save_weights

    save_weights(target, weights)
