"""How true the sizes of detected nuclei are: ellipsoids of known half-axes, drawn as labels, measured back as spots.

The real path without the network: the labels' centre parts are the centre probability. Each row is the mean over nuclei at
random places within a voxel (and random directions where tilted); ratios are found by true, 1 is right. Half-axes are in units of
the smaller voxel edge. Beside it is the reference's error of the radius for spheres, measured on its own code.
Run it as ``python benchmarks/bench_sizes.py``.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from howdah.ellipsoids import covariance_from, transform
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.defaults import spot_limits
from howdah.methods.elephant.extract import spots_from_probability
from howdah.methods.elephant.status import Status
from howdah.methods.elephant.targets import CENTRE, FALSE_OFFSET, render_labels

REFERENCE = {2: 1.09, 3: 1.0, 4: 1.0, 6: 0.97, 8: 0.95, 12: 0.93, 20: 0.92, 30: 0.91}
SIZES = (2, 3, 4, 6, 8, 12, 20, 30)
SHAPES = {"sphere": (1, 1, 1), "ellipsoid 0.8 : 1 : 1.25": (0.8, 1, 1.25), "ellipsoid 0.6 : 1 : 1.5": (0.6, 1, 1.5)}


def turned(rng, n, *, flat):
    if not flat:
        return Rotation.random(n, random_state=rng).as_matrix()
    angle = rng.uniform(0, 2 * np.pi, n)
    turns = np.tile(np.eye(3), (n, 1, 1))
    turns[:, 1, 1] = turns[:, 2, 2] = np.cos(angle)
    turns[:, 2, 1] = np.sin(angle)
    turns[:, 1, 2] = -turns[:, 2, 1]
    return turns


def measured(radii, voxel, *, n, seed=0, flat=False):
    """Ratios found by true: (n, 3) along the true axes, (n, 3) of the sorted half-axes, (n,) of the volumes.

    In 2D the first axis is across the image and does not count.
    """
    rng = np.random.default_rng(seed)
    turns = turned(rng, n, flat=flat)
    if flat:
        radii = np.array((radii[1], radii[0], radii[2]))
    world = covariance_from(np.tile(radii, (n, 1)), turns)
    limits = spot_limits(world)
    config = ElephantConfig(r_usual=limits["r_usual"])
    affine = np.diag([*voxel, 1.0])
    along, ordered = [], []
    for covariance, turn in zip(world, turns, strict=True):
        half = np.ceil(0.4 * np.sqrt(np.diagonal(covariance)) / voxel).astype(int) + 5
        shape = tuple(int(2 * h + 1) for h in half)
        shape = (1, *shape[1:]) if flat else shape
        offset = rng.uniform(-0.5, 0.5, 3) * ((0, 1, 1) if flat else (1, 1, 1))
        _, voxels = transform(np.zeros((1, 3)), covariance[None], np.linalg.inv(affine))
        centre = ((np.array(shape) - 1) / 2 + offset)[None]
        labels = render_labels(centre, voxels, np.array([Status.FN], np.int8), shape)
        probability = (labels == CENTRE + FALSE_OFFSET).astype(np.float32)
        spots = spots_from_probability(probability, config, affine=affine)
        found = spots.covariance[0]
        along.append(np.sqrt(np.einsum("ik,ij,jk->k", turn, found, turn)) / radii)
        plane = slice(1, 3) if flat else slice(0, 3)
        two = np.sqrt(np.linalg.eigvalsh(found[plane, plane])) / np.sort(radii[plane])
        ordered.append([1.0, *two] if flat else two)
    return np.array(along), np.array(ordered)


def main():
    print(
        "| nucleus | voxels | half-axis | along short | middle | long | sorted short | long | volume^(1/3) | the reference |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, shape in SHAPES.items():
        for voxel, what in (((1, 1, 1), "1 : 1 : 1"), ((4, 1, 1), "4 : 1 : 1"), ((1, 1, 1), "2D")):
            for size in SIZES:
                flat, n = what == "2D", 64 if size < 20 else 16
                along, ordered = measured(np.multiply(shape, size), voxel, n=n, flat=flat)
                a, o = along.mean(axis=0), ordered.mean(axis=0)
                volume = np.prod(ordered, axis=1).mean() ** (1 / (2 if flat else 3))
                axes = (a[1], np.nan, a[2]) if flat else a
                reference = f"{REFERENCE[size]:.2f}" if name == "sphere" and voxel[0] == 1 and not flat else ""
                numbers = " | ".join(
                    "" if np.isnan(v) else f"{v:.2f}" for v in (*axes, o[1 if flat else 0], o[2], volume)
                )
                print(f"| {name} | {what} | {size} | {numbers} | {reference} |", flush=True)


if __name__ == "__main__":
    main()
