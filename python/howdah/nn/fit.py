"""One training loop, and the state that lets a killed training go on where it was.

A method gives a step function; the loop counts, checks, saves now and then, and yields progress. Closing the generator
is how to cancel: it stops between two steps and saves. Randomness of a step should come from (seed, step), then a
resumed training takes the same steps as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bdv_io.safe_write import previous_version
from howdah.errors import ConfigError, DataError, WeightsError
from howdah.nn.checkpoint import read_tensors, write_tensors
from howdah.nn.device import Place, pick
from howdah.progress import Progress

__all__ = ["descend", "digest", "fit", "forget_state", "load_state", "means", "place_to_train", "save_state"]


def place_to_train(device: str, *, precision: str, save_to: Path | None) -> Place:
    """Return where to train, or say before any work why it cannot be.

    Args:
        device: As for :func:`howdah.nn.device.pick`.
        precision: As there.
        save_to: Where the finished weights shall go; None: nowhere.

    Raises:
        WeightsError: The folder of ``save_to`` is not there. ConfigError: The device is not there, or the precision is float16.
    """
    if save_to is not None and not save_to.parent.is_dir():
        raise WeightsError(
            f"Training was not started: weights shall go to {save_to}, but there is no such folder. Make it first."
        )
    if precision == "float16":
        raise ConfigError(
            "Training in float16 was asked for, but gradients vanish or overflow in it. Use precision bfloat16 (or auto)."
        )
    return pick(device, precision=precision)


def fit(
    step: Callable[[int], Mapping[str, float]],
    *,
    steps: int,
    start: int = 0,
    stage: str = "train",
    save: Callable[[int], None] | None = None,
    save_every_s: float = 30.0,
) -> Generator[Progress, None, None]:
    """Take steps ``start`` to ``steps`` and yield progress after each.

    Args:
        step: Does one step, given its number from 0; returns numbers for the curve.
        steps: Steps in all.
        start: Steps done before.
        stage: Name for the progress.
        save: Saves the state after so many steps. It is called every ``save_every_s`` seconds, when the generator is
            closed (the work was cancelled), and at the end; never after a step that failed.
        save_every_s: Seconds between two saves.

    Raises:
        DataError: A number became infinite or NaN; the state saved before is intact.
    """
    done = saved = start
    last = time.monotonic()
    try:
        for number in range(start, steps):
            values = step(number)
            broken = [name for name, value in values.items() if not math.isfinite(value)]
            if broken:
                raise DataError(
                    f"The {stage} broke down at step {number + 1} of {steps}: {', '.join(broken)} is no longer a number. "
                    "Lower the learning rate, or compute in float32; the last saved state is intact."
                )
            done = number + 1
            if save is not None and time.monotonic() - last >= save_every_s:
                save(done)
                saved, last = done, time.monotonic()
            yield Progress(stage, done, steps, values=values)
    except GeneratorExit:
        if save is not None and done > saved:
            save(done)
        raise
    if save is not None and done > saved:
        save(done)


def save_state(
    path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, *, step: int, header: Mapping[str, Any]
) -> None:
    """Write weights, the optimiser's moments, torch's random state, and the step, atomically; no pickle."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    tensors = {f"weights/{key}": value for key, value in network.state_dict().items()}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            for key, value in optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser/{key}/{names[id(parameter)]}"] = torch.as_tensor(value)
    tensors["random"] = torch.get_rng_state()
    write_tensors(path, tensors, {**header, "step": step, "state": True})


def load_state(
    path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, *, fingerprint: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Put a saved state into a network and its optimiser; return the step and the header.

    Args:
        path: The state.
        network: As it was saved.
        optimiser: Of the network.
        fingerprint: Of the training. Where ``data.fingerprint`` in the header is another one, nothing is put anywhere, and the step
            is 0: the state may be of a network of another form. None: of any training.

    Raises:
        WeightsError: The file is damaged or belongs to another network.
    """
    tensors, header = read_tensors(path)
    if header.get("state") and fingerprint is not None and header.get("data", {}).get("fingerprint") != fingerprint:
        return 0, header
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    own = network.state_dict()
    fits = weights.keys() == own.keys() and all(weights[key].shape == own[key].shape for key in own)
    if not header.get("state") or not fits:
        raise WeightsError(f"Resuming from {path} failed: it is not the training state of this network.")
    network.load_state_dict(weights)
    on_device = any(group.get("fused") or group.get("capturable") for group in optimiser.param_groups)
    for name, parameter in network.named_parameters():
        moments = {
            key.split("/", 2)[1]: value
            for key, value in tensors.items()
            if key.startswith("optimiser/") and key.split("/", 2)[2] == name
        }
        if moments:
            optimiser.state[parameter] = {
                key: _laid_out(value, parameter, on_device=on_device) for key, value in moments.items()
            }
    torch.set_rng_state(tensors["random"])
    return int(header["step"]), header


def _laid_out(value: torch.Tensor, parameter: torch.nn.Parameter, *, on_device: bool) -> torch.Tensor:
    """Return a moment in the memory layout of its weight: the fused Adam walks through both as they lie in memory."""
    if value.shape == parameter.shape:
        return torch.empty_like(parameter, requires_grad=False).copy_(value)
    return value.to(parameter.device) if value.ndim or on_device else value


def descend(loss: torch.Tensor, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Take one step down the gradient of a loss.

    Raises:
        DataError: The gradient holds infinite values or NaN. Then no step is taken: neither weights nor moments ever hold them.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    length = torch.nn.utils.get_total_norm(gradients)
    if not bool(torch.isfinite(length)):
        raise DataError(
            f"The training broke down: the gradient is no longer a number (loss {float(loss.detach()):g}). Lower the "
            "learning rate, or compute in float32; the last saved state is intact."
        )
    optimiser.step()


def digest(parts: Iterable[str | npt.NDArray[Any]]) -> str:
    """Return a SHA-256 of texts and arrays, in their order."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def forget_state(path: Path) -> None:
    """Delete the state of a training that has ended, and its former versions."""
    path.unlink(missing_ok=True)
    number = 1
    while (former := previous_version(path, number)).exists():
        former.unlink()
        number += 1


def means(curve: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number over the steps that have it, to six digits, for the header of the weights."""
    columns: dict[str, list[float]] = {}
    for values in curve:
        for key, value in values.items():
            columns.setdefault(key, []).append(value)
    return {key: round(math.fsum(column) / len(column), 6) for key, column in columns.items()}
