"""Weights that Keras wrote as HDF5: a whole model (``model.save("name.h5")``), or its weights alone (``model.save_weights``).

The older layout lists its layers by name, each with the names of its arrays; ``.weights.h5`` of Keras 3 counts the arrays of each layer,
and notes the layer's name beside them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from bdv_io.errors import BdvIoError, FormatError, MissingDataError, UnsupportedError

__all__ = ["KerasWeights", "is_hdf5", "read_keras_weights"]

START = b"\x89HDF\r\n\x1a\n"
MOST_BYTES = 4 << 30

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class KerasWeights:
    """What a file of Keras holds.

    Attributes:
        layers: Names of all layers, in the model's order where the file keeps it; also of those without numbers.
        arrays: float32 arrays by layer and array, for example ``("stem_conv", "kernel")``, in Keras' order of axes; in
            ``.weights.h5`` arrays are called ``"0"``, ``"1"`` ...
    """

    layers: tuple[str, ...]
    arrays: Mapping[tuple[str, str], F32]


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Tell by its first bytes whether a file is HDF5."""
    with Path(path).open("rb") as opened:
        return opened.read(len(START)) == START


def read_keras_weights(path: str | os.PathLike[str]) -> KerasWeights:
    """Read the arrays of a Keras model.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is damaged, or no file of Keras.
        UnsupportedError: It keeps no names of layers.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingDataError(f"Reading Keras weights failed: there is no file {file}.")
    try:
        with h5py.File(file, "r") as opened:
            return _read(file, opened)
    except BdvIoError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"Reading Keras weights from {file} failed: the file is damaged ({error}).") from error


def _read(file: Path, opened: h5py.File) -> KerasWeights:
    root = opened.get("model_weights", opened)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        layers, found = tuple(_listed(root, "layer_names")), _by_name(root)
    elif "layers" in root:
        layers, found = _names(file, root["layers"]), _counted(root["layers"])
    else:
        raise FormatError(f"Reading {file} failed: it is HDF5, but no weights of Keras (it lists no layers).")
    arrays: dict[tuple[str, str], F32] = {}
    taken = 0
    for key, data in found:
        taken += data.size * 4
        if taken > MOST_BYTES:
            raise FormatError(f"Reading Keras weights from {file} failed: they claim more than {MOST_BYTES} bytes.")
        arrays[key] = np.asarray(data, dtype=np.float32)
    return KerasWeights(layers, arrays)


def _by_name(root: h5py.Group) -> Iterator[tuple[tuple[str, str], h5py.Dataset]]:
    for layer in _listed(root, "layer_names"):
        for name in _listed(root[layer], "weight_names"):
            yield (layer, name.rpartition("/")[2].partition(":")[0]), root[layer][name]


def _listed(group: h5py.Group, key: str) -> Iterator[str]:
    """Yield a list of names in the attributes of a group; long ones are cut into pieces with numbers."""
    number = 0
    while (piece := key if key in group.attrs else f"{key}{number}") in group.attrs:
        yield from (n.decode() if isinstance(n, bytes) else str(n) for n in np.ravel(group.attrs[piece]))
        number += 1
        if piece == key:
            return


def _names(file: Path, layers: h5py.Group) -> tuple[str, ...]:
    names = [layers[each]["vars"].attrs.get("name") for each in layers if "vars" in layers[each]]
    if not names or None in names:
        raise UnsupportedError(
            f"Reading Keras weights from {file} failed: it keeps no names of layers, as .weights.h5 of early Keras 3. Load it into the "
            "model and save that with model.save('name.h5')."
        )
    return tuple(map(str, names))


def _counted(layers: h5py.Group) -> Iterator[tuple[tuple[str, str], h5py.Dataset]]:
    for each in layers:
        arrays = layers[each].get("vars", {})
        yield from (((str(arrays.attrs["name"]), number), arrays[number]) for number in arrays)
