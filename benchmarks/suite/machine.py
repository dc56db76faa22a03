"""On what a measurement was made: processor, memory, disk, graphics card, system, versions, commit, load."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["machine"]

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARIES = (
    "numpy", "scipy", "scikit-image", "h5py", "zarr", "numcodecs", "tensorstore", "tifffile", "imagecodecs", "lxml", "roifile",
    "geff", "pyarrow", "networkx", "pydantic", "torch", "timm", "safetensors", "py-ctcmetrics", "traccuracy", "dask",
    "distributed", "fastapi", "uvicorn", "httpx",
)  # fmt: skip
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
BUSY = 0.25
"""Load of the machine at the start, per core, from which figures are suspect."""


def machine(folder: Path) -> dict[str, Any]:
    """Return what is known of this machine; ``folder`` is where files are written."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": f"{datetime.now(tz=UTC):%Y-%m-%d}",
        "commit": _commit(),
        "processor": _processor(),
        "cores": cores,
        "memory_gb": _memory_gb(),
        "disk": _disk(folder),
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all cores"),
        "load": None if load is None else round(load, 2),
        "busy": load is not None and load > BUSY * cores,
        "libraries": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _said(*command: str) -> str:
    """What a program prints; empty where there is none or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _commit() -> str:
    changed = _said("git", "status", "--porcelain", "--untracked-files=no")
    return (_said("git", "rev-parse", "--short=12", "HEAD") or "unknown") + (" with changes" if changed else "")


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    if not told.exists():
        return _said("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in told.read_text(encoding="utf-8").splitlines() if ":" in line)
    said = {key.strip(): value.strip() for key, value in lines.items()}
    flags = set(said.get("flags", said.get("Features", "")).split())
    family = f"family {said['cpu family']}, model {said['model']}" if "cpu family" in said else ""
    details = [family, *(name for name in INSTRUCTIONS if name in flags)]
    return f"{said.get('model name', platform.machine())} ({', '.join(filter(None, details))})"


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def _disk(folder: Path) -> str:
    """File system and kind of disk of a folder."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    best, kind, device = "", "unknown", ""
    here = str(folder.resolve())
    for line in mounts.read_text(encoding="utf-8").splitlines():
        source, place, name = line.split()[:3]
        if (here + "/").startswith(place.rstrip("/") + "/") and len(place) >= len(best):
            best, kind, device = place, name, Path(source).name
    turning = Path("/sys/block") / device.rstrip("0123456789") / "queue" / "rotational"
    if not turning.exists():
        turning = Path("/sys/block") / device / "queue" / "rotational"
    told = turning.read_text(encoding="ascii").strip() if turning.exists() else ""
    virtual = ", virtual" if device.startswith(("vd", "xvd")) else ""
    return f"{kind}{ {'0': ', solid state', '1': ', turning'}.get(told, '') }{virtual}".strip()


def _gpu() -> str:
    names = [line.split(":", 1)[-1].split("(")[0].strip() for line in _said("nvidia-smi", "-L").splitlines()]
    return ", ".join(names) or "none"
