"""Scale-out beside the plain verbs: what blocks cost, in this process and on two workers; linking in windows, conversion in blocks."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn
from benchmarks.suite.cases.tables import REACH, neighbours


def nothing(call):
    """A block that does nothing but give back what it was asked for."""
    from howdah.scale.plan import Result

    return Result(arrays={"frame": np.array([call.arguments["frame"]])})


def bare_nothing(task: dict[str, Any]) -> np.ndarray:
    """The same as a plain task of dask."""
    return np.array([task["frame"]])


def empty_blocks(n: int, folder: Path, config: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return a run of ``n`` blocks that do nothing; it returns the sum of what they gave back."""
    from howdah.progress import finish
    from howdah.scale.config import ScaleConfig
    from howdah.scale.plan import Block, Plan
    from howdah.scale.run import run_plan

    name = drawn.names(folder, ".json")
    made = [Block(f"frames/{i:05d}", f"{__name__}:nothing", {"frame": i}) for i in range(n)]

    def gather(results):
        total = sum(int(results.read(block.key).arrays["frame"][0]) for block in made)
        yield from ()
        return {"total": total}

    def run() -> dict[str, Any]:
        plan = Plan(task="nothing", target=name(), blocks=made, shared={}, inputs={}, gather=gather)
        return finish(run_plan(plan, ScaleConfig(**config)))

    return run


def summed(total: int, n: int) -> str:
    """Say what is wrong with the sum of what blocks gave back."""
    return "" if total == n * (n - 1) // 2 else "another sum than that of the blocks"


@case(
    "scale: blocks that do nothing, one process",
    group="scale",
    unit="blocks",
    sizes=(20, 80, 320),
    limit="as many small files, fsync",
)
def alone(n: int, folder: Path) -> Work:
    run, plain = empty_blocks(n, folder, {"workers": 0}), drawn.names(folder, ".raw")
    return Work(
        amount=n,
        run=run,
        limit=lambda: [drawn.put_bytes(plain(), bytes(256)) for _ in range(n)],
        wrong=lambda: summed(run()["total"], n),
    )


@case(
    "scale: blocks that do nothing, 2 dask workers that run already",
    group="scale",
    unit="blocks",
    sizes=(20, 80, 320),
    limit="as many small files, fsync",
    peer="dask alone: tasks, nothing kept",
)
def handed(n: int, folder: Path) -> Work:
    import dask
    import distributed

    dask.config.set({"temporary-directory": str(folder)})
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1", protocol="tcp"
    )
    atexit.register(cluster.close)
    client = distributed.Client(cluster)
    atexit.register(client.close)
    run, plain = empty_blocks(n, folder, {"scheduler": cluster.scheduler_address}), drawn.names(folder, ".raw")

    def peer() -> int:
        futures = client.map(bare_nothing, [{"frame": i} for i in range(n)], pure=False)
        return sum(int(made[0]) for made in client.gather(futures))

    return Work(
        amount=n,
        run=run,
        limit=lambda: [drawn.put_bytes(plain(), bytes(256)) for _ in range(n)],
        peer=peer,
        wrong=lambda: summed(run()["total"], n) or summed(peer(), n),
    )


@case(
    "scale: link in windows, one process",
    group="scale",
    unit="spots",
    sizes=(30_000, 100_000, 300_000),
    limit="KD-trees and 8 neighbours",
    peer="howdah link",
)
def windows(n: int, folder: Path) -> Work:
    from bdv_io import ArrayImage
    from bdv_io.formats import read_tracks, write_image, write_tracks
    from howdah.pipeline import Job, link
    from howdah.progress import finish
    from howdah.scale.config import ScaleConfig
    from howdah.scale.link import scale_link

    frames, movie, project = 20, folder / "movie.tif", folder / "spots.mastodon"
    spots = drawn.lineages(n // frames, frames)
    image = ArrayImage([np.zeros((2, 2, 2), np.uint8)] * frames, unit="µm")
    write_image(movie, image)
    write_tracks(project, spots, image=image)
    job, made, plain = Job(project, image=movie), drawn.names(folder, "-w.mastodon"), drawn.names(folder, "-p.mastodon")
    settings, config = {"linking": {"max_distance": REACH}}, ScaleConfig(workers=0, window=5)

    def run() -> str:
        return str(finish(scale_link(job, made(), settings=settings, config=config))["out"])

    def peer() -> str:
        return str(finish(link(job, plain(), settings=settings))["out"])

    def wrong() -> str:
        found, known = read_tracks(run()), read_tracks(peer())
        return (
            ""
            if np.array_equal(found.links, known.links) and found.n_links > 0.8 * n
            else "other links than howdah link"
        )

    return Work(amount=spots.n_spots, run=run, limit=lambda: neighbours(spots.t, spots.centre), peer=peer, wrong=wrong)


@case(
    "scale: convert in blocks, one process",
    group="scale",
    unit="voxels",
    sizes=(192, 256, 384),
    limit="read, blosc on one thread, the bytes to a file, fsync",
    peer="howdah convert",
)
def conversion(edge: int, folder: Path) -> Work:
    from numcodecs import Blosc

    from bdv_io import ArrayImage
    from bdv_io.formats import open_image, write_image
    from bdv_io.image import WriteOptions
    from howdah.pipeline.conversion import Conversion, convert
    from howdah.progress import finish
    from howdah.scale.config import ScaleConfig
    from howdah.scale.convert import scale_convert

    frames, source = 2, folder / "movie.tif"
    stacks = [drawn.nuclei((edge // 8, edge, edge), seed) for seed in range(frames)]
    write_image(source, ArrayImage(stacks, voxel_size=drawn.VOXEL, unit="µm"))
    numbers, plain = drawn.names(folder, ""), drawn.names(folder, ".raw")
    how = Conversion(options=WriteOptions(levels=((1, 1, 1),)))
    config = ScaleConfig(workers=0, block=(edge // 8, 128, 128))
    codec = Blosc(cname="zstd", clevel=4, shuffle=Blosc.SHUFFLE)

    def new() -> Path:  # of one name, for the name is in the store
        place = numbers()
        place.mkdir()
        return place / "made.ome.zarr"

    def run() -> Path:
        target = new()
        finish(scale_convert(source, target, how, config=config))
        return target

    def peer() -> Path:
        target = new()
        finish(convert(source, target, how))
        return target

    def limit() -> None:
        movie = open_image(source)
        whole = [movie.read(t) for t in range(frames)]
        movie.close()
        pieces = [
            codec.encode(np.ascontiguousarray(each[z : z + 16])) for each in whole for z in range(0, len(each), 16)
        ]
        drawn.put_bytes(plain(), b"".join(pieces))

    def wrong() -> str:
        found, known = (
            {p.relative_to(at): p.read_bytes() for p in at.rglob("*") if p.is_file()} for at in (run(), peer())
        )
        return "" if found == known else "other files than those of howdah convert"

    return Work(amount=sum(stack.size for stack in stacks), run=run, limit=limit, peer=peer, wrong=wrong)


__all__ = ["alone", "bare_nothing", "conversion", "empty_blocks", "handed", "nothing", "windows"]
