"""EmbedTrack as published (a checkout): its network on a pair of frames, and its clustering of one prediction."""

import importlib

from timed import measured


def code(name):
    return importlib.import_module(f"embedtrack.{name}")


def forward(given):
    import torch

    network = code("models.net").TrackERFNet(n_classes=[4, 1, 2], input_channels=1).eval()
    later, earlier = torch.rand(2, 1, 1, *given["shape"][-2:])

    def work():
        with torch.no_grad():
            return network(later, earlier)

    return work


def cluster(given):
    import numpy as np
    import torch

    fields, edge = np.load(given["file"]), given["edge"]
    logits = [np.arctanh(fields["offset"]), *(np.log(p / (1 - p)) for p in (fields["width"], fields["seed"][None]))]
    prediction = torch.from_numpy(np.concatenate(logits).astype(np.float32))
    tool = code("utils.clustering").Cluster(edge, edge, (edge - 1) / 255, (edge - 1) / 255)
    tool.smoothing_filt.bias.data.zero_()

    def work():
        with torch.no_grad():
            return tool.cluster_pixels(prediction, n_sigma=2, min_obj_size=20)

    return work


def version():
    return "a checkout" if code("models.net") else ""


measured({"forward": forward, "cluster": cluster}, version)
