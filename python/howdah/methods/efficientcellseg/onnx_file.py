"""Writing a network as an ONNX file without any library: the few kinds of nodes that ours has, in Protocol Buffers' wire form.

See the public description of the format, ``onnx.proto`` (version 8 of it, operator set 17). All maps are float32 (B, C, Y, X).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from howdah.methods.efficientcellseg.network import SKIPS, EfficientCellSeg, opening

__all__ = ["Graph", "onnx_of"]

IR_VERSION, OPSET = 8, 17
FLOAT = 1  # a type of tensors
INTS = (7, 8)  # type and field of an attribute of several whole numbers
Tensor = torch.Tensor


def onnx_of(network: EfficientCellSeg) -> bytes:
    """Return a folded network (:func:`howdah.methods.efficientcellseg.fast.folded`) as the bytes of an ONNX file.

    Its input ``picture`` is float32 (B, 3, Y, X), its output ``logits`` (B, outputs, Y, X); Y and X are multiples of 16.
    """
    graph = Graph()
    x = graph.node("Sub", ["picture", graph.constant(network.mean)])
    x = graph.node("Div", [x, graph.constant(network.std)])
    encoder = network.encoder
    x = _activated(graph, encoder.bn1, _conv(graph, encoder.conv_stem, x))
    skips = ["picture"]
    for number, stage in enumerate(encoder.blocks):
        for place, block in enumerate(stage):
            inner = _activated(graph, block.bn1, _conv(graph, opening(block), x))
            if number in SKIPS and place == 0:
                skips.append(inner)
            x = _rest(graph, block, inner, x)
    x = _activated(graph, encoder.bn2, _conv(graph, encoder.conv_pw, x))
    twice = graph.constant(torch.tensor([1.0, 1.0, 2.0, 2.0]))
    for step, skip in zip(network.decoder, reversed(skips), strict=True):
        x = graph.node("Resize", [x, "", twice], mode="linear", coordinate_transformation_mode="half_pixel")
        x = graph.node("Concat", [x, skip], axis=1)
        layers: Any = step
        for conv in (layers[0], layers[3]):
            x = graph.node("Relu", [_conv(graph, conv, x)])
    return graph.file("picture", 3, _conv(graph, network.last, x), network.last.out_channels)


def _rest(graph: Graph, block: Any, inner: str, before: str) -> str:
    """Add the rest of a block after its first activation."""
    x = inner
    if hasattr(block, "conv_pwl"):
        x = _activated(graph, block.bn2, _conv(graph, block.conv_dw, x))
    if hasattr(block.se, "conv_reduce"):
        gate = graph.node("GlobalAveragePool", [x])
        gate = _activated(graph, block.se.act1, _conv(graph, block.se.conv_reduce, gate))
        gate = graph.node("Sigmoid", [_conv(graph, block.se.conv_expand, gate)])
        x = graph.node("Mul", [x, gate])
    x = _conv(graph, block.conv_pwl if hasattr(block, "conv_pwl") else block.conv_pw, x)
    return graph.node("Add", [x, before]) if block.has_skip else x


def _activated(graph: Graph, activation: nn.Module, x: str) -> str:
    if isinstance(activation, nn.ReLU6):
        return graph.node("Clip", [x, graph.constant(torch.tensor(0.0)), graph.constant(torch.tensor(6.0))])
    return graph.node("Mul", [x, graph.node("Sigmoid", [x])])


def _conv(graph: Graph, conv: Any, x: str) -> str:
    """Add a convolution; those of timm that pad as TensorFlow put the odd row and column after the map, whose size is even."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    if type(conv) is nn.Conv2d:
        before = after = int(conv.padding[0])
    else:
        whole = max(kernel - stride, 0)
        before, after = whole // 2, whole - whole // 2
    inputs = [x, graph.constant(conv.weight)] + ([] if conv.bias is None else [graph.constant(conv.bias)])
    return graph.node(
        "Conv",
        inputs,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[before, before, after, after],
        group=conv.groups,
    )


class Graph:
    """Nodes and constants of an ONNX graph, added one after another."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []

    def node(self, kind: str, inputs: Sequence[str], **attributes: float | int | str | list[int]) -> str:
        """Add a node; return the name of its result."""
        name = f"n{len(self._nodes)}"
        content = b"".join(_text(1, each) for each in inputs) + _text(2, name) + _text(4, kind)
        self._nodes.append(content + b"".join(_piece(5, _attribute(key, value)) for key, value in attributes.items()))
        return name

    def constant(self, values: Tensor) -> str:
        """Add a constant, float32; return its name."""
        name, array = f"c{len(self._constants)}", values.detach().to("cpu", torch.float32).contiguous().numpy()
        content = b"".join(_number(1, size) for size in array.shape) + _number(2, FLOAT) + _text(8, name)
        self._constants.append(content + _piece(9, np.asarray(array, dtype="<f4").tobytes()))
        return name

    def file(self, source: str, channels: int, result: str, outputs: int, *, colours_last: bool = False) -> bytes:
        """Return the file.

        Args:
            source: Name of the input.
            channels: That it has.
            result: Name of the node that is the output.
            outputs: Channels that it has.
            colours_last: Whether channels are the last axis of both.
        """
        nodes = [*self._nodes, _text(1, result) + _text(2, "logits") + _text(4, "Identity")]
        graph = b"".join(_piece(1, node) for node in nodes) + _text(2, "howdah")
        graph += b"".join(_piece(5, constant) for constant in self._constants)
        for field, name, n in ((11, source, channels), (12, "logits", outputs)):
            axes: tuple[str | int, ...] = ("b", "y", "x", n) if colours_last else ("b", n, "y", "x")
            graph += _piece(field, _value(name, axes))
        model = _number(1, IR_VERSION) + _text(2, "howdah") + _piece(7, graph)
        return model + _piece(8, _text(1, "") + _number(2, OPSET))


def _value(name: str, axes: Sequence[str | int]) -> bytes:
    shape = b"".join(_piece(1, _number(1, axis) if isinstance(axis, int) else _text(2, axis)) for axis in axes)
    return _text(1, name) + _piece(2, _piece(1, _number(1, FLOAT) + _piece(2, shape)))


def _attribute(name: str, value: float | int | str | list[int]) -> bytes:
    if isinstance(value, list):
        kind, content = INTS[0], b"".join(_number(INTS[1], each) for each in value)
    elif isinstance(value, str):
        kind, content = 3, _text(4, value)
    elif isinstance(value, int):
        kind, content = 2, _number(3, value)
    else:
        kind, content = 1, _varint(2 << 3 | 5) + struct.pack("<f", value)
    return _text(1, name) + content + _number(20, kind)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _piece(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _piece(field, text.encode())
