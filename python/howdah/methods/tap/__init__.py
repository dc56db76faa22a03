"""TAP: dense features from raw movies by predicting the arrow of time (Gallusser, Stieber and Weigert, MICCAI 2023).

Read it in the order of the paper: ``config``, ``network`` (with ``lean``, how it trains in little memory, and
``weights``), ``movies``, ``background`` and ``samples`` (crops of raw movies), ``augment``, ``losses``, ``train``
(with ``schedule``, ``run``, ``judge``), ``predict`` (dense features; with ``folded``), ``attribution`` (where time
has an arrow; with ``arrow``, the head in closed form), ``events`` (its peaks). Then what is built on the features:
``pooled`` (numbers of a spot), ``examples``, ``material`` and ``heads``, ``learner`` (with ``regression``),
``crossing`` (cross-validation), ``classify`` (classes of spots), ``dense`` (events pixel by pixel).
Importing the package loads no torch.
"""

from importlib.util import find_spec
from math import prod
from typing import Any

from howdah.methods.tap.config import TapConfig

__all__ = ["CONFIG", "TapConfig", "describe"]

CONFIG = TapConfig
VERBS = ("train", "events", "map", "embed", "features", "learn", "classify", "learn-events", "segment-events")
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def describe() -> dict[str, Any]:
    """Return what the method is and can do, and its network. Parameters are counted on the network itself; they are None where
    torch is not installed."""
    return {
        "method": "tap",
        "what": "learns from raw movies, without any annotation, where time has an arrow: divisions, deaths, changes of state",
        "paper": "Gallusser, Stieber, Weigert: Self-supervised dense representation learning for live-cell microscopy with time arrow "
        "prediction, MICCAI 2023",
        "doi": "10.48550/arXiv.2305.05511",
        "can": [f"tap {verb}" for verb in VERBS],
        "learns_from": "raw movies; for events and states: tags, divisions, or label images",
        "images": "2D and 3D, any anisotropy, several channels",
        "networks": {"U-Net with equivariant head": {"parameters": _parameters()}},
    }


def _parameters() -> int | None:
    if find_spec("torch") is None:
        return None
    from howdah.methods.tap.network import shapes

    return sum(prod(shape) for key, shape in shapes({}).items() if not key.endswith(BUFFERS))
