"""Training (paper, section 3.3): Adam, a cyclic step size, and the network that does best on frames that are held out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from howdah import __version__
from howdah.errors import DataError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.events import settled_events
from howdah.methods.tap.learned import continued
from howdah.methods.tap.movies import Movie, voxel_of
from howdah.methods.tap.network import planes_of
from howdah.methods.tap.run import Run, fingerprint, form_for
from howdah.methods.tap.samples import Samples, crop_shape
from howdah.methods.tap.weights import METHOD
from howdah.nn.checkpoint import Weights, save_weights
from howdah.nn.device import Place, for_training
from howdah.nn.fit import fit, forget_state, place_to_train
from howdah.nn.memory import keep_large_blocks
from howdah.progress import Progress

__all__ = ["train"]


def train(
    movies: Sequence[Movie],
    config: TapConfig,
    *,
    start: Weights | None = None,
    save_to: Path | None = None,
    resume: bool = True,
    after_epoch: Callable[[int, Weights], None] | None = None,
) -> Generator[Progress, None, Weights]:
    """Learn the arrow of time from raw movies; a generator, so that it can be watched and cancelled.

    Each ``next`` is one step. ``weights = yield from train(...)`` gets the result. Closing the generator cancels: the best network so
    far is written to ``save_to`` all the same, so that a person may stop at any time; so it is where training breaks down.

    Args:
        movies: Movies of equally many channels.
        config: Settings.
        start: Weights to go on from, of the same form.
        save_to: Where the weights are written at the end, or when it is closed (the former file stays as ``name~1~``); beside it,
            ``name.training`` keeps the state to resume from until all passes are done. None: nothing is written.
        resume: Go on from ``name.training`` where it is there and belongs to the same movies, settings and start.
        after_epoch: Is called after each pass with its number from 1 and the best network so far, for pictures while training.

    Returns:
        The weights that did best on the frames that are held out. Their header has a ``curve``: one table a pass.

    Raises:
        DataError: There is nothing to learn from, or the loss broke down. ConfigError: Device or settings do not fit.
        WeightsError: A state to resume from is damaged, ``start`` does not fit, or the folder of ``save_to`` is not there.
    """
    began = time.monotonic()
    run = _run(movies, config, start, save_to)
    data = _data(run, start)
    state = save_to.with_name(f"{save_to.name}.training") if save_to is not None else None
    done, message = 0, f"{run.place.sentence} {run.sentence}"
    if state is not None and resume and state.is_file():
        done, said = run.resume(state, data)
        message = f"{message} {said}"
    resumed_at = done

    def found() -> Weights:
        return Weights((run.weights(),), _header(run, config, data, done, start))

    try:
        yield Progress("train", done, run.steps, message=message)
        with contextlib.closing(_steps(run, done, state, data)) as steps:  # cancelled here is cancelled there, at once
            while not run.finished and not _late(run, began, done, resumed_at):
                progress = next(steps, None)
                if progress is None:
                    break
                done = progress.done
                if after_epoch is not None and "validation" in progress.values:
                    after_epoch(done // run.samples.steps_per_epoch, found())
                yield progress
    except (GeneratorExit, DataError):  # cancelled; or the loss broke down, or a frame cannot be read
        if save_to is not None and done:
            save_weights(save_to, found())
        raise
    if done < run.steps:
        yield Progress("train", run.steps, run.steps, message=_why(run, done))
    weights = found()
    if save_to is not None:
        save_weights(save_to, weights)
        if state is not None and (done >= run.steps or run.finished):
            forget_state(state)
    return weights


def _run(movies: Sequence[Movie], config: TapConfig, start: Weights | None, save_to: Path | None) -> Run:
    place = place_to_train(config.device, precision=config.precision, save_to=save_to)
    if place.device.type == "cpu":
        keep_large_blocks()
    config = config if start is None else continued(start, config)
    if not movies:
        return Run(Samples(movies, config, form={}, place=place), {}, place)  # says that there is nothing to learn from
    form = form_for(movies, config)
    if start is not None and "network" in start.header:
        form["pools"] = [list(pool) for pool in start.header["network"]["pools"]]
    place = _place(place, movies, config, form)
    return Run(Samples(movies, config, form=form, place=place), form, place, start)


def _place(place: Place, movies: Sequence[Movie], config: TapConfig, form: Mapping[str, Any]) -> Place:
    """Return where to train, given how many planes the layers see."""
    planes = planes_of(crop_shape(movies, config, form["pools"])[0], form["pools"])
    return for_training(place, planes) if planes else place


def _steps(run: Run, done: int, state: Path | None, data: Mapping[str, Any]) -> Generator[Progress, None, None]:
    """Train from the step ``done`` on, and save the state now and then."""

    def save(step: int) -> None:
        if state is not None:
            run.save(state, step, data)

    return fit(run.step, steps=run.steps, start=done, save=save if state is not None else None)


def _late(run: Run, began: float, done: int, resumed_at: int) -> bool:
    """Whether the time is up, at the end of a pass and after at least one."""
    per_epoch = run.samples.steps_per_epoch
    if run.config.minutes is None or done % per_epoch or done == resumed_at:
        return False
    return time.monotonic() - began >= 60 * run.config.minutes


def _why(run: Run, done: int) -> str:
    if run.finished:
        return f"No better network for {run.config.patience} passes: stopped after {done} of {run.steps} steps."
    return f"The {run.config.minutes:g} minutes are over: stopped after {done} of {run.steps} steps."


def _data(run: Run, start: Weights | None) -> dict[str, Any]:
    samples = run.samples
    return {
        "movies": [movie.name for movie in samples.movies],
        "frames": [movie.n_frames for movie in samples.movies],
        "held_frames": [list(held) for held in samples.held_frames],
        "voxel_size": [list(voxel_of(movie, samples.config)) for movie in samples.movies],
        "fingerprint": fingerprint(samples, start),
    }


def _header(run: Run, config: TapConfig, data: Mapping[str, Any], done: int, start: Weights | None) -> dict[str, Any]:
    """Return what prediction needs to know, and what a person wants to."""
    samples = run.samples
    distance, smoothing, _ = settled_events(samples.config)
    resolved = samples.config.but(
        dimensions=samples.dimensions,
        width=run.network.form["width"],
        batch_size=samples.batch_size,
        epoch_samples=samples.epoch_samples,
        event_distance=distance,
        event_smoothing=smoothing,
        **({"crop_depth": samples.size[0]} if samples.dimensions == 3 else {}),
    )
    return {
        "method": METHOD,
        "kind": "network",
        "version": __version__,
        "config": config.model_dump(mode="json", exclude_unset=True),
        "resolved": resolved.model_dump(mode="json"),
        "network": dict(run.network.form),
        "data": dict(data),
        "metrics": run.metrics(),
        "curve": list(run.curve),
        "steps": done,
        "start": start.sha256 if start is not None else None,
        "device": str(run.place.device),
        "precision": str(run.place.precision),
    }
