"""The service over HTTP: an image of 256 MB there, thresholded and back; small requests; many clients; many jobs.

The physical limit beside them is a copy of the same image in memory, in the same run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from howdah.service.backend import Backend
from howdah.service.client import Client
from howdah.service.http import create_app
from howdah.service.http_server import running
from howdah.service.security import new_token

CLIENTS, JOBS, REPEATS = 32, 1000, 3


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def image(client: Client) -> list[tuple[str, str, str]]:
    stack = np.random.default_rng(0).integers(0, 60_000, (128, 1024, 1024)).astype(np.uint16)
    copy = seconds(stack.copy)
    best: list[float] = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        name = client.send_array(stack, axes="ZYX")
        sent = time.perf_counter()
        job = client.run("check", {"image": name, "what": "threshold"})
        done = time.perf_counter()
        back = client.array(job["result"]["image"]["array"])
        end = time.perf_counter()
        best = min(best or [np.inf], [end - start, sent - start, done - sent, end - done])
        client.delete(job["id"])
    right = bool((back.data == np.where(stack > stack.mean(dtype=np.float64), 255, 0)).all())
    whole = seconds(lambda: client.array(name))
    rows = [
        ("copy in memory", copy),
        ("there, task, back", best[0]),
        ("  there", best[1]),
        ("  task (threshold)", best[2]),
    ]
    rows += [("  back (128 MB, 8 bits)", best[3]), ("256 MB back", whole)]
    said = "right" if right else "WRONG"
    return [(f"256 MB: {what}", f"{took * 1e3:.0f} ms", f"{took / copy:.1f} x a copy, {said}") for what, took in rows]


def small(client: Client) -> list[tuple[str, str, str]]:
    name = client.send_array(np.arange(100, dtype=np.uint16).reshape(10, 10), axes="YX")
    client.run("check", {"image": name})
    rows = []
    for what, ask in (
        ("state of the service", client.health),
        ("task `formats`", lambda: client.run("formats", {})),
        ("task `check`, 10 x 10", lambda: client.run("check", {"image": name})),
    ):
        times = [seconds(ask, 1) for _ in range(100)]
        rows.append(
            (
                f"round trip: {what}",
                f"{np.median(times) * 1e3:.1f} ms",
                f"95 %: {np.quantile(times, 0.95) * 1e3:.1f} ms",
            )
        )
    return rows


def many(url: str, token: str) -> list[tuple[str, str, str]]:
    def one(number: int) -> str:
        with Client(url, token) as client:
            data = np.full((64, 64), number, np.uint16)
            job = client.run("check", {"image": client.send_array(data, axes="YX")})
            return "right" if job["result"]["sum"] == number * 4096 else "wrong"

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(one, range(CLIENTS)))
    took = time.perf_counter() - start
    rows = [(f"{CLIENTS} clients at once, an image each", f"{took:.2f} s", f"{answers.count('right')} right")]
    with Client(url, token) as client:
        start = time.perf_counter()
        jobs = [client.submit("formats", {})["id"] for _ in range(JOBS)]
        asked = time.perf_counter() - start
        states = [client.job(job, wait=60)["state"] for job in jobs]
        took = time.perf_counter() - start
    rows.append((f"{JOBS} jobs asked for", f"{asked:.2f} s", f"{asked / JOBS * 1e3:.1f} ms a job"))
    rows.append((f"{JOBS} jobs done", f"{took:.2f} s", f"{states.count('done')} done"))
    return rows


def main() -> None:
    token = new_token()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "root").mkdir()
        with (
            Backend(Path(folder) / "state", roots=[Path(folder) / "root"], devices=["cpu"]) as backend,
            running(lambda server: create_app(backend, token=token)) as server,
            Client(server.url, token) as client,
        ):
            client.run("formats", {})  # the worker is warm
            print("| what | took | |\n| --- | --- | --- |")
            for rows in (lambda: image(client), lambda: small(client), lambda: many(server.url, token)):
                for row in rows():
                    print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
