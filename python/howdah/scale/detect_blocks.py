"""Blocks of ``scale predict``: what a worker does with a frame, or with a part of one that is cut.

A frame that is not cut is one block, :func:`frame`: the detector as ``predict`` calls it. A frame that is cut is done in five stages,
each of which gives, bit for bit, its part of what ``predict`` computes with the same tiles:

1. :func:`levels`: what preparing needs to know of the whole frame.
2. :func:`tile`: a tile, read with what filters need around it, prepared, and its probabilities by the network.
3. :func:`blend`: a region of the blended probabilities, tiles added in their order; what is above the threshold, as a list of voxels.
4. :func:`cores`: the components whose first voxel lies in a region. Lists of neighbouring regions are read until no component that may
   belong here touches a region that was not read: so a component may be of any size, and lies in one region only.
5. :func:`nuclei`: all components of the frame in its order, as nuclei in world coordinates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries
from bdv_io.formats import open_image
from bdv_io.image import Hints
from howdah.ellipsoids import Components, Ellipsoids, components_of
from howdah.methods import Spots
from howdah.methods.elephant.box import Box, Region, in_box
from howdah.methods.elephant.calibration import DEFAULT, Calibration
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.extract import Cores, cores_of, denoised, finished
from howdah.methods.elephant.layout import Layout, touches
from howdah.methods.elephant.parts import Frame, Levels, levels_of, prepared_part
from howdah.methods.elephant.preprocess import working_grid
from howdah.nn.tiles import Tile
from howdah.pipeline.sources import frame_reader
from howdah.scale.plan import Call, Json, Result, region_of

if TYPE_CHECKING:
    from howdah.methods.elephant.predict import Detector

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

BATCH = 1 << 20  # voxels of components that are measured at once
ROUNDING = 1e-5  # far more than sums of a few products of float32 are wrong by
MEASURED = ("centre", "covariance", "n_voxels", "quality")

__all__ = [
    "BATCH",
    "blend",
    "frame",
    "grid_of",
    "key_of",
    "levels",
    "nuclei",
    "support",
    "tile",
    "tiles_of_regions",
    "weighs",
]


def frame(call: Call) -> Result:
    """Find the nuclei of a frame that is not cut.

    Arguments: ``frame``. Returns ``centre`` (N, 3), ``covariance`` (N, 3, 3), ``quality`` (N,), world units.
    """
    number = int(call.arguments["frame"])
    image, setup = _movie(call), int(call.shared["setup"])
    detector = _detector(call)
    read = frame_reader(image, setup, detector.config.temporal_mean)
    spots = detector.predict_spots(read(number), image.affine(number, setup), box=_box(call.shared))
    return _result(spots, device=str(detector.place.device))


def levels(call: Call) -> Result:
    """Find what preparing needs to know of a whole frame. Arguments: ``frame``. Returns the fact ``levels``."""
    return Result(facts={"levels": levels_of(_frame(call)).to_json()})


def tile(call: Call) -> Result:
    """Compute the probabilities of a tile.

    Arguments: ``frame``, ``layout`` (name in the plan's ``layouts``), ``number`` of the tile. Returns the probabilities (C, z, y, x)
    float32 of the voxels that have any weight in the tile, without those that cannot lift a voxel above the threshold (:func:`_packed`).
    """
    part, layout = _frame(call), _layout(call)
    which = _tiles(call)[int(call.arguments["number"])]
    known = Levels.from_json(call.read(key_of("levels", int(call.arguments["frame"]))).facts["levels"])
    inside = _cut(which.region, layout.working)
    image = prepared_part(part, known, inside)
    beyond = [(0, whole.stop - have.stop) for whole, have in zip(which.region, inside, strict=True)]
    if any(after for _, after in beyond):  # as the whole frame is enlarged at its far edges
        image = np.pad(image, beyond, mode="edge")
    detector = _detector(call)
    found = detector.probabilities(np.ascontiguousarray(image), layout.flags, detector.classes)
    kept = found[(slice(None), *_moved(support(which), which.region))]
    return Result(_packed(kept, which, _config(call.shared)), {"device": str(detector.place.device)})


def blend(call: Call) -> Result:
    """Blend the tiles in a region, and measure the components of voxels above the threshold that end within it.

    Arguments: ``frame``, ``layout``, ``number`` of the region. Returns the columns of
    :class:`~howdah.methods.elephant.extract.Cores`; and of the components that reach a border to another region ``flat`` (K,) int64
    rising, voxels as indices of the flattened view (the part of the working grid that is looked at), and ``value`` (K,) float32.
    """
    config, said = _config(call.shared), _said(call)
    view, number = region_of(said, "view"), int(call.arguments["number"])
    shape = _size(view)
    region = grid_of(shape, said["block"])[number]
    flat, values = _above(call, view, region, config)
    found = components_of(flat, shape)
    over = np.zeros(found.n, dtype=bool)
    over[found.owner[_on_border(flat, region, shape)]] = True
    open_ = over[found.owner]
    closed = _without(found, over)
    columns = _measured(closed, values[~open_], config, affine=_grid(call, view))
    return Result({**columns, "flat": flat[open_], "value": values[open_]}, {"n": len(columns.get("first", ()))})


def nuclei(call: Call) -> Result:
    """Measure the components that lie over borders of regions, and make nuclei of all; returns what :func:`frame` does.

    Arguments: ``frame``, ``layout``.
    """
    config, said = _config(call.shared), _said(call)
    view = region_of(said, "view")
    affine = _grid(call, view)
    parts = list(_of_regions(call, _size(view), said["block"], affine)) if "block" in said else []
    spots, seen = finished(_joined(parts) if parts else None, config, affine=affine, single=_size(view)[0] == 1)
    box = _box(call.shared)
    if box is not None:
        inside = np.flatnonzero(in_box(spots.centre, box))
        spots, seen = spots.take(inside), seen[inside]
    calibration = Calibration.from_header({"calibration": call.shared["calibration"]}) or DEFAULT
    return _result(Spots(spots.centre, spots.covariance, calibration.quality(seen)))


# ---- what blocks are made of


def key_of(stage: str, frame: int, number: int | None = None) -> str:
    """Return the key of a block of a frame, of a part of it where that has a number."""
    return f"{stage}/t{frame:05d}" if number is None else f"{stage}/t{frame:05d}/b{number:05d}"


def support(tile: Tile) -> Region:
    """Return the voxels of the working grid in which a tile has any weight."""
    ends = [np.flatnonzero(weights)[[0, -1]] for weights in tile.weights]
    z, y, x = (
        slice(part.start + int(first), part.start + int(last) + 1)
        for part, (first, last) in zip(tile.region, ends, strict=True)
    )
    return z, y, x


def grid_of(shape: Sequence[int], block: Sequence[int]) -> list[Region]:
    """Cut a view into regions of a size, the last ones smaller."""
    axes = [[slice(low, min(low + n, size)) for low in range(0, size, n)] for size, n in zip(shape, block, strict=True)]
    return [(z, y, x) for z, y, x in itertools.product(*axes)]


def _add(whole: F32, place: Region, tile: Tile, part: F32) -> None:
    """Add a tile to a part of the whole, as :func:`howdah.nn.tiles.blend` does."""
    lies = support(tile)
    both = [
        slice(max(a.start, b.start), min(a.stop, b.stop, n + b.start))
        for a, b, n in zip(lies, place, whole.shape[1:], strict=True)
    ]
    if any(part.start >= part.stop for part in both):
        return
    here = (both[0], both[1], both[2])
    cut = [axis[inner] for axis, inner in zip(tile.weights, _moved(here, tile.region), strict=True)]
    weight = cut[0]
    for axis in cut[1:]:
        weight = weight[..., None] * axis
    whole[(slice(None), *_moved(here, place))] += part[(slice(None), *_moved(here, lies))] * weight


def weighs(tile: Tile) -> bool:
    """Whether a tile has any weight: those between tiles so dense that seams cross have none."""
    return all(bool(weights.any()) for weights in tile.weights)


def tiles_of_regions(
    plan: Mapping[int, Tile], view: Region, block: Sequence[int], *, whole_slices: bool
) -> list[list[int]]:
    """Numbers of the tiles that have weight in each region, rising."""
    counts = [-(-(axis.stop - axis.start) // b) for axis, b in zip(view, block, strict=True)]
    used: list[list[int]] = [[] for _ in range(int(np.prod(counts)))]
    for number, tile in plan.items():
        axes = []
        for axis, (part, seen, size, n) in enumerate(zip(support(tile), view, block, counts, strict=True)):
            first, last = (part.start - seen.start) // size, (part.stop - 1 - seen.start) // size
            axes.append(range(n) if whole_slices and axis else range(max(first, 0), min(last + 1, n)))
        for z, y, x in itertools.product(*axes):
            used[(z * counts[1] + y) * counts[2] + x].append(number)
    return used


def _packed(found: F32, tile: Tile, config: ElephantConfig) -> dict[str, npt.NDArray[Any]]:
    """The probabilities of a tile as they are written.

    Where the weight w and the probability p of a tile are such that w p + (1 - w) is not above the threshold, the voxel is not either,
    whatever the other tiles say. These, most of a tile, are left out: ``kept`` has a bit for each voxel, ``value`` the others. Where the
    edges of the background count (``denoise_edges``), all are kept: ``probability``.
    """
    if config.denoise_edges:
        return {"probability": np.ascontiguousarray(found)}
    cut = _moved(support(tile), tile.region)
    kept = np.empty(found.shape[1:], dtype=bool)
    plane = tile.weights[1][cut[1], None] * tile.weights[2][cut[2]]
    for z, weight in enumerate(tile.weights[0][cut[0]]):  # a slice at a time: little memory
        both = plane * weight
        kept[z] = both * found[0, z] + (1 - both) > config.threshold - ROUNDING
    return {"kept": np.packbits(kept), "value": found[0][kept]}


def _unpacked(part: Result, tile: Tile) -> F32:
    """What :func:`_packed` was given; 0 where that was left out."""
    if "probability" in part.arrays:
        whole: F32 = part.arrays["probability"]
        return whole
    size = _size(support(tile))
    kept = np.unpackbits(part.arrays["kept"], count=int(np.prod(size))).view(bool).reshape(size)
    found = np.zeros((1, *size), dtype=np.float32)
    found[0][kept] = part.arrays["value"]
    return found


def _above(call: Call, view: Sequence[slice], region: Region, config: ElephantConfig) -> tuple[I64, F32]:
    """Voxels of a region above the threshold, as rising indices of the flattened view, and their probabilities."""
    seen = (region[0], *(slice(0, part.stop - part.start) for part in view[1:])) if config.denoise_edges else region
    place = _shifted(seen, view)
    whole = np.zeros((2 if config.denoise_edges else 1, *_size(place)), dtype=np.float32)
    plan = _tiles(call)
    for number in _tiles_of(call)[int(call.arguments["number"])]:
        part = call.read(key_of("tiles", int(call.arguments["frame"]), number))
        _add(whole, place, plan[number], _unpacked(part, plan[number]))
    probability = denoised(*whole) if config.denoise_edges else whole[0]
    here = probability[_moved(region, seen)]
    found = np.flatnonzero(here > config.threshold)
    inside = np.unravel_index(found, here.shape)
    values = here[inside]
    flat = np.ravel_multi_index([axis + cut.start for axis, cut in zip(inside, region, strict=True)], _size(view))
    return flat.astype(np.int64), values


def _on_border(flat: I64, region: Region, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Which voxels of a region lie beside another region."""
    on = np.zeros(len(flat), dtype=bool)
    for axis, part, n in zip(np.unravel_index(flat, shape), region, shape, strict=True):
        if part.start > 0:
            on |= axis == part.start
        if part.stop < n:
            on |= axis == part.stop - 1
    return on


def _without(found: Components, gone: npt.NDArray[np.bool_]) -> Components:
    """Components without some of them, numbered anew in the same order."""
    number = np.cumsum(~gone) - 1
    stay = ~gone[found.owner]
    return Components(found.shape, found.flat[stay], number[found.owner[stay]], int((~gone).sum()))


def _of_regions(
    call: Call, shape: tuple[int, int, int], block: Sequence[int], affine: npt.NDArray[np.float64]
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The columns of the cores of all regions, and of those over their borders; layer of regions after layer.

    Only components that go on into the next layer are kept in memory meanwhile.
    """
    config, frame_number = _config(call.shared), int(call.arguments["frame"])
    regions = enumerate(grid_of(shape, block))
    flat, values = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    for end, layer in itertools.groupby(regions, key=lambda region: region[1][0].stop):
        flats, some = [flat], [values]
        for number, _ in layer:
            found = call.read(key_of("blend", frame_number, number))
            flats.append(found.arrays["flat"])
            some.append(found.arrays["value"])
            if found.facts["n"]:
                yield {name: column for name, column in found.arrays.items() if name not in ("flat", "value")}
        flat, values = np.concatenate(flats), np.concatenate(some)
        order = np.argsort(flat, kind="stable")
        flat, values = flat[order], values[order]
        components = components_of(flat, shape)
        on = np.zeros(components.n, dtype=bool)
        if end < shape[0]:
            on[components.owner[flat >= (end - 1) * shape[1] * shape[2]]] = True
        stay = on[components.owner]
        columns = _measured(_without(components, on), values[~stay], config, affine=affine)
        if columns:
            yield columns
        flat, values = flat[stay], values[stay]


def _measured(
    found: Components, values: F32, config: ElephantConfig, *, affine: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[Any]]:
    """The columns of the cores of some components; a million voxels at a time, or a component."""
    if not found.n:
        return {}
    batch = (np.cumsum(np.bincount(found.owner, minlength=found.n)) - 1) // BATCH  # of each component
    firsts = [*np.flatnonzero(np.diff(batch, prepend=-1)).tolist(), found.n]
    parts = []
    for first, last in itertools.pairwise(firsts):
        rows = np.flatnonzero((found.owner >= first) & (found.owner < last))
        some = Components(found.shape, found.flat[rows], found.owner[rows] - first, last - first)
        cores = cores_of(some, values[rows], config, affine=affine)
        parts += [_columns(cores)] if cores is not None else []
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _columns(found: Cores) -> dict[str, npt.NDArray[Any]]:
    columns: dict[str, npt.NDArray[Any]] = {"highest": found.highest, "first": found.first, "cut": found.cut}
    for name, measured in (("whole", found.whole), ("inner", found.inner)):
        columns |= {f"{name}_{column}": getattr(measured, column) for column in MEASURED}
    return columns


def _joined(parts: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Cores:
    """All components of a frame in the order that they have where it is not cut."""
    column = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((column["cut"], column["first"], column["cut"] > 0))
    column = {name: values[order] for name, values in column.items()}

    def measured(name: str) -> Ellipsoids:
        return Ellipsoids(
            column[f"{name}_centre"],
            column[f"{name}_covariance"],
            column[f"{name}_n_voxels"],
            np.arange(len(order)),
            column[f"{name}_quality"],
        )

    return Cores(measured("whole"), measured("inner"), column["highest"], column["first"], column["cut"])


# ---- what a worker keeps, and what the plan says


def _movie(call: Call) -> ImageSeries:
    known = call.shared["hints"]

    def opened() -> ImageSeries:
        return open_image(Path(call.shared["movie"]), hints=None if known is None else _hints(known))

    return call.kept("movie", opened)


def _hints(known: Mapping[str, Json]) -> Hints:
    voxel, interval = known["voxel_size"], known["interval"]
    return Hints(
        known["axes"],
        None if voxel is None else (voxel[0], voxel[1], voxel[2]),
        known["unit"],
        None if interval is None else (interval[0], interval[1]),
    )


def _detector(call: Call) -> Detector:
    def made() -> Detector:
        from howdah.methods.elephant.predict import Detector
        from howdah.nn.device import use_threads
        from howdah.pipeline.weights_of import read_weights_of

        use_threads(int(call.shared["threads"]))
        return Detector(read_weights_of("elephant", Path(call.shared["weights"])), _config(call.shared))

    return call.kept("detector", made)


def _config(shared: Mapping[str, Json]) -> ElephantConfig:
    return ElephantConfig.of(shared["elephant"], source="the plan")


def _frame(call: Call) -> Frame:
    number, setup = int(call.arguments["frame"]), int(call.shared["setup"])
    image, config = _movie(call), _config(call.shared)
    read = frame_reader(image, setup, config.temporal_mean)
    return Frame(
        lambda region: read(number, region=region), image.shape(number, setup), image.affine(number, setup), config
    )


def _said(call: Call) -> Mapping[str, Json]:
    """How this frame is cut: ``working``, ``flags``, ``tile`` (see :class:`Layout`), ``view`` (the part of the working grid that is looked
    at), ``block`` (size of regions in it; none where a box lies beside the frame).
    """
    found: Mapping[str, Json] = call.shared["layouts"][call.arguments["layout"]]
    return found


def _layout(call: Call) -> Layout:
    said = _said(call)
    z, y, x = said["tile"]
    shape, flags = said["working"], said["flags"]
    return Layout((shape[0], shape[1], shape[2]), np.eye(4), tuple(flags), (z, y, x))


def _tiles(call: Call) -> list[Tile]:
    return call.kept(f"tiles {call.arguments['layout']}", lambda: _layout(call).tiles())


def _tiles_of(call: Call) -> list[list[int]]:
    """Numbers of the tiles with weight in each region."""
    said = _said(call)
    view, config = _cut(region_of(said, "view"), said["working"]), _config(call.shared)

    def made() -> list[list[int]]:
        plan = {n: tile for n, tile in enumerate(_tiles(call)) if weighs(tile) and touches(tile, view)}
        return tiles_of_regions(plan, view, said["block"], whole_slices=config.denoise_edges)

    return call.kept(f"tiles of regions {call.arguments['layout']}", made)


def _grid(call: Call, view: Sequence[slice]) -> npt.NDArray[np.float64]:
    """The affine of the view."""
    number, setup = int(call.arguments["frame"]), int(call.shared["setup"])
    image, config = _movie(call), _config(call.shared)
    factors = config.rescale or (1.0, 1.0, 1.0)
    grid = working_grid(image.shape(number, setup), image.affine(number, setup), factors)[1].copy()
    grid[:3, 3] += grid[:3, :3] @ (view[0].start, view[1].start, view[2].start)
    return grid


def _box(shared: Mapping[str, Json]) -> Box | None:
    return None if shared["box"] is None else (shared["box"][0], shared["box"][1])


def _result(spots: Spots, **facts: Json) -> Result:
    columns = {"centre": spots.centre, "covariance": spots.covariance, "quality": spots.quality}
    return Result(columns, {"n": len(spots), **facts})


def _cut(region: Sequence[slice], shape: Sequence[int]) -> Region:
    z, y, x = (slice(part.start, min(part.stop, n)) for part, n in zip(region, shape, strict=True))
    return z, y, x


def _moved(region: Sequence[slice], origin: Sequence[slice]) -> Region:
    """A region as seen from the start of another."""
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, origin, strict=True))
    return z, y, x


def _shifted(region: Sequence[slice], origin: Sequence[slice]) -> Region:
    z, y, x = (slice(a.start + b.start, a.stop + b.start) for a, b in zip(region, origin, strict=True))
    return z, y, x


def _size(region: Sequence[slice]) -> tuple[int, int, int]:
    z, y, x = (part.stop - part.start for part in region)
    return z, y, x
