"""Training (paper, section 4.3): Adam with a one-cycle schedule, and the network that does best on frames it does not learn from."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections import deque
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from howdah import __version__
from howdah.errors import WeightsError
from howdah.methods.annotation import Annotation
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import unit_of
from howdah.methods.embedtrack.guide import fade, guide_loss
from howdah.methods.embedtrack.judge import Verdict, agreement, fields_of, right_links
from howdah.methods.embedtrack.learned import continued
from howdah.methods.embedtrack.losses import embedtrack_loss
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.methods.embedtrack.samples import Batch, Held, Samples
from howdah.methods.embedtrack.weights import METHOD
from howdah.nn.checkpoint import Weights, save_weights
from howdah.nn.device import Place, for_training
from howdah.nn.fit import descend, digest, fit, forget_state, load_state, means, place_to_train, save_state
from howdah.progress import Progress

__all__ = ["fingerprint", "one_cycle", "train"]

LAST = 20  # steps over which the losses in the header are averaged
QUIET = 0.25  # the share of the passes without validation: what came before was never the best
WARM_UP, LOW, LOWEST = (
    0.3,
    25.0,
    1e4,
)  # of the schedule: share of growing, first and last step size as parts of the largest
MOMENTUM = (0.85, 0.95)


def train(
    annotation: Annotation,
    config: EmbedTrackConfig,
    *,
    start: Weights | None = None,
    save_to: Path | None = None,
    resume: bool = True,
) -> Generator[Progress, None, Weights]:
    """Train the network on outlined cells; a generator, so that it can be watched and cancelled.

    Each ``next`` is one step. Closing the generator cancels. ``weights = yield from train(...)`` gets the result.

    Args:
        annotation: Outlined cells of some frames, and their links.
        config: Settings.
        start: Weights to go on from, of the same number of axes; see :func:`howdah.methods.embedtrack.learned.continued`.
        save_to: Where the finished weights are written (the former file stays as ``name~1~``); beside it, while it runs,
            ``name.training`` keeps the state to resume from. None: nothing is written.
        resume: Go on from ``name.training`` where it is there and belongs to the same annotation, settings and start.

    Returns:
        The weights that did best on the validation, or the last ones without one; their header holds method, settings as given
        and as decided, network, data, losses, and device.

    Raises:
        DataError: There is nothing to train on, or the loss broke down. ConfigError: Device or settings do not fit.
        WeightsError: A state to resume from is damaged, ``start`` does not fit, or the folder of ``save_to`` is not there.
    """
    place = place_to_train(config.device, precision=config.precision, save_to=save_to)
    samples = Samples(annotation, config if start is None else continued(start, config))
    samples.resolved()
    place = for_training(place, samples.planes)
    run = _Run(samples, place, start)
    data = {
        "cells": len(samples.store.cells),
        "frames": list(annotation.times),
        "validation_frames": samples.validation_times,
        "links": sum(len(annotation.links(time)) for time in annotation.times),
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
        for progress in steps:
            curve.append(progress.values)
            yield progress
    header = {
        "method": METHOD,
        "version": __version__,
        "config": config.model_dump(mode="json"),
        "resolved": samples.config.model_dump(mode="json"),
        "network": {"n_dims": samples.n_dims, "n_channels": 1, "keep_axials": samples.config.keep_axials},
        "data": data,
        "metrics": {**means(curve), **run.metrics()},
        "steps": samples.steps,
        "start": start.sha256 if start is not None else None,
        "device": str(place.device),
        "precision": str(place.precision),
    }
    weights = Weights((run.weights(),), header)
    if save_to is not None:
        save_weights(save_to, weights)
        if state is not None:
            forget_state(state)
    return weights


def _steps(run: _Run, done: int, state: Path | None, data: Mapping[str, Any]) -> Generator[Progress, None, None]:
    """Train from the step ``done`` on, and save the state now and then."""

    def save(step: int) -> None:
        if state is not None:
            save_state(state, run.kept, run.optimiser, step=step, header={"method": METHOD, "data": dict(data)})

    return fit(run.step, steps=run.samples.steps, start=done, save=save if state is not None else None)


def fingerprint(samples: Samples, start: Weights | None) -> str:
    """Return a SHA-256 of what decides a training: cells, links, settings, the weights it starts from, and the movie.

    Of the movie it is the first annotated frame, as normalised: another movie has another one.
    """
    settings = samples.config.model_dump(mode="json", exclude={"device", "tile_size"})
    cells, annotation = samples.store.cells, samples.annotation
    links = [part for time in annotation.times for part in (f"{time}", annotation.links(time))]
    image = samples.store.frame(annotation.times[0]).image
    return digest(
        [
            json.dumps(settings, sort_keys=True),
            start.sha256 if start is not None else "",
            *(cells.time, cells.label, cells.size, cells.low, cells.high, cells.centre),
            *links,
            str((annotation.voxel_size, annotation.complete, annotation.mothers)),
            *(str(image.shape), image),
        ]
    )


def one_cycle(step: int, steps: int, largest: float) -> tuple[float, float]:
    """Return step size and first momentum of Adam at a step of the one-cycle schedule (Smith and Topin 2018), by cosines.

    The step size grows from a 25th to the largest over 30 % of the steps, then falls to nearly nothing; the momentum does
    the opposite between 0.95 and 0.85.
    """
    top = max(WARM_UP * steps - 1, 1.0)
    if step <= top:
        height, low = (1 - math.cos(math.pi * step / top)) / 2, largest / LOW
    else:
        height, low = (1 + math.cos(math.pi * (step - top) / max(steps - 1 - top, 1.0))) / 2, largest / LOW / LOWEST
    return low + (largest - low) * height, MOMENTUM[1] + (MOMENTUM[0] - MOMENTUM[1]) * height


class _Run:
    """The network in training, the best one so far, the optimiser, and what a step does."""

    def __init__(self, samples: Samples, place: Place, start: Weights | None) -> None:
        self.samples, self.place, self.config = samples, place, samples.config
        self.devices = [place.device] if place.device.type == "cuda" else []  # of all of them, torch warns
        with torch.random.fork_rng(devices=self.devices):
            torch.manual_seed(self.config.seed)
            self.network = BranchedERFNet(samples.n_dims, 1, self.config.keep_axials or 0)
        if start is not None:
            self._go_on_from(start)
        self.network.to(place.device, memory_format=self._layout()).train()  # type: ignore[call-overload]
        self.best = copy.deepcopy(self.network).requires_grad_(False)
        self.kept = torch.nn.ModuleDict({"network": self.network, "best": self.best})  # saved and resumed together
        self.kept.register_buffer("score", torch.tensor(-math.inf, dtype=torch.float64))
        self.optimiser = self._adam()
        self.unit = unit_of(samples.store.voxel_size, self.config.grid_size)
        self.held = samples.held()
        crop = " x ".join(map(str, samples.crop))
        self.sentence = (
            f"{len(samples.store.cells)} cells in {len(samples.annotation.times)} frames, crops of {crop}, "
            f"{samples.steps} steps of {self.config.batch_size} pairs."
        )

    def _go_on_from(self, start: Weights) -> None:
        own, state = self.network.state_dict(), start.members[0]
        if own.keys() != state.keys() or any(own[key].shape != state[key].shape for key in own):
            raise WeightsError(
                f"Training cannot go on from these weights: they are no network of EmbedTrack for {self.samples.n_dims} axes "
                "and one channel. Leave them out, or choose others."
            )
        self.network.load_state_dict(state)

    def _layout(self) -> torch.memory_format:
        """Channels last: in 2D a step takes 0.7 of the time on a CPU."""
        return torch.channels_last if self.samples.n_dims == 2 else torch.contiguous_format

    def _adam(self) -> torch.optim.Adam:
        fused = self.place.device.type in ("cpu", "cuda")
        config = self.config
        return torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
        )

    def resume(self, state: Path, data: Mapping[str, Any]) -> tuple[int, str]:
        """Load a state if it belongs to this training; return the steps done and a sentence."""
        done, header = load_state(state, self.kept, self.optimiser, fingerprint=data["fingerprint"])
        if header.get("data", {}).get("fingerprint") == data["fingerprint"]:
            return done, f"Resumed after {done} of {self.samples.steps} steps."
        return 0, "An unfinished training with other cells or settings was found and is not continued."

    def step(self, number: int) -> dict[str, float]:
        """Do one step, and after the last one of a pass the validation."""
        batch = self.samples.batch(number)
        with torch.random.fork_rng(devices=self.devices):
            torch.manual_seed(int(np.random.default_rng([self.config.seed, 3, number]).integers(2**62)))  # for dropout
            terms = self._terms(batch, fade(number, self.samples.steps))
        self._descend(terms["loss"], number)
        values = {name: float(value.detach()) for name, value in terms.items()}
        epoch, last = self.samples.epoch_of(number)
        if last and self.held and epoch + 1 > QUIET * self.config.n_epochs:
            values["validation"] = self._validate()
        return values

    def _terms(self, batch: Batch, guided: float) -> dict[str, torch.Tensor]:
        """Return the loss and its terms; the guide has this share of its weight."""
        device = self.place.device
        later, earlier = (torch.from_numpy(image).to(device) for image in (batch.later, batch.earlier))
        with self.place.autocast():
            first, second, tracking = self.network(later, earlier)
        segmentation, targets = torch.cat([first, second]), batch.targets.to(device)
        terms = embedtrack_loss(segmentation, tracking, targets, self.unit, self.config)
        if weight := guided * self.config.guide_weight:
            guide = guide_loss(segmentation, tracking, targets, self.unit)
            terms = {**terms, "loss": terms["loss"] + weight * guide, "guide": guide}
        return terms

    def _descend(self, loss: torch.Tensor, number: int) -> None:
        rate, momentum = one_cycle(number, self.samples.steps, self.config.learning_rate)
        for group in self.optimiser.param_groups:
            group["lr"], group["betas"] = rate, (momentum, group["betas"][1])
        descend(loss, self.network, self.optimiser)

    @torch.no_grad()
    def _validate(self) -> float:
        """Measure the network on frames it does not learn from, and keep it if it is the best so far."""
        self.network.eval()
        verdict = sum((self._judged(held) for held in self.held), Verdict())
        score = verdict.score
        self.network.train()
        if score >= float(self.kept.score):  # type: ignore[arg-type]
            self.kept.score.fill_(score)  # type: ignore[operator]
            self.best.load_state_dict(self.network.state_dict())
        return score

    def _judged(self, held: Held) -> Verdict:
        later, earlier = (
            torch.from_numpy(image).to(self.place.device) for image in (held.batch.later, held.batch.earlier)
        )
        with self.place.autocast():
            segmentation, _, tracking = self.network(later, earlier)
        fields = fields_of(segmentation[0], tracking[0], self.unit)
        complete = self.samples.annotation.complete
        config = self.config.but(min_size=round((self.config.min_size or 0) * (self.config.enlarge or 1) ** 2))
        return agreement(fields, held.labels, config, complete=complete) + right_links(
            fields, held.labels, held.before, held.links, config
        )

    def metrics(self) -> dict[str, float]:
        """Return the best score of the validation, if there was one."""
        score = float(self.kept.score)  # type: ignore[arg-type]
        return {"validation": round(score, 6)} if math.isfinite(score) else {}

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights to predict with: the best, or without a validation the last; copies on the CPU."""
        chosen = self.best if math.isfinite(float(self.kept.score)) else self.network  # type: ignore[arg-type]
        return {key: value.detach().cpu().contiguous().clone() for key, value in chosen.state_dict().items()}
