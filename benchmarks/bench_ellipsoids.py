"""Ellipsoids to voxels and back, against ELEPHANT's own code and against memory.

Run: ``python benchmarks/bench_ellipsoids.py`` (one core; some seconds; ``--repeats 3`` for a quick look).

The peer's code is not run here. Its best times on a quiet machine were 6.1 s to render the labels of 700 nuclei and 0.53 s
from probability map to spots; scipy's Gaussian (sigma 2, 64x256x256 float32) took 0.103 to 0.115 s beside it. The same
Gaussian is timed here, and the peer's seconds are scaled by the ratio of the two. Most of the peer's 6.1 s goes into storing
the labels voxel by voxel; its ellipsoid masks alone (0.13 s for 200) are a row of their own. The physical limit is one pass over the
volume: filling it (labels), or reading it once (probability).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy import ndimage

from howdah.ellipsoids import (
    connected_components,
    covariance_from,
    ellipsoids_from_labels,
    ellipsoids_from_probability,
    ellipsoids_from_voxels,
    equivalent_radius,
    radii_and_axes,
    rasterise,
    runs_of,
    volume,
)

SHAPE, VOXEL_SIZE, N = (40, 768, 768), (1.0, 0.25, 0.25), 700
PEER_GAUSSIAN_S = 0.109
PEER_RENDER_S, PEER_MASKS_S, PEER_SPOTS_S = 6.1, 0.13 / 200 * N, 0.53
PEER_BIAS = {2: "1.09", 3: "1.00", 4: "1.00", 6: "0.97", 8: "0.95", 12: "0.93", 20: "0.92", 30: "0.91"}


def nuclei(seed: int = 0):
    """700 nuclei (half-axes 3 to 4.5 um, any direction) at random places."""
    rng = np.random.default_rng(seed)
    extent = np.array(SHAPE) * VOXEL_SIZE
    centre = rng.uniform(0, 1, (N, 3)) * (extent - 8) + 4
    axes = np.linalg.qr(rng.normal(size=(N, 3, 3)))[0]
    return centre, covariance_from(rng.uniform(3.0, 4.5, (N, 3)), axes)


def detection_labels(centre, covariance):
    """The labels of ELEPHANT (none, periphery, centre): whole ellipsoids, dilated cores, cores."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    painted = labels.reshape(-1)
    painted[runs_of(centre, covariance, SHAPE, voxel_size=VOXEL_SIZE).flat()] = 2
    core = runs_of(centre, covariance, SHAPE, voxel_size=VOXEL_SIZE, scale=0.4)
    painted[core.dilated().flat()] = 2
    painted[core.flat()] = 3
    return labels


def seconds(work, repeats: int) -> float:
    """Median CPU seconds."""
    taken = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return float(np.median(taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    centre, covariance = nuclei()
    classes = detection_labels(centre, covariance)
    labels = rasterise(centre, covariance, SHAPE, voxel_size=VOXEL_SIZE)
    noise = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    probability = np.where(classes == 3, 0.7 + 0.3 * noise, 0.4 * noise).astype(np.float32)
    mask = probability > 0.5
    gaussian = np.zeros((64, 256, 256), dtype=np.float32)

    yardstick = seconds(lambda: ndimage.gaussian_filter(gaussian, 2), repeats)
    here = yardstick / PEER_GAUSSIAN_S
    fill = seconds(lambda: np.zeros(SHAPE, dtype=np.uint8).fill(1), repeats)
    fill4 = seconds(lambda: np.zeros(SHAPE, dtype=np.int32).fill(1), repeats)
    read = seconds(lambda: probability.max(), repeats)
    read4 = seconds(lambda: labels.max(), repeats)
    rows = [
        (
            "detection labels (whole, dilated core, core)",
            seconds(lambda: detection_labels(centre, covariance), repeats),
            PEER_RENDER_S * here,
            fill,
        ),
        (
            "voxels of all ellipsoids, nothing painted",
            seconds(lambda: runs_of(centre, covariance, SHAPE, voxel_size=VOXEL_SIZE).voxels(), repeats),
            PEER_MASKS_S * here,
            fill,
        ),
        (
            "label volume, contested voxels settled",
            seconds(lambda: rasterise(centre, covariance, SHAPE, voxel_size=VOXEL_SIZE), repeats),
            PEER_RENDER_S * here,
            fill4,
        ),
        (
            "probability map to ellipsoids",
            seconds(lambda: ellipsoids_from_probability(probability, 0.5, voxel_size=VOXEL_SIZE), repeats),
            PEER_SPOTS_S * here,
            read,
        ),
        ("label volume to ellipsoids", seconds(lambda: ellipsoids_from_labels(labels), repeats), None, read4),
        (
            "components (peer: scipy.ndimage.label)",
            seconds(lambda: connected_components(mask), repeats),
            seconds(lambda: ndimage.label(mask, np.ones((3, 3, 3))), repeats),
            seconds(lambda: mask.sum(dtype=np.int64), repeats),
        ),
    ]
    print(
        f"{N} nuclei in {SHAPE} voxels; Gaussian yardstick {yardstick:.3f} s here, {PEER_GAUSSIAN_S} s beside the peer\n"
    )
    print("| step | CPU s | peer s (scaled) | times faster | one pass s | passes |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, own, peer, limit in rows:
        shown = ("-", "-") if peer is None else (f"{peer:.2f}", f"{peer / own:.0f}")
        print(f"| {name} | {own:.4f} | {shown[0]} | {shown[1]} | {limit:.4f} | {own / limit:.1f} |")
    print("\nSize of spheres drawn at random places and measured again (peer: its own code on the same radii)\n")
    print("| radius, voxels | radius measured / drawn | peer |")
    print("| --- | --- | --- |")
    for radius, peer in PEER_BIAS.items():
        print(f"| {radius} | {measured_by_drawn(radius):.3f} | {peer} |")
    by_axis, by_volume, off = cores_to_nuclei(centre, covariance)
    print(
        "\nNuclei from perfect cores (0.4 of the half-axes): sorted half-axes measured / true "
        + "/".join(f"{ratio:.2f}" for ratio in by_axis)
        + f" (peer 0.99/0.99/1.12), volume {by_volume:.2f} (peer 1.11 to 1.12), median error of the centre {off:.3f} um (peer 0.04)"
    )


def measured_by_drawn(radius: float) -> float:
    """Mean ratio of measured to true radius over random places on the grid."""
    rng = np.random.default_rng(0)
    side = int(2 * radius) + 5
    found = []
    for _ in range(max(4, int(600 / radius))):
        centre = rng.uniform(-0.5, 0.5, (1, 3)) + side // 2
        flat, owner = runs_of(centre, np.eye(3)[None] * radius**2, (side,) * 3).voxels()
        found.append(equivalent_radius(ellipsoids_from_voxels(flat, owner, (side,) * 3).covariance)[0])
    return float(np.mean(found) / radius)


def cores_to_nuclei(centre, covariance):
    """Draw each core alone, measure it, enlarge it: ratios of sorted half-axes, of volume, and error of the centre."""
    runs = runs_of(centre, covariance, SHAPE, voxel_size=VOXEL_SIZE, scale=0.4)
    found = ellipsoids_from_voxels(*runs.voxels(), SHAPE, voxel_size=VOXEL_SIZE)
    enlarged = found.covariance / 0.4**2
    ratios = radii_and_axes(enlarged)[0] / radii_and_axes(covariance)[0]
    off = np.linalg.norm(found.centre - centre, axis=1)
    return np.median(ratios, axis=0), np.median(volume(enlarged) / volume(covariance)), np.median(off)


if __name__ == "__main__":
    main()
