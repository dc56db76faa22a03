"""Refit the default calibration of the quality of detections (howdah/methods/elephant/calibration.py) on synthetic embryos.

Networks are trained on a few marks of embryos that differ in contrast, noise, number and size of nuclei, and find the nuclei of
frames that they have not seen; a detection is right if it is matched to a true nucleus within its radius. One logistic function is
fitted to all of them, each network counting alike. Printed are its numbers, and how well it predicts for each embryo what was
fitted on the others. The size is left out (weight 0): with it, the fit was better on the embryos, and worse on a real movie.
Run: ``python benchmarks/fit_calibration.py FOLDER`` (weights are kept there and used again).
"""

import argparse
from pathlib import Path

import numpy as np

from howdah import synthetic
from howdah.ellipsoids import equivalent_radius
from howdah.methods.elephant.calibration import FEATURES, Calibration, fitted, reliability
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.predict import Detector, read_weights
from howdah.methods.elephant.train import train
from howdah.metrics.matching import match_points
from howdah.progress import finish

# name: seed, changes of the embryo, marks, passes over the marked frame
CASES = {
    "s0": (0, {}, 10, 20),
    "s1": (1, {"n_nuclei": 48, "contrast": 110.0, "gain": 5.0}, 10, 12),
    "s2": (2, {"n_nuclei": 60, "contrast": 90.0, "gain": 6.0, "contrast_spread": 0.4}, 20, 14),
    "s3": (3, {"n_nuclei": 24, "contrast": 120.0, "radius_um": 4.5}, 6, 12),
    "s4": (4, {"n_nuclei": 40, "contrast": 150.0, "voxel_size": (1.0, 0.5, 0.5), "shape": (40, 96, 96)}, 10, 14),
    "s5": (5, {"n_nuclei": 56, "contrast": 70.0, "gain": 4.0, "read_noise": 14.0}, 15, 24),
}
FRAMES = (1, 4, 7)
THRESHOLDS = (0.3, 0.5)  # both of the paper's


def judged(folder, name):
    """Features and truth of what a network finds in unseen frames of its embryo."""
    seed, changes, n_marks, epochs = CASES[name]
    movie = synthetic.embryo(seed=seed, n_frames=8, **changes)
    affine = np.diag([*movie.settings.voxel_size, 1.0])
    file = folder / f"{name}.safetensors"
    if not file.exists():
        marks = synthetic.marks(movie, n_marks, seed=seed)
        finish(train(movie.frame, marks, ElephantConfig(n_epochs=epochs, seed=seed), affine=affine, save_to=file))
    weights = read_weights(file)
    learned = Detector(weights).config
    usual = learned.r_usual or (learned.r_min * learned.r_max) ** 0.5
    seen, right = [], []
    for threshold in THRESHOLDS:
        detector = Detector(weights, learned.but(threshold=threshold, r_usual=usual))
        for t in FRAMES:
            truth = movie.truth.select(movie.truth.t == t)
            spots, features = detector.predict_seen(movie.frame(t), affine)
            radius = float(np.median(equivalent_radius(truth.covariance)))
            pairs = match_points(truth.centre, spots.centre, max_distance=radius)
            seen.append(features)
            right.append(np.isin(np.arange(len(spots)), pairs.predicted))
    return np.concatenate(seen), np.concatenate(right)


def fit(parts):
    """One fit in which each network counts alike: detections of those that found many are thinned evenly."""
    least = min(len(right) for _, right in parts)
    rows = [np.linspace(0, len(right) - 1, min(len(right), 3 * least)).astype(int) for _, right in parts]
    seen = np.concatenate([part[0][r] for part, r in zip(parts, rows, strict=True)])
    seen[:, [FEATURES.index(name) for name in ("size", "size_squared")]] = 0
    right = np.concatenate([part[1][r] for part, r in zip(parts, rows, strict=True)])
    start = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
    return Calibration(tuple(fitted(seen, right, start).round(2).tolist()), len(right))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(CASES))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    parts = {name: judged(arguments.folder, name) for name in arguments.only.split(",")}
    print(
        "| embryo | detections | right | ECE of the mean probability | ECE, fitted on the others | Brier | Brier, fitted on the others |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    raw = Calibration((0.0, 1.0, 0.0, 0.0, 0.0))
    for name, (seen, right) in parts.items():
        others = fit([part for other, part in parts.items() if other != name]) if len(parts) > 1 else raw
        before, after = (reliability(c.quality(seen), right) for c in (raw, others))
        print(
            f"| {name} | {len(right)} | {right.mean():.3f} | {before['ece']:.3f} | {after['ece']:.3f} | "
            f"{before['brier']:.3f} | {after['brier']:.3f} |"
        )
    print(f"\n{fit(list(parts.values()))}")


if __name__ == "__main__":
    main()
