"""Training the flow on a project's links, and saying where nuclei were one frame earlier, for linking."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from howdah.errors import DataError
from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.elephant.flow.targets import teaching_links
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.sources import Source, check_inside, check_target
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods.elephant.flow.predict import Flow, FlowMap
    from howdah.nn.checkpoint import Weights

__all__ = ["Estimate", "estimate_of", "predicted_positions", "train_flow"]

F64 = npt.NDArray[np.float64]
Sections = Mapping[str, Mapping[str, Any]]
Estimate = Callable[[int, F64, F64], F64]
COMPUTING = ("device", "precision", "memory_mb", "tile_size")
CACHE_MB = 1000.0
log = logging.getLogger("howdah")


def train_flow(
    job: Job,
    weights: str | os.PathLike[str],
    *,
    settings: Sections,
    start: str | os.PathLike[str] | None = None,
    resume: bool = True,
) -> Steps[dict[str, Any]]:
    """Train ELEPHANT's flow on the links of a project that a person made or approved.

    Args:
        job: The project; ``frames`` limits the links that are used: both ends lie in them.
        weights: Where the weights go (safetensors); the former file is kept as ``name~1~``. While the training runs its
            state is beside it; a stopped training goes on from there.
        settings: ``{"flow": {...}}``, fields of :class:`FlowConfig`.
        start: Weights to start from: ours, or published ones.
        resume: Go on with a training of the same links and settings that was stopped.

    Returns:
        The weights file, the number of links, and the last losses.

    Raises:
        DataError: There is nothing to train on, or a linked spot lies outside of the image.
        WeightsError, ConfigError, BdvIoError: As the sentence says.
    """
    source, frames = job.open()
    marks = _marks(source, frames)
    config = FlowConfig.of(settings.get("flow", {}))
    target = check_target(weights, source, ending=".safetensors")
    with recorded(target, "train-flow", inputs=source.inputs, settings={"flow": config.model_dump()}) as record:
        trained = yield from _train(source, marks, config, target=target, start=start, resume=resume)
        record.facts |= {"weights": fingerprint(target), **_about(trained)}
        result = {"weights": str(target), "links": marks.n_links, "losses": dict(trained.header["metrics"])}
    return result


def estimate_of(source: Source, weights: str | os.PathLike[str], settings: Sections) -> Estimate:
    """Return what linking asks for: the place one frame earlier of ellipsoids of a frame.

    The callable takes a frame, centres (N, 3) and covariances (N, 3, 3) in world units and returns (N, 3) world, NaN where
    nothing is known (the first frame, a missing frame, a spot outside of the image): not to know is not to rest, for linking by
    the paper's rules looks at how far nuclei moved. The flow of the last pairs of frames is kept in memory.

    Args:
        source: The movie.
        weights: From :func:`train_flow`, or published ones.
        settings: ``{"flow": {...}}``; what is not given is as the weights were trained.
    """
    flow = _flow(Path(weights), settings)
    image, setup = source.image, source.setup
    kept: OrderedDict[int, FlowMap] = OrderedDict()

    def map_of(frame: int) -> FlowMap:
        if frame not in kept:
            kept[frame] = flow.map(
                image.read(frame - 1, setup),
                image.read(frame, setup),
                image.affine(frame, setup),
                earlier_affine=image.affine(frame - 1, setup),
            )
            while len(kept) > 1 and sum(known.flow.nbytes for known in kept.values()) > CACHE_MB * 2**20:
                kept.popitem(last=False)
        kept.move_to_end(frame)
        return kept[frame]

    def estimate(frame: int, centre: F64, covariance: F64) -> F64:
        unknown = np.full((len(centre), 3), np.nan)
        if frame < 1 or frame >= image.n_frames or not len(centre):
            return unknown
        if image.is_missing(frame, setup) or image.is_missing(frame - 1, setup):
            log.warning(
                "Frame %d or %d of %s is missing; what moved between is not known.", frame - 1, frame, image.path
            )
            return unknown
        return map_of(frame).positions(centre, covariance)

    return estimate


def predicted_positions(tracks: Tracks, estimate: Estimate, frames: Sequence[int]) -> Steps[F64]:
    """Return (N, 3) for linking: the place one frame earlier of each spot of the frames, NaN for all others."""
    predicted = np.full((tracks.n_spots, 3), np.nan)
    for number, frame in enumerate(frames, start=1):
        here = np.flatnonzero(tracks.t == frame)
        if len(here) and frame > 0:
            predicted[here] = estimate(frame, tracks.centre[here], tracks.covariance[here])
        moved = np.linalg.norm(predicted[here] - tracks.centre[here], axis=1)
        moved = moved[np.isfinite(moved)]
        yield Progress("flow", number, len(frames), values={"moved": float(np.median(moved)) if len(moved) else 0.0})
    return predicted


def _flow(weights: Path, settings: Sections) -> Flow:
    with _needs_torch():
        from howdah.methods.elephant.flow.predict import Flow, read_flow_weights

        loaded = read_flow_weights(weights)
    resolved = dict(loaded.header.get("resolved", {}))
    for name in COMPUTING:  # this machine's affair, not that of the machine that trained
        resolved.pop(name, None)
    given = dict(settings.get("flow", {}))
    return Flow(loaded, FlowConfig.of({**resolved, **given}, source=f"the settings and the header of {weights}"))


def _marks(source: Source, frames: list[int]) -> Tracks:
    """The annotation with the links that shall be learned from; an error if there are none."""
    tracks = source.tracks
    if len(frames) < source.image.n_frames:
        tracks = tracks.select(np.isin(tracks.t, frames))
    rows = teaching_links(tracks)
    if not len(rows):
        if not source.is_project:
            raise DataError(
                f"There is nothing to train the flow on: {source.files[0]} is a movie without links. Give the project in which "
                "nuclei are linked, and the movie with --image if the project does not name it."
            )
        seen = f" ({tracks.n_links} links are a machine's, or join no neighbouring frames)" if tracks.n_links else ""
        raise DataError(
            f"There is nothing to train the flow on in {source.files[0]}: no link was made or approved by a person{seen}. "
            "Link some nuclei, better thirty, to where they were one frame earlier, or tag links as 'Approved', and save the project."
        )
    chosen = tracks.select_links(rows)
    ends = np.unique(chosen.links)
    check_inside(chosen, source, ends)
    return chosen.select(ends)


def _train(
    source: Source,
    marks: Tracks,
    config: FlowConfig,
    *,
    target: Path,
    start: str | os.PathLike[str] | None,
    resume: bool,
) -> Steps[Weights]:
    with _needs_torch():
        from howdah.methods.elephant.flow.predict import read_flow_weights
        from howdah.methods.elephant.flow.train import train_flow as train_elephant_flow

    image, setup = source.image, source.setup
    first = None if start is None else read_flow_weights(start)
    return (
        yield from train_elephant_flow(
            lambda frame: image.read(frame, setup),
            marks,
            config,
            affine=lambda frame: image.affine(frame, setup),
            start=first,
            save_to=target,
            resume=resume,
        )
    )


def _about(weights: Weights) -> dict[str, Any]:
    kept = ("method", "resolved", "data", "metrics", "steps", "start", "device", "precision")
    return {f"training_{name}" if name == "data" else name: weights.header.get(name) for name in kept}
