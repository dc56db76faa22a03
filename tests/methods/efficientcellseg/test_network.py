"""The network: its size, its maps, its input."""

import numpy as np
import pytest
import timm
import torch

from howdah.errors import DataError
from howdah.methods.efficientcellseg.encoders import ENCODERS, timm_name
from howdah.methods.efficientcellseg.fast import folded
from howdah.methods.efficientcellseg.network import EfficientCellSeg, Encoder, shapes


def stirred(network):
    """A network whose normalisations do something."""
    drawn = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            n = module.num_features
            module.running_mean.copy_(0.2 * torch.randn(n, generator=drawn))
            module.running_var.copy_(0.5 + torch.rand(n, generator=drawn))
            module.weight.data.copy_(0.7 + 0.6 * torch.rand(n, generator=drawn))
            module.bias.data.copy_(0.2 * torch.randn(n, generator=drawn))
    return network


def count(found, part=""):
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return sum(int(np.prod(s)) for key, s in found.items() if key.startswith(part) and not key.endswith(buffers))


def test_the_published_network_has_its_published_number_of_parameters():
    found = shapes("b5", (64, 48, 32, 16), 1)
    assert count(found) == 6_629_433
    assert count(found, "encoder") == 5_565_880
    assert count(found, "decoder") + count(found, "last") == 1_063_553
    assert found["encoder.conv_pw.weight"][0] == 1056


@pytest.mark.parametrize(("filters", "parameters"), [((112, 80, 48, 16), 1_962_689), ((512, 256, 128, 64), 11_933_057)])
def test_larger_decoders(filters, parameters):
    """The paper's table says 4.8 and 12.5 million for these lists of filters; they do not follow from its figure 2."""
    found = shapes("b5", filters, 1)
    assert count(found, "decoder") + count(found, "last") == parameters


@pytest.mark.parametrize("name", ["lite0", "b0"])
def test_the_maps_of_the_encoder_are_those_inside_timms_blocks(name):
    """With squeeze-and-excitation (b0) and without (lite0)."""
    whole = timm.create_model(timm_name(name)).eval()
    stirred(whole)
    encoder = Encoder(name).eval()
    encoder.conv_stem, encoder.bn1, encoder.blocks = whole.conv_stem, whole.bn1, torch.nn.ModuleList(whole.blocks[:5])
    encoder.conv_pw, encoder.bn2 = whole.blocks[5][0].conv_pw, whole.blocks[5][0].bn1
    kept = []
    for stage in (0, 2, 3, 5):
        whole.blocks[stage][0].bn1.register_forward_hook(lambda *args: kept.append(args[2].clone()))
    image = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        whole(image)
        found = encoder(image)
    assert [f.shape[-2:] for f in found] == [(32, 24), (16, 12), (8, 6), (4, 3)]
    assert tuple(f.shape[1] for f in found) == encoder.channels
    for ours, theirs in zip(found, kept[:4], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_blocks_are_skipped_at_random_in_training_only():
    network = EfficientCellSeg("lite0", drop_connect=0.9)
    picture = torch.rand(2, 3, 32, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(network(picture), network(picture))
        network.eval()
        assert torch.equal(network(picture), network(picture))


def test_the_gradient_reaches_every_parameter():
    network = EfficientCellSeg("lite0", outputs=2, drop_connect=0.0)
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())


def test_every_size_that_is_a_multiple_of_16_and_no_other():
    network = EfficientCellSeg("lite0", outputs=2).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 48, 80)).shape == (1, 2, 48, 80)
        with pytest.raises(DataError, match="50 x 64 pixels; it takes multiples of 16"):
            network(torch.rand(1, 3, 50, 64))


def test_the_published_faults_of_the_input():
    """Keras divides by 255, subtracts the mean and divides by the root of its variance; the published code gives it 0..1."""
    seen = {}
    picture = torch.rand(1, 3, 32, 32)
    for compat in ((), ("dark_input",), ("root_std",), ("dark_input", "root_std")):
        network = EfficientCellSeg("b0", compat=compat).eval()
        network.encoder.register_forward_pre_hook(lambda _, given, compat=compat: seen.setdefault(compat, given[0]))
        with torch.no_grad():
            network(picture)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (ENCODERS["b0"].mean, ENCODERS["b0"].std))
    torch.testing.assert_close(seen[()], (picture - mean) / std)
    torch.testing.assert_close(seen["dark_input",], (picture / 255 - mean) / std)
    torch.testing.assert_close(seen["root_std",], (picture - mean) / std.sqrt())
    torch.testing.assert_close(seen["dark_input", "root_std"], (picture / 255 - mean) / std.sqrt())


@pytest.mark.parametrize("name", ["lite0", "b0"])
def test_folding_changes_nothing(name):
    network = stirred(EfficientCellSeg(name, outputs=2).eval())
    picture = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before, after = network(picture), folded(network)(picture)
        assert torch.equal(network(picture), before)  # it was copied
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded(network).modules())


@pytest.mark.slow
def test_the_network_can_be_exported():
    network = EfficientCellSeg("lite0").eval()
    picture = torch.rand(1, 3, 32, 32)
    exported = torch.export.export(network, (picture,))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(picture), network(picture))


def test_the_table_of_encoders_is_timms():
    for name, facts in ENCODERS.items():
        theirs = timm.get_pretrained_cfg(f"{timm_name(name)}.{facts.tag}")
        assert facts.address.rpartition("/")[2] == theirs.url.rpartition("/")[2]
        assert (facts.mean, facts.std) == (theirs.mean, theirs.std)
        assert len(facts.digits) == 8
        assert facts.tag == "aa_in1k" or f"{timm_name(name)}.aa_in1k" not in timm.list_pretrained(f"*{name}.*")
