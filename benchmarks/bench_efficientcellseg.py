"""Forward pass of EfficientCellSeg on the processor: which way is fastest, and that all give the same numbers.

``python benchmarks/bench_efficientcellseg.py [ROUNDS]``; the ways take turns, so that other work on the machine falls on all alike.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import torch

from howdah.methods.efficientcellseg.fast import folded, ready
from howdah.methods.efficientcellseg.network import EfficientCellSeg

SIZE = 384
CPU = torch.device("cpu")
Way = Callable[[torch.Tensor], torch.Tensor]


def ways(network: EfficientCellSeg) -> dict[str, Way]:
    last = torch.channels_last
    plain = copy.deepcopy(network).to(memory_format=last)
    fold, both = folded(network), ready(network, CPU, by="torch")

    def in_bfloat16(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return both(x.to(memory_format=last)).float()

    found: dict[str, Way] = {
        "PyTorch": network,
        "channels last": lambda x: plain(x.to(memory_format=last)),
        "folded": fold,
        "folded, channels last": lambda x: both(x.to(memory_format=last)),
    }
    if torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16"):
        found["folded, channels last, bfloat16"] = in_bfloat16
    if find_spec("onnxruntime"):
        found["ONNX Runtime"] = ready(network, CPU, by="onnx")
    return found


@torch.inference_mode()
def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print("| encoder | threads | pictures | way | time (ms) | processor time (ms) | x PyTorch | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    for encoder in ("b5", "lite0"):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            network = EfficientCellSeg(encoder).eval()
            found = ways(network)
            for pictures in (1, 4):
                x = torch.rand(pictures, 3, SIZE, SIZE)
                wanted = torch.sigmoid(network(x))
                apart = {name: float((torch.sigmoid(way(x)) - wanted).abs().max()) for name, way in found.items()}
                clock: dict[str, list[float]] = {name: [] for name in found}
                spent: dict[str, list[float]] = {name: [] for name in found}
                for _ in range(rounds):
                    for name, way in found.items():
                        began, busy = time.perf_counter(), time.process_time()
                        way(x)
                        clock[name].append(1e3 * (time.perf_counter() - began))
                        spent[name].append(1e3 * (time.process_time() - busy))
                base = statistics.median(spent["PyTorch"])
                for name in found:
                    took, used = statistics.median(clock[name]), statistics.median(spent[name])
                    row = f"{took:.0f} | {used:.0f} | {used / base:.2f} | {apart[name]:.0e}"
                    print(f"| {encoder} | {threads} | {pictures} | {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
