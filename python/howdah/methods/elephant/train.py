"""Training from sparse marks (paper: Training with sparse annotations; prior training)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bdv_io.tracks import Tracks
from howdah import __version__
from howdah.errors import DataError
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.losses import detection_loss, prior_loss
from howdah.methods.elephant.network import UNet
from howdah.methods.elephant.samples import Affine, Frames, Samples, affine_of
from howdah.nn.checkpoint import Weights, save_weights
from howdah.nn.device import Place
from howdah.nn.fit import fit, forget_state, load_state, means, place_to_train, save_state
from howdah.progress import Progress

__all__ = ["METHOD", "fingerprint", "following", "train"]

METHOD = "elephant-detection"
LAST = 20  # steps over which the losses in the header are averaged
SEEN = ("temporal_mean", "slice_median", "centre_ratio")  # what a network got used to, and settings do not leave open

log = logging.getLogger("howdah")


def train(
    frames: Frames,
    marks: Tracks,
    config: ElephantConfig,
    *,
    affine: Affine,
    start: Weights | None = None,
    save_to: Path | None = None,
    resume: bool = True,
) -> Generator[Progress, None, Weights]:
    """Train the detection network on marked nuclei; a generator, so that it can be watched and cancelled.

    Each ``next`` is one step. Closing the generator cancels. ``weights = yield from train(...)`` gets the result.

    Args:
        frames: Reads a frame of the movie, (Z, Y, X), any type; called for the marked frames only.
        marks: Spots, in world coordinates; tag set "Detection" as in :mod:`status`. Frames without spots are not used.
        config: Settings.
        affine: 4x4, voxels to world, one for all frames or by frame.
        start: Weights to go on from; each network of an ensemble from another one of theirs, as far as there are so many.
            Frames are normalised as for them where the settings leave it open. From nothing, prior training comes first.
        save_to: Where the finished weights are written (the former file stays as ``name~1~``); beside it, while it runs,
            ``name.training`` keeps the state to resume from. None: nothing is written.
        resume: Go on from ``name.training`` where it is there and belongs to the same marks, settings and start.

    Returns:
        The weights; their header holds method, settings as given and as decided, data, the last losses, and device.

    Raises:
        DataError: There is nothing to train on, or the loss broke down. ConfigError: Device or settings do not fit.
        WeightsError: A state to resume from is damaged, or the folder of ``save_to`` is not there.
    """
    place = place_to_train(config.device, precision=config.precision, save_to=save_to)
    samples = Samples(frames, marks, affine, following(start, config))
    samples.config = resolved = samples.resolved()
    runs = [_Run(samples.seeded(config.seed + member), place, start, member) for member in range(config.n_members)]
    data = {"marks": samples.marks.n_spots, "frames": samples.times, "fingerprint": fingerprint(samples, start)}
    states = [_state_of(save_to, member) for member in range(config.n_members)]
    total, before, message = sum(run.steps for run in runs), 0, place.sentence
    curve: deque[Mapping[str, float]] = deque(maxlen=LAST)
    for run, state in zip(runs, states, strict=True):
        done = 0
        if state is not None and resume and state.is_file():
            done, said = run.resume(state, data)
            message = f"{message} {said}"
        yield Progress("train", before + done, total, message=message)
        with contextlib.closing(_steps(run, done, state, data)) as steps:  # cancelled here is cancelled there, at once
            for progress in steps:
                curve.append(progress.values)
                yield replace(progress, done=before + progress.done, total=total)
        before, message = before + run.steps, ""
    members = tuple(run.weights() for run in runs)
    resolved = sized(Weights(members), resolved, samples)
    header = {
        "method": METHOD,
        "version": __version__,
        "config": config.model_dump(mode="json"),
        "resolved": resolved.model_dump(mode="json"),
        "data": data,
        "metrics": means(curve),
        "steps": runs[0].steps,
        "start": start.sha256 if start is not None else None,
        "device": str(place.device),
        "precision": str(place.precision),
        **calibrated(start),
    }
    weights = Weights(members, header)
    if save_to is not None:
        save_weights(save_to, weights)
        for state in states:
            if state is not None:
                forget_state(state)
    return weights


def calibrated(start: Weights | None) -> dict[str, Any]:
    """Return the header's entry for the calibration of the weights that training went on from, empty if there is none.

    It was fitted to those weights; to go on with it is nearer to the truth than to fall back to the general one.
    """
    kept = start.header.get("calibration") if start is not None else None
    return {} if kept is None else {"calibration": kept}


def following(start: Weights | None, config: ElephantConfig) -> ElephantConfig:
    """Return the settings, with what weights to start from were used to, where the settings leave that open.

    Within a loop (its weights count ``passes``) ``normalisation`` stays: decided from the marks anew, it could change from
    cycle to cycle. Weights from elsewhere learned on another movie, and what suits this one matters more: from weights of a clear
    embryo, thirty marks in haze gave F1 0.69 with the former "minmax" and 0.80 when it was decided anew. What differs from the
    weights' settings is said in the log.
    """
    if start is None:
        return config
    headers = (start.header.get(name) for name in ("resolved", "config"))
    learned, asked = (found if isinstance(found, Mapping) else {} for found in headers)
    changes: dict[str, Any] = {}
    if config.normalisation is None and "passes" in start.header:
        changes["normalisation"] = learned.get("normalisation") or "minmax"
    if config.rescale is None and asked.get("rescale") is not None:
        changes["rescale"] = asked["rescale"]
    for name in SEEN:
        if name in learned and learned[name] != getattr(config, name):
            log.warning(
                "The weights to start from were trained with %s = %s; now it is %s, so that there is more to learn anew.",
                name,
                learned[name],
                getattr(config, name),
            )
    return config.but(**changes) if changes else config


def _state_of(save_to: Path | None, member: int) -> Path | None:
    """Return where the state of a network in training is kept; of an ensemble each has its own, until all are trained."""
    return save_to.with_name(f"{save_to.name}.training{member or ''}") if save_to is not None else None


def _steps(run: _Run, done: int, state: Path | None, data: Mapping[str, Any]) -> Generator[Progress, None, None]:
    """Train one network from the step ``done`` on, and save its state now and then."""

    def save(step: int) -> None:
        if state is not None:
            save_state(state, run.network, run.optimiser, step=step, header={"method": METHOD, "data": dict(data)})

    return fit(run.step, steps=run.steps, start=done, save=save if state is not None else None)


def sized(weights: Weights, config: ElephantConfig, samples: Samples) -> ElephantConfig:
    """Settings with the size factor that the finished network needs at the marks."""
    from howdah.methods.elephant.predict import Detector  # they read the weights that are written here
    from howdah.methods.elephant.sizes import learned_size

    if config.size_factor is not None:
        return config
    factor = learned_size(
        Detector(weights, config), samples.frames, samples.marks, lambda t: affine_of(samples.affine, t)
    )
    return config if factor is None else config.but(size_factor=factor)


def fingerprint(samples: Samples, start: Weights | None) -> str:
    """Return a SHA-256 of what decides a training: marks, settings, the weights it starts from, and the movie.

    Of the movie it is the first marked frame, as normalised, and its affine: another movie has another one.
    """
    digest = hashlib.sha256()
    settings = samples.config.model_dump(mode="json", exclude={"device", "memory_mb", "tile_size"})
    digest.update(json.dumps(settings, sort_keys=True).encode())
    digest.update((start.sha256 if start is not None else "").encode())
    for column in (samples.marks.t, samples.marks.centre, samples.marks.covariance, samples.status):
        digest.update(np.ascontiguousarray(column).tobytes())
    time = samples.times[0]
    digest.update(affine_of(samples.affine, time).tobytes())
    image = samples.marked(time).image
    digest.update(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


class _Run:
    """The network in training, its optimiser, and what a step does."""

    def __init__(self, samples: Samples, place: Place, start: Weights | None, member: int = 0) -> None:
        self.samples, self.place, self.config = samples, place, samples.config
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.network = UNet()
        if start is not None:
            self.network.load_state_dict(start.members[member % len(start.members)])
        self.network.to(place.device).train()  # torch's own layout: bfloat16 training is slower with channels last
        rates = self.config.prior_learning_rates if start is None and self.config.prior_training else ()
        self.prior = [rate for rate in rates for _ in range(self.config.prior_crops)]
        self.steps = len(self.prior) + samples.steps
        self.optimiser = self._adam()

    def step(self, number: int) -> dict[str, float]:
        """Do one step, prior or proper."""
        if number < len(self.prior):
            return self._prior_step(number)
        if number == len(self.prior):
            self.optimiser = self._adam()  # the moments of the prior training belong to another loss
        return self._detection_step(number - len(self.prior))

    def resume(self, state: Path, data: Mapping[str, Any]) -> tuple[int, str]:
        """Load a state if it belongs to this training; return the steps done and a sentence."""
        done, header = load_state(state, self.network, self.optimiser, fingerprint=data["fingerprint"])
        if header.get("data", {}).get("fingerprint") == data["fingerprint"]:
            return done, f"Resumed after {done} of {self.steps} steps."
        return 0, "An unfinished training with other marks or settings was found and is not continued."

    def _adam(self) -> torch.optim.Adam:
        fused = self.place.device.type in ("cpu", "cuda")
        return torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate, fused=fused)

    def _prior_step(self, number: int) -> dict[str, float]:
        image = torch.from_numpy(self.samples.prior_batch(number)).to(self.place.device)  # (1, z, y, x)
        loss = prior_loss(self._forward(image), image)
        self._descend(loss, self.prior[number])
        return {"prior": float(loss.detach())}

    def _detection_step(self, number: int) -> dict[str, float]:
        images, labels = self.samples.batch(number)  # (B, z, y, x)
        image = torch.from_numpy(images).to(self.place.device)
        terms = detection_loss(self._forward(image), torch.from_numpy(labels).to(self.place.device), self.config)
        self._descend(terms["loss"], self._rate(number))
        return {name: float(value.detach()) for name, value in terms.items()}

    def _rate(self, number: int) -> float:
        """Return the step size of a step: constant, then falling in a straight line to a twentieth."""
        config, steps = self.config, self.samples.steps
        left = (steps - number) / max(steps * config.cool_down, 1)
        return config.learning_rate * max(min(left, 1.0), 0.05)

    def _forward(self, image: torch.Tensor) -> torch.Tensor:
        with self.place.autocast():
            log_p: torch.Tensor = self.network(image[:, None], self.samples.flags)  # (B, 3, z, y, x)
        return log_p

    def _descend(self, loss: torch.Tensor, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        length = torch.nn.utils.get_total_norm(gradients)
        if not bool(torch.isfinite(length)):  # before the step: neither weights nor moments ever hold NaN
            raise DataError(
                f"The training broke down: the gradient is no longer a number (loss {float(loss.detach()):g}). Lower the "
                "learning rate, or compute in float32; the last saved state is intact."
            )
        self.optimiser.step()
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        """Follow the weights by a running mean, kept with the moments of the optimiser: so it is saved and resumed with them."""
        kept = self.config.averaging
        if not kept:
            return
        for parameter in self.network.parameters():
            state = self.optimiser.state[parameter]
            if "average" not in state:
                state["average"] = parameter.detach().clone()
            else:
                share = 1 - min(
                    kept, (1 + float(state["step"])) / (10 + float(state["step"]))
                )  # young means forget faster
                state["average"].lerp_(parameter, share)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights to predict with: the running mean where there is one; copies on the CPU."""
        found = {key: value.detach().cpu().clone() for key, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            average = self.optimiser.state.get(parameter, {}).get("average")
            if average is not None:
                found[name] = average.detach().cpu().clone()
        return found
