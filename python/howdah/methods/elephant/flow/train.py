"""Training the flow from links (paper: Algorithm for linking)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import deque
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bdv_io.tracks import Tracks
from howdah import __version__
from howdah.errors import DataError, WeightsError
from howdah.methods.elephant.flow.config import PUBLISHED_DISPLACEMENT, FlowConfig
from howdah.methods.elephant.flow.losses import Labels, flow_loss
from howdah.methods.elephant.flow.network import FlowNet
from howdah.methods.elephant.flow.samples import FlowSamples
from howdah.methods.elephant.samples import Affine, Frames, affine_of
from howdah.nn.checkpoint import Weights, save_weights
from howdah.nn.device import Place
from howdah.nn.fit import fit, forget_state, load_state, means, place_to_train, save_state
from howdah.progress import Progress

__all__ = ["METHOD", "learned_settings", "train_flow"]

METHOD = "elephant-flow"
FIRST_GUESS = 0.01  # factor on the last layer of a new network: it starts near "nothing moves" instead of random motion
LAST = 20  # steps over which the losses in the header are averaged


def train_flow(
    frames: Frames,
    marks: Tracks,
    config: FlowConfig,
    *,
    affine: Affine,
    start: Weights | None = None,
    save_to: Path | None = None,
    resume: bool = True,
) -> Generator[Progress, None, Weights]:
    """Train the flow network on links; a generator, so that it can be watched and cancelled.

    Each ``next`` is one step. Closing the generator cancels. ``weights = yield from train_flow(...)`` gets the result.

    Args:
        frames: Reads a frame of the movie, (Z, Y, X), any type; called for both frames of each link.
        marks: Spots and links, in world coordinates; see :func:`teaching_links` for the links that count.
        config: Settings.
        affine: 4x4, voxels to world, one for all frames or by frame.
        start: Weights to go on from; of an ensemble the first.
        save_to: Where the finished weights are written (the former file stays as ``name~1~``); beside it, while it runs,
            ``name.training`` keeps the state to resume from. None: nothing is written.
        resume: Go on from ``name.training`` where it is there and belongs to the same links, settings and start.

    Returns:
        The weights; their header holds method, settings as given and as decided, data, the last losses, and device.

    Raises:
        DataError: There is nothing to train on, or the loss broke down. ConfigError: Device or settings do not fit.
        WeightsError: A state to resume from is damaged, or the folder of ``save_to`` is not there.
    """
    place = place_to_train(config.device, precision=config.precision, save_to=save_to)
    samples = FlowSamples(frames, marks, affine, config)
    samples.config = resolved = samples.resolved(learned_settings(start).max_displacement if start else None)
    run = _Run(samples, place, start)
    data = {"links": len(samples.rows), "frames": samples.times, "fingerprint": _fingerprint(samples, start)}
    state = save_to.with_name(save_to.name + ".training") if save_to is not None else None
    done, message = 0, place.sentence
    if state is not None and resume and state.is_file():
        done, said = run.resume(state, data)
        message = f"{message} {said}"

    def save(step: int) -> None:
        if state is not None:
            save_state(state, run.network, run.optimiser, step=step, header={"method": METHOD, "data": data})

    yield Progress("train flow", done, run.steps, message=message)
    curve: deque[Mapping[str, float]] = deque(maxlen=LAST)
    steps = fit(run.step, steps=run.steps, start=done, stage="train flow", save=save if state is not None else None)
    with contextlib.closing(steps):  # cancelled here means cancelled there, at once: the state is saved
        for progress in steps:
            curve.append(progress.values)
            yield progress
    header = {
        "method": METHOD,
        "version": __version__,
        "config": config.model_dump(mode="json"),
        "resolved": resolved.model_dump(mode="json"),
        "data": data,
        "metrics": means(curve),
        "steps": run.steps,
        "start": start.sha256 if start is not None else None,
        "device": str(place.device),
        "precision": str(place.precision),
    }
    weights = Weights(({key: value.detach().cpu().clone() for key, value in run.network.state_dict().items()},), header)
    if save_to is not None and state is not None:
        save_weights(save_to, weights)
        forget_state(state)
    return weights


def learned_settings(weights: Weights) -> FlowConfig:
    """Return the settings that weights were trained with; for published files, which do not say it, the paper's scaling.

    Raises:
        WeightsError: The header is damaged.
    """
    learned = weights.header.get("resolved", {"max_displacement": PUBLISHED_DISPLACEMENT})
    if not isinstance(learned, Mapping) or not learned.get("max_displacement"):
        raise WeightsError(
            "The header of the flow weights is damaged: 'resolved' shall hold the settings of the training, with "
            f"'max_displacement', but is {learned!r:.80}. Train again, or use another file."
        )
    return FlowConfig.of(learned, source="the header of the flow weights")


def _fingerprint(samples: FlowSamples, start: Weights | None) -> str:
    """Return a SHA-256 of what decides a training: links, settings, the weights it starts from, and the first pair of frames."""
    digest = hashlib.sha256()
    settings = samples.config.model_dump(mode="json", exclude={"device", "memory_mb", "tile_size"})
    digest.update(json.dumps(settings, sort_keys=True).encode())
    digest.update((start.sha256 if start is not None else "").encode())
    marks = samples.marks
    ends = marks.links[samples.rows]
    for column in (marks.t[ends], marks.centre[ends], marks.covariance[ends[:, 1]]):
        digest.update(np.ascontiguousarray(column).tobytes())
    time = samples.times[0]
    digest.update(affine_of(samples.affine, time).tobytes())
    for image in samples.pair(time).images:
        digest.update(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


class _Run:
    """The network in training, its optimiser, and what a step does."""

    def __init__(self, samples: FlowSamples, place: Place, start: Weights | None) -> None:
        self.samples, self.place, self.config = samples, place, samples.config
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.network = FlowNet()
        if start is not None:
            self.network.load_state_dict(start.members[0])
        else:
            with torch.no_grad():
                self.network.out_conv.weight *= FIRST_GUESS
        self.network.to(place.device).train()
        self.prior = self.config.prior_steps if start is None else 0
        self.steps = self.prior + samples.steps
        self.scale = torch.tensor(self.config.max_displacement, dtype=torch.float32, device=place.device)
        self.optimiser = self._adam()

    def step(self, number: int) -> dict[str, float]:
        """Do one step, prior or proper."""
        own = number - self.prior
        batch = self.samples.prior_batch(number) if own < 0 else self.samples.batch(own)
        device = self.place.device
        images = torch.from_numpy(batch.images).to(device)
        voxel = torch.from_numpy(batch.voxel).to(device)
        labels = Labels(voxel, torch.from_numpy(batch.displacement).to(device) / self.scale)
        with self.place.autocast():
            flow = self.network(images, self.samples.flags)  # (B, 3, z, y, x)
        terms = flow_loss(flow, images, labels, self.config)
        self._descend(terms["loss"], self.samples.rate(max(own, 0)))
        return {name: float(value.detach()) for name, value in terms.items()}

    def resume(self, state: Path, data: Mapping[str, Any]) -> tuple[int, str]:
        """Load a state if it belongs to this training; return the steps done and a sentence."""
        done, header = load_state(state, self.network, self.optimiser, fingerprint=data["fingerprint"])
        if header.get("data", {}).get("fingerprint") == data["fingerprint"]:
            return done, f"Resumed after {done} of {self.steps} steps."
        return 0, "An unfinished training with other links or settings was found and is not continued."

    def _adam(self) -> torch.optim.Adam:
        fused = self.place.device.type in ("cpu", "cuda")
        return torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rates[0], fused=fused)

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
                "learning rates, or compute in float32; the last saved state is intact."
            )
        self.optimiser.step()
