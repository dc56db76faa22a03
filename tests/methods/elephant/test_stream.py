import pytest
import torch

from howdah.methods.elephant import stream as streaming
from howdah.methods.elephant.network import UNet
from howdah.nn.device import pick

TWO, NONE, ALL = (True, True, False, False), (False,) * 4, (True,) * 4


@pytest.mark.parametrize(
    ("shape", "flags", "strip"),
    [((4, 32, 48), TWO, 400), ((16, 16, 32), NONE, 1000), ((1, 48, 32), ALL, 64), ((4, 64, 16), TWO, 10**6)],
)
def test_strip_by_strip_gives_what_the_whole_gives(monkeypatch, shape, flags, strip):
    monkeypatch.setattr(streaming, "STRIP_VOXELS", strip)
    torch.manual_seed(0)
    network = UNet().eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.GroupNorm):  # norms that turn the sign, so that pooling before them would show
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
    image = torch.rand(shape)
    place = pick("cpu", precision="float32")
    with torch.inference_mode():
        whole = network(image[None, None], flags)[0]
    assert (streaming.stream(network, image, flags, place) - whole).abs().max() < 2e-3
    assert (streaming.stream(network, image, flags, place).exp() - whole.exp()).abs().max() < 2e-4
