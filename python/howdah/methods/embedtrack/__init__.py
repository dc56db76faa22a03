"""EmbedTrack: segments and tracks cells at once (Löffler and Mikut 2022, arXiv:2204.10713).

Read it in the order of the paper: ``config``, ``network`` (with ``weights``), ``coordinates``, ``targets`` (with ``medoid``), ``losses``
(with ``overlap``, and ``guide`` at the start), :mod:`howdah.methods.annotation` (what is learned from), ``frames``, ``samples``,
``train`` (with ``judge``, which chooses the best network), ``predict`` (with ``learned``, ``folded``, ``views``; it gives ``fields``),
``cluster`` (cells from fields; ``gather``), ``link`` (cells to tracks), ``postprocess``, ``segmenter`` (the protocols);
``defaults`` decides what a person left open. Importing the package loads no torch.
"""

from importlib.util import find_spec
from math import prod
from typing import Any

from howdah.methods.embedtrack.config import EmbedTrackConfig

__all__ = ["CONFIG", "EmbedTrackConfig", "describe"]

CONFIG = EmbedTrackConfig
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def describe() -> dict[str, Any]:
    """Return what the method is and can do, and its network. Parameters are counted on the network itself; they are None where
    torch is not installed."""
    return {
        "method": "embedtrack",
        "what": "outlines cells and tracks them with one network that points from pixels to centres, now and one frame earlier",
        "paper": "Löffler, Mikut: EmbedTrack - simultaneous cell segmentation and tracking through learning offsets and clustering "
        "bandwidths, arXiv 2022",
        "doi": "10.48550/arXiv.2204.10713",
        "can": ["embedtrack train", "embedtrack track", "reproduce"],
        "learns_from": "outlines with or without links: TrackMate ROIs, label images, challenge folders, Mastodon ellipsoids",
        "images": "2D, and small 3D volumes, any anisotropy, one channel",
        "networks": {"branched ERFNet": {"parameters": _parameters(2), "parameters_3d": _parameters(3)}},
    }


def _parameters(n_dims: int) -> int | None:
    if find_spec("torch") is None:
        return None
    from howdah.methods.embedtrack.network import shapes

    return sum(prod(shape) for key, shape in shapes(n_dims).items() if not key.endswith(BUFFERS))
