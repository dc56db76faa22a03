"""What masks give beyond ellipsoids: SEG of spots painted as ellipsoids, and of the masks that EfficientCellSeg gives these spots.

Run: ``python benchmarks/score_masks.py DATA_FOLDER [OUT_FOLDER] [--only stills,stardist,tgmm] [--weights] [SETTING=VALUE ...]``.
``--weights`` takes ``OUT_FOLDER/NAME.safetensors`` instead of training. Three data sets:

- ``stills``: real phase-contrast stills with masks by hand (``t98g-phase-stills``), 2D. Trained on five, scored on four others.
- ``stardist``: a synthetic still with exact masks (``stardist-stills/img3d``). Trained on the left part of it, scored on the cells
  of the rest.
- ``tgmm``: a real movie (``tgmm-3d``). Trained on four early frames, scored on late ones. Its truth is automatic; how near it is to
  the ellipsoids of its own project says the first row, so only the other rows compare the two ways fairly.

Spots come in several qualities: ellipsoids with the moments of the true masks (the best that ellipsoids can be), those moved at random
by a part of their radius, and spheres of one size (as a person clicks them), moved or not. Training never sees the scored cells.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from bdv_io.formats import open_image, read_tracks
from bdv_io.moments import measure
from howdah.ellipsoids import rasterise, transform
from howdah.methods.annotation import Annotation
from howdah.methods.efficientcellseg import EfficientCellSegConfig
from howdah.methods.efficientcellseg.predict import Network
from howdah.methods.efficientcellseg.seeded import masks_of
from howdah.methods.efficientcellseg.train import train
from howdah.methods.efficientcellseg.weights import read_weights
from howdah.metrics.segmentation import seg_score
from howdah.progress import finish

SPLIT = 28  # of the still: x below teaches
SETTINGS = {"encoder": "lite0", "n_epochs": 12, "n_crops": 48}


@dataclass(frozen=True)
class Volume:
    """Frames with their labels, those that teach, those that are scored; (z, y, x) of a voxel; ``own`` are a project's ellipsoids."""

    name: str
    read: Callable[[int], Any]
    labels: Callable[[int], Any]
    teach: tuple[int, ...]
    score: tuple[int, ...]
    voxel_size: tuple[float, float, float]
    own: Callable[[int], tuple[Any, Any]] | None = None
    scored: Callable[[Any], Any] = lambda labels: labels


def stills(data):
    folder = data / "t98g-phase-stills"
    names = sorted(path.name for path in (folder / "images").glob("*.tif"))
    return Volume(
        "stills",
        lambda t: tifffile.imread(folder / "images" / names[t])[np.newaxis],
        lambda t: tifffile.imread(folder / "masks" / names[t])[np.newaxis].astype(np.int32),
        (0, 2, 4, 6, 8),
        (1, 3, 5, 7),
        (1.0, 1.0, 1.0),
    )


def stardist(data):
    image = tifffile.imread(data / "stardist-stills" / "img3d.tif")
    labels = tifffile.imread(data / "stardist-stills" / "mask3d.tif").astype(np.int32)
    right = np.setdiff1d(np.unique(labels), np.unique(labels[:, :, :SPLIT]))
    return Volume(
        "stardist",
        lambda t: image[:, :, :SPLIT] if t == 0 else image,
        lambda t: labels[:, :, :SPLIT] if t == 0 else labels,
        (0,),
        (1,),
        (1.0, 1.0, 1.0),
        scored=lambda found: np.where(np.isin(found, right), found, 0),
    )


def tgmm(data):
    folder = data / "tgmm-3d"
    image = open_image(folder / "datasethdf5.xml")
    tracks = read_tracks(folder / "tgmm-mini.mastodon")
    files = sorted((folder / "01_GT" / "TRA").glob("man_track*.tif"))
    size = np.linalg.norm(image.affine(0)[:3, :3], axis=0)

    def own(t):
        here = tracks.t == t
        return transform(tracks.centre[here], tracks.covariance[here], np.linalg.inv(image.affine(t)))

    return Volume(
        "tgmm",
        image.read,
        lambda t: tifffile.imread(files[t]).astype(np.int32),
        (0, 4, 8, 12),
        (18, 22, 26),
        tuple(size.tolist()),
        own,
    )


