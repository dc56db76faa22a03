"""Where to compute, and in which precision: picked automatically, told in a sentence."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from howdah.errors import ConfigError
from howdah.nn.amx import bfloat16_works

__all__ = ["Place", "for_training", "free_memory_mb", "pick", "threads", "use_threads"]

KINDS = ("auto", "cpu", "cuda", "mps")
LEAST_MB = 2000.0
DIES = "this processor announces AMX, but a trial of bfloat16 ended the trying process."
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Place:
    """A device and the precision that convolutions run in there (weights and losses stay float32).

    Attributes:
        device: Where tensors live.
        precision: Type of the mixed-precision arithmetic; float32 means none.
        sentence: Why this one, for the log.
    """

    device: torch.device
    precision: torch.dtype
    sentence: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which a forward pass runs."""
        if self.precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def pick(device: str = "auto", *, precision: str = "auto") -> Place:
    """Pick where to compute.

    Args:
        device: ``"auto"`` (CUDA, else Apple's MPS, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"auto"`` (bfloat16 where the hardware multiplies it natively, else float32), or a type's name.

    Raises:
        ConfigError: The device is unknown or not there, or the precision is unknown or does not work on it; as bfloat16 on a
            processor that announces AMX without having it (see :mod:`howdah.nn.amx`).
    """
    kind = device.partition(":")[0]
    if kind not in KINDS or precision not in PRECISIONS:
        raise ConfigError(
            f"There is no device '{device}' with precision '{precision}'. "
            f"Devices are {', '.join(KINDS)} (or cuda:1 and so on); precisions are {', '.join(PRECISIONS)}."
        )
    if kind == "auto":
        kind = device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise ConfigError(
            f"Computing on '{device}' was asked for, but torch {torch.__version__} sees no such device here. "
            "Use device 'auto' or 'cpu', or install a torch build for that device."
        )
    place = torch.device(device)
    if kind == "cuda" and place.index is not None and place.index >= torch.cuda.device_count():
        raise ConfigError(
            f"Computing on '{device}' was asked for, but there are {torch.cuda.device_count()} CUDA devices."
        )
    if precision == "float16" and kind != "cuda":
        raise ConfigError(f"Precision float16 is for CUDA devices; on '{device}' use auto, bfloat16 or float32.")
    chosen = getattr(torch, precision) if precision != "auto" else _native(kind)
    why = ""
    if kind == "cpu" and chosen == torch.bfloat16 and not bfloat16_works():
        if precision != "auto":
            raise ConfigError(f"Precision bfloat16 was asked for, but {DIES} Use auto or float32.")
        chosen, why = torch.float32, f" {DIES[0].upper()}{DIES[1:]}"
    return Place(place, chosen, f"Computing on {_name(place)} in {str(chosen).removeprefix('torch.')}.{why}")


def for_training(place: Place, planes: Iterable[int]) -> Place:
    """Return where, and in which precision, volumes are learned rightly.

    On the CPU in bfloat16 the gradients of the weights of a 3D convolution over exactly two planes are partly memory that was never
    written (torch 2.13 to 2.15 with oneDNN): NaN, or worse, any number. There float32 takes its place.

    Args:
        place: As :func:`pick` gives it.
        planes: How many planes the network's layers see, input and after each pooling; empty in 2D.
    """
    if place.device.type != "cpu" or place.precision != torch.bfloat16 or 2 not in set(planes):
        return place
    sentence = (
        f"{place.sentence.removesuffix('in bfloat16.')}in float32: in bfloat16 two planes are learned wrongly there."
    )
    return replace(place, precision=torch.float32, sentence=sentence)


def free_memory_mb(device: torch.device | None = None) -> float:
    """Return how much memory work may take where nobody said: MiB.

    Args:
        device: On CUDA 60 % of the device's free memory; else half of the computer's (or container's) free memory, or half
            of all of it where the system does not tell what is free; at least 2000.
    """
    if device is not None and device.type == "cuda":
        return 0.6 * torch.cuda.mem_get_info(device)[0] / 2**20
    return max(_available() / 2 / 2**20, LEAST_MB)


def threads() -> int:
    """Return how many threads of the CPU torch computes with in this process."""
    return torch.get_num_threads()


def use_threads(number: int) -> None:
    """Have torch compute with so many threads of the CPU: by another number sums are added in another order."""
    torch.set_num_threads(number)


def _available() -> float:
    """Bytes of main memory that are free, 0 if unknown."""
    found = _number(Path("/proc/meminfo"), "MemAvailable:") * 1024
    if not found and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    allowed = _number(Path("/sys/fs/cgroup/memory.max"))
    if allowed:
        found = min(found, max(allowed - _number(Path("/sys/fs/cgroup/memory.current")), 0.0))
    return found


def _number(file: Path, key: str = "") -> float:
    """Return the number after a key in a file of the system, 0 where there is none."""
    try:
        words = file.read_text(encoding="ascii", errors="replace").partition(key)[2] if key else file.read_text()
    except OSError:
        return 0.0
    first = words.split()[:1]
    return float(first[0]) if first and first[0].isdigit() else 0.0


def _native(kind: str) -> torch.dtype:
    """bfloat16 only where the hardware has it: emulated, it is slower than float32 and less exact."""
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if kind == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
    return torch.float32


def _name(place: torch.device) -> str:
    if place.type == "cuda":
        return f"{torch.cuda.get_device_name(place)} ({place})"
    return f"the CPU ({torch.get_num_threads()} threads)" if place.type == "cpu" else "Apple's GPU (mps)"
