"""How fast EmbedTrack predicts here, what it takes of the memory, and where the time of a frame goes.

1. A pair of frames through the network: CPU time as a ratio to a convolution of 64 to 64 channels, 3 x 3, on 256 x 256 (one
   thread, float32), timed in turns with it. The published code's ratio, recorded on another day, is 6.1 (207 ms to 34 ms);
   beside it, in the same run, the same arithmetic as the published code's: both frames of a pair encoded and segmented.
2. A whole frame of 1024 x 1024 with 300 cells: read (TIFF), network, clustering, linking. The network has random weights; clustering and
   linking get fields of 300 ellipses with offsets that are wrong by one pixel (standard deviation).
3. Size of tiles: time and the most memory, each in a process of its own; the memory is what the process needs more than after loading.

Run it as ``python benchmarks/bench_embedtrack_predict.py``; some minutes.
"""

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

from bdv_io.formats import open_image
from howdah.methods.embedtrack.cluster import find_cells
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.folded import ready
from howdah.methods.embedtrack.link import vote
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.methods.embedtrack.predict import Network
from howdah.nn.checkpoint import Weights
from howdah.nn.device import pick
from howdah.nn.normalise import normalised

PUBLISHED = 207 / 34
TARGET = 0.6
EDGE, CELLS = 1024, 300
CONFIG = EmbedTrackConfig()


def timed(works, repeats=7):
    """Median (CPU, wall) seconds of several works, done in turns, so that other work on the machine hits all alike."""
    taken = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            if turn:
                taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: tuple(statistics.median(c) for c in zip(*rows, strict=True)) for name, rows in taken.items()}


def weights_of(n_dims=2):
    torch.manual_seed(0)
    return Weights((BranchedERFNet(n_dims).state_dict(),), {"network": {"n_dims": n_dims}})


def pair():
    torch.set_num_threads(1)
    later, earlier = torch.rand(2, 1, 1, 256, 256)
    weights = weights_of()
    plain = BranchedERFNet().eval()
    ours = ready(weights.members[0], torch.device("cpu"), n_dims=2)
    order = torch.channels_last
    image = later.contiguous(memory_format=order)
    convolution, x = torch.nn.Conv2d(64, 64, 3, padding=1), torch.rand(1, 64, 256, 256)
    with torch.inference_mode():
        places = {name: pick("cpu", precision=name) for name in ("float32", "bfloat16")}
        before = {}
        for name, place in places.items():
            with place.autocast():
                before[name] = ours.encode(earlier.contiguous(memory_format=order))

        def once(name):
            def work():
                with places[name].autocast():
                    features = ours.encode(image)
                    ours.segment(features)
                    ours.track(features, before[name])

            return work

        taken = timed({
            "convolution 64 to 64 (the unit)": lambda: convolution(x),
            "as published: both frames of the pair, float32": lambda: plain(later, earlier),
            "each frame once, float32": once("float32"),
            "each frame once, bfloat16": once("bfloat16"),
        })  # fmt: skip
    unit, reference = (
        taken["convolution 64 to 64 (the unit)"][0],
        taken["as published: both frames of the pair, float32"][0],
    )
    print("### A pair of 256 x 256, one thread\n")
    print(
        f"| | CPU ms | ratio to the unit | to the recorded {PUBLISHED:.1f} | to as published, same run (target {TARGET}) |"
    )
    print("|---|---|---|---|---|")
    for name, (cpu, _) in taken.items():
        print(f"| {name} | {cpu * 1e3:.0f} | {cpu / unit:.2f} | {cpu / unit / PUBLISHED:.2f} | {cpu / reference:.2f} |")
    torch.set_num_threads(2)


def synthetic(rng):
    """Frame, fields and labels of many ellipses on a jittered lattice; each has been 3 pixels lower a frame before."""
    unit = 1 / (CONFIG.grid_size - 1)
    labels = np.zeros((EDGE, EDGE), dtype=np.int32)
    offset = np.zeros((2, EDGE, EDGE), dtype=np.float32)
    side = int(np.ceil(np.sqrt(CELLS)))
    for label in range(1, CELLS + 1):
        row, column = divmod(label - 1, side)
        centre = (np.array([row, column]) + 0.5) * EDGE / side + rng.uniform(-8, 8, 2)
        a, b, turn = rng.uniform(6, 11), rng.uniform(6, 11), rng.uniform(0, np.pi)
        near = tuple(slice(max(int(c) - 12, 0), int(c) + 13) for c in centre)
        y, x = np.mgrid[near]
        dy, dx = y - centre[0], x - centre[1]
        u, v = dy * np.cos(turn) + dx * np.sin(turn), dx * np.cos(turn) - dy * np.sin(turn)
        inside = (u / a) ** 2 + (v / b) ** 2 <= 1
        labels[near][inside] = label
        offset[(slice(None), *near)][:, inside] = np.stack([-dy[inside], -dx[inside]]) * unit
    seed = np.where(labels > 0, 0.9, 0.02).astype(np.float32)
    offset += rng.normal(0, unit, offset.shape).astype(np.float32) * (labels > 0)
    seed -= (np.hypot(*offset) / unit * 0.01).astype(np.float32) * (labels > 0)
    tracking = -offset - np.float32(3 * unit) * np.array([1, 0], dtype=np.float32)[:, None, None]
    width = np.full((2, EDGE, EDGE), 0.75, dtype=np.float32)
    image = (200 * (labels > 0) + rng.gamma(2, 20, labels.shape)).astype(np.uint16)
    return image, Fields(offset, width, seed, tracking, (unit, unit)), labels


