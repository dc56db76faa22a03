"""Weights: ours, Keras', ONNX."""

import h5py
import numpy as np
import pytest
import torch

from howdah.errors import DataError, MissingExtraError, WeightsError
from howdah.methods.efficientcellseg import fast
from howdah.methods.efficientcellseg.encoders import ENCODERS
from howdah.methods.efficientcellseg.network import EfficientCellSeg
from howdah.methods.efficientcellseg.onnx_file import Graph, onnx_of
from howdah.methods.efficientcellseg.weights import METHOD, network_header, network_of, read_weights
from howdah.nn.checkpoint import Weights, save_weights

FILTERS = (8, 6, 4, 4)


def network(name="lite0", outputs=1, seed=1, **options):
    torch.manual_seed(seed)
    made = EfficientCellSeg(name, filters=FILTERS, outputs=outputs, **options)
    with torch.no_grad():
        for key, value in made.state_dict().items():
            if "running_var" in key:
                value.copy_(0.5 + torch.rand_like(value))
            elif "running_mean" in key:
                value.copy_(0.1 * torch.randn_like(value))
    return made.eval()


def saved(path, networks, named, *, name="lite0", scaling=(), **changes):
    header = {**network_header(name, FILTERS, named, scaling=scaling), **changes}
    save_weights(path, Weights(tuple(n.state_dict() for n in networks), {"method": METHOD, "network": header}))
    return path


def same(a, b, picture, **close):
    with torch.no_grad():
        torch.testing.assert_close(a(picture), b(picture), **close)


def test_members_and_the_scaling_of_their_input_come_back(tmp_path):
    members = [network(seed=1, compat=("dark_input",)), network(seed=2, compat=("dark_input",))]
    path = saved(tmp_path / "w.safetensors", members, [["cell"], ["centre"]], scaling=("dark_input", "plain_grid"))
    weights = read_weights(path)
    assert weights.header["network"] == {
        "encoder": "lite0", "filters": [8, 6, 4, 4], "outputs": [["cell"], ["centre"]], "scaling": ["dark_input"],
    }  # fmt: skip
    picture = torch.rand(1, 3, 32, 32)
    for number, member in enumerate(members):
        same(network_of(weights, number), member, picture)
        same(network_of(weights, number, fold=True), member, picture, rtol=1e-4, atol=1e-5)


