"""Movies to OME-Zarr in blocks: workers write the chunks of one store, which takes its name when it is complete and checked.

The store under construction is ``store`` in the work folder. Each chunk belongs to one block, and takes its place at one stroke; a
block that was killed leaves chunks there that are written again. A block's result says which chunks it wrote, with their sizes and
checksums. Gathering looks at all of them, writes the metadata as the plain verb does, reads the first and the last view back, and
puts the store in the place of the target, whose former version is kept as ``name~1~``.

The files are those of ``howdah convert``, byte for byte. Memory: see :func:`.convert_parts.memory_mb`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io import ImageSeries
from bdv_io._blocks import gather as fill
from bdv_io.formats import identify, open_image, writer_for
from bdv_io.image import Hints, Region, WriteOptions
from bdv_io.ome_zarr import open_ome_zarr
from bdv_io.ome_zarr.store import NOT_THERE, Chunk, Limits, Store, View, checksum, limits_of
from bdv_io.ome_zarr.write import refuse_file
from bdv_io.pyramid import downsample
from bdv_io.safe_write import put_in_place
from howdah.errors import ConfigError
from howdah.pipeline.conversion import Conversion, _given, _said, _written
from howdah.pipeline.overwriting import files_of, refuse_overwriting
from howdah.pipeline.record import recorded
from howdah.pipeline.sources import check_target
from howdah.progress import Progress, Steps
from howdah.scale.config import ScaleConfig
from howdah.scale.convert_parts import boxes, coarse_blocks, cut, empty, fine_blocks, regions
from howdah.scale.folder import DamagedBlock, block_path, work_folder
from howdah.scale.plan import Block, Call, Plan, Result, Results, region_of
from howdah.scale.run import run_plan

PathLike = str | os.PathLike[str]
Json = Any

__all__ = ["coarse", "part", "plan_convert", "scale_convert"]

CHUNK_GONE = "a chunk that it wrote is not as it was written, or gone"
THREADS = 2  # that compress in a worker; without a GPU there is one for each two cores


def scale_convert(
    source: PathLike,
    out: PathLike,
    how: Conversion | None = None,
    *,
    config: ScaleConfig | None = None,
    restart: bool = False,
    keep: bool = False,
    check: bool = False,
) -> Steps[dict[str, Any]]:
    """Convert a movie of any format to OME-Zarr, in blocks: the files that :func:`howdah.pipeline.convert` writes, byte for byte.

    Args:
        source: The movie.
        out: The target, ``.ome.zarr`` or ``.zarr``.
        how: Details; what concerns annotations means nothing here.
        config: Who works, in how large blocks. ``block`` is rounded to whole chunks; ``window`` are frames of a block, where a block
            holds whole frames.
        restart: See :func:`howdah.scale.run.run_plan`.
        keep: See :func:`howdah.scale.run.run_plan`.
        check: Read all chunks again before the store gets its name, and compare their checksums; else their sizes are compared, and the
            first and the last view are read.

    Returns:
        Facts as of :func:`howdah.pipeline.convert`, and those of the blocks.

    Raises:
        ConfigError: The source is an annotation, or the target cannot be written by many at once.
        ScaleError: The run cannot go on; it can be resumed.
        BdvIoError: The source is damaged, or OME-Zarr cannot hold it.
    """
    chosen, plan_config = how or Conversion(), config or ScaleConfig()
    plan = plan_convert(source, out, chosen, config=plan_config, check=check)
    with recorded(plan.target, "scale-convert", inputs={"source": Path(source)}, settings=plan.settings) as record:
        facts = yield from run_plan(plan, plan_config, restart=restart, keep=keep)
        record.facts |= facts
    return facts


def plan_convert(
    source: PathLike, out: PathLike, how: Conversion | None = None, *, config: ScaleConfig, check: bool = False
) -> Plan:
    """Return the blocks of a conversion; arguments and errors as of :func:`scale_convert`."""
    start, target, chosen = Path(source), Path(out), how or Conversion()
    found = identify(start, key=chosen.source_format)
    if found.kind != "image":
        raise ConfigError(
            f"Converting {start} in blocks is not possible: it is a {found.name}, an annotation, which is small. Use howdah convert."
        )
    writer = writer_for(target, "image", key=chosen.target_format)
    if writer.key != "ome-zarr":
        raise ConfigError(
            f"Writing {target} in blocks is not possible: a {writer.name} is one file, which only one process can write. Name an OME-Zarr "
            "(.ome.zarr), which BigDataViewer and Mastodon open too, or use howdah convert."
        )
    check_target(target, folder=True)
    refuse_file(target)
    shared: dict[str, Json] = {
        "source": str(start.resolve()),
        "target": str(target.absolute()),
        "source_format": chosen.source_format,
        "hints": _given(chosen.hints),
        "options": {name: getattr(chosen.options, name) for name in ("levels", "chunks", "compression")},
    }
    movie = _movie(shared)
    try:
        inputs = [start, *(file for file in found.files_of(start) if file.exists()), *files_of(movie)]
        refuse_overwriting(target, writer, inputs)
        store = _store(shared, movie)
        parts = cut(store, config)
        blocks = fine_blocks(store, parts, config)
        blocks += coarse_blocks(store, parts, blocks)
        facts = {"frames": movie.n_frames, "setups": len(movie.setups), **_said(writer, movie)}
    finally:
        movie.close()
    facts = {**_written(target, writer), **facts}

    def gather(results: Results) -> Steps[dict[str, Any]]:
        yield from _gathered(results, blocks, shared, parts.together, check=check)
        return facts

    named = {f"source{n or ''}": file for n, file in enumerate(dict.fromkeys(inputs))}
    settings = {"from": found.key, "to": writer.key, "scale": config.model_dump(mode="json"), **_given(chosen.hints)}
    return Plan("convert", target, blocks, shared, named, gather, settings)


def _movie(shared: Mapping[str, Json]) -> ImageSeries:
    given = dict(shared["hints"])
    for name in ("voxel_size", "interval"):
        if name in given:
            given[name] = tuple(given[name])
    return open_image(shared["source"], hints=Hints(**given) if given else None, key=shared["source_format"])


def _store(shared: Mapping[str, Json], movie: ImageSeries) -> Store:
    given = dict(shared["options"])
    if given["levels"] is not None:
        given["levels"] = [tuple(factors) for factors in given["levels"]]
    if given["chunks"] is not None:
        given["chunks"] = tuple(given["chunks"])
    return Store.planned(Path(shared["target"]), movie, WriteOptions(**given))


def _open(call: Call) -> tuple[Store, Path, Path]:
    """Return the plan of the store, its folder, and one for chunks that are being written."""
    movie = call.kept("movie", lambda: _movie(call.shared))
    store = call.kept("store", lambda: _store(call.shared, movie))
    folder, aside = call.folder / "store", call.folder / "aside"
    for place in (folder, aside):
        place.mkdir(parents=True, exist_ok=True)
    return store, folder, aside


def part(call: Call) -> Result:
    """Write a part of some views: level 0, and the levels whose chunks it holds as a whole."""
    store, folder, aside = _open(call)
    region = _region(call)
    written: list[Chunk] = []
    limits: list[Limits] = []
    views = [(int(frame), int(setup)) for frame, setup in call.arguments["views"]]
    whole = all(p.stop - p.start == n for p, n in zip(region, store.shapes[0], strict=True))
    with ThreadPoolExecutor(THREADS) as pool:
        for view in views:
            array = store.read(*view, None if whole else region)
            limits.append(limits_of(array))
            for level in range(int(call.arguments["levels"])):
                inner = store.region_of(level, region)
                pixels = store.part(array, level, region)
                written += store.write(folder, view, level, inner, pixels, pool=pool, aside=aside)
    return _result(written, views, limits)


def coarse(call: Call) -> Result:
    """Write a part of a level from level 0 as it was stored."""
    store, folder, aside = _open(call)
    region, level = _region(call), int(call.arguments["level"])
    frame, setup = call.arguments["view"]
    view, stored = (int(frame), int(setup)), store.stored_chunks(folder, 0)
    _check_needs(call, folder, view)
    pixels = empty(region, store.dtype)
    for inner, box in boxes(store, level, region):
        array = empty(inner, store.dtype)[None, None]
        where = (slice(view[0], view[0] + 1), slice(view[1], view[1] + 1), *inner)
        fill(where, stored.chunks, array, stored.load)
        here = tuple(slice(b.start - r.start, b.stop - r.start) for b, r in zip(box, region, strict=True))
        pixels[here] = downsample(array[0, 0], store.factors[level])
    with ThreadPoolExecutor(THREADS) as pool:
        return _result(store.write(folder, view, level, region, pixels, pool=pool, aside=aside), [], [])


def _check_needs(call: Call, folder: Path, view: View) -> None:
    """Compare the chunks of level 0 with what the blocks said that wrote them.

    Raises:
        DamagedBlock: They are not as they were written; the run does the block again.
    """
    for key in call.arguments["from"]:
        found = call.read(key)
        place = found.arrays["place"]
        mine = (place[:, :3] == (0, *view)).all(axis=1)
        here = Result({name: found.arrays[name][mine] for name in ("place", "size", "checksum")})
        if not _whole(here, folder, check=True):
            block_path(call.folder, key).unlink(missing_ok=True)
            raise DamagedBlock(key, CHUNK_GONE)


def _region(call: Call) -> Region:
    z, y, x = region_of(call.arguments)
    return z, y, x


def _result(written: list[Chunk], views: list[View], limits: list[Limits]) -> Result:
    return Result(
        {
            "place": np.array([chunk.place for chunk in written], dtype=np.int32).reshape(-1, 6),
            "size": np.array([chunk.size for chunk in written], dtype=np.int64),
            "checksum": np.array([chunk.checksum for chunk in written], dtype=np.int64),
            "view": np.array(views, dtype=np.int32).reshape(-1, 2),
            "limits": np.array(limits, dtype=np.float64).reshape(-1, 2),
        },
        {"chunks": len(written), "bytes": sum(max(chunk.size, 0) for chunk in written)},
    )


# ---- gathering


def _gathered(
    results: Results, blocks: Sequence[Block], shared: Mapping[str, Json], together: int, *, check: bool
) -> Steps[None]:
    """Look at all chunks, write what is beside them, read back, and give the store its name."""
    target = Path(shared["target"])
    made = work_folder(target) / "store"
    if not made.is_dir() and target.is_dir():
        made = target  # it was stopped after the store had got its name
    limits: dict[View, Limits] = {}
    bad: set[str] = set()
    for done, block in enumerate(blocks, start=1):
        found = results.read(block.key)
        if not _whole(found, made, check=check):
            bad.add(block.key)
        for view, pair in zip(found.arrays["view"].tolist(), found.arrays["limits"], strict=True):
            before = limits.get((view[0], view[1]), pair)
            limits[view[0], view[1]] = float(np.minimum(before[0], pair[0])), float(np.maximum(before[1], pair[1]))
        yield Progress("check", done, len(blocks))
    if bad:
        _do_again(target, blocks, bad)
    movie = _movie(shared)
    try:
        store = _store(shared, movie)
        store.start(made)
        store.finish(made, limits)
        verify(store, made, together)
    finally:
        movie.close()
    if made != target:
        put_in_place(made, target)


def _whole(found: Result, folder: Path, *, check: bool) -> bool:
    """Whether the files of chunks are what a block said of them: their sizes, and if asked for their checksums."""
    arrays = found.arrays
    for place, size, told in zip(
        arrays["place"].tolist(), arrays["size"].tolist(), arrays["checksum"].tolist(), strict=True
    ):
        file = folder.joinpath(*map(str, place))
        try:
            there = file.stat().st_size
        except FileNotFoundError:
            there = NOT_THERE
        if there != size or (check and size >= 0 and checksum(file.read_bytes()) != told):
            return False
    return True


def _do_again(target: Path, blocks: Sequence[Block], bad: set[str]) -> None:
    """Have blocks done again whose chunks are damaged, and those that read these chunks.

    Raises:
        DamagedBlock: Always; the run does the blocks whose files are gone.
    """
    for block in blocks:
        if block.key in bad or bad.intersection(block.needs):
            block_path(work_folder(target), block.key).unlink(missing_ok=True)
    raise DamagedBlock(min(bad), CHUNK_GONE)


def verify(store: Store, folder: Path, together: int, size: Region | None = None) -> None:
    """Read the first and the last view back, part by part, and compare them with their source.

    Raises:
        FormatError: They differ.
    """
    back = open_ome_zarr(folder)
    views = store.views
    for view in dict.fromkeys([*views[:1], *views[-1:]]):
        for region in regions(store.shapes[0], store.unit(range(together))):
            pixels = store.read(*view, region)
            for level in range(together):
                inner = store.region_of(level, region)
                store.compare(back.read(*view, level, region=inner), store.part(pixels, level, region), view, level)
        for level in range(together, len(store.levels)):
            for region in regions(store.shapes[level], store.chunks[level]):
                for inner, box in boxes(store, level, region):
                    expected = downsample(back.read(*view, 0, region=inner), store.factors[level])
                    store.compare(back.read(*view, level, region=box), expected, view, level)
    back.close()
