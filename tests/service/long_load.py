"""32 clients ask a real ``howdah serve`` for 1,000 jobs, cancel some at random, and the service is killed in the middle: what is lost?

Takes minutes, so that it is no test: ``python tests/service/long_load.py [JOBS]``. Ends with 1 if a job was lost, or a client got no sentence.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from howdah.errors import HowdahError, ServiceError
from howdah.service.client import Client, connect, find

PROGRAM = Path(__file__).with_name("serve_process.py")
CLIENTS = 32
log = logging.getLogger("long_load")


def start(folder: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join(part for part in sys.path if part)
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM), "--json", "--root", str(folder / "root"), "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert program.stdout is not None
    json.loads(program.stdout.readline())
    return program


class Crowd:
    """The clients, and what they know."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder, self.each = folder, jobs // CLIENTS
        self.asked: dict[str, str] = {}  # key -> what was asked for
        self.cancelled: set[str] = set()
        self.sentences: Counter[str] = Counter()
        self.mute: list[str] = []

    def client(self, number: int) -> None:
        chance = random.Random(number)
        made: Client | None = None
        for index in range(self.each):
            key, text = f"{number}-{index}", f"{number}:{index}"
            kind = "note" if chance.random() < 0.8 else "nap"
            told = {"file": "notes.txt", "text": text} if kind == "note" else {"seconds": 0.05, "steps": 5}
            self.asked[key] = text if kind == "note" else ""
            while True:  # as a script that is told to go on: the same key, until the service is there again
                try:
                    made = made or connect()
                    job = made.submit(kind, told, key=key, wait=chance.choice([0, 0, 5]))
                    if kind == "nap" and chance.random() < 0.5:
                        self.cancelled.add(key)
                        made.cancel(job["id"])
                    break
                except HowdahError as error:
                    self.sentences[str(error).split("(")[0].split(":")[0][:60]] += 1
                    if made is not None:  # one that was started again has another address and another token
                        made.close()
                    made = None
                    time.sleep(0.2)
                except Exception as error:  # noqa: BLE001  whatever is no sentence is what is looked for
                    self.mute.append(repr(error))
                    break
        if made is not None:
            made.close()


def run(folder: Path, jobs: int) -> int:
    (folder / "root").mkdir()
    os.environ["HOWDAH_HOME"] = str(folder / "home")
    service = start(folder)
    crowd = Crowd(folder, jobs)
    began = time.monotonic()
    threads = [threading.Thread(target=crowd.client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while len(crowd.asked) < jobs // 2:
        time.sleep(0.01)
    service.send_signal(signal.SIGKILL)
    service.communicate()
    killed = len(crowd.asked)
    time.sleep(1)
    service = start(folder)
    for thread in threads:
        thread.join()
    try:
        found = settled()
    finally:
        took = time.monotonic() - began
        service.send_signal(signal.SIGTERM)
        service.communicate(timeout=60)
    written = Counter((folder / "root" / "notes.txt").read_text().split())
    wanted = {text for text in crowd.asked.values() if text}
    states = Counter(job["state"] for job in found)
    lost = wanted - set(written)
    log.info("%d jobs of %d clients in %.1f s; killed after %d", len(found), CLIENTS, took, killed)
    log.info("states %s; sentences %s; without a sentence: %s", dict(states), dict(crowd.sentences), crowd.mute)
    log.info("notes wanted %d, lost %d, written twice %d", len(wanted), len(lost), sum(n - 1 for n in written.values()))
    problems = [job["error"] for job in found if job["state"] == "failed"]
    log.info("failed: %s; the service ended with %s", problems, service.returncode)
    fine = len(found) == len(crowd.asked) and not lost and not crowd.mute and not problems and service.returncode == 0
    return 0 if fine and states["done"] + states["cancelled"] == len(found) and find() is None else 1


def settled() -> list[dict[str, Any]]:
    """Return all jobs, once all are over."""
    until = time.monotonic() + 300
    with connect() as client:
        while client.jobs(state="queued", limit=1) or client.jobs(state="running", limit=1):
            if time.monotonic() > until:
                raise ServiceError("Jobs were not over within 300 s.")
            time.sleep(0.1)
        return client.jobs(limit=1000)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as place:
        sys.exit(run(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
