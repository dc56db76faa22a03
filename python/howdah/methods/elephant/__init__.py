"""ELEPHANT: nuclei in 3D from sparse marks (Sugawara, Çevrim, Averof: eLife 2022, 10.7554/eLife.69380).

Read it in the order of the paper: ``config``, ``status`` (what people say about spots), ``network``, ``targets`` (labels from
marks), ``losses``, ``augment``, ``samples``, ``train``, ``predict`` (with ``stream`` and ``box``), ``extract`` (ellipsoids from
probabilities), ``sizes``, ``calibration`` (what quality means), ``merge`` (with what a person annotated); ``defaults`` decides
what a person left open. Importing the package loads no torch.
"""

from importlib.util import find_spec
from typing import Any

from howdah.methods.elephant.config import ElephantConfig

__all__ = ["CONFIG", "ElephantConfig", "describe"]

CONFIG = ElephantConfig


def describe() -> dict[str, Any]:
    """Return what the method is and can do, and its networks. Parameters are counted on the network itself; they are
    None where torch is not installed."""
    parameters = None
    if find_spec("torch") is not None:
        from math import prod

        from howdah.methods.elephant.network import shapes

        parameters = sum(prod(shape) for shape in shapes().values())  # the state dict holds parameters only
    return {
        "method": "elephant",
        "what": "finds nuclei in 3D as ellipsoids, trained on a few marked ones",
        "paper": "Sugawara, Çevrim, Averof: Tracking cell lineages in 3D by incremental deep learning, eLife 2022",
        "doi": "10.7554/eLife.69380",
        "can": ["train", "predict", "track"],
        "learns_from": "Mastodon spots, sparse (what is not marked is unknown)",
        "images": "2D and 3D, any anisotropy, one channel",
        "networks": {"detection": {"parameters": parameters}},
    }
