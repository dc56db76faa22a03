"""Runs every benchmark of this folder and keeps the tables in ``results/``: ``python benchmarks/run.py [NAME ...]``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def main() -> None:
    wanted = sys.argv[1:]
    scripts = sorted(p for p in HERE.glob("bench_*.py") if not wanted or p.stem.removeprefix("bench_") in wanted)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'python'}{os.pathsep}{ROOT}"}
    for script in scripts:
        print(f"## {script.stem.removeprefix('bench_')}\n", flush=True)
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False
        )
        print(done.stdout or done.stderr, flush=True)
        stamp = f"{datetime.now(tz=UTC):%Y-%m-%d}, {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        (results / f"{script.stem}.md").write_text(f"{stamp}\n\n{done.stdout}", encoding="utf-8")
        if done.returncode:
            sys.exit(f"{script.name} failed:\n{done.stderr}")


if __name__ == "__main__":
    main()
