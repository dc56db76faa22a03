import pytest
import torch

from howdah.errors import WeightsError
from howdah.methods.embedtrack.network import BranchedERFNet, shapes
from howdah.methods.embedtrack.weights import METHOD, network_header, network_of, read_weights
from howdah.nn.checkpoint import Weights, save_weights


def trained(n_dims=2, n_channels=1, keep_axials=0):
    """A network as if trained: no weight and no statistic is what it started from."""
    torch.manual_seed(1)
    network = BranchedERFNet(n_dims, n_channels, keep_axials)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value += 0.1 * torch.rand_like(value) if "running_var" in name else 0.05 * torch.randn_like(value)
            else:
                value += 7
    return network.eval()


def published_file(path, network, **changes):
    """Write what the authors' training writes."""
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters()).state_dict()
    content = {
        "epoch": 14,
        "best_iou": 0.87,
        "model_state_dict": state,
        "optim_state_dict": optimiser,
        "logger_data": {"train": [1.0]},
    }
    torch.save({**content, **changes}, path)
    return path


def outputs(network, image):
    with torch.inference_mode():
        return network(image, image.flip(-1))


def test_the_network_has_the_published_size():
    network = BranchedERFNet()
    assert sum(p.numel() for p in network.parameters()) == 2_514_749
    assert len(network.state_dict()) == 519


def test_a_published_checkpoint_gives_the_same_output(tmp_path):
    network = trained()
    weights = read_weights(published_file(tmp_path / "best_iou_model.pth", network))
    assert weights.header["method"] == METHOD
    assert weights.header["network"] == network_header(2, 1, 0)
    assert weights.header["noted"] == {"epoch": 14, "best_iou": 0.87}
    image = torch.rand(1, 1, 16, 24)
    for one, other in zip(outputs(network_of(weights), image), outputs(network, image), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [(2, 1, 0), (2, 3, 0), (3, 1, 0), (3, 2, 2)])
def test_ours_come_back(tmp_path, kind):
    network = trained(*kind)
    save_weights(
        tmp_path / "w.safetensors",
        Weights((network.state_dict(),), {"method": METHOD, "network": network_header(*kind)}),
    )
    weights = read_weights(tmp_path / "w.safetensors")
    assert weights.sha256 == weights.header["sha256"]
    again = network_of(weights)
    assert {k: tuple(v.shape) for k, v in again.state_dict().items()} == shapes(*kind)
    image = torch.rand(1, kind[1], *(8, 16, 16)[-kind[0] :])
    for one, other in zip(outputs(again, image), outputs(network, image), strict=True):
        assert torch.equal(one, other)


def test_a_cut_checkpoint(tmp_path):
    path = published_file(tmp_path / "p.pth", BranchedERFNet())
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"p.pth failed: it is damaged"):
        read_weights(path)


def test_a_checkpoint_without_the_tracking_decoder(tmp_path):
    state = {f"module.{k}": v for k, v in BranchedERFNet().state_dict().items() if "decoders.2" not in k}
    path = published_file(tmp_path / "p.pth", BranchedERFNet(), model_state_dict=state)
    with pytest.raises(WeightsError, match=r"entries are missing \(decoders.2.*belongs to another network"):
        read_weights(path)


def test_a_checkpoint_that_broke_down(tmp_path):
    network = BranchedERFNet()
    with torch.no_grad():
        network.encoder.initial_block.conv.bias[0] = torch.nan
    with pytest.raises(WeightsError, match="not finite"):
        read_weights(published_file(tmp_path / "p.pth", network))


def test_a_checkpoint_of_another_width(tmp_path):
    state = BranchedERFNet().state_dict()
    state["encoder.layers.0.conv.weight"] = torch.zeros(30, 16, 3, 3)
    path = published_file(tmp_path / "p.pth", BranchedERFNet(), model_state_dict=state)
    with pytest.raises(WeightsError, match=r"has shape \(30, 16, 3, 3\)"):
        read_weights(path)


def test_a_checkpoint_of_something_else(tmp_path):
    torch.save({"model_state_dict": {"a": torch.zeros(2)}}, tmp_path / "p.pth")
    with pytest.raises(WeightsError, match=r"519 entries are missing"):
        read_weights(tmp_path / "p.pth")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"n_dims": 2, "n_channels": 1, "keep_axials": 0}, "but the weights are of"),
        ({"n_dims": 3, "n_channels": 1, "keep_axials": 9}, "but the weights are of"),
        ({"n_dims": "3"}, "header is damaged"),
        (None, "does not say in how many"),
    ],
)
def test_a_header_that_does_not_fit(tmp_path, network, said):
    state = BranchedERFNet(3, 1, 1).state_dict()
    header = {"method": METHOD} if network is None else {"method": METHOD, "network": network}
    save_weights(tmp_path / "w.safetensors", Weights((state,), header))
    with pytest.raises(WeightsError, match=said):
        read_weights(tmp_path / "w.safetensors")
