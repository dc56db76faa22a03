import pytest
import torch

from howdah.methods.embedtrack.network import BranchedERFNet, multiple_of, published

KINDS = [(2, 0), (3, 0), (3, 1), (3, 3)]


def network(n_dims, keep_axials):
    torch.manual_seed(0)
    made = BranchedERFNet(n_dims, 1, keep_axials).eval()
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if value.is_floating_point():
                value += 0.2 * torch.rand_like(value) if "running_var" in name else 0.02 * torch.randn_like(value)
    return made


def pair(n_dims, keep_axials):
    size = [2 * n for n in multiple_of(n_dims, keep_axials)]
    return torch.rand(1, 1, *size), torch.rand(1, 1, *size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_has_the_size_of_the_image(kind):
    made, (later, earlier) = network(*kind), pair(*kind)
    with torch.inference_mode():
        one, two, offsets = made(later, earlier)
    n_dims = kind[0]
    assert one.shape == two.shape == (1, 2 * n_dims + 1, *later.shape[2:])
    assert offsets.shape == (1, n_dims, *later.shape[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_once_a_frame_is_the_same_as_in_pairs(kind):
    made, (later, earlier) = network(*kind), pair(*kind)
    with torch.inference_mode():
        one, two, offsets = made(later, earlier)
        features = [made.encode(image) for image in (later, earlier)]
        assert torch.allclose(made.segment(features[0]), one, atol=1e-5)
        assert torch.allclose(made.segment(features[1]), two, atol=1e-5)
        assert torch.allclose(made.track(*features), offsets, atol=1e-5)


def test_an_untrained_network_says_no_offset():
    made = BranchedERFNet(3, 1, 1).eval()
    with torch.inference_mode():
        one, _, offsets = made(*pair(3, 1))
    assert float(one[:, :3].abs().max()) == 0
    assert float(offsets.abs().max()) == 0
    assert torch.equal(one[:, 3:6], torch.ones_like(one[:, 3:6]))


def test_a_state_dict_is_known_by_its_keys():
    assert published(BranchedERFNet().state_dict())
    assert not published({"encoder.initial_block.conv.weight": torch.zeros(1)})
