"""How fast EfficientCellSeg predicts here, beside the bare network, and what it takes of the memory.

1. A tile of 384 x 384: the bare network (folded, channels last), and the way from a frame to its maps around it.
2. A whole frame of 1024 x 1024 in tiles, against as many bare tiles.
3. A volume of planes of 1024 x 1024, uint16, from a TIFF file to labels in a file, plane by plane: colours, network, cells joined by planes;
   and against it all maps at once, then cells in 3D. Each in a process of its own; the memory is what it needs more at most than after
   loading and one small frame. The network has random weights: it is timed, but cells are cut from the brightness of the picture.

``python benchmarks/bench_efficientcellseg_predict.py [--planes 64] [--encoder lite0] [--only tile,frame,stream,whole] [--threads 1]``
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch
from torch import nn

from bdv_io.formats import open_image
from bdv_io.image import Hints
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.instances import find_cells, find_cells_by_plane
from howdah.methods.efficientcellseg.network import EfficientCellSeg
from howdah.methods.efficientcellseg.predict import Network
from howdah.methods.efficientcellseg.weights import network_header
from howdah.nn.checkpoint import Weights

EDGE, DIAMETER = 1024, 24.0
VOXEL = (4.0, 1.0, 1.0)


class Seen(nn.Module):
    """Runs a network for its time, and says what is bright."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, image):
        return self.inner(image) * 0 + (image[:, 1:2] - 0.2) * 30


def weights_of(encoder):
    torch.manual_seed(0)
    network = EfficientCellSeg(encoder)
    header = network_header(encoder, (64, 48, 32, 16), [["cell"]])
    return Weights((network.state_dict(),), {"method": "efficientcellseg", "network": header})


def predictor(encoder, **settings):
    network = Network(weights_of(encoder), EfficientCellSegConfig.of({"device": "cpu", **settings}))
    return network


def timed(works, repeats=7):
    """Median CPU seconds of several works, done in turns, so that other work on the machine hits all alike."""
    taken = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            cpu = time.process_time()
            work()
            if turn:
                taken[name].append(time.process_time() - cpu)
    return {name: statistics.median(each) for name, each in taken.items()}


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def tile(encoder, edge=384, repeats=7):
    """Bare tiles against the whole way, for a frame of one tile, or of several."""
    network = predictor(encoder, colour="grey")
    frame = np.random.default_rng(0).integers(0, 4000, (1, edge, edge)).astype(np.uint16)
    plan = network._plan((1, edge, edge))
    sizes = tuple(part.stop - part.start for part in plan[0].region)
    bare, _ = network.members[0]
    image = torch.rand(1, 3, *sizes).contiguous(memory_format=torch.channels_last)

    def alone():
        with torch.inference_mode(), network.place.autocast():
            for _ in plan:
                bare(image)

    found = timed({"bare": alone, "maps": lambda: network.maps(frame)}, repeats)
    seen = len(plan) * np.prod(sizes) / edge**2
    name = f"{edge} x {edge}: {len(plan)} tiles of {sizes[0]} x {sizes[1]} ({seen:.2f} times its pixels)"
    over = found["maps"] / found["bare"] - 1
    row(encoder, name, f"{found['bare'] * 1e3:.0f}", f"{found['maps'] * 1e3:.0f}", f"{100 * over:.1f} %")


def volume(path, planes):
    """Write cells 24 pixels wide, 6 planes deep, plane by plane."""
    y, x = np.ogrid[:EDGE, :EDGE]
    flat = (y % 32 - 16) ** 2 + (x % 32 - 16) ** 2
    rng = np.random.default_rng(0)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for z in range(planes):
            ball = flat + 16 * (z % 8 - 4) ** 2 <= (DIAMETER / 2) ** 2
            file.write((200 + 3000 * ball + rng.integers(0, 200, (EDGE, EDGE))).astype(np.uint16), contiguous=True)


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_volume(how, path, encoder):
    """Predict the volume in this process, and print what it took."""
    network = predictor(encoder)
    network.members = [(Seen(network.members[0][0]), ("cell",))]
    image = open_image(path, hints=Hints(axes="ZYX"))
    shape = image.shape(0)
    network.maps(np.zeros((2, 384, 384), np.uint16))
    before, cpu, wall = peak_mib(), time.process_time(), time.perf_counter()
    if how == "stream":
        every = slice(None)

        def read(z):
            return image.read(0, region=(slice(z, z + 1), every, every))[0]

        stream = find_cells_by_plane(network.planes(read, shape), network.config, voxel_size=VOXEL, diameter=DIAMETER)
        with tempfile.TemporaryFile() as kept:
            while True:
                try:
                    kept.write(next(stream)[1].tobytes())
                except StopIteration as end:
                    n_cells = len(end.value.quality)
                    break
    else:
        frame = image.read(0)
        n_cells = len(find_cells(network.maps(frame), network.config, voxel_size=VOXEL, diameter=DIAMETER).quality)
    found = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "mib": peak_mib() - before}
    print(json.dumps({**found, "cells": n_cells, "planes": shape[0]}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=64)
    parser.add_argument("--encoder", default="lite0")
    parser.add_argument("--only", default="tile,frame,stream,whole")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--volume", nargs=2, metavar=("HOW", "FILE"), help="used by this script itself")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.volume:
        one_volume(*asked.volume, asked.encoder)
        return
    parts = asked.only.split(",")
    if {"tile", "frame"} & set(parts):
        row("encoder", "frame", "bare network, ms CPU", "frame to maps, ms CPU", "more")
        row(*["---"] * 5)
    if "tile" in parts:
        tile(asked.encoder)
    if "frame" in parts:
        tile(asked.encoder, EDGE, repeats=2)
    volumes = [how for how in ("stream", "whole") if how in parts]
    if volumes:
        print()
        row("volume", "planes", "CPU s", "CPU s a plane", "wall s", "memory above the loaded state, MiB", "cells")
        row(*["---"] * 7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.tif"
        if volumes:
            volume(path, asked.planes)
        for how in volumes:
            command = [sys.executable, __file__, "--volume", how, str(path)]
            command += ["--encoder", asked.encoder, "--threads", str(asked.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            got = json.loads(done.stdout.splitlines()[-1])
            each = got["cpu"] / got["planes"]
            row(
                how,
                got["planes"],
                f"{got['cpu']:.0f}",
                f"{each:.2f}",
                f"{got['wall']:.0f}",
                f"{got['mib']:.0f}",
                got["cells"],
            )


if __name__ == "__main__":
    main()
