"""One classifier in the making: learned from some examples, asked about others. All kinds of heads behind one pair of calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from howdah.methods.tap.augment import augmented
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.heads import head_from
from howdah.methods.tap.material import View
from howdah.methods.tap.network import Tap, planes_of
from howdah.methods.tap.regression import Regression, class_weights, fit_regression
from howdah.nn.checkpoint import State
from howdah.nn.device import for_training, pick
from howdah.nn.fit import descend, fit
from howdah.progress import Steps

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Tensor = torch.Tensor
Loss = Callable[[Tensor, Tensor, int], Tensor]

__all__ = ["Learner", "posed"]

WARM_UP = 0.1  # of the steps, in which the step size grows
AT_ONCE = 64  # crops of a prediction
HEAD = "head."
NUMBERS = ("mean", "std", "weight", "bias")  # of a regression


class Learner:
    """Learns and predicts classes from what a :class:`~howdah.methods.tap.material.View` sees.

    Args:
        view: What is seen.
        network: The form of the network, and its weights where there are some; they are not changed.
        n_classes: Classes; 0: pixels of events are marked.

    Attributes:
        form: Form of the head, for :func:`howdah.methods.tap.heads.head_from`.
    """

    def __init__(self, view: View, network: tuple[Mapping[str, Any], State | None], n_classes: int) -> None:
        self.view, self.n_classes = view, n_classes
        self.network_form, self.network_state = network
        self.form = self._form()
        planes = planes_of(view.crop[0], self.network_form["pools"])
        planes += [-(-n // k) for n in planes[:1] for k in (2, 4)]  # the head halves, too
        self.place = for_training(pick(view.config.device, precision=view.config.precision), planes)

    def _form(self) -> dict[str, Any]:
        head, view = self.view.head, self.view
        depth = int(self.network_form["channels" if head.mode == "pixels" else "features"])
        n_in = depth * len(view.steps)
        if not self.n_classes:
            pools = [list(pool) for pool in self.network_form["pools"][:2]]
            return {"kind": "events", "n_in": n_in, "width": head.width, "pools": pools}
        form = {"kind": head.head, "n_in": n_in, "n_classes": self.n_classes, "dropout": head.dropout}
        return form | ({"width": head.width, "dimensions": len(view.crop)} if head.head == "resnet" else {})

    def learn(self, seen: Tensor, label: I64, *, stage: str = "train") -> Steps[State]:
        """Learn from what is seen (N, ...) and its classes (N,); returns entries of the head and, where it was trained, the network."""
        head = self.view.head
        if self.view.pooled:
            fitted = fit_regression(
                seen.numpy(),
                label,
                n_classes=self.n_classes,
                penalty=head.penalty,
                balanced=head.balanced,
            )
            return {HEAD + name: torch.from_numpy(getattr(fitted, name)).float() for name in NUMBERS}
        weights = class_weights(label, self.n_classes, balanced=head.balanced)
        classes = torch.from_numpy(np.ascontiguousarray(label))

        def loss(logits: Tensor, rows: Tensor, _: int) -> Tensor:
            return functional.cross_entropy(logits, classes[rows].to(logits.device))

        return (yield from self.trained(seen, weights, loss, stage=stage))

    def trained(self, seen: Tensor, weights: F64, loss: Loss, *, stage: str = "train") -> Steps[State]:
        """Train head, and network where it is to learn, on crops (N, T, C, *S), drawn with weights (N,).

        Args:
            seen: The crops.
            weights: How often each is drawn, relative to others.
            loss: Of logits, the rows of the crops, and the seed by which they were posed (:func:`posed`).
            stage: Name for the progress.

        Returns:
            Entries of the head, under ``head.``, and of the network where it was trained.
        """
        module = self.module(None)
        run = _Run(self, module, seen, weights, loss)
        yield from fit(run.step, steps=self.view.head.n_steps, stage=stage)
        state = module.eval().state_dict()
        return {_outer(key): value.detach().cpu().contiguous() for key, value in state.items()}

    def probabilities(self, state: State, seen: Tensor) -> F32:
        """Return (N, n_classes) float32 for what is seen (N, ...)."""
        if self.view.pooled:
            numbers = [state[HEAD + name].double().numpy() for name in NUMBERS]
            return Regression(*numbers).probabilities(seen.numpy()).astype(np.float32)
        module = self.module(state).eval()
        found = np.empty((len(seen), self.n_classes), dtype=np.float32)
        for first in range(0, len(seen), AT_ONCE):
            part = seen[first : first + AT_ONCE]
            with torch.no_grad():
                if not self.view.frozen:
                    part = augmented(
                        part, TapConfig.of({"augment": 0.0}), size=self.view.crop, rng=np.random.default_rng(0)
                    )
                logits = self.logits(module, part.to(self.place.device))
            found[first : first + AT_ONCE] = functional.softmax(logits.float(), dim=1).cpu().numpy()
        return found

    def module(self, state: State | None) -> nn.Module:
        """Return head and, where it is trained, network; with weights of a training, or new ones by the seed."""
        head = self.view.head
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(head.seed)
            parts: dict[str, nn.Module] = {"head": head_from(self.form)}
            if head.mode in ("finetune", "scratch"):
                parts["network"] = Tap(**self.network_form)
        module = nn.ModuleDict(parts)
        if state is not None:
            module.load_state_dict({_inner(key): value for key, value in state.items() if self._is_mine(key)})
        elif head.mode == "finetune" and self.network_state is not None:
            parts["network"].load_state_dict(self.network_state)
        return module.to(self.place.device)

    def _is_mine(self, key: str) -> bool:
        return key.startswith(HEAD) or self.view.head.mode in ("finetune", "scratch")

    def logits(self, module: Any, x: Tensor) -> Tensor:
        """Return the logits of crops (B, T, C, *S), of images or features."""
        if "network" in module:
            with self.place.autocast():
                z = module["network"].dense(x.flatten(0, 1))
            x = z.float().view(*x.shape[:2], *z.shape[1:])
        found: Tensor = module["head"](x)
        return found


class _Run:
    """The training of a head, and of a network below it."""

    def __init__(self, learner: Learner, module: nn.Module, seen: Tensor, weights: F64, loss: Loss) -> None:
        self.learner, self.module, self.seen, self.loss = learner, module, seen, loss
        head = learner.view.head
        self.chance = weights / weights.sum()
        groups = []
        for name, part in module.named_children():
            tuned = name == "network" and head.mode == "finetune"
            groups.append({"params": list(part.parameters()), "share": head.network_rate if tuned else 1.0})
        self.optimiser = torch.optim.AdamW(groups, lr=head.learning_rate, weight_decay=head.weight_decay)
        module.train()
        if head.mode == "finetune":
            for part in module.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()  # a few crops do not know better than what it has learned from

    def step(self, number: int) -> dict[str, float]:
        """Do one step."""
        head, view = self.learner.view.head, self.learner.view
        seed = np.random.default_rng([head.seed, 7, number])
        rows = torch.from_numpy(seed.choice(len(self.chance), size=head.batch_size, p=self.chance))
        pose = int(seed.integers(2**62))
        x = self.seen[rows]
        if not view.frozen and self.learner.n_classes:
            x = augmented(x, view.changes, size=view.crop, rng=np.random.default_rng(pose))
        elif head.augment:
            x = posed(x, pose)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed.integers(2**62)))  # for dropout
            logits = self.learner.logits(self.module, x.to(self.learner.place.device))
        loss = self.loss(logits.float(), rows, pose)
        rate = _rate(number, head.n_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = head.learning_rate * rate * group["share"]
        descend(loss, self.module, self.optimiser)
        return {"loss": float(loss.detach())}


def _rate(number: int, steps: int) -> float:
    """Return the share of the largest step size: up quickly, down as half a cosine."""
    warm = max(WARM_UP * steps, 1)
    if number < warm:
        return (number + 1) / (math.ceil(warm) + 1)
    return 0.5 * (1 + math.cos(math.pi * (number - warm) / max(steps - warm, 1)))


def posed(x: Tensor, seed: int) -> Tensor:
    """Return crops (B, ..., *S), each mirrored and turned by quarters around z at random; the same for the same seed."""
    draw = torch.rand((3, len(x)), generator=torch.Generator().manual_seed(seed)) < 0.5
    for way, chosen in zip(((-1,), (-2,), None), draw, strict=True):
        changed = x.flip(way) if way else x.transpose(-1, -2)
        x = torch.where(chosen.view(-1, *(1,) * (x.ndim - 1)), changed, x)
    return x


def _outer(key: str) -> str:
    """Name of an entry in a file: the network's own names, and ``head.`` before those of the head."""
    return key.removeprefix("network.")


def _inner(key: str) -> str:
    return key if key.startswith(HEAD) else f"network.{key}"
