"""How the C library hands out memory, where that costs time."""

from __future__ import annotations

import ctypes
import functools
import sys

__all__ = ["keep_large_blocks"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
LARGEST = 2**31 - 1


@functools.cache
def keep_large_blocks() -> bool:
    """Let the C library keep large blocks that are given back, for the next that are wanted; True where it agreed.

    Without, glibc gives each tensor of some megabytes back to the system and asks for fresh, empty pages for the next one, which can be
    a third of a step of training on the processor. The process then holds on to the most memory that it ever had. For trainings; it
    cannot be undone. Only glibc knows it; elsewhere (and for memory on a graphics card) nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  only glibc has it; others may have mallopt with other numbers
        mallopt = library.mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