def test_a_bare_state_dict_tells_its_network(tmp_path):
    torch.save(network("lite1", 2).state_dict(), tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    assert weights.header["network"] == network_header("lite1", FILTERS, [["cell", "centre"]])


@pytest.mark.parametrize(
    "changes", [{"encoder": "lite1"}, {"filters": [1, 2]}, {"outputs": [["cell", "centre"]]}, {"outputs": 3}]
)
def test_a_header_that_contradicts_the_numbers(tmp_path, changes):
    path = saved(tmp_path / "w.safetensors", [network()], [["cell"]], **changes)
    with pytest.raises(WeightsError, match=r"its header speaks of a network .* encoder 'lite0'"):
        read_weights(path)


def test_weights_of_something_else(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="belongs to another network"):
        read_weights(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="there is no file"):
        read_weights(tmp_path / "none.onnx")


def keras_file(path, made, *, variance, mean=None, skip=""):
    """Write a network as Keras would, as the published code names its layers."""
    facts = ENCODERS["b0"]
    layers = {"en_normalization": {"mean": np.array(mean or facts.mean), "variance": np.array(variance)}}
    arrays = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    inside = {
        "conv_pw": "expand_conv",
        "bn1": "expand_bn",
        "conv_dw": "dwconv",
        "bn2": "bn",
        "conv_pwl": "project_conv",
    }
    inside |= {"bn3": "project_bn", "se.conv_reduce": "se_reduce", "se.conv_expand": "se_expand"}
    first = inside | {"conv_dw": "dwconv", "bn1": "bn", "conv_pw": "project_conv", "bn2": "project_bn"}
    fixed = {"encoder.conv_stem": "en_stem_conv", "encoder.bn1": "en_stem_bn", "last": "de_conv2d_last"}
    fixed |= {"encoder.conv_pw": "en_block6a_expand_conv", "encoder.bn2": "en_block6a_expand_bn"}
    for key, value in made.state_dict().items():
        name, _, entry = key.rpartition(".")
        parts = name.split(".")
        if name in fixed:
            layer = fixed[name]
        elif parts[0] == "decoder":
            kind, second = divmod(int(parts[2]), 3)[::-1]
            layer = f"de_{'batchnorm' if kind else 'conv2d_'}{parts[1]}{second}"
        else:
            names = first if parts[2] == "0" else inside
            layer = f"en_block{int(parts[2]) + 1}{'abcdefg'[int(parts[3])]}_{names['.'.join(parts[4:])]}"
        norm = layer.endswith("bn") or "batchnorm" in layer
        array = arrays.get(entry) or {"weight": "gamma" if norm else "kernel", "bias": "beta" if norm else "bias"}.get(
            entry
        )
        if array and layer != skip:
            numbers = value.numpy()
            if numbers.ndim == 4:
                numbers = numbers.transpose((2, 3, 0, 1) if layer.endswith("dwconv") else (2, 3, 1, 0))
            layers.setdefault(layer, {})[array] = numbers
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array(list(layers), dtype="S")
        for layer, held in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{layer}/{array}:0" for array in held], dtype="S")
            for array, numbers in held.items():
                group[f"{layer}/{array}:0"] = numbers
    return path


@pytest.mark.parametrize("scaling", [("dark_input",), ("dark_input", "root_std")])
def test_keras_weights_by_name(tmp_path, scaling):
    made = network("b0", compat=scaling)
    std = np.array(ENCODERS["b0"].std)
    path = keras_file(tmp_path / "w.h5", made, variance=std if "root_std" in scaling else std**2)
    weights = read_weights(path)
    assert weights.header["network"] == network_header("b0", FILTERS, [["cell"]], scaling=scaling)
    assert weights.header["config"]["compat"] == [*scaling, "colouring", "plain_grid"]
    assert weights.header["config"]["fit_frame"]
    same(network_of(weights), made, torch.rand(1, 3, 32, 32))


def test_keras_weights_that_are_not_the_published_networks(tmp_path):
    made = network("b0")
    std = ENCODERS["b0"].std
    with pytest.raises(WeightsError, match=r"it has no layers for last"):
        read_weights(keras_file(tmp_path / "a.h5", made, variance=std, skip="de_conv2d_last"))
    with pytest.raises(WeightsError, match=r"5 entries of a network with encoder 'b0' are missing"):
        read_weights(keras_file(tmp_path / "b.h5", made, variance=std, skip="en_block3a_bn"))
    with pytest.raises(WeightsError, match=r"its input is normalised with the means \[0. 0. 0.\]"):
        read_weights(keras_file(tmp_path / "c.h5", made, variance=(1.0, 1.0, 1.0), mean=(0.0, 0.0, 0.0)))


def onnx_file(path, *, colours_last=False, kernel=((1.0, 2.0, 3.0),)):
    """A network of one 1 x 1 convolution and a sigmoid."""
    graph = Graph()
    x = graph.node("Transpose", ["x"], perm=[0, 3, 1, 2]) if colours_last else "x"
    weight = graph.constant(torch.tensor(kernel).reshape(len(kernel), 3, 1, 1))
    x = graph.node("Sigmoid", [graph.node("Conv", [x, weight], kernel_shape=[1, 1])])
    x = graph.node("Transpose", [x], perm=[0, 2, 3, 1]) if colours_last else x
    path.write_bytes(graph.file("x", 3, x, len(kernel), colours_last=colours_last))
    return path


@pytest.mark.parametrize("colours_last", [True, False])
def test_an_onnx_file_is_a_network(tmp_path, colours_last):
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    weights = read_weights(onnx_file(tmp_path / "w.onnx", colours_last=colours_last))
    assert weights.header["network"]["outputs"] == [["cell"]]
    picture = torch.rand(2, 3, 17, 1)
    expected = (picture * torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(network_of(weights)(picture), expected, rtol=1e-4, atol=1e-4)
    save_weights(tmp_path / "ours.safetensors", weights)
    again = read_weights(tmp_path / "ours.safetensors")
    torch.testing.assert_close(network_of(again)(picture), expected, rtol=1e-4, atol=1e-4)


def test_onnx_files_that_are_no_network_for_cells(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError, match="ONNX Runtime does not read it"):
        network_of(read_weights(tmp_path / "a.onnx"))
    two = network_of(read_weights(onnx_file(tmp_path / "b.onnx", kernel=((1.0, 2.0, 3.0),) * 2)))
    with pytest.raises(WeightsError, match="expected one channel of probabilities"):
        two(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize(("name", "outputs"), [("lite0", 1), ("b0", 2)])
def test_onnx_runtime_gives_the_same_numbers(name, outputs):
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    made = network(name, outputs)
    quick = fast.ready(made, torch.device("cpu"))
    assert isinstance(quick, fast.InOnnxRuntime)
    same(quick, made, torch.rand(2, 3, 48, 32), rtol=1e-4, atol=1e-5)
    same(quick, made, torch.rand(1, 3, 64, 64), rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="multiples of 16"):
        quick(torch.rand(1, 3, 40, 32))


def test_without_onnx_runtime_pytorch_does_it(monkeypatch):
    monkeypatch.setattr(fast, "find_spec", lambda name: None)
    made = network()
    same(fast.ready(made, torch.device("cpu")), made, torch.rand(1, 3, 32, 32), rtol=1e-4, atol=1e-5)
    with pytest.raises(MissingExtraError, match=r"pip install 'howdah\[onnx\]'"):
        fast.ready(made, torch.device("cpu"), by="onnx")
    assert b"Conv" in onnx_of(fast.folded(made))
