"""Training (paper, sections 3.2 and 3.3): Adam, a step size that falls at plateaus, and the network that does best on a held-out part.

Then the settings that make cells of its maps are searched.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from howdah import __version__
from howdah.methods.annotation import Annotation
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.learned import continued
from howdah.methods.efficientcellseg.picture import mode_of
from howdah.methods.efficientcellseg.predict import Network
from howdah.methods.efficientcellseg.run import METHOD, Run, fingerprint
from howdah.methods.efficientcellseg.samples import Samples
from howdah.methods.efficientcellseg.search import Searched, Truth, search
from howdah.nn.checkpoint import Weights, save_weights
from howdah.nn.fit import fit, forget_state, means, place_to_train
from howdah.nn.normalise import normalised
from howdah.progress import Progress

__all__ = ["header_of", "searched", "train"]

LAST = 20  # steps over which the losses in the header are averaged
MOST_VOXELS = 2**25  # that the search looks at


def train(
    annotation: Annotation,
    config: EfficientCellSegConfig,
    *,
    start: Weights | None = None,
    save_to: Path | None = None,
    resume: bool = True,
) -> Generator[Progress, None, Weights]:
    """Train the network on outlined cells; a generator, so that it can be watched and cancelled.

    Each ``next`` is one step. Closing the generator cancels. ``weights = yield from train(...)`` gets the result.

    Args:
        annotation: Outlined cells of some frames, which may differ in size. Links are not used.
        config: Settings.
        start: Weights to go on from, of the same encoder, decoder and outputs.
        save_to: Where the finished weights are written (the former file stays as ``name~1~``); beside it, while it runs,
            ``name.training`` keeps the state to resume from. None: nothing is written.
        resume: Go on from ``name.training`` where it is there and belongs to the same annotation, settings and start.

    Returns:
        The weights that did best on the held-out part, or the last ones without one: one member, or two with centres "second".

    Raises:
        DataError: There is nothing to train on, or the loss broke down. ConfigError: Device or settings do not fit.
        WeightsError: A state to resume from is damaged, ``start`` does not fit, the encoder's weights cannot be had, or the folder
            of ``save_to`` is not there.
    """
    place = place_to_train(config.device, precision=config.precision, save_to=save_to)
    samples = Samples(annotation, config if start is None else continued(start, config))
    run = Run(samples, place, start)
    data = {
        "cells": len(samples.store.cells),
        "frames": list(annotation.times),
        "validation_frames": samples.validation_times,
        "fingerprint": fingerprint(samples, start),
    }
    state = save_to.with_name(f"{save_to.name}.training") if save_to is not None else None
    done, message = 0, f"{place.sentence} {run.sentence}"
    if state is not None and resume and state.is_file():
        done, said = run.resume(state, data)
        message = f"{message} {said}"
    yield Progress("train", done, samples.steps, message=message)
    curve: deque[Mapping[str, float]] = deque(maxlen=LAST)
    with contextlib.closing(_steps(run, done, state, data)) as steps:  # cancelled here is cancelled there, at once
        while not run.finished:
            progress = next(steps, None)
            if progress is None:
                break
            done = progress.done
            curve.append(progress.values)
            yield progress
    if done < samples.steps:
        said = f"No better network for {run.config.patience} passes: stopped after {done} of {samples.steps} steps."
        yield Progress("train", samples.steps, samples.steps, message=said)
    header = {
        **header_of(run),
        "config": config.model_dump(mode="json"),
        "data": data,
        "metrics": {**means(curve), **run.metrics()},
        "steps": done,
        "start": start.sha256 if start is not None else None,
    }
    weights = yield from searched(Weights(run.weights(), header), samples)
    if save_to is not None:
        save_weights(save_to, weights)
        if state is not None:
            forget_state(state)
    return weights


def header_of(run: Run) -> dict[str, Any]:
    """Return what prediction needs to know of a training, for the header of its weights."""
    samples = run.samples
    resolved = samples.config.but(colour=mode_of(samples.config, samples.store.planes))
    return {
        "method": METHOD,
        "version": __version__,
        "config": samples.config.model_dump(mode="json"),
        "resolved": resolved.model_dump(mode="json"),
        "network": run.form(),
        "cells": {
            "diameter": round(samples.store.diameter(), 3),
            "diameter_planes": samples.store.diameter_planes(),
            "planes": samples.store.planes,
        },
        "device": str(run.place.device),
        "precision": str(run.place.precision),
    }


def searched(weights: Weights, samples: Samples) -> Generator[Progress, None, Weights]:
    """Search the settings that make cells of the maps, and note them in the header; a generator, as :func:`train`.

    It looks at all annotated frames, first at those that nothing was learned from. These alone say too little: on five stills the
    last one chose a way to part cells that was worse on the other four, and on test stills (SEG 0.61 in place of 0.69). But a network
    is surer of what it has learned from: settings that gained 0.01 to 0.035 there changed the SEG of test stills by -0.019 to -0.003.
    So small gains are left.
    """
    if not samples.config.search:
        return weights
    held = samples.validation_times
    times = [*held, *(time for time in samples.annotation.times if time not in held)]
    network, truths, voxels = Network(weights, samples.config), list[Truth](), 0
    for number, time in enumerate(times):
        truths.append(_truth(network, samples, time))
        voxels += truths[-1][1].size
        yield Progress("search", number + 1, len(times))
        if voxels > MOST_VOXELS:
            break
    size = samples.annotation.voxel_size
    found = search(truths, samples.config, voxel_size=size, diameter=samples.store.diameter())
    yield Progress("search", len(times), len(times), message=_sentence(found))
    resolved = {**weights.header["resolved"], **found.settings}
    noted = found.to_dict() if found.n_cells else {}
    return Weights(weights.members, {**weights.header, "resolved": resolved, "search": noted})


def _truth(network: Network, samples: Samples, time: int) -> Truth:
    """Return the maps of an annotated frame, its cells, and which voxels are known."""
    annotation, config = samples.annotation, samples.config
    image, labels = annotation.read(time)
    earlier, later = samples.store.neighbours(time)
    maps = network.maps(image, earlier=earlier, later=later, time=time)
    known = annotation.known(
        time,
        normalised(image, config.percentiles, time=time),
        labels,
        voxel_size=annotation.voxel_size,
        ring_width=config.ring_width or 0.0,
        dark_quantile=config.dark_quantile,
    )
    return maps, labels, known


def _sentence(found: Searched) -> str:
    if not found.n_cells:
        return ""
    settings = ", ".join(f"{name} = {value}" for name, value in found.settings.items()) or "the defaults stay"
    return f"Settings for cells from maps: {settings}; SEG of {found.n_cells} outlined cells {found.before:.3f} -> {found.after:.3f}."


def _steps(run: Run, done: int, state: Path | None, data: Mapping[str, Any]) -> Generator[Progress, None, None]:
    """Train from the step ``done`` on, and save the state now and then."""

    def save(step: int) -> None:
        if state is not None:
            run.save(state, step, data)

    return fit(run.step, steps=run.samples.steps, start=done, save=save if state is not None else None)
