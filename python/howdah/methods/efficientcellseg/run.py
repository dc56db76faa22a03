"""The networks in training: what a step does, how they are judged, and which are kept (paper, sections 3.2 and 3.3)."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from howdah.errors import WeightsError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.judge import Verdict, judged
from howdah.methods.efficientcellseg.losses import dice_loss, focal_loss
from howdah.methods.efficientcellseg.network import EfficientCellSeg
from howdah.methods.efficientcellseg.pretrained import encoder_state
from howdah.methods.efficientcellseg.samples import Batch, Samples
from howdah.nn.checkpoint import Weights
from howdah.nn.device import Place
from howdah.nn.fit import descend, digest, load_state, save_state

__all__ = ["METHOD", "Run", "fingerprint", "outputs_of"]

METHOD = "efficientcellseg"
WARM_UP = 20  # steps over which the step size grows
CENTRES = 0.5  # weight of the centres in the score, where one network predicts both
MOMENTUM = 0.1  # of the running statistics while training; the published 0.01 needs hundreds of steps to settle
SKIPPED = {"device", "precision", "memory_mb", "search"}  # settings that do not decide what is learned


def outputs_of(config: EfficientCellSegConfig) -> list[list[str]]:
    """Return what each network predicts, channel by channel."""
    return {"none": [["cell"]], "joint": [["cell", "centre"]], "second": [["cell"], ["centre"]]}[config.centres]


def fingerprint(samples: Samples, start: Weights | None) -> str:
    """Return a SHA-256 of what decides a training: cells, settings, the weights it starts from, and the first annotated frame."""
    cells, annotation = samples.store.cells, samples.annotation
    frame = samples.store.frame(annotation.times[0])
    return digest(
        [
            json.dumps(samples.config.model_dump(mode="json", exclude=SKIPPED), sort_keys=True),
            start.sha256 if start is not None else "",
            *(cells.time, cells.size, cells.area, cells.low, cells.high),
            str((annotation.times, annotation.voxel_size, annotation.complete)),
            *(str(frame.shape), frame),
        ]
    )


class Run:
    """The networks in training, their average over the last steps, the best of it so far, the optimiser, and what a step does.

    The average is what is judged and kept: with steps as large as few passes need, single networks are much better or worse from
    one pass to the next.
    What a resumed training needs lies in ``kept``: beside the networks the best score, the passes since then, and the step size.
    """

    def __init__(self, samples: Samples, place: Place, start: Weights | None = None) -> None:
        self.samples, self.place, self.config = samples, place, samples.config
        self.outputs = outputs_of(self.config)
        self.devices = [place.device] if place.device.type == "cuda" else []  # of all of them, torch warns
        self.networks = torch.nn.ModuleList(self.network(number, start) for number in range(len(self.outputs)))
        self.networks.to(place.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.networks).requires_grad_(False).eval()
        self.best = copy.deepcopy(self.average)
        parts = {"networks": self.networks, "average": self.average, "best": self.best}
        self.kept = torch.nn.ModuleDict(parts)  # saved and resumed together
        for name, value in (("score", -math.inf), ("waited", 0.0), ("since", 0.0), ("rate", 1.0)):
            self.kept.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        self.kept.register_buffer("scores", torch.full((len(self.outputs),), -math.inf, dtype=torch.float64))
        self.optimiser = self.adam()
        self.held = samples.held()
        self.sentence = (
            f"{len(samples.store.cells)} cells in {len(samples.annotation.times)} frames, crops of {samples.crop} x "
            f"{samples.crop}, {samples.steps} steps of {self.config.batch_size} at most."
        )

    def network(self, number: int, start: Weights | None) -> torch.nn.Module:
        """Return one of the networks before training."""
        config = self.config
        with torch.random.fork_rng(devices=self.devices):
            torch.manual_seed(config.seed + number)
            network = EfficientCellSeg(
                config.encoder,
                filters=config.filters,
                outputs=len(self.outputs[number]),
                compat=config.compat,
                drop_connect=config.drop_connect,
            )
        if start is not None:
            _go_on_from(network, start, number)
        elif config.pretrained == "imagenet":
            network.encoder.load_state_dict(encoder_state(config.encoder, where=config.encoder_weights))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = MOMENTUM
        return network

    def adam(self) -> torch.optim.Adam:
        """Encoders that have learned before take smaller steps."""
        config = self.config
        share = config.encoder_rate if config.pretrained == "imagenet" else 1.0
        inner = [p for network in self.networks for p in network.encoder.parameters()]  # type: ignore[union-attr]
        mine = {id(p) for p in inner}
        outer = [p for p in self.networks.parameters() if id(p) not in mine]
        groups = [{"params": inner, "share": share}, {"params": outer, "share": 1.0}]
        return torch.optim.Adam(groups, lr=config.learning_rate, fused=self.place.device.type in ("cpu", "cuda"))

    def resume(self, state: Path, data: Mapping[str, Any]) -> tuple[int, str]:
        """Load a state if it belongs to this training; return the steps done and a sentence."""
        done, header = load_state(state, self.kept, self.optimiser, fingerprint=data["fingerprint"])
        if header.get("data", {}).get("fingerprint") == data["fingerprint"]:
            return done, f"Resumed after {done} of {self.samples.steps} steps."
        return 0, "An unfinished training with other cells or settings was found and is not continued."

    def save(self, path: Path, step: int, data: Mapping[str, Any]) -> None:
        """Write what a resumed training needs."""
        save_state(path, self.kept, self.optimiser, step=step, header={"method": METHOD, "data": dict(data)})

    @property
    def finished(self) -> bool:
        """Whether it has waited long enough for a better network."""
        return self._number("waited") >= self.config.patience

    def step(self, number: int) -> dict[str, float]:
        """Do one step, and after the last one of a pass the validation."""
        batch = self.samples.batch(number)
        with torch.random.fork_rng(devices=self.devices):
            torch.manual_seed(
                int(np.random.default_rng([self.config.seed, 3, number]).integers(2**62))
            )  # skipped blocks
            terms = self._terms(batch)
        warm = min((number + 1) / WARM_UP, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self._number("rate") * warm * group["share"]
        descend(terms["loss"], self.networks, self.optimiser)
        self._follow(number)
        values = {name: float(value.detach()) for name, value in terms.items()}
        if (number + 1) % self.samples.steps_a_pass == 0 and self.held:
            values.update(self._validate())
        return values

    @torch.no_grad()
    def _follow(self, number: int) -> None:
        """Let the average follow the networks, weights and running statistics."""
        share = 1 - min(self.config.averaging, (1 + number) / (10 + number))  # less is kept in the first steps
        theirs = self.networks.state_dict()
        for key, mine in self.average.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[key], share)
            else:
                mine.copy_(theirs[key])

    def _tensors(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        arrays = (batch.picture, batch.cell, batch.heat, batch.known)
        return tuple(torch.from_numpy(array).to(self.place.device) for array in arrays)

    def _terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the loss and its terms."""
        config = self.config
        picture, cell, heat, known = self._tensors(batch)
        terms: dict[str, torch.Tensor] = {}
        for network, names in zip(self.networks, self.outputs, strict=True):
            with self.place.autocast():
                logits = network(picture.contiguous(memory_format=torch.channels_last))
            for name, values in zip(names, logits.unbind(1), strict=True):
                if name == "cell":
                    terms["dice"] = dice_loss(values, cell, known, config.dice_smoothing)
                else:
                    terms["focal"] = focal_loss(values, heat, known, config.focal_gamma, config.focal_alpha)
        weight = config.centre_weight if config.centres == "joint" else 1.0
        parts = [term * (weight if name == "focal" else 1.0) for name, term in terms.items()]
        return {"loss": torch.stack(parts).sum(), **terms}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Measure each average on what is held out, keep it if it is the best so far, and let the step size fall at plateaus."""
        verdicts = [self._judged(number) for number in range(len(self.outputs))]
        scores = [_score(verdict, names) for verdict, names in zip(verdicts, self.outputs, strict=True)]
        for number, score in enumerate(scores):
            if score >= float(self._buffer("scores")[number]):
                self._buffer("scores")[number] = score
                self.best[number].load_state_dict(self.average[number].state_dict())
        score = sum(scores) / len(scores)
        if score > self._number("score"):
            self._set(score=score, waited=0, since=0)
        else:
            self._set(waited=self._number("waited") + 1, since=self._number("since") + 1)
        if self._number("since") >= self.config.plateau:
            self._set(rate=self._number("rate") * self.config.plateau_factor, since=0)
        whole = sum(verdicts, Verdict())
        found = {"validation": score, "mean_iou": whole.mean_iou}
        return found if self.config.centres == "none" else {**found, "centres": whole.centres}

    def _judged(self, number: int) -> Verdict:
        found = Verdict()
        for batch in self.held:
            picture, *truth = self._tensors(batch)
            with self.place.autocast():
                logits = self.average[number](picture.contiguous(memory_format=torch.channels_last))
            found += judged(self.outputs[number], logits, *truth)
        return found

    def _buffer(self, name: str) -> torch.Tensor:
        found: torch.Tensor = self.kept.get_buffer(name)
        return found

    def _number(self, name: str) -> float:
        return float(self._buffer(name))

    def _set(self, **values: float) -> None:
        for name, value in values.items():
            self._buffer(name).fill_(value)

    def form(self) -> dict[str, Any]:
        """Return what the header says of the networks."""
        faults = [fault for fault in self.config.compat if fault in ("dark_input", "root_std")]
        return {
            "encoder": self.config.encoder,
            "filters": list(self.config.filters),
            "outputs": self.outputs,
            "scaling": faults,
        }

    def metrics(self) -> dict[str, float]:
        """Return the best score of the validation, if there was one."""
        score = self._number("score")
        return {"validation": round(score, 6)} if math.isfinite(score) else {}

    def weights(self) -> tuple[dict[str, torch.Tensor], ...]:
        """Return the best networks, or the last average where none was judged, on the CPU."""
        chosen = self.best if math.isfinite(self._number("score")) else self.average
        return tuple(
            {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
            for network in chosen
        )


def _score(verdict: Verdict, names: list[str]) -> float:
    if names == ["centre"]:
        return verdict.centres
    return verdict.mean_iou if names == ["cell"] else (1 - CENTRES) * verdict.mean_iou + CENTRES * verdict.centres


def _go_on_from(network: EfficientCellSeg, start: Weights, number: int) -> None:
    own = network.state_dict()
    state = start.members[number] if number < len(start.members) else {}
    if own.keys() != state.keys() or any(own[key].shape != state[key].shape for key in own):
        raise WeightsError(
            "Training cannot go on from these weights: they are no EfficientCellSeg of the same encoder, filters and outputs "
            "(settings encoder, filters, centres). Leave them out, or choose others."
        )
    network.load_state_dict(state)
