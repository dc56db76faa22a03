"""A step of training TAP on the processor: time, and the most memory, of ours in float32 and bfloat16 and of the published code.

``python benchmarks/bench_tap_step.py [--batch 32] [--rounds 2] [--size 96] [--depth PLANES] [--peer FOLDERS]``; ``--peer`` (or
``HOWDAH_TARROW``) names where the published package ``tarrow`` and what it needs lie, as in ``PYTHONPATH``; without it, its row is missing.
Each way runs in a process of its own, with one thread; the ways take turns. The physical limit is the rate of multiplying large float32
matrices, measured in the same process, for the multiplications of the network as published.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

OURS = ("float32", "bfloat16")
STEPS = 3  # a process, after one that warms up


def published(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    from tarrow.models import TimeArrowNet
    from tarrow.models.losses import DecorrelationLoss

    network, apart = TimeArrowNet(n_features=32, n_frames=2, symmetric=True).train(), DecorrelationLoss()

    def loss() -> torch.Tensor:
        logits, z = network(x, mode="both")
        return functional.cross_entropy(logits, y) + 0.01 * apart(z.flatten(0, 1))

    return network, loss


def ours(
    x: torch.Tensor, y: torch.Tensor, precision: torch.dtype
) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    from howdah.methods.tap.lean import again
    from howdah.methods.tap.losses import decorrelation, time_arrow_loss
    from howdah.methods.tap.network import Tap, pooling
    from howdah.nn.memory import keep_large_blocks

    keep_large_blocks()
    layout = torch.channels_last if x.ndim == 5 else torch.channels_last_3d
    network = Tap(width=32 if x.ndim == 5 else 16, pools=pooling(x.ndim - 3)).to(memory_format=layout).train()

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            logits, z = network(x)
        return time_arrow_loss(logits, y) + 0.01 * again(lambda _, given: decorrelation(given), z)

    return network, loss


def products(depth: int | None, size: int) -> float:
    """Multiplications of the network as published for one frame, forward."""
    from howdah.methods.tap.network import pooling, shapes

    dimensions, width = (2, 32) if depth is None else (3, 16)
    found = 0.0
    for key, shape in shapes({"width": width, "pools": pooling(dimensions)}).items():
        if key.startswith("backbone") and len(shape) > 2:
            level = int(key.split(".")[2]) if "_conv." in key else 0
            found += torch.Size(shape).numel() * size**2 * (depth or 1) / 2 ** (dimensions * level)
    return found


def child(way: str, batch: int, size: int, depth: int | None) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(batch, 2, 1, *(() if depth is None else (depth,)), size, size)
    y = torch.randint(0, 2, (batch,))
    a = torch.rand(1024, 1024)
    rates = []
    for _ in range(5):
        began = time.process_time()
        a @ a
        rates.append(1024**3 / (time.process_time() - began))
    network, loss = published(x, y) if way == "published" else ours(x, y, getattr(torch, way))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-6, fused=way != "published")
    spent = []
    for _ in range(STEPS + 1):
        began = time.process_time()
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
        spent.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9 if resource else float("nan")
    told = {"spent": spent[1:], "peak": peak, "limit": max(rates) / (3 * 2 * products(depth, size))}
    sys.stdout.write(json.dumps(told) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--depth", type=int, help="planes: the 3D network, which has no peer")
    parser.add_argument("--peer", default=os.environ.get("HOWDAH_TARROW", ""))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        child(given.way, given.batch, given.size, given.depth)
        return
    ways = (*(("published",) if given.peer and given.depth is None else ()), *OURS)
    paths = os.pathsep.join(filter(None, (given.peer, os.environ.get("PYTHONPATH", ""))))
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way in ways:
            command = [sys.executable, __file__, "--way", way, "--batch", str(given.batch), "--size", str(given.size)]
            command += [] if given.depth is None else ["--depth", str(given.depth)]
            environment = {
                **os.environ,
                "PYTHONPATH": paths if way == "published" else os.environ.get("PYTHONPATH", ""),
            }
            environment["OMP_NUM_THREADS"] = "1"
            said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
            found[way].append(json.loads(said.splitlines()[-1]))
    space = f"{given.size}²" if given.depth is None else f"{given.depth} x {given.size}²"
    print(f"Batch {given.batch} of 2 x {space}, one thread, torch {torch.__version__}.\n")
    print("| way | step (CPU-s) | samples / CPU-s | x published | x float32 limit | most memory (GB) |")
    print("|---|---|---|---|---|---|")
    rates = {}
    for way in ways:
        spent = sorted(second for told in found[way] for second in told["spent"])
        best, middle = spent[0], spent[len(spent) // 2]
        rates[way] = given.batch / middle
        ratio = f"{rates[way] / rates['published']:.2f}" if "published" in rates else "-"
        limit = rates[way] / max(told["limit"] for told in found[way])
        peak = max(told["peak"] for told in found[way])
        print(f"| {way} | {middle:.2f} (best {best:.2f}) | {rates[way]:.2f} | {ratio} | {limit:.2f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
