import pytest
import torch
import torch.nn.functional as F

from howdah.errors import WeightsError
from howdah.methods.elephant import network
from howdah.methods.elephant.network import UNet


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return UNet().eval()


def test_size_is_the_papers(net):
    assert sum(p.numel() for p in net.parameters()) == 5_887_011
    assert len(net.state_dict()) == 74


def test_keys_and_shapes_are_those_of_the_published_files():
    shapes = network.shapes()
    assert shapes["encoder.0.0.weight"] == (16, 1, 3, 3, 3)
    assert shapes["encoder.3.3.weight"] == (128, 128, 3, 3, 3)
    assert shapes["encoder.1.2.weight"] == shapes["encoder.1.5.bias"] == (32,)
    assert shapes["base.0.weight"] == (256, 128, 3, 3, 3)
    assert [shapes[f"decoder.{i}.0.weight"][:2] for i in range(4)] == [(128, 384), (64, 192), (32, 96), (16, 48)]
    assert shapes["out_conv.weight"] == (3, 16, 1, 1, 1)


def test_initial_values_are_the_papers(net):
    weight = net.encoder[2][0].weight
    assert weight.std().item() == pytest.approx((2 / (32 * 27)) ** 0.5, rel=0.05)
    assert not net.base[3].bias.any()
    assert (net.base[2].weight == 1).all()
    assert not net.base[2].bias.any()


@pytest.mark.parametrize("n_keep", [0, 2, 4])
def test_probabilities_sum_to_one_at_the_input_size(net, n_keep):
    keep = [i < n_keep for i in range(4)]
    with torch.inference_mode():
        log_p = net(torch.rand(2, 1, 5, 19, 33), keep)
    assert log_p.shape == (2, 3, 5, 19, 33)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2, 5, 19, 33))


def plain(net, x, keep):
    """The same, written out with torch's own layers."""

    def block(b, x):
        for conv, norm in ((b[0], b[2]), (b[3], b[5])):
            x = F.relu(F.conv3d(x, conv.weight, conv.bias, padding=1))
            x = F.group_norm(x, min(32, x.shape[1]), norm.weight, norm.bias)
        return x

    skips = []
    for b, k in zip(net.encoder, keep, strict=True):
        skips.append(block(b, x))
        x = F.max_pool3d(skips[-1], (1, 2, 2) if k else 2)
    x = block(net.base, x)
    for b, k in zip(net.decoder, keep[::-1], strict=True):
        up = x if k else x.repeat_interleave(2, 2)
        up = up.repeat_interleave(2, 3).repeat_interleave(2, 4)
        x = block(b, torch.cat([skips.pop(), up], 1))
    return F.log_softmax(F.conv3d(x, net.out_conv.weight, net.out_conv.bias), 1)


@pytest.mark.parametrize("n_keep", [1, 3])
def test_forward_equals_plain_layers(net, n_keep):
    keep = [i < n_keep for i in range(4)]
    x = torch.rand(1, 1, 8, 16, 32)
    with torch.inference_mode():
        torch.testing.assert_close(net(x, keep), plain(net, x, keep), rtol=1e-4, atol=1e-4)


def test_sizes_that_are_no_multiple_see_replicated_edges(net):
    keep = [True, True, False, False]
    x = torch.rand(1, 1, 6, 20, 32)
    grown = F.pad(x, (0, 0, 6, 6, 1, 1), mode="replicate")
    with torch.inference_mode():
        assert torch.equal(net(x, keep), net(grown, keep)[:, :, 1:7, 6:26])


def test_a_published_2d_network_becomes_middle_planes(net):
    flat = {
        key: value[:, :, value.shape[2] // 2] if value.ndim == 5 else value for key, value in net.state_dict().items()
    }
    assert sum(v.numel() for v in flat.values()) == 1_965_315
    grown = network.with_depth(flat)
    assert {k: tuple(v.shape) for k, v in grown.items()} == network.shapes()
    other = UNet().eval()
    other.load_state_dict(grown)
    x = torch.rand(1, 1, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(other(x, [True] * 4), net(x, [True] * 4))
    assert network.with_depth(net.state_dict()).keys() == grown.keys()


def test_kernels_of_another_size_are_refused():
    with pytest.raises(WeightsError, match="expected 3 x 3 or 1 x 1"):
        network.with_depth({"a": torch.zeros(1, 1, 5, 5)})
