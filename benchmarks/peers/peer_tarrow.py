"""TAP as published (BSD-3, package tarrow): a training step, and dense features."""

import importlib

from timed import measured


def models():
    return importlib.import_module("tarrow.models")


def step(given):
    import torch

    network = models().TimeArrowNet(n_features=32, n_frames=2, symmetric=True).train()
    apart = importlib.import_module("tarrow.models.losses").DecorrelationLoss()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-6)
    x, y = torch.rand(given["batch"], 2, 1, 96, 96), torch.randint(0, 2, (given["batch"],))

    def work():
        optimiser.zero_grad()
        logits, z = network(x, mode="both")
        (torch.nn.functional.cross_entropy(logits, y) + 0.01 * apart(z.flatten(0, 1))).backward()
        optimiser.step()

    return work


def features(given):
    import torch

    network = models().TimeArrowNet(n_features=32, n_frames=2, symmetric=True).eval()
    pair = torch.rand(1, 1, 1, given["edge"], given["edge"])

    def work():
        with torch.no_grad():
            return network(pair, mode="projection")

    return work


def version():
    return "a checkout" if models() else ""


measured({"step": step, "features": features}, version)
