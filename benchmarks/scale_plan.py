"""What a movie of terabytes costs, on 1, 10 and 100 workers: figures of single blocks, measured here, put into a simulated scheduler.

    python benchmarks/scale_plan.py                      # measures, simulates, writes benchmarks/results/scale_plan.{json,md}
    python benchmarks/scale_plan.py --figures FILE.json  # simulates with figures that were measured before

The movie is planned by Howdah itself (an OME-Zarr store without pixels is opened), so blocks, their order and what they read are those of
a real run. Measured: seconds and bytes of blocks of each stage (from the manifest of a real run of this process), the bytes of a stored
voxel, what the coordinator needs for a block, and for a spot at the end. Assumed, and said so: storage and lines of a cluster, and
how much faster a GPU runs the network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python"), str(HERE.parent)]

from bdv_io import Tracks  # noqa: E402
from bdv_io.formats import open_image, read_tracks, write_tracks  # noqa: E402
from howdah.linking import LinkingConfig, link_spots  # noqa: E402
from howdah.pipeline import demo  # noqa: E402
from howdah.pipeline.detection import Job  # noqa: E402
from howdah.progress import finish  # noqa: E402
from howdah.scale.config import ScaleConfig  # noqa: E402
from howdah.scale.detect import plan_predict  # noqa: E402
from howdah.scale.plan import Block, Plan  # noqa: E402
from howdah.scale.run import run_plan  # noqa: E402
from howdah.scale.simulate import Outcome, Site, Work, simulate  # noqa: E402

FRAMES, SHAPE, SPOTS = 800, (448, 2174, 2423), 20_000_000
WORKERS = (1, 10, 100)
VOXEL = (1.24, 0.439, 0.439)
EPOCHS = 15
SMALL = (64, 448, 448)  # of the frames that are measured
TILE = (64, 256, 256)
STORAGE_MB_S, LINE_MB_S = 3000.0, 1000.0  # assumed: a parallel file system, and ten-gigabit lines
GPU = 60.0  # assumed: how much faster a GPU runs the network than a worker of this machine
MB = 1e6
NETWORK, READING = (
    ("tiles",),
    {"levels": 50.0, "tiles": 1.0},
)  # stages that read the movie: voxels for one unit of their cost
MEASURED_LINKS = 200_000


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        seconds: Of a unit of cost, by stage. written: Bytes of a unit of cost, by stage.
        stored: Bytes of a voxel of the movie on disk. halo: Voxels read for a voxel of a tile.
        handing_s: Of the coordinator, a block. link_s: Of a window of linking, a spot. end_s: Writing the project, a spot.
        machine: Where.
    """

    seconds: dict[str, float]
    written: dict[str, float]
    stored: float
    handing_s: float
    link_s: float
    end_s: float
    machine: str
    halo: float = 1.1


def empty_movie(path: Path, frames: int, shape: Sequence[int], voxel: Sequence[float] = VOXEL) -> Path:
    """Write an OME-Zarr store of a size that has no pixels."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=(frames, 1, *shape), chunks=(1, 1, 64, 256, 256), dtype="uint16", fill_value=0)
    axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [60, 1, *map(float, voxel)]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return path


def trained(folder: Path) -> tuple[Path, Path]:
    """Run Howdah's demonstration: a synthetic embryo as a camera sees it, and a network that was trained on a few of its nuclei."""
    finish(demo(folder / "demo", settings={"n_epochs": EPOCHS}))
    return folder / "demo" / "embryo.xml", folder / "demo" / "weights.safetensors"


