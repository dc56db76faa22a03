"""The network for prediction: the same numbers in less time.

On the processor that is bfloat16 in PyTorch where the hardware has it (:func:`howdah.nn.device.pick` says so), else ONNX Runtime where it
is installed (extra ``onnx``), else float32 in PyTorch; in PyTorch with folded normalisations and channels last. B5, one picture of
384 x 384, one thread, processor time: PyTorch as it is 516 ms, channels last 439, folded 460, both 369, ONNX Runtime 289, bfloat16 238
(torch 2.15, onnxruntime 1.31; probabilities differ by 2e-4 in bfloat16, else by 1e-7). ``benchmarks/bench_efficientcellseg.py``
measures it. 1 x 1 convolutions as matrix products gain nothing.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from howdah.errors import MissingExtraError
from howdah.methods.efficientcellseg.network import EfficientCellSeg, check_size
from howdah.methods.efficientcellseg.onnx_file import onnx_of

__all__ = ["InOnnxRuntime", "folded", "ready"]

Tensor = torch.Tensor


def ready(
    network: nn.Module,
    device: torch.device,
    *,
    precision: torch.dtype = torch.float32,
    by: Literal["auto", "torch", "onnx"] = "auto",
) -> nn.Module:
    """Return what predicts fastest on a device: a module that turns pictures (B, 3, Y, X), 0..1, into logits.

    Args:
        network: As :func:`howdah.methods.efficientcellseg.weights.network_of` gives it (``fold=False``); one that is not ours is
            returned as it is.
        device: Where.
        precision: Of the arithmetic; ONNX Runtime is used in float32 only.
        by: Which library; auto: on the processor ONNX Runtime where it is installed, else PyTorch.

    Raises:
        MissingExtraError: ONNX Runtime was asked for, but is not installed.
    """
    if not isinstance(network, EfficientCellSeg):
        return network.to(device)
    fast = folded(network)
    installed = find_spec("onnxruntime") is not None
    if by == "onnx" or (by == "auto" and installed and device.type == "cpu" and precision == torch.float32):
        if not installed:
            raise MissingExtraError(
                "Predicting with ONNX Runtime was asked for, but it is not installed. Install it: pip install 'howdah[onnx]'"
            )
        return InOnnxRuntime(fast)
    return fast.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class InOnnxRuntime(nn.Module):
    """A folded network of ours that ONNX Runtime runs on the processor, on as many threads as PyTorch has now."""

    def __init__(self, network: EfficientCellSeg) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(onnx_of(network), options, providers=["CPUExecutionProvider"])

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits (B, outputs, Y, X) of a picture (B, 3, Y, X), 0..1.

        Raises:
            DataError: Y or X is not a multiple of 16.
        """
        check_size(picture)
        given = picture.detach().to("cpu", torch.float32).contiguous().numpy()
        return torch.from_numpy(self.session.run(None, {"picture": given})[0]).to(picture.device)


@torch.no_grad()
def folded(network: EfficientCellSeg) -> EfficientCellSeg:
    """Return a copy for prediction whose normalisations are part of the convolutions before them; the same numbers to about 1e-6."""
    network = copy.deepcopy(network).eval()
    encoder = network.encoder
    _fold(encoder, "conv_stem", "bn1")
    _fold(encoder, "conv_pw", "bn2")
    blocks: list[Any] = [block for stage in encoder.blocks for block in stage]
    for block in blocks:
        expands = hasattr(block, "conv_pwl")
        order = ("conv_pw", "conv_dw", "conv_pwl") if expands else ("conv_dw", "conv_pw")
        for number, conv in enumerate(order, 1):
            _fold(block, conv, f"bn{number}")
    for step in network.decoder:
        for place in ("0", "3"):
            _fold(step, place, str(int(place) + 1))
    return network


def _fold(part: nn.Module, conv: str, norm: str) -> None:
    """Fold a normalisation of a part into the convolution before it; the activation that timm's hold stays."""
    normalisation: Any = getattr(part, norm)
    setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), normalisation))
    setattr(part, norm, getattr(normalisation, "act", nn.Identity()))
