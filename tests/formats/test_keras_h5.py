"""Weights in the HDF5 layouts of Keras."""

import h5py
import numpy as np
import pytest

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.keras_h5 import is_hdf5, read_keras_weights

ARRAYS = {
    ("conv", "kernel"): np.arange(12.0).reshape(1, 1, 3, 4),
    ("conv", "bias"): np.ones(4),
    ("bn", "gamma"): np.zeros(4),
}


def write(path, *, whole=False, pieces=False, suffix=":0"):
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        names = ["input", "conv", "bn"]
        if pieces:
            root.attrs["layer_names0"], root.attrs["layer_names1"] = names[:2], names[2:]
        else:
            root.attrs["layer_names"] = np.array(names, dtype="S")
        for layer in names:
            group = root.create_group(layer)
            mine = [name for owner, name in ARRAYS if owner == layer]
            group.attrs["weight_names"] = np.array([f"{layer}/{name}{suffix}" for name in mine], dtype="S")
            for name in mine:
                group[f"{layer}/{name}{suffix}"] = ARRAYS[layer, name]
    return path


@pytest.mark.parametrize("options", [{}, {"whole": True}, {"pieces": True}, {"suffix": ""}])
def test_layers_by_name(tmp_path, options):
    found = read_keras_weights(write(tmp_path / "x.h5", **options))
    assert found.layers == ("input", "conv", "bn")
    assert set(found.arrays) == set(ARRAYS)
    for key, values in ARRAYS.items():
        assert found.arrays[key].dtype == np.float32
        np.testing.assert_array_equal(found.arrays[key], values)


def counted(path, *, named=True):
    with h5py.File(path, "w") as file:
        arrays = file.create_group("layers/conv2d_3/vars")
        if named:
            arrays.attrs["name"] = "conv"
        arrays["0"], arrays["1"] = ARRAYS["conv", "kernel"], ARRAYS["conv", "bias"]
    return path


def test_layers_that_are_counted(tmp_path):
    found = read_keras_weights(counted(tmp_path / "x.weights.h5"))
    assert found.layers == ("conv",)
    np.testing.assert_array_equal(found.arrays["conv", "0"], ARRAYS["conv", "kernel"])
    with pytest.raises(UnsupportedError, match="keeps no names of layers"):
        read_keras_weights(counted(tmp_path / "y.weights.h5", named=False))


def test_what_is_no_file_of_keras(tmp_path):
    with pytest.raises(MissingDataError, match="there is no file"):
        read_keras_weights(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = [1]
    with pytest.raises(FormatError, match="lists no layers"):
        read_keras_weights(tmp_path / "other.h5")
    path = write(tmp_path / "cut.h5")
    assert is_hdf5(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(FormatError, match="damaged"):
        read_keras_weights(path)
    (tmp_path / "text.h5").write_text("no")
    assert not is_hdf5(tmp_path / "text.h5")
    with pytest.raises(FormatError, match="damaged"):
        read_keras_weights(tmp_path / "text.h5")
