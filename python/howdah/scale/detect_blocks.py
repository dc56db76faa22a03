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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries
from bdv_io.formats import open_image
from bdv_io.image import Hints
from howdah.ellipsoids import Ellipsoids, components_of
from howdah.methods import Spots
from howdah.methods.elephant.box import Box, Region, in_box
from howdah.methods.elephant.calibration import DEFAULT, Calibration
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.extract import Cores, cores_of, denoised, finished
from howdah.methods.elephant.layout import Layout
from howdah.methods.elephant.parts import Frame, Levels, levels_of, prepared_part
from howdah.methods.elephant.preprocess import working_grid
from howdah.nn.tiles import Tile
from howdah.pipeline.sources import frame_reader
from howdah.scale.plan import Call, Json, Result, region_of

if TYPE_CHECKING:
    from howdah.methods.elephant.predict import Detector

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

__all__ = ["blend", "cores", "frame", "grid_of", "key_of", "levels", "nuclei", "support", "tile"]


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

    Arguments: ``frame``, ``tile`` (size of tiles), ``working`` and ``flags`` (see :class:`Layout`), ``number`` of the tile.
    Returns ``probability`` (C, z, y, x) float32, of the voxels of the tile that have any weight.
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
    return Result({"probability": np.ascontiguousarray(kept)}, {"device": str(detector.place.device)})


def blend(call: Call) -> Result:
    """Blend the tiles in a region, and list its voxels above the threshold.

    Arguments: those of :func:`tile`, ``view`` (the part of the working grid that is looked at), ``region`` (in the view), ``tiles``
    (numbers of those with weight there). Returns ``flat`` (K,) int64 rising, voxels as indices of the flattened view, ``value``
    (K,) float32; fact ``lowest``, the least of these or None.
    """
    config = _config(call.shared)
    view, region = region_of(call.arguments, "view"), region_of(call.arguments)
    seen = (region[0], *(slice(0, part.stop - part.start) for part in view[1:])) if config.denoise_edges else region
    place = _shifted(seen, view)
    whole = np.zeros((2 if config.denoise_edges else 1, *_size(place)), dtype=np.float32)
    plan = _tiles(call)
    for number in call.arguments["tiles"]:
        key = key_of("tiles", int(call.arguments["frame"]), number)
        _add(whole, place, plan[number], call.read(key).arrays["probability"])
    probability = denoised(*whole) if config.denoise_edges else whole[0]
    here = probability[_moved(region, seen)]
    found = np.nonzero(here > config.threshold)
    shape = _size(view)
    flat = np.ravel_multi_index([axis + part.start for axis, part in zip(found, region, strict=True)], shape)
    values = here[found]
    return Result(
        {"flat": flat.astype(np.int64), "value": values}, {"lowest": float(values.min()) if values.size else None}
    )


def cores(call: Call) -> Result:
    """Measure the components whose first voxel lies in a region.

    Arguments: ``frame``, ``view``, ``block`` (size of regions), ``number`` of the region.
    Returns the columns of :class:`~howdah.methods.elephant.extract.Cores`.
    """
    config, view = _config(call.shared), region_of(call.arguments, "view")
    shape, block = _size(view), [int(n) for n in call.arguments["block"]]
    number, frame_number = int(call.arguments["number"]), int(call.arguments["frame"])
    keys = [key_of("blend", frame_number, n) for n in range(len(grid_of(shape, block)))]
    flat, values = _whole_components(call, shape, block, keys, number)
    if not flat.size:
        return Result(facts={"n": 0})
    lowest = min(low for low in (call.read(key).facts["lowest"] for key in keys) if low is not None)
    found = cores_of(components_of(flat, shape), values, config, affine=_grid(call, view), lowest=lowest)
    if found is None:
        return Result(facts={"n": 0})
    columns = {"highest": found.highest, "first": found.first, "cut": found.cut}
    for name, measured in (("whole", found.whole), ("inner", found.inner)):
        columns |= {
            f"{name}_{column}": getattr(measured, column) for column in ("centre", "covariance", "n_voxels", "quality")
        }
    return Result(columns, {"n": len(found.first)})


def nuclei(call: Call) -> Result:
    """Put the components of a frame in its order and make nuclei of them; returns what :func:`frame` does.

    Arguments: ``frame``, ``view``, ``regions`` (how many).
    """
    config, view = _config(call.shared), region_of(call.arguments, "view")
    keys = [key_of("cores", int(call.arguments["frame"]), n) for n in range(int(call.arguments["regions"]))]
    parts = [part.arrays for part in map(call.read, keys) if part.facts["n"]]
    spots, seen = finished(
        _joined(parts) if parts else None, config, affine=_grid(call, view), single=_size(view)[0] == 1
    )
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


def _whole_components(
    call: Call, shape: tuple[int, int, int], block: Sequence[int], keys: Sequence[str], number: int
) -> tuple[I64, F32]:
    """Voxels and values of the components that begin in a region, wherever they end."""
    counts = [-(-n // b) for n, b in zip(shape, block, strict=True)]
    read, wanted = {}, {number}
    while wanted:
        for key in wanted:
            arrays = call.read(keys[key]).arrays
            read[key] = (arrays["flat"], arrays["value"])
        flat, values = (np.concatenate([pair[i] for pair in read.values()]) for i in (0, 1))
        order = np.argsort(flat, kind="stable")
        flat, values = flat[order], values[order]
        found = components_of(flat, shape)
        begins = flat[np.flatnonzero(np.diff(np.maximum.accumulate(found.owner), prepend=-1))]
        # what does not begin here as far as it is known does not when more of it is known
        mine = (_region_number(np.unravel_index(begins, shape), block, counts) == number)[found.owner]
        flat, values = flat[mine], values[mine]
        wanted = _touched(np.unravel_index(flat, shape), shape, block, counts) - read.keys()
    return flat, values


def _touched(
    place: Sequence[npt.NDArray[Any]], shape: Sequence[int], block: Sequence[int], counts: Sequence[int]
) -> set[int]:
    """Numbers of the regions that these voxels, or their neighbours, lie in."""
    found: set[int] = set()
    for steps in itertools.product((-1, 1), repeat=3):
        beside = [np.clip(axis + step, 0, n - 1) for axis, step, n in zip(place, steps, shape, strict=True)]
        found |= set(np.unique(_region_number(beside, block, counts)).tolist())
    return found


def _region_number(place: Sequence[npt.NDArray[Any]], block: Sequence[int], counts: Sequence[int]) -> I64:
    numbers = np.ravel_multi_index([axis // size for axis, size in zip(place, block, strict=True)], tuple(counts))
    return np.asarray(numbers, dtype=np.int64)


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


def _layout(call: Call) -> Layout:
    z, y, x = call.arguments["tile"]
    shape, flags = call.arguments["working"], call.arguments["flags"]
    return Layout((shape[0], shape[1], shape[2]), np.eye(4), tuple(flags), (z, y, x))


def _tiles(call: Call) -> list[Tile]:
    layout = _layout(call)
    return call.kept(f"tiles {layout.working} {layout.tile} {layout.flags}", layout.tiles)


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
