"""The table of tasks: what a client may ask for, by name."""

from __future__ import annotations

from howdah.service.batch import batch_task
from howdah.service.table_cells import CELLS
from howdah.service.table_elephant import ELEPHANT
from howdah.service.table_files import FILES
from howdah.service.table_lineage import LINEAGE
from howdah.service.table_tap import TAP
from howdah.service.tasks import Task

__all__ = ["TASKS", "Task"]

TASKS: dict[str, Task] = {task.name: task for task in [*FILES, *ELEPHANT, *CELLS, *TAP, *LINEAGE]}
"""Every task by its name."""
TASKS["batch"] = batch_task(TASKS)