def whole_frame():
    rng = np.random.default_rng(0)
    image, fields, labels = synthetic(rng)
    earlier = np.roll(labels, 3, axis=0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "movie.tif"
        tifffile.imwrite(file, np.stack([image] * 4), imagej=True, metadata={"axes": "TYX"})
        movie = open_image(file)
        networks = {name: Network(weights_of(), EmbedTrackConfig(precision=name)) for name in ("float32", "bfloat16")}
        running = {name: network.fields(lambda _: image[None], range(100)) for name, network in networks.items()}
        steps = {"read a TIFF": lambda: movie.read(1), "normalise": lambda: normalised(image[None], CONFIG.percentiles)}
        for name, fields_of_movie in running.items():
            steps[f"network, {name}"] = lambda more=fields_of_movie: next(more)
        steps["clustering"] = lambda: find_cells(fields, CONFIG, min_size=20)
        steps["linking"] = lambda: vote(labels, earlier, fields, CONFIG)
        taken = timed(steps, repeats=3)
    found = find_cells(fields, CONFIG, min_size=20)
    print(f"\n### A frame of {EDGE} x {EDGE} with {CELLS} cells ({len(found)} found), two threads\n")
    print("| | CPU s | wall s |")
    print("|---|---|---|")
    total = {"float32": 0.0, "bfloat16": 0.0}
    for name, (cpu, wall) in taken.items():
        print(f"| {name} | {cpu:.2f} | {wall:.2f} |")
        for kind in total:
            if not name.startswith("network") or name.endswith(kind):
                total[kind] += wall
    for kind, seconds in total.items():
        print(f"| sum, {kind} (target 10) | | {seconds:.2f} |")


def memory(field="VmRSS:"):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(asked):
    shape, tile = asked["shape"], asked["tile"]
    torch.set_num_threads(2)
    config = EmbedTrackConfig(tile_size=tile, precision=asked["precision"], test_time=asked["views"])
    network = Network(weights_of(len(shape) - (shape[0] == 1)), config)
    frame = np.random.default_rng(0).integers(0, 1000, shape).astype(np.uint16)
    small = [min(n, 16) for n in shape]
    list(network.fields(lambda _: frame[tuple(slice(n) for n in small)], [0, 1]))  # the first call loads things
    before = memory()
    Path("/proc/self/clear_refs").write_text("5")  # the most from now on
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in network.fields(lambda _: frame, [0, 1]):
        pass
    print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall, memory("VmHWM:") - before]))


def tiles():
    print("\n### Tiles: two frames, two threads\n")
    print(
        "| frame | tile | precision | views | CPU s a frame | wall s a frame | memory, MiB | bytes a pixel | of the tile |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows = [((1, 1024, 1024), (n, n), kind, "none") for kind in ("float32", "bfloat16") for n in (128, 256, 512, 1024)]
    rows += [((1, 2048, 2048), (n, n), "bfloat16", "none") for n in (512, 2048)]
    rows += [((1, 512, 512), (512, 512), "bfloat16", "all")]
    rows += [((32, 128, 128), (32, n, n), kind, "none") for kind in ("float32", "bfloat16") for n in (64, 128)]
    for shape, tile, kind, views in rows:
        asked = json.dumps({"shape": shape, "tile": tile, "precision": kind, "views": views})
        done = subprocess.run([sys.executable, __file__, asked], capture_output=True, text=True, check=True)
        cpu, wall, most = json.loads(done.stdout.splitlines()[-1])
        by_frame, by_tile = (most * 2**20 / np.prod(size) for size in (shape, tile))
        size, part = (" x ".join(map(str, n)) for n in (shape[shape[0] == 1 :], tile))
        numbers = f"{cpu / 2:.2f} | {wall / 2:.2f} | {most:.0f} | {by_frame:.0f} | {by_tile:.0f}"
        print(f"| {size} | {part} | {kind} | {views} | {numbers} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(json.loads(sys.argv[1]))
    else:
        pair()
        whole_frame()
        tiles()
