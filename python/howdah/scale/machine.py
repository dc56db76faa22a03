"""What this computer has for workers: graphics cards, processor cores, memory."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from howdah.errors import ScaleError
from howdah.scale.config import ScaleConfig
from howdah.scale.plan import Plan

__all__ = [
    "check_memory",
    "cores",
    "free_memory_mb",
    "graphics_cards",
    "threads_of",
    "worker_memory_mb",
    "worker_number",
]

IDLE_MB = 600.0
"""Memory of a worker that has loaded its libraries and does nothing, about (with torch on the CPU)."""
UNKNOWN_MB = 4096.0
MIG = re.compile(r"\(UUID: (MIG-[^)\s]+)\)")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def graphics_cards(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of graphics cards as ``CUDA_VISIBLE_DEVICES`` takes them: what it says now, else all there are."""
    said = environment.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        names = [name.strip() for name in said.split(",")]
        return list(itertools.takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))  # as CUDA reads it
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return _listed(answer.stdout) if answer.returncode == 0 else []


def _listed(answer: str) -> list[str]:
    """Return the cards of a list of ``nvidia-smi``: numbers; of a card that is split (MIG) the names of its parts instead."""
    parts: list[list[str]] = []
    for line in answer.splitlines():
        if line.startswith("GPU "):
            parts.append([])
        elif parts and (found := MIG.search(line)):
            parts[-1].append(found[1])
    return [name for number, those in enumerate(parts) for name in (those or [str(number)])]


def cores() -> int:
    """Return how many processor cores this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # the share of a container (Linux, cgroup 2)
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        if quota != "max":
            allowed = min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return allowed


def free_memory_mb() -> float | None:
    """Return the memory that is free now, MiB, within what a container allows; None where the system does not say (not Linux)."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) / 1024
    except (OSError, ValueError, KeyError):
        return None
    try:
        most = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if most != "max":
            free = min(free, (int(most) - used) / 2**20)
    except (OSError, ValueError):
        pass
    return free


def worker_number(config: ScaleConfig, *, needs_mb: float = 0.0) -> int:
    """Return how many workers this computer gets: as the settings say, else one a graphics card, else one for each two cores, as many
    as there is memory for (``needs_mb``: what the largest block takes).
    """
    if config.workers is not None:
        return config.workers
    cards = len(graphics_cards())
    wanted = cards or max(1, cores() // 2)
    free = free_memory_mb()
    each = config.worker_memory_mb or needs_mb + IDLE_MB
    return wanted if free is None else max(1, min(wanted, int(free // each)))


def worker_memory_mb(config: ScaleConfig) -> float:
    """Return the memory of one worker, MiB, for a planner who cuts frames into blocks that fit.

    What the settings say; else what is free on this computer, shared among its workers; 4096 for the workers of a scheduler elsewhere.
    """
    if config.worker_memory_mb is not None:
        return config.worker_memory_mb
    free = free_memory_mb()
    if config.scheduler is not None or free is None:
        return UNKNOWN_MB
    return free / max(1, worker_number(config))


def threads_of(workers: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return how many threads numerical libraries may use in each of so many workers, as environment variables; what is set stays."""
    share = str(max(1, cores() // max(1, workers)))
    return {name: environment.get(name, environment.get("OMP_NUM_THREADS", share)) for name in THREAD_SETTINGS}


def check_memory(plan: Plan, limit_mb: float | None, *, whose: str = "a worker") -> None:
    """Refuse a plan whose largest block does not fit into the memory of a worker.

    Raises:
        ScaleError: It does not.
    """
    if limit_mb is None or not plan.blocks:
        return
    largest = max(plan.blocks, key=lambda block: block.memory_mb)
    needed = largest.memory_mb + IDLE_MB
    if largest.memory_mb and needed > limit_mb:
        raise ScaleError(
            f"The run was not started: block '{largest.key}' takes about {needed:.0f} MiB ({IDLE_MB:.0f} of them for the program), but "
            f"{whose} has {limit_mb:.0f} MiB. Cut frames into smaller blocks (--block, --window), or use fewer workers with more "
            "memory (--workers, --worker-memory-mb)."
        )
