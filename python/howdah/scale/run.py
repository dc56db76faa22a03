"""The loop: begins or resumes a run, hands out blocks whose needs are done, keeps the manifest, gathers the result."""

from __future__ import annotations

from typing import Any

from howdah.progress import Steps
from howdah.scale.config import ScaleConfig
from howdah.scale.plan import Plan

__all__ = ["run_plan"]


def run_plan(plan: Plan, config: ScaleConfig, *, restart: bool = False, keep: bool = False) -> Steps[dict[str, Any]]:
    """Do the blocks of a plan that are not done yet, and make the result.

    Args:
        plan: What to do.
        config: Who does it.
        restart: Forget what an earlier run of this target has done.
        keep: Leave the work folder where it is when all is done (else it is removed).

    Returns:
        What the plan's ``gather`` returns, and ``blocks``: how many were done now, and how many before.

    Raises:
        ScaleError: A block failed more often than ``retries``, the scheduler is gone, the manifest cannot be written, or the work
            folder belongs to another run. The sentence says what to do; the blocks that are done stay.
    """
    raise NotImplementedError
    yield
