"""Settings of scale-out: who works, with how much memory, in how large blocks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from howdah.config import Settings

__all__ = ["ScaleConfig"]

Voxels = Annotated[int, Field(ge=1)]


class ScaleConfig(Settings):
    """How work is cut into blocks and who does them."""

    workers: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Worker processes on this computer. 0: this process does the work, block after block. Automatic: one for each GPU, "
        "without a GPU one for each two cores, as many as the memory holds.",
    )
    scheduler: str | None = Field(
        default=None,
        description="Address of a running dask scheduler (tcp://host:8786) or its file; its workers do the work. Automatic: a cluster of "
        "this computer, for this run.",
    )
    worker_memory_mb: float | None = Field(
        default=None,
        ge=256,
        description="Memory of one worker, MiB; blocks that would take more are refused before the run. Automatic: what is free, shared "
        "among the workers.",
    )
    block: tuple[Voxels, Voxels, Voxels] | None = Field(
        default=None,
        description="Voxels (z, y, x) of the part of a frame that a block is responsible for, halo not counted. Automatic: the whole "
        "frame where that fits into a worker's memory, else parts that do.",
    )
    window: int | None = Field(
        default=None,
        ge=1,
        description="Time points of a block that goes along time (linking, tracking). Automatic: about 200,000 spots, or 16 frames.",
    )
    retries: int = Field(
        default=3,
        ge=0,
        le=100,
        description="How often a block that failed, or whose worker died, is tried again in one run.",
    )
    patience_s: float = Field(
        default=60.0,
        ge=0,
        description="How long a scheduler that does not answer is waited for, seconds, before the run stops (it can be resumed).",
    )
    dashboard: bool = Field(
        default=False,
        description="Serve dask's progress page of the cluster of this run on this computer (needs bokeh).",
    )