def mosaic(embryo: Path, path: Path, shape: Sequence[int] | None = None) -> Path:
    """Write one frame of a size (None: as it is), tiled with the first frame of an embryo, as a compressed OME-Zarr."""
    image = open_image(embryo)
    frame, voxel = image.read(0, 0), image.setups[0].voxel_size
    image.close()
    shape = shape or frame.shape
    empty_movie(path, 1, shape, voxel)
    parts = [-(-n // m) for n, m in zip(shape, frame.shape, strict=True)]
    z, y, x = shape
    zarr.open_group(path)["0"][0, 0] = np.tile(frame, parts)[:z, :y, :x]
    return path


def measured(folder: Path, embryo: Path, weights: Path) -> Figures:
    """Run real blocks in this process and read their manifest."""
    movie = mosaic(embryo, folder / "small.ome.zarr", SMALL)
    alone = mosaic(embryo, folder / "alone.ome.zarr")  # repeated, it would be compressed too well
    stored = sum(file.stat().st_size for file in alone.rglob("*") if file.is_file()) / zarr.open_group(alone)["0"].size
    config = ScaleConfig(workers=0, block=(SMALL[0], SMALL[1] // 2, SMALL[2] // 2))
    settings = {"elephant": {"tile_size": TILE, "device": "cpu", "memory_mb": 3000, "guess_height": 0}}
    plan = plan_predict(Job(movie), folder / "found.csv", config, weights=weights, settings=settings)
    began = time.perf_counter()
    finish(run_plan(plan, config, keep=True))
    whole = time.perf_counter() - began
    spots = read_tracks(folder / "found-spots.csv").n_spots
    seconds, written = per_cost(plan, folder / "found.csv.blocks")
    busy = sum(seconds[block.stage] * block.cost for block in plan.blocks)
    print(
        f"measured: {len(plan.blocks)} blocks in {whole:.0f} s, of these {busy:.0f} s in blocks; {spots} spots",
        flush=True,
    )
    link_s, end_s = linked(folder)
    return Figures(seconds, written, float(stored), handing(folder), link_s, end_s, machine())


def per_cost(plan: Plan, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds and bytes of a unit of cost, by stage."""
    costs = {block.key: (block.stage, block.cost) for block in plan.blocks}
    cost, seconds, size = Counter[str](), Counter[str](), Counter[str]()
    with sqlite3.connect(folder / "manifest.sqlite") as database:
        for key, took, written in database.execute("SELECT key, seconds, bytes FROM blocks"):
            stage, own = costs[key]
            for sums, value in ((cost, own), (seconds, took), (size, written)):
                sums[stage] += value
    database.close()
    return ({s: seconds[s] / cost[s] for s in cost}, {s: size[s] / cost[s] for s in cost})


def handing(folder: Path) -> float:
    """Seconds of the coordinator for a block that does next to nothing, handed to workers of a cluster of this machine."""
    blocks = [Block(f"nothing/b{n:05d}", "scale_nothing:nothing", {"n": n}) for n in range(2000)]

    def gather(results: Any) -> Any:
        return {}
        yield

    plan = Plan("nothing", folder / "nothing", blocks, {}, {}, gather)
    began = time.process_time()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
    finish(run_plan(plan, ScaleConfig(workers=1)))
    return (time.process_time() - began) / len(blocks)


def linked(folder: Path) -> tuple[float, float]:
    """Seconds a spot of linking a window, and of writing the project."""
    random = np.random.default_rng(0)
    frames = 10
    start = random.uniform(0, 1000, (MEASURED_LINKS // frames, 3)) * (0.5, 1, 1)
    centre = np.concatenate([start + random.normal(0, 1, start.shape) for _ in range(frames)])
    tracks = Tracks.build(np.repeat(np.arange(frames), len(start)), centre, radius=4.0)
    began = time.perf_counter()
    made = link_spots(tracks, LinkingConfig())
    link_s = (time.perf_counter() - began) / tracks.n_spots
    began = time.perf_counter()
    write_tracks(folder / "linked.mastodon", made)
    return link_s, (time.perf_counter() - began) / tracks.n_spots


def machine() -> str:
    """Say what this machine is."""
    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor()}, {os.cpu_count()} cores, one worker on all of them"


def works_of(plan: Plan, figures: Figures, frames: int, spots: int) -> list[Work]:
    """Turn the plan of one frame into the works of all of them, then linking in windows, then the end."""
    one, place = [], {block.key: n for n, block in enumerate(plan.blocks)}
    for block in plan.blocks:
        needs = tuple(place[key] for key in block.needs)
        read = (
            figures.stored
            * READING.get(block.stage, 0.0)
            * block.cost
            * (figures.halo if block.stage == "tiles" else 1)
        )
        read += sum(figures.written[plan.blocks[need].stage] * plan.blocks[need].cost for need in needs)
        one.append(
            Work(
                block.stage,
                needs,
                read / MB,
                figures.seconds[block.stage] * block.cost,
                figures.written[block.stage] * block.cost / MB,
                block.passing,
            )
        )
    works: list[Work] = []
    ends = []
    for _ in range(frames):
        first = len(works)
        works += [replace(work, needs=tuple(need + first for need in work.needs)) for work in one]
        ends.append(len(works) - 1)
    merged = len(works)
    works.append(Work("merge and write", tuple(ends), spots * 130 / MB, figures.end_s * spots, spots * 130 / MB))
    windows = max(1, spots // 200_000)
    for _ in range(windows):
        each = spots / windows
        works.append(Work("link", (merged,), each * 130 / MB, 1.5 * figures.link_s * each, each * 40 / MB))
    works.append(
        Work(
            "join and write",
            tuple(range(merged + 1, len(works))),
            spots * 40 / MB,
            figures.end_s * spots,
            spots * 170 / MB,
        )
    )
    return works


def cases(works: list[Work]) -> list[tuple[str, list[Work], Site]]:
    """Return the runs that are simulated: workers as measured, and with a GPU each."""
    fast = [replace(work, seconds=work.seconds / GPU) if work.stage in NETWORK else work for work in works]
    found = []
    for name, those in (("CPU", works), ("GPU", fast)):
        for n in WORKERS:
            found.append((f"{n} {name}", those, Site(n, STORAGE_MB_S, LINE_MB_S)))
    found.append(("100 GPU, storage of 20 GB/s", fast, Site(100, 20_000.0, 2500.0)))
    found.append(("100 GPU, a kill a worker and hour", fast, Site(100, STORAGE_MB_S, LINE_MB_S, kills_per_day=24.0)))
    return found


def row(name: str, found: Outcome) -> dict[str, Any]:
    """Return one line of the table."""
    return {"case": name, **asdict(found), "bound": found.bound}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| workers | time | computing | storage busy | coordinator busy | moved | most on disk | what holds it up |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in rows:
        hours = one["seconds"] / 3600
        span = f"{hours / 24:.0f} days" if hours > 72 else f"{hours:.1f} h"
        shares = " | ".join(f"{one[name]:.0%}" for name in ("computing", "storage", "coordinator"))
        lines.append(
            f"| {one['case']} | {span} | {shares} | {one['moved_mb'] / 1e6:.1f} TB | {one['disk_mb'] / 1e3:.0f} GB | {one['bound']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, simulate, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--figures", type=Path, help="Figures measured before.")
    options.add_argument("--frames", type=int, default=FRAMES)
    options.add_argument("--out", type=Path, default=HERE / "results" / "scale_plan.json")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        known = json.loads(given.figures.read_text())["figures"] if given.figures else None
        embryo, weights = trained(folder)
        figures = Figures(**known) if known else measured(folder, embryo, weights)
        movie = empty_movie(folder / "large.ome.zarr", 1, SHAPE)
        began = time.perf_counter()
        plan = plan_predict(
            Job(movie), folder / "found.csv", ScaleConfig(), weights=weights, settings={"elephant": {"guess_height": 0}}
        )
        planning = time.perf_counter() - began
    stages = Counter(block.stage for block in plan.blocks)
    print(f"a frame: {dict(stages)}, planned in {planning:.1f} s")
    spots = SPOTS * given.frames // FRAMES
    works = works_of(plan, figures, given.frames, spots)
    works_and_sites = [(name, those, replace(site, handing_s=figures.handing_s)) for name, those, site in cases(works)]
    rows = []
    for name, those, site in works_and_sites:
        rows.append(row(name, simulate(those, site)))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    given.out.parent.mkdir(exist_ok=True)
    found = {
        "figures": asdict(figures),
        "movie": {
            "frames": given.frames,
            "shape": SHAPE,
            "spots": spots,
            "blocks_a_frame": stages,
            "planning_s": planning,
        },
        "assumed": {"storage_mb_s": STORAGE_MB_S, "line_mb_s": LINE_MB_S, "gpu": GPU},
        "runs": rows,
    }
    given.out.write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf-8")
    given.out.with_suffix(".md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
