"""How much memory there is, and how much of it Java's heap may take."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from howdah.errors import BridgeError

__all__ = ["heap_bytes", "physical_memory"]

SIZES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
LEAST_HEAP = 2**26


def physical_memory() -> int:
    """Memory of this computer in bytes, or of the container that Python runs in; 0 if unknown."""
    if sys.platform == "win32":
        return _windows()
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    for limit in LIMITS:
        try:
            text = Path(limit).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit():
            there = min(there, int(text))
    return there


def heap_bytes(memory: str | int | None) -> int | None:
    """Turn ``"8g"``, ``"6000m"``, ``"75%"`` or a number of bytes into bytes; None stays None.

    Raises:
        BridgeError: It is none of these, or too little for ImageJ (64 MB).
    """
    if memory is None:
        return None
    text = str(memory).strip().lower()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])?b?", text)
    share = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)
    there = physical_memory()
    if share and there:
        number = int(there * float(share[1]) / 100)
    elif match:
        number = int(float(match[1]) * SIZES.get(match[2] or "", 1))
    else:
        raise BridgeError(f"Java's heap was given as {memory!r}; expected for example '8g', '6000m' or '75%'.")
    if number < LEAST_HEAP:
        raise BridgeError(
            f"Java's heap was given as {memory!r}, which is {number} bytes; ImageJ needs at least 64 MB. Write for example '4g'."
        )
    return number


def _windows() -> int:
    if sys.platform == "win32":
        import ctypes

        names = ("total", "free", "total_page", "free_page", "total_virtual", "free_virtual", "extended")

        class Status(ctypes.Structure):
            _fields_ = (
                ("size", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                *((name, ctypes.c_ulonglong) for name in names),
            )

        status = Status(size=ctypes.sizeof(Status))
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return int(status.total)
    return 0
