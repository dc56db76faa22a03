"""What a worker process of this computer does first (dask loads it as a *preload*): Ctrl-C is for the process that runs the plan.

A terminal sends Ctrl-C to all processes of a command; the one that runs the plan ends its workers itself.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["dask_setup"]


def dask_setup(worker: Any) -> None:
    """Let this worker not hear Ctrl-C; called by dask."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
