"""The network in training: what a step does, how it is judged, and which is kept (paper, sections 2 and 3.3)."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from howdah.errors import WeightsError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.judge import judged
from howdah.methods.tap.losses import decorrelation, time_arrow_loss
from howdah.methods.tap.movies import Movie, dimensions_of, voxel_of, whole_of
from howdah.methods.tap.network import Tap, pooling
from howdah.methods.tap.samples import Samples
from howdah.methods.tap.schedule import step_size
from howdah.nn.checkpoint import State, Weights
from howdah.nn.device import Place
from howdah.nn.fit import descend, digest, load_state, save_state

__all__ = ["Run", "fingerprint", "form_for"]

WIDTH = {2: 32, 3: 16}  # filters of the first level by dimensions, where nothing is said
SUMMED = ("loss", "decorrelation", "accuracy")
FREE = {  # settings that do not decide what is learned, or only for how long
    *("device", "precision", "memory_mb", "minutes", "n_epochs", "patience"),
    *("attribution", "event_distance", "event_smoothing", "event_frames", "event_quality"),
}


def form_for(movies: Sequence[Movie], config: TapConfig) -> dict[str, Any]:
    """Return the form of the network (arguments of :class:`Tap`) for movies, where the settings leave it open.

    Raises:
        DataError: See :func:`~howdah.methods.tap.movies.dimensions_of`.
    """
    dimensions = dimensions_of(config, movies)
    pools = pooling(dimensions, voxel_of(movies[0], config))
    return {
        "channels": movies[0].channels,
        "width": config.width or WIDTH[dimensions],
        "features": config.features,
        "frames": config.frames,
        "head": config.head,
        "pools": [list(pool) for pool in pools],
    }


def fingerprint(samples: Samples, start: Weights | None) -> str:
    """Return a SHA-256 of what decides a training: movies, settings, the weights it starts from, and the first frame of each movie."""
    parts: list[Any] = [
        json.dumps(samples.config.model_dump(mode="json", exclude=FREE), sort_keys=True),
        start.sha256 if start is not None else "",
        str((samples.batch_size, samples.steps_per_epoch, samples.size)),
    ]
    for movie, frames in zip(samples.movies, samples.frames, strict=True):
        parts.append(str((movie.n_frames, movie.shape, movie.voxel_size, movie.channels, list(frames.times))))
        parts.append(frames.raw(frames.times[0], whole_of(frames.shape)))
    return digest(parts)


class Run:
    """The network in training, the best of it so far, the optimiser, and what a step does.

    There is no average over steps: with 0.98 of it kept at each step it learned later (held-out accuracy 0.63 in place of 0.73 after
    5 passes of 1024 simulated samples).
    What a resumed training needs lies in ``kept``: beside the networks the best validation, the passes since then, and the sums of the
    pass that is under way.
    """

    def __init__(self, samples: Samples, form: Mapping[str, Any], place: Place, start: Weights | None = None) -> None:
        self.samples, self.place, self.config = samples, place, samples.config
        devices = [place.device] if place.device.type == "cuda" else []  # of all of them, torch warns
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.config.seed)
            self.network = Tap(**form)
        if start is not None:
            _go_on_from(self.network, start)
        layout = torch.channels_last if samples.dimensions == 2 else torch.channels_last_3d
        self.network.to(place.device, memory_format=layout).train()  # type: ignore[call-overload]
        self.best = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.kept = torch.nn.ModuleDict({"network": self.network, "best": self.best})  # saved and resumed together
        self.kept.register_buffer("score", torch.tensor(math.inf, dtype=torch.float64))
        self.kept.register_buffer("waited", torch.tensor(0.0, dtype=torch.float64))
        self.kept.register_buffer("sums", torch.zeros(len(SUMMED), dtype=torch.float64))
        self.curve: list[dict[str, float]] = []
        self.optimiser = torch.optim.Adam(
            self.network.parameters(),
            self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=place.device.type != "mps",
        )
        self.held = [(x.to(place.device), y.to(place.device)) for x, y in samples.held()]
        self.steps = self.config.n_epochs * samples.steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether no better network came for as many passes as the settings wait."""
        return float(self.kept.get_buffer("waited")) >= self.config.patience

    @property
    def sentence(self) -> str:
        """What is being learned, for the log."""
        samples = self.samples
        count = len(samples.movies)
        frames = sum(
            movie.n_frames - (last - first)
            for movie, (first, last) in zip(samples.movies, samples.held_frames, strict=True)
        )
        size = " x ".join(str(n) for n in samples.size)
        return (
            f"{frames} frames of {count} {'movie' if count == 1 else 'movies'} to learn from, crops of {size}, at most {self.steps} steps "
            f"of {samples.batch_size} samples, {samples.steps_per_epoch} a pass."
        )

    def step(self, number: int) -> dict[str, float]:
        """Do one step; at the end of a pass, judge. Return numbers for the curve."""
        config, per_epoch = self.config, self.samples.steps_per_epoch
        rate = step_size(number, per_epoch, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        x, y = self.samples.batch(number)
        with self.place.autocast():
            logits, z = self.network(x)
        loss = time_arrow_loss(logits, y)
        alike = decorrelation(z, temperature=config.temperature, form=config.decorrelation_form)
        descend(loss + config.decorrelation * alike, self.network, self.optimiser)
        right = (logits.detach().argmax(1) == y).double().mean()
        values = {"loss": float(loss.detach()), "decorrelation": float(alike.detach()), "accuracy": float(right)}
        sums = self.kept.get_buffer("sums")
        sums += torch.tensor([values[name] for name in SUMMED], dtype=torch.float64, device=sums.device)
        if (number + 1) % per_epoch == 0:
            values |= self._judge(number, rate)
        return {**values, "rate": rate}

    def _judge(self, number: int, rate: float) -> dict[str, float]:
        """Judge the network on what is held out, keep it where it is the best so far, and note the pass in the curve."""
        verdict = judged(self.network, self.held, self.place)
        found = {"validation": verdict.loss, "validation_accuracy": verdict.accuracy}
        score, waited, sums = (self.kept.get_buffer(name) for name in ("score", "waited", "sums"))
        if verdict.loss < float(score):
            score.fill_(verdict.loss)
            waited.zero_()
            self.best.load_state_dict(self.network.state_dict())
        else:
            waited += 1
        per_epoch = self.samples.steps_per_epoch
        means = dict(zip(SUMMED, (sums / per_epoch).tolist(), strict=True))
        sums.zero_()
        point = {
            "epoch": (number + 1) // per_epoch,
            "samples": (number + 1) * self.samples.batch_size,
            **means,
            **found,
        }
        self.curve.append({name: round(value, 6) for name, value in point.items()} | {"rate": rate})
        return found

    def save(self, path: Path, step: int, data: Mapping[str, Any]) -> None:
        """Write the state to resume from."""
        save_state(path, self.kept, self.optimiser, step=step, header={"data": dict(data), "curve": self.curve})

    def resume(self, path: Path, data: Mapping[str, Any]) -> tuple[int, str]:
        """Go on from a saved state; return the steps done, and a sentence. A state of another training is left alone.

        Raises:
            WeightsError: The state is damaged.
        """
        step, header = load_state(path, self.kept, self.optimiser, fingerprint=data["fingerprint"])
        if header.get("data", {}).get("fingerprint") != data["fingerprint"]:
            return 0, f"{path.name} is of another training (movies, settings or start differ): starting anew."
        self.curve = list(header.get("curve", []))
        return step, f"Going on at step {step}, from {path.name}."

    def metrics(self) -> dict[str, float]:
        """Return the best validation, and the accuracy of that pass, if there was one."""
        judged_passes = [point for point in self.curve if math.isfinite(point["validation"])]
        if not judged_passes:
            return {}
        best = min(judged_passes, key=lambda point: point["validation"])
        return {name: best[name] for name in ("validation", "validation_accuracy", "epoch")}

    def weights(self) -> State:
        """Return the best network, or the last one where none was judged, on the CPU."""
        chosen = self.best if self.curve else self.network
        return {key: value.detach().cpu().contiguous().clone() for key, value in chosen.state_dict().items()}


def _go_on_from(network: Tap, start: Weights) -> None:
    own = network.state_dict()
    state = start.members[0] if start.members else {}
    if own.keys() != state.keys() or any(own[key].shape != state[key].shape for key in own):
        raise WeightsError(
            "Training cannot go on from these weights: they are of a network of another form (settings dimensions, features, width, "
            "head) or for another number of channels. Leave them out, or choose others."
        )
    network.load_state_dict(state)
