import pytest
import torch
import torch.nn.functional as F

from howdah.methods.elephant.flow import network
from howdah.methods.elephant.flow.network import FlowNet


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return FlowNet().eval()


def test_size_is_the_papers(net):
    assert sum(p.numel() for p in net.parameters()) == 5_928_051
    assert len(net.state_dict()) == 43


def test_keys_and_shapes_are_those_of_the_published_files():
    shapes = network.shapes()
    assert shapes["encoder.0.res.weight"] == (16, 2, 1, 1, 1)
    assert "encoder.0.res.bias" not in shapes
    assert shapes["encoder.3.conv1.weight"] == (128, 64, 3, 3, 3)
    assert shapes["encoder.3.conv2.bias"] == (128,)
    assert shapes["base.conv1.weight"] == (256, 128, 3, 3, 3)
    assert [shapes[f"decoder.{i}.0.weight"][:2] for i in range(4)] == [(128, 384), (64, 192), (32, 96), (16, 48)]
    assert shapes["decoder.2.2.weight"] == (32, 32, 3, 3, 3)
    assert shapes["out_conv.weight"] == (3, 16, 1, 1, 1)


def plain(net, x, keep):
    """The same, written out with torch's own layers; x, y, z as in the published files."""

    def conv(layer, x):
        return F.conv3d(x, layer.weight, layer.bias, padding=1)

    def residual(b, x):
        inner = conv(b.conv2, F.leaky_relu(conv(b.conv1, x), 0.1))
        return F.leaky_relu((F.conv3d(x, b.res.weight) + inner) / 2, 0.1)

    skips = []
    for b, k in zip(net.encoder, keep, strict=True):
        x = residual(b, x)
        skips.append(x)
        x = F.max_pool3d(x, (1, 2, 2) if k else 2)
    x = residual(net.base, x)
    for b, k in zip(net.decoder, keep[::-1], strict=True):
        up = x if k else x.repeat_interleave(2, 2)
        up = up.repeat_interleave(2, 3).repeat_interleave(2, 4)
        x = F.leaky_relu(conv(b[0], torch.cat([skips.pop(), up], 1)), 0.1)
        x = F.leaky_relu(conv(b[2], x), 0.1)
    return torch.tanh(F.conv3d(x, net.out_conv.weight, net.out_conv.bias))


@pytest.mark.parametrize("n_keep", [1, 3])
def test_forward_equals_plain_layers_in_z_y_x(net, n_keep):
    keep = [i < n_keep for i in range(4)]
    x = torch.rand(2, 2, 8, 16, 32)
    with torch.inference_mode():
        torch.testing.assert_close(net(x, keep), plain(net, x, keep).flip(1), rtol=1e-4, atol=1e-5)


def test_sizes_that_are_no_multiple_see_replicated_edges(net):
    keep = [True, True, False, False]
    x = torch.rand(1, 2, 6, 20, 32)
    grown = F.pad(x, (0, 0, 6, 6, 1, 1), mode="replicate")
    with torch.inference_mode():
        assert torch.equal(net(x, keep), net(grown, keep)[:, :, 1:7, 6:26])


def test_a_published_2d_network_becomes_middle_planes_without_motion_in_z(net):
    flat = {}
    for key, value in net.state_dict().items():
        flat[key] = value[:, :, value.shape[2] // 2] if value.ndim == 5 else value
    flat["out_conv.weight"], flat["out_conv.bias"] = flat["out_conv.weight"][:2], flat["out_conv.bias"][:2]
    assert sum(v.numel() for v in flat.values()) == 2_006_050
    grown = network.with_depth(flat)
    assert {k: tuple(v.shape) for k, v in grown.items()} == network.shapes()
    other = FlowNet().eval()
    other.load_state_dict(grown)
    x = torch.rand(1, 2, 1, 32, 32)
    with torch.inference_mode():
        flow = other(x, [True] * 4)
        torch.testing.assert_close(flow[:, 1:], net(x, [True] * 4)[:, 1:])
    assert not flow[:, 0].any()
    assert network.with_depth(net.state_dict())["out_conv.weight"].shape[0] == 3
