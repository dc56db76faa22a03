"""Is the quality of detections the probability that they are nuclei? Reliability on a real movie, before and after `calibrate`.

A network learns from 30 spots of the sample movie of the TGMM software (as in score_real.py). In some frames its detections are
judged by the movie's truth, as a person would (tags tp and fp); `calibrate` learns from that; other frames tell what it is worth.
Run: ``python benchmarks/score_calibration.py DATA_FOLDER OUT_FOLDER [--weights FILE] [SETTING=VALUE ...]``. Printed is a table; a
picture of the curves in the frames that were not judged is ``reliability.png``.
"""

import argparse
from pathlib import Path

import numpy as np
from score_real import person_marks

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks
from howdah.methods.elephant.calibration import Calibration, reliability
from howdah.methods.elephant.predict import Detector, read_weights
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS
from howdah.metrics.matching import match_points
from howdah.pipeline import Job, calibrate, finish, train
from howdah.pipeline.calibrate import draw_reliability

JUDGED, UNSEEN = (2, 9, 20, 27), (0, 7, 12, 18, 22, 30)
REACH = 7.0
RAW = Calibration((0.0, 1.0, 0.0, 0.0, 0.0))  # the mean probability (of log-odds), as it is


def found(detector, movie, truth, t):
    spots, seen = detector.predict_seen(movie.read(t, 0), movie.affine(t, 0))
    pairs = match_points(truth.centre[truth.t == t], spots.centre, max_distance=REACH)
    return spots, seen, np.isin(np.arange(len(spots)), pairs.predicted)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("settings", nargs="*", help="SETTING=VALUE of ELEPHANT")
    arguments = parser.parse_intermixed_args()
    out, settings = arguments.out, dict(setting.split("=", 1) for setting in arguments.settings)
    out.mkdir(parents=True, exist_ok=True)
    movie = open_image(arguments.data / "datasethdf5.xml")
    truth = read_tracks(arguments.data / "tgmm-mini.mastodon")
    weights = arguments.weights
    if weights is None:
        write_tracks(out / "marks.mastodon", person_marks(truth, 30, 0), image=movie)
        weights = out / "weights.safetensors"
        finish(train(Job(out / "marks.mastodon"), weights, settings={"elephant": settings}))
    learned = read_weights(weights)
    detector = Detector(learned, Detector(learned).config.but(**settings))

    parts = []
    for t in JUDGED:
        spots, _, right = found(detector, movie, truth, t)
        part = Tracks.build(
            np.full(len(spots), t), spots.centre, covariance=spots.covariance, space_unit=truth.space_unit
        )
        for number, rows in ((0, right), (1, ~right)):
            part = part.with_tag_set(DETECTION, DETECTION_TAGS).with_tag(DETECTION, DETECTION_TAGS[number], spots=rows)
        parts.append(part)
    judged = parts[0]
    for part in parts[1:]:
        judged = judged.concatenate(part)
    write_tracks(out / "judged.mastodon", judged.renumbered(), image=movie)
    calibrated = out / "calibrated.safetensors"
    report = finish(calibrate(Job(out / "judged.mastodon"), weights, settings={"elephant": settings}, out=calibrated))
    print({key: value for key, value in report.items() if key not in ("weights", "picture", "table")}, "\n")

    unseen = [found(detector, movie, truth, t)[1:] for t in UNSEEN]
    seen, right = (np.concatenate(column) for column in zip(*unseen, strict=True))
    after = Calibration.from_header(read_weights(calibrated).header)
    curves = {
        name: reliability(c.quality(seen), right)
        for name, c in (("mean probability", RAW), ("default", detector.calibration), ("calibrated", after))
    }
    draw_reliability(out / "reliability.png", curves)
    print(f"Frames {UNSEEN}, {len(right)} detections, {right.mean():.3f} right.\n")
    print("| quality | ECE | Brier |\n| --- | --- | --- |")
    for name, curve in curves.items():
        print(f"| {name} | {curve['ece']:.3f} | {curve['brier']:.3f} |")


if __name__ == "__main__":
    main()
