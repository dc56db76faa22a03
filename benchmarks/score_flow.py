"""Linking with and without flow on a synthetic embryo that drifts: errors of positions, false and missed links.

Run: ``python benchmarks/score_flow.py [SETTING=VALUE ...]``; settings are those of ``[flow]``, values JSON. The embryo is seen
through a window that moves by (0, 6, 6) voxels, 4.2 um, a frame; nuclei are about 7 um apart. Sixty links of the first frames
teach, the last frames are linked between their true spots. The drift is nearly the same everywhere: that is the easy case.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import numpy as np

from howdah.linking import LinkingConfig, link_spots
from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.elephant.flow.predict import Flow
from howdah.methods.elephant.flow.train import train_flow
from howdah.progress import finish
from howdah.synthetic import embryo

STEP, WINDOW = np.array([0, 6, 6]), np.array([24, 112, 112])
LEARNED, TESTED, N_LINKS = 7, 12, 60


def main() -> None:
    settings = {name: json.loads(value) for name, value in (one.split("=", 1) for one in sys.argv[1:])}
    movie = embryo(seed=0, shape=(24, 190, 190), n_nuclei=110, n_frames=TESTED)
    size = np.array(movie.settings.voxel_size)
    centre = movie.truth.centre - movie.truth.t[:, None] * STEP * size
    truth = replace(movie.truth, centre=centre)
    truth = truth.select(((centre > 0) & (centre < (WINDOW - 1) * size)).all(axis=1))
    affine = np.diag([*size, 1.0])

    def frame(t: int) -> np.ndarray:
        return movie.frame(t)[tuple(slice(a, a + n) for a, n in zip(STEP * t, WINDOW, strict=True))]

    early = np.flatnonzero(truth.t[truth.links[:, 1]] < LEARNED)
    taught = truth.select_links(np.sort(np.random.default_rng(1).choice(early, N_LINKS, replace=False)))
    start, cpu = time.perf_counter(), time.process_time()
    flow = Flow(finish(train_flow(frame, taught, FlowConfig(**settings), affine=affine)))
    print(
        f"{N_LINKS} links, trained in {time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} s of CPU time\n"
    )
    earlier = truth.centre.copy()
    for t in range(LEARNED, TESTED):
        here = truth.t == t
        earlier[here] = flow.positions(frame(t - 1), frame(t), affine, truth.centre[here], truth.covariance[here])
    tested = truth.select(truth.t >= LEARNED - 1)
    true = {tuple(link) for link in tested.links.tolist()}
    bare = tested.select_links(np.zeros(tested.n_links, dtype=bool))
    print("| | median error, um | 90 % | links | false | missed |\n|---|---|---|---|---|---|")
    for name, places in (("without flow", truth.centre), ("with flow", earlier)):
        seen = places[truth.t >= LEARNED - 1]
        off = np.linalg.norm(seen[tested.links[:, 1]] - tested.centre[tested.links[:, 0]], axis=1)
        made = {tuple(link) for link in link_spots(bare, LinkingConfig(), predicted=seen).links.tolist()}
        median, most = np.percentile(off, [50, 90])
        print(
            f"| {name} | {median:.2f} | {most:.2f} | {len(true)} | {len(made - true)} | {len(true - made)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
