"""EfficientCellSeg: accurate masks from few outlined images (Wagner and Rohr, MIDL 2022).

Read it in the order of the paper: ``config``, ``network`` (with ``pretrained``, ``weights``), ``colour`` (context-aware pseudocolouring;
with ``clahe``, ``picture``), ``targets``, ``losses``, ``samples``, ``train``, ``predict`` (it gives ``maps``), ``instances`` (cells from
maps; with ``stitch``, ``search``), ``seeded`` (masks of spots that are there already), ``segmenter`` (the protocols).
Importing the package loads no torch.
"""

from importlib.util import find_spec
from math import prod
from typing import Any

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig

__all__ = ["CONFIG", "EfficientCellSegConfig", "describe"]

CONFIG = EfficientCellSegConfig
FILTERS = (64, 48, 32, 16)  # the paper's
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def describe() -> dict[str, Any]:
    """Return what the method is and can do, and its network. Parameters are counted on the network itself; they are None where
    torch or timm is not installed."""
    return {
        "method": "efficientcellseg",
        "what": "outlines cells plane by plane with a small network that was trained on photographs, from few annotated images",
        "paper": "Wagner, Rohr: EfficientCellSeg - efficient volumetric cell segmentation using context aware pseudocoloring, MIDL 2022",
        "doi": "10.48550/arXiv.2204.03014",
        "can": ["efficientcellseg train", "efficientcellseg segment", "efficientcellseg masks", "reproduce"],
        "learns_from": "outlines: label images, ROI sets, challenge folders, TrackMate ROIs, Mastodon ellipsoids",
        "images": "2D and 3D, any anisotropy, one channel",
        "networks": {"EfficientNet-B5 with decoder": {"parameters": _parameters()}},
    }


def _parameters() -> int | None:
    if find_spec("torch") is None or find_spec("timm") is None:
        return None
    from howdah.methods.efficientcellseg.network import shapes

    found = shapes("b5", FILTERS, 1)
    return sum(prod(shape) for key, shape in found.items() if not key.endswith(BUFFERS))
