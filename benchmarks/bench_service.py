"""The service over HTTP from Python: an image of 256 MB there, thresholded and back; a table; small requests; many clients; many jobs.

The service runs in a process of its own, as `howdah serve` does. The physical limit beside the image is a copy of it in memory, in the
same run. "CPU" is what client, service and workers computed for one of them, all threads together (Linux tells): it does not grow when
others use the computer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from howdah.service.client import Client
from howdah.service.security import new_token

CLIENTS, JOBS, REPEATS, SPOTS = 32, 1000, 5, 100_000
Row = tuple[str, str, str, str]

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


class Clock:
    """Measures wall and CPU time of this process and of a service with all that it started."""

    def __init__(self, service: int) -> None:
        self.service = service

    def cpu(self) -> float:
        """Return CPU seconds so far; 0 for the service where the system does not tell."""
        return time.process_time() + sum(map(self._spent, self._family(self.service)))

    def best(self, work: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, float]:
        """Return the least wall and the least CPU time of several runs."""
        times = []
        for _ in range(repeats):
            spent, start = self.cpu(), time.perf_counter()
            work()
            times.append((time.perf_counter() - start, self.cpu() - spent))
        return min(wall for wall, _ in times), min(cpu for _, cpu in times)

    def _family(self, pid: int) -> Iterator[int]:
        yield pid
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in file.read_text().split():
                yield from self._family(int(child))

    def _spent(self, pid: int) -> float:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def image(client: Client, clock: Clock) -> Iterator[Row]:
    stack = np.random.default_rng(0).integers(0, 60_000, (128, 1024, 1024)).astype(np.uint16)
    held: dict[str, Any] = {}

    def there() -> None:
        held["name"] = client.send_array(stack, axes="ZYX")

    def task() -> None:
        held["job"] = client.run("check", {"image": held["name"], "what": "threshold"})

    def back() -> None:
        held["image"] = client.array(held["job"]["result"]["image"]["array"])

    def whole() -> None:
        there()
        task()
        back()
        client.delete(held["job"]["id"])

    copy = clock.best(stack.copy)
    rows = [("copy in memory", copy), ("there, threshold, back", clock.best(whole))]
    right = bool((held["image"].data == np.where(stack > stack.mean(dtype=np.float64), 255, 0)).all())
    rows += [
        ("  there", clock.best(there)),
        ("  threshold", clock.best(task)),
        ("  back (128 MB, 8 bits)", clock.best(back)),
    ]
    rows += [("256 MB back", clock.best(lambda: client.array(held["name"])))]
    for what, (wall, cpu) in rows:
        said = f"{wall / copy[0]:.1f} x a copy (CPU: {cpu / copy[1]:.1f} x)"
        yield f"256 MB: {what}", f"{wall * 1e3:.0f} ms", f"{cpu * 1e3:.0f} ms", said + ("" if right else ", WRONG")


def small(client: Client, clock: Clock) -> Iterator[Row]:
    name = client.send_array(np.arange(100, dtype=np.uint16).reshape(10, 10), axes="YX")
    client.run("check", {"image": name})
    for what, ask in (
        ("state of the service", client.health),
        ("task `formats`", lambda: client.run("formats", {})),
        ("task `check`, 10 x 10", lambda: client.run("check", {"image": name})),
    ):
        spent = clock.cpu()
        times = [clock.best(ask, 1)[0] for _ in range(200)]
        cpu = (clock.cpu() - spent) / len(times)
        said = f"least {min(times) * 1e3:.1f} ms, 95 %: {np.quantile(times, 0.95) * 1e3:.1f} ms"
        yield f"round trip: {what}", f"{np.median(times) * 1e3:.1f} ms", f"{cpu * 1e3:.1f} ms", said


def table(client: Client, clock: Clock) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    spots = {axis: rng.uniform(0, 2000, SPOTS) for axis in "zyx"} | {
        "t": np.repeat(np.arange(100, dtype=np.int32), SPOTS // 100)
    }
    held: dict[str, Any] = {}

    def there() -> None:
        held["name"] = client.send_table(spots)

    wall, cpu = clock.best(there)
    yield f"{SPOTS:,} spots: there", f"{wall * 1e3:.0f} ms", f"{cpu * 1e3:.0f} ms", "28 bytes a spot"
    wall, cpu = clock.best(lambda: client.table(held["name"]))
    yield f"{SPOTS:,} spots: back", f"{wall * 1e3:.0f} ms", f"{cpu * 1e3:.0f} ms", ""


def many(url: str, token: str, clock: Clock) -> Iterator[Row]:
    def one(number: int) -> str:
        with Client(url, token) as client:
            data = np.full((64, 64), number, np.uint16)
            job = client.run("check", {"image": client.send_array(data, axes="YX")})
            return "right" if job["result"]["sum"] == number * 4096 else "wrong"

    spent, start = clock.cpu(), time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(one, range(CLIENTS)))
    took, cpu = time.perf_counter() - start, clock.cpu() - spent
    yield (
        f"{CLIENTS} clients at once, an image each",
        f"{took:.2f} s",
        f"{cpu:.2f} s",
        f"{answers.count('right')} right",
    )
    with Client(url, token) as client:
        spent, start = clock.cpu(), time.perf_counter()
        jobs = [client.submit("formats", {})["id"] for _ in range(JOBS)]
        asked = time.perf_counter() - start
        states = [client.job(job, wait=60)["state"] for job in jobs]
        took, cpu = time.perf_counter() - start, clock.cpu() - spent
    yield f"{JOBS} jobs", f"{took:.2f} s", f"{cpu:.2f} s", f"{states.count('done')} done; asked for in {asked:.2f} s"


def main() -> None:
    token = new_token()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", SERVICE, folder, token]
        service = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            url = (service.stdout.readline() if service.stdout else "").strip()
            clock = Clock(service.pid)
            with Client(url, token) as client:
                client.run("formats", {})  # the worker is warm
                print("| what | took | CPU | |\n| --- | --- | --- | --- |")
                for rows in (image(client, clock), small(client, clock), table(client, clock), many(url, token, clock)):
                    for row in rows:
                        print(f"| {' | '.join(row)} |", flush=True)
        finally:
            service.communicate("")


if __name__ == "__main__":
    main()
