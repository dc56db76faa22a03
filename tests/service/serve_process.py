"""``howdah serve`` as a program, with some more tasks that misbehave on purpose: ``python serve_process.py [OPTIONS]``."""

from __future__ import annotations

import sys

import extra_tasks

from howdah.cli import app
from howdah.service import process, table

if __name__ == "__main__":
    table.TASKS.update(extra_tasks.EXTRA)
    process.COMMAND = [sys.executable, str(extra_tasks.__file__)]
    app(["serve", *sys.argv[1:]])