def trained(volume, out, settings, again):
    file = out / f"{volume.name}.safetensors"
    config = EfficientCellSegConfig.of({**SETTINGS, **settings})
    if again:
        return read_weights(file), config
    annotation = Annotation(
        volume.read, volume.labels, volume.teach, {}, complete=True, voxel_size=volume.voxel_size, mothers=False
    )
    before, wall = time.process_time(), time.perf_counter()
    weights = finish(train(annotation, config, save_to=file, resume=False), told)
    print(f"trained in {time.process_time() - before:.0f} CPU s, {time.perf_counter() - wall:.0f} s", flush=True)
    return weights, config


def told(progress):
    if progress.done % 20 == 0:
        values = ", ".join(f"{name} {value:.3f}" for name, value in progress.values.items())
        print(f"{progress.done}/{progress.total} {progress.message} {values}", flush=True)


def spots_of(volume, t, rng):
    """Name, centres and covariances in voxels."""
    whole = volume.labels(t)
    true = measure(whole, np.eye(4))
    flat, size = whole.shape[0] == 1, np.array(volume.voxel_size)
    first = 1 if flat else 0
    inner = true.covariance[:, first:, first:] * (size[first:, None] * size[first:])  # world
    radius = np.linalg.det(inner) ** (0.5 / (3 - first))
    ball = np.diag((np.median(radius) / size) ** 2)
    step = rng.normal(0, 1, true.centre.shape) * (radius[:, None] / np.sqrt(3 - first) / size)
    if flat:
        ball[0, 0], step[:, 0] = 0.25, 0
    ball = np.broadcast_to(ball, true.covariance.shape)
    if volume.own is not None:
        yield "the project's ellipsoids", *volume.own(t)
    yield "moments of the true masks", true.centre, true.covariance
    yield "the same, moved by 0.2 radii", true.centre + 0.2 * step, true.covariance
    yield "the same, moved by 0.4 radii", true.centre + 0.4 * step, true.covariance
    yield "spheres of one size", true.centre, ball
    yield "spheres, moved by 0.2 radii", true.centre + 0.2 * step, ball
    yield "spheres, moved by 0.4 radii", true.centre + 0.4 * step, ball


def score(volume, weights, config):
    network, rng = Network(weights, config), np.random.default_rng(0)
    threshold = network.config.threshold or 0.5
    scores, seen = {}, {}
    for t in volume.score:
        maps = network.maps(volume.read(t))
        truth = volume.scored(volume.labels(t))
        for name, centre, covariance in spots_of(volume, t, rng):
            painted = rasterise(centre, covariance, truth.shape, min_voxels=1)
            masks = masks_of(centre, covariance, maps.cell, threshold=threshold)
            part = scores.setdefault(name, [])
            part.append([seg_score(truth, found).seg for found in (painted, masks.labels)])
            seen.setdefault(name, []).append(masks.seen.mean())
    print(f"\n{volume.name}, threshold {threshold:.2f}\n")
    print("| spots | SEG as ellipsoids | SEG as masks | seen by the network |\n| --- | ---: | ---: | ---: |")
    for name, parts in scores.items():
        ellipsoids, masks = np.mean(parts, axis=0)
        print(f"| {name} | {ellipsoids:.3f} | {masks:.3f} | {np.mean(seen[name]):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("score_masks"))
    parser.add_argument("settings", nargs="*", help="SETTING=VALUE of the method")
    parser.add_argument("--only", default="stills,stardist,tgmm")
    parser.add_argument("--weights", action="store_true", help="take the weights of the last run")
    chosen = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(exist_ok=True, parents=True)
    settings = dict(pair.split("=", 1) for pair in chosen.settings)
    for name in chosen.only.split(","):
        volume = {"stills": stills, "stardist": stardist, "tgmm": tgmm}[name](chosen.data)
        weights, config = trained(volume, chosen.out, settings, chosen.weights)
        score(volume, weights, config)


if __name__ == "__main__":
    main()
