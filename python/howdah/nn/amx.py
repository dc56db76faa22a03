"""Whether bfloat16 can be trusted on this processor.

Virtual machines are known that announce AMX and do not have it; the first convolution in bfloat16 then ends the process with an illegal
instruction, and no exception can be caught. So where AMX is announced, another process tries first, once for each machine and torch.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from howdah.nn.download import cache_folder

__all__ = ["bfloat16_works"]

TRIAL = """
import torch
x, w = torch.ones(2, 16, 24, 24, dtype=torch.bfloat16), torch.ones(16, 16, 3, 3, dtype=torch.bfloat16, requires_grad=True)
m = torch.ones(64, 64, dtype=torch.bfloat16)
torch.nn.functional.conv2d(x, w).sum().backward()
torch.nn.functional.conv3d(x[:, :, None].expand(2, 16, 3, 24, 24), w[:, :, None].detach())
torch.nn.functional.linear(m, m)
"""
TRIAL_S = 60.0  # importing torch takes long on a busy machine
ANSWERS = {"works": True, "dies": False}


@functools.cache
def bfloat16_works() -> bool:
    """Return whether a computation in bfloat16 on the processor comes to its end.

    True at once where no AMX is announced. Else a child process computes a little; its answer is kept in the folder of downloaded
    weights, for this machine, processor and version of torch. A trial that cannot be started or takes longer than a minute counts as
    failed, but is not kept.
    """
    if not any(able for name, able in torch.cpu.get_capabilities().items() if name.startswith("amx")):
        return True
    note = _note()
    try:
        known = ANSWERS.get(note.read_text(encoding="ascii", errors="replace").strip())
    except OSError:
        known = None
    if known is not None:
        return known
    found = _tried()
    if found is not None:
        _keep(note, "works" if found else "dies")
    return found is True


def _tried() -> bool | None:
    """Let another process compute; None: no answer."""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", TRIAL],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TRIAL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.returncode == 0


def _note() -> Path:
    """Where the answer for this machine is kept."""
    told = torch.cpu.get_capabilities()
    able = sorted(name for name, has in told.items() if has is True)
    known = [
        platform.node(),
        str(told.get("cpu_name")),
        torch.__version__,
        os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        *able,
    ]
    return cache_folder() / f"bfloat16-{hashlib.sha256(' '.join(known).encode()).hexdigest()[:16]}.txt"


def _keep(note: Path, answer: str) -> None:
    """Write the answer; a folder that cannot be written to only means another trial next time."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(answer, encoding="ascii")
    except OSError:
        return
