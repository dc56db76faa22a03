"""A network in an ONNX file, as the authors published theirs, run by ONNX Runtime (an optional part) as if it were one of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from howdah.errors import DataError, MissingExtraError, WeightsError

__all__ = ["OnnxNetwork"]

Tensor = torch.Tensor
COLOURS = 3
EDGE = 1e-6  # probabilities are kept so far from 0 and 1 that their logit is finite


@dataclass(frozen=True)
class Layout:
    """How the input of a file lies.

    Attributes:
        name: Of the input.
        colours_last: (B, Y, X, 3) rather than (B, 3, Y, X).
        batch: How many pictures it takes at once; None: any number.
        size: (Y, X) that it takes; None along an axis: any size.
    """

    name: str
    colours_last: bool
    batch: int | None
    size: tuple[int | None, int | None]


class OnnxNetwork(nn.Module):
    """The network of an ONNX file that turns pictures with three colours into probabilities of cells.

    Args:
        content: The bytes of the file.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        WeightsError: The bytes are no ONNX network, or one with another kind of input or output.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError(
                "Running an ONNX network needs ONNX Runtime, which is not installed. Install it: pip install 'howdah[onnx]'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors come as exceptions
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  its exceptions have no common base but Exception
            raise WeightsError(
                f"Loading an ONNX network failed: ONNX Runtime does not read it ({_first_line(error)})."
            ) from None
        self.layout = _layout(self.session)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits (B, 1, Y, X) of pictures (B, 3, Y, X), 0..1; where the file takes one size only, pictures are resized to it.

        Raises:
            DataError: ONNX Runtime fails on these pictures.
        """
        n, _, *size = picture.shape
        fixed = tuple(own or given for own, given in zip(self.layout.size, size, strict=True))
        x = _resized(picture.detach().to("cpu", torch.float32), fixed)
        step = self.layout.batch or n
        found = torch.cat([self._run(x[at : at + step], step) for at in range(0, n, step)])
        return torch.logit(_resized(found, tuple(size)), eps=EDGE).to(picture.device)

    def _run(self, x: Tensor, step: int) -> Tensor:
        """Return probabilities (B, 1, Y, X); a last batch that is too small is filled up."""
        n = len(x)
        if n < step:
            x = torch.cat([x, x[-1:].expand(step - n, -1, -1, -1)])
        given = (x.permute(0, 2, 3, 1) if self.layout.colours_last else x).contiguous().numpy()
        try:
            raw = self.session.run(None, {self.layout.name: given})[0]
        except Exception as error:  # noqa: BLE001  its exceptions have no common base but Exception
            raise DataError(
                f"Running an ONNX network on pictures of {tuple(x.shape)} failed: {_first_line(error)}."
            ) from None
        found = torch.from_numpy(np.ascontiguousarray(raw, dtype=np.float32))
        if found.ndim == 4 and found.shape[-1] == 1 and (self.layout.colours_last or found.shape[1] != 1):
            found = found.permute(0, 3, 1, 2)
        if found.ndim != 4 or found.shape[1] != 1:
            raise WeightsError(
                f"Running an ONNX network failed: its result has the shape {tuple(found.shape)}; expected one channel of probabilities."
            )
        return found[:n]


def _layout(session: Any) -> Layout:
    """Find out how the input of a file lies.

    Raises:
        WeightsError: It has not one input with three colours.
    """
    inputs = session.get_inputs()
    shapes = {each.name: list(each.shape) for each in inputs}
    shape = next(iter(shapes.values()), [])
    colours = [axis for axis in (3, 1) if len(shape) == 4 and shape[axis] == COLOURS]
    if len(inputs) != 1 or not colours or inputs[0].type != "tensor(float)":
        raise WeightsError(
            f"Loading an ONNX network failed: its inputs are {shapes}; expected is one of float32 with three colours, (B, Y, X, 3) or "
            "(B, 3, Y, X)."
        )
    last = colours[0] == 3
    batch, height, width = (
        each if isinstance(each, int) and each > 0 else None
        for each in ([shape[0], *shape[1:3]] if last else [shape[0], *shape[2:]])
    )
    return Layout(inputs[0].name, last, batch, (height, width))


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[-2:]) == size:
        return x
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
