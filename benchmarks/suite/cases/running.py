"""What running costs: a small job and an image through the service and back."""

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
