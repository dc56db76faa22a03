"""The server of ELEPHANT (BSD-2), a checkout of its core: its networks, forward and a training step; its own losses."""

import importlib
from pathlib import Path

from timed import measured


def code(name):
    return importlib.import_module(f"elephant.{name}")


def keep_of(given):
    import torch

    return torch.tensor([given["keep"]])


def forward(given):
    import torch

    network, keep = code("models").UNet.three_class_segmentation(is_eval=True), keep_of(given)
    x = torch.rand(1, 1, *given["shape"])

    def work():
        with torch.no_grad():
            return network(x, keep)

    return work


def step(given):
    """Its network and optimiser; a weighted negative log likelihood stands for its loss, which takes about as long."""
    import torch

    network, keep = code("models").UNet.three_class_segmentation(), keep_of(given)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-5)
    x, labels = torch.rand(1, 1, *given["shape"]), torch.randint(0, 3, (1, *given["shape"]))

    def work():
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(network(x, keep), labels).backward()
        optimiser.step()

    return work


def flow(given):
    import torch

    network, keep = code("models").FlowResNet.three_dimensional_flow(is_eval=True), keep_of(given)
    x = torch.rand(1, 2, *given["shape"])

    def work():
        with torch.no_grad():
            return network(x, keep)

    return work


def version():
    module = code("version")
    return f"{getattr(module, '__version__', '')} in {Path(module.__file__).parent.name}"


measured({"forward": forward, "step": step, "flow": flow}, version)
