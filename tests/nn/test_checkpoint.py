import json
import pickle

import numpy as np
import pytest
import torch

from bdv_io.safe_write import previous_version
from howdah.errors import WeightsError
from howdah.nn.checkpoint import Weights, load_weights, save_weights, write_tensors

SHAPES = {"a.weight": (2, 3), "a.bias": (2,)}


def state(value=1.0):
    return {key: torch.full(shape, value) for key, shape in SHAPES.items()}


def load(path, **changes):
    return load_weights(path, **{"method": "m", "expected": SHAPES, **changes})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, Weights((state(),), {"method": "m", "config": {"seed": 3}}))
    return path


def test_weights_come_back_with_their_header(file):
    weights = load(file)
    assert torch.equal(weights.members[0]["a.weight"], torch.ones(2, 3))
    assert weights.header["config"] == {"seed": 3}
    assert weights.header["sha256"] == weights.sha256
    assert weights.header["version"]


def test_the_former_file_is_kept(file):
    save_weights(file, Weights((state(2.0),), {"method": "m"}))
    assert load(file).members[0]["a.bias"][0] == 2
    previous_version(file).rename(file)
    assert load(file).members[0]["a.bias"][0] == 1


def test_an_ensemble_comes_back_in_order(tmp_path):
    path = tmp_path / "e.safetensors"
    save_weights(path, Weights(tuple(state(float(i)) for i in range(12)), {"method": "m"}))
    assert [float(member["a.bias"][0]) for member in load(path).members] == list(range(12))


@pytest.mark.parametrize("content", [state(), {f"module.{k}": v for k, v in state().items()}])
def test_a_published_state_dict_loads(tmp_path, content):
    torch.save(content, tmp_path / "p.pth")
    weights = load(tmp_path / "p.pth")
    assert len(weights.members) == 1
    assert weights.header["source"] == "p.pth"


def test_a_published_list_is_an_ensemble(tmp_path):
    torch.save([state(1), state(2)], tmp_path / "p.pth")
    assert len(load(tmp_path / "p.pth").members) == 2


def test_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no file .*none\.pth"):
        load(tmp_path / "none.pth")


def test_another_method(file):
    with pytest.raises(WeightsError, match="made by 'm'"):
        load(file, method="other")


def test_wrong_keys(tmp_path):
    torch.save({"b": torch.ones(1)}, tmp_path / "p.pth")
    with pytest.raises(WeightsError, match=r"2 entries are missing \(a\.weight, a\.bias\) and 1 are not known \(b\)"):
        load(tmp_path / "p.pth")


def test_wrong_shape(tmp_path):
    torch.save({**state(), "a.bias": torch.ones(5)}, tmp_path / "p.pth")
    with pytest.raises(WeightsError, match=r"'a\.bias' has shape \(5,\); expected \(2,\)"):
        load(tmp_path / "p.pth")


def test_values_that_are_not_finite(tmp_path):
    torch.save({**state(), "a.bias": torch.full((2,), float("nan"))}, tmp_path / "p.pth")
    with pytest.raises(WeightsError, match="not finite"):
        load(tmp_path / "p.pth")


def test_a_cut_file(file):
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="damaged"):
        load(file)


def test_a_flipped_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="do not fit its fingerprint"):
        load(file)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, b"PK\x03\x04" + b"\0" * 50])
def test_nonsense(tmp_path, content):
    (tmp_path / "p.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        load(tmp_path / "p.pth")


class Evil:
    def __reduce__(self):
        return print, ("never printed",)


def test_code_in_a_pickle_is_not_run(tmp_path, capsys):
    torch.save({"a.weight": Evil()}, tmp_path / "p.pth", pickle_module=pickle)
    with pytest.raises(WeightsError, match="more than plain tensors"):
        load(tmp_path / "p.pth")
    assert not capsys.readouterr().out


def test_a_checkpoint_with_other_things_in_it(tmp_path):
    torch.save({"epoch": 3, "state": state()}, tmp_path / "p.pth")
    with pytest.raises(WeightsError, match="neither a state dict nor a list"):
        load(tmp_path / "p.pth")


def test_safetensors_of_another_program(tmp_path):
    from safetensors.torch import save_file

    save_file(state(), tmp_path / "o.safetensors", metadata={"x": json.dumps(1)})
    with pytest.raises(WeightsError, match="no header of Howdah"):
        load(tmp_path / "o.safetensors")


def test_a_header_without_settings_is_damaged(tmp_path):
    from safetensors.torch import save_file

    header = {"sha256": "", "method": "m", "resolved": [1, 2]}
    save_file(state(), tmp_path / "w.safetensors", metadata={"howdah": json.dumps(header)})
    with pytest.raises(WeightsError, match="header is damaged"):
        load(tmp_path / "w.safetensors")


def test_a_state_dict_beside_other_things(tmp_path):
    nested = {f"module.{k}": v for k, v in state().items()}
    torch.save(
        {"epoch": 3, "iou": np.float64(0.5), "curve": [np.float32(1)], "model_state_dict": nested}, tmp_path / "p.pth"
    )
    weights = load(tmp_path / "p.pth")
    assert torch.equal(weights.members[0]["a.bias"], torch.ones(2))
    assert weights.header["noted"] == {"epoch": 3, "iou": 0.5}


def test_what_is_expected_may_follow_from_the_file(tmp_path):
    torch.save(state(), tmp_path / "p.pth")
    assert load(tmp_path / "p.pth", expected=lambda found: {k: tuple(v.shape) for k, v in found.items()}).members
    with pytest.raises(WeightsError, match="1 are not known"):
        load(tmp_path / "p.pth", expected=lambda found: {"a.weight": (2, 3)})


def test_weights_can_be_read_by_whom_other_files_can(tmp_path):
    write_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
