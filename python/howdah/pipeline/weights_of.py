"""Weights files of all methods: reading those of one, and saying of another one's which command takes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from howdah.errors import WeightsError
from howdah.pipeline.detection import _needs_torch

if TYPE_CHECKING:
    from howdah.nn.checkpoint import Weights

__all__ = ["read_weights_of"]

READERS = {  # the order in which published files are tried
    "embedtrack": "howdah.methods.embedtrack.weights",
    "elephant": "howdah.methods.elephant.predict",
    "efficientcellseg": "howdah.methods.efficientcellseg.weights",
    "tap": "howdah.methods.tap.weights",
}
ADVICE = {
    "embedtrack": "They are EmbedTrack's: howdah embedtrack track SOURCE --weights {path}",
    "elephant": "They are ELEPHANT's: howdah track SOURCE --weights {path}",
    "elephant-flow": "They are those of ELEPHANT's flow: howdah track SOURCE --flow {path}",
    "efficientcellseg": "They are EfficientCellSeg's: howdah efficientcellseg segment SOURCE --weights {path}",
    "tap": "They are TAP's: howdah tap events SOURCE --weights {path}",
}
OF_ONE = {".onnx": "efficientcellseg", ".h5": "efficientcellseg", ".keras": "efficientcellseg"}


def read_weights_of(method: str, path: Path) -> Weights:
    """Read weights of a method; if they are another one's, say which command takes them.

    Args:
        method: ``"embedtrack"``, ``"elephant"``, ``"efficientcellseg"`` or ``"tap"``.
        path: The file: ours, or published.

    Raises:
        WeightsError: They are missing, damaged, or another method's.
    """
    if method == "tap" and path.is_dir():
        raise WeightsError(
            f"Loading weights from {path} failed: it is a folder. Name the file in it, for example {path}/model_state.pt."
        )
    try:
        return _reader(method)(path)
    except WeightsError as error:
        maker = _maker(path) if path.is_file() else ""
        if maker == method or maker not in ADVICE:
            raise
        told = ADVICE[maker].format(path=path)
        raise WeightsError(f"The weights {path} are not for this command. {told}") from error


def _reader(method: str) -> Callable[[Path], Weights]:
    with _needs_torch():
        return cast("Callable[[Path], Weights]", import_module(READERS[method]).read_weights)


def _maker(path: Path) -> str:
    """Return the method that wrote a file, by its header, or of published weights the one that can read them."""
    from howdah.nn.checkpoint import read_tensors

    if path.suffix.lower() in OF_ONE:
        return OF_ONE[path.suffix.lower()]
    if path.suffix == ".safetensors":
        try:
            return str(read_tensors(path)[1].get("method", "")).removesuffix("-detection")
        except WeightsError:
            return ""
    for name in READERS:
        if name in OF_ONE.values():
            continue
        with contextlib.suppress(WeightsError):
            _reader(name)(path)
            return name
    return ""
