"""A plan with real dependencies for tests: tiles of frames (passing), their sums, links of neighbouring frames, and one table.

Each execution is noted in a file (``log`` among what is shared: key, process, graphics card), so that tests can count without the
manifest. Each takes ``seconds``, until there is a file ``fast``.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np

from howdah.errors import DataError
from howdah.progress import Progress
from howdah.scale.plan import Block, Plan, Result

TILES = 3


def toy_plan(target: Path, *, frames=6, tiles=TILES, seed=0, inputs=None, **shared) -> Plan:
    blocks = []
    for t in range(frames):
        keys = [f"tiles/t{t:04d}/b{b:02d}" for b in range(tiles)]
        blocks += [
            Block(key, f"{__name__}:tile", {"frame": t, "tile": b}, cost=2.0, memory_mb=1.0, passing=True)
            for b, key in enumerate(keys)
        ]
        blocks.append(Block(f"frames/t{t:04d}", f"{__name__}:merge", {"frame": t}, needs=tuple(keys)))
        if t:
            both = (f"frames/t{t - 1:04d}", f"frames/t{t:04d}")
            blocks.append(Block(f"links/t{t:04d}", f"{__name__}:link", {"frame": t}, needs=both))
    ends = [block.key for block in blocks if block.stage in ("frames", "links")]
    return Plan("toy", target, blocks, {"seed": seed, **shared}, inputs or {}, gather_to(target, ends))


def gather_to(target: Path, keys):
    def gather(results):
        parts = []
        for number, key in enumerate(keys):
            parts.append(results.read(key).arrays["values"])
            yield Progress("gather", number + 1, len(keys))
        target.write_bytes(np.concatenate(parts).tobytes())
        return {"sum": int(np.concatenate(parts).sum()), "run": dict(results.facts)}

    return gather


def begin(call) -> None:
    log = call.shared.get("log")
    if log:
        line = f"{call.key} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n".encode()
        handle = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(handle, line)
        os.close(handle)
    if not os.path.exists(call.shared.get("fast", "")):
        time.sleep(float(call.shared.get("seconds", 0)))
    trouble = call.shared.get("trouble", {}).get(call.key)
    if trouble == "bad":
        raise DataError("This frame has no image.")
    if trouble == "fault":
        raise KeyError("a fault in the code")
    if trouble == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if trouble == "die":
        os.kill(os.getpid(), 9)
    if trouble and trouble.startswith("once:"):
        try:
            os.close(os.open(trouble[5:], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        raise OSError("the disk did not answer")
    if trouble == "always":
        raise OSError("the disk did not answer")


def executions(log: Path) -> list[str]:
    """Return the keys of all executions that were begun."""
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def processes(log: Path) -> list[int]:
    """Return the processes of all executions that were begun."""
    return [int(line.split()[1]) for line in log.read_text().splitlines()] if log.exists() else []


def tile(call) -> Result:
    begin(call)
    rng = np.random.default_rng([call.shared["seed"], call.arguments["frame"], call.arguments["tile"]])
    return Result(
        {"values": rng.integers(0, 1000, int(call.shared.get("size", 500)))}, {"tile": call.arguments["tile"]}
    )


def merge(call) -> Result:
    begin(call)
    keys = sorted(call.needs)
    return Result({"values": np.concatenate([call.read(key).arrays["values"] for key in keys])}, {})


def link(call) -> Result:
    begin(call)
    first, second = (call.read(key).arrays["values"] for key in sorted(call.needs))
    return Result({"values": (second - first).astype(np.int64)}, {})
