"""What running costs: a small job and an image through the service and back; blocks of a plan that do nothing."""

from __future__ import annotations

import atexit
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.suite.case import Work, case

SERVICE = """
import sys
from pathlib import Path
from howdah.service.backend import Backend
from howdah.service.http import create_app
from howdah.service.http_server import running

folder = Path(sys.argv[1])
(folder / "root").mkdir()
with (
    Backend(folder / "state", roots=[folder / "root"], devices=["cpu"]) as backend,
    running(lambda server: create_app(backend, token=sys.argv[2])) as server,
):
    print(server.url, flush=True)
    sys.stdin.read()
"""


def client_of(folder: Path):
    """Start the service in a process of its own, as `howdah serve` does, and return a client; both end with this process."""
    from howdah.service.client import Client
    from howdah.service.security import new_token

    token = new_token()
    command = [sys.executable, "-c", SERVICE, str(folder), token]
    service = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(service.communicate, "")
    client = Client(service.stdout.readline().strip(), token)
    atexit.register(client.close)
    client.run("formats", {})  # the worker is warm
    return client


@case("service: an image there and back", group="service", unit="bytes", sizes=(1, 8, 32), limit="copy in memory")
def image(planes: int, folder: Path) -> Work:
    client = client_of(folder)
    stack = np.random.default_rng(0).integers(0, 60_000, (planes, 1024, 1024)).astype(np.uint16)

    def run() -> np.ndarray:
        return client.array(client.send_array(stack, axes="ZYX")).data

    return Work(
        amount=stack.nbytes,
        run=run,
        limit=lambda: stack.copy(),
        wrong=lambda: "" if (run() == stack).all() else "other pixels came back",
    )


@case(
    "service: small jobs, one after the other",
    group="service",
    unit="jobs",
    sizes=(5, 20, 80),
    limit="as many requests that start none",
)
def jobs(n: int, folder: Path) -> Work:
    client = client_of(folder)
    return Work(
        amount=n,
        run=lambda: [client.run("formats", {}) for _ in range(n)],
        limit=lambda: [client.health() for _ in range(n)],
    )


def nothing(call):
    """A block that does nothing but give back what it was asked for."""
    from howdah.scale.plan import Result

    return Result(arrays={"frame": np.array([call.arguments["frame"]])})


@case(
    "scale: blocks that do nothing, one process",
    group="scale",
    unit="blocks",
    sizes=(20, 80, 320),
    limit="as many small files, fsync",
)
def blocks(n: int, folder: Path) -> Work:
    from benchmarks.suite.cases import drawn
    from howdah.progress import finish
    from howdah.scale.config import ScaleConfig
    from howdah.scale.plan import Block, Plan
    from howdah.scale.run import run_plan

    name, plain = drawn.names(folder, ".json"), drawn.names(folder, ".raw")
    made = [Block(f"frames/{i:05d}", f"{__name__}:nothing", {"frame": i}) for i in range(n)]

    def gather(results):
        total = sum(int(results.read(block.key).arrays["frame"][0]) for block in made)
        yield from ()
        return {"total": total}

    def run() -> dict:
        plan = Plan(task="nothing", target=name(), blocks=made, shared={}, inputs={}, gather=gather)
        return finish(run_plan(plan, ScaleConfig()))

    return Work(
        amount=n,
        run=run,
        limit=lambda: [drawn.put_bytes(plain(), bytes(256)) for _ in range(n)],
        wrong=lambda: "" if run()["total"] == n * (n - 1) // 2 else "another sum than that of the blocks",
    )
