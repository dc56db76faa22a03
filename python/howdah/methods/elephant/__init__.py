"""ELEPHANT: nuclei in 3D from sparse marks (Sugawara, Çevrim, Averof: eLife 2022, 10.7554/eLife.69380).

Read it in the order of the paper: ``config``, ``status`` (what people say about spots), ``network``, ``targets`` (labels from
marks), ``losses``, ``augment``, ``samples``, ``guesses``, ``train``, ``live`` (training while annotation arrives), ``predict``
(with ``stream`` and ``box``), ``extract`` (ellipsoids from probabilities), ``sizes``, ``calibration`` (what quality means),
``merge`` (with what a person annotated), ``judge`` (what she made of it); ``flow/`` is its second network; ``backtrack`` follows
one nucleus; ``defaults`` decides what a person left open. Importing the package loads no torch.
"""

from importlib.util import find_spec
from math import prod
from typing import Any

from howdah.methods.elephant.config import ElephantConfig

__all__ = ["CONFIG", "ElephantConfig", "describe"]

CONFIG = ElephantConfig


def describe() -> dict[str, Any]:
    """Return what the method is and can do, and its networks. Parameters are counted on the networks themselves; they are
    None where torch is not installed. In 2D a kernel is its middle plane."""
    return {
        "method": "elephant",
        "what": "finds nuclei in 3D as ellipsoids, trained on a few marked ones; learns from links where they came from",
        "paper": "Sugawara, Çevrim, Averof: Tracking cell lineages in 3D by incremental deep learning, eLife 2022",
        "doi": "10.7554/eLife.69380",
        "can": ["train", "train-flow", "predict", "link", "track", "loop", "calibrate", "backtrack", "reproduce"],
        "learns_from": "Mastodon spots and links, sparse (what is not marked is unknown)",
        "images": "2D and 3D, any anisotropy, one channel",
        "networks": _networks(),
    }


def _networks() -> dict[str, dict[str, int | None]]:
    if find_spec("torch") is None:
        return {name: {"parameters": None, "parameters_2d": None} for name in ("detection", "flow")}
    from howdah.methods.elephant.flow.network import shapes as flow
    from howdah.methods.elephant.network import shapes as detection

    flat = {
        key: (2, *shape[1:]) if key.startswith("out_conv") else shape for key, shape in flow().items()
    }  # no way along z
    return {
        name: {
            "parameters": sum(prod(shape) for shape in shapes.values()),  # the state dict holds parameters only
            "parameters_2d": sum(prod(shape[:2] + shape[3:]) for shape in shapes_2d.values()),
        }
        for name, shapes, shapes_2d in (("detection", detection(), detection()), ("flow", flow(), flat))
    }
