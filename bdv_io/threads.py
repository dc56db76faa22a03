"""The threads that compress and decompress blocks of pixels, and the bound of what may be allocated."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from math import prod

from bdv_io.errors import FormatError

__all__ = ["check_size", "memory", "n_cores", "shared_pool"]

_pools: dict[int, ThreadPoolExecutor] = {}


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_pool() -> ThreadPoolExecutor:
    """Return this process's pool, one thread a core. After a fork the child makes its own."""
    process = os.getpid()
    if process not in _pools:
        _pools.clear()  # threads do not survive a fork
        _pools[process] = ThreadPoolExecutor(n_cores(), thread_name_prefix="bdv_io")
    return _pools[process]


def check_size(shape: Iterable[int], itemsize: int, what: str) -> None:
    """Refuse an array that this machine could never hold, before it is allocated.

    Args:
        shape: Of the array that a file, or a region, asks for.
        itemsize: Bytes an element.
        what: What is read, for the sentence: ``"Reading frame 3 of movie.h5"``.

    Raises:
        FormatError: It is larger than the memory of the machine.
    """
    sizes = [int(n) for n in shape]
    wanted, there = prod(sizes) * itemsize, memory()
    if min(sizes, default=0) < 0 or wanted > there:
        raise FormatError(
            f"{what} was refused: it is {' x '.join(map(str, sizes))} elements, {wanted / 1e9:.3g} GB, and this machine has "
            f"{there / 1e9:.3g} GB of memory. Read a part of it, or a coarser level; if the movie is not that large, the file is damaged."
        )


def memory() -> int:
    """Return the bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 1 << 38
