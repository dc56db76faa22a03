"""Settings of linking, each with its unit and the paper's symbol where it has one."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from howdah.config import Settings

__all__ = ["LinkingConfig"]


class LinkingConfig(Settings):
    """How spots of neighbouring frames are joined; all lengths are in the unit of the annotation's coordinates."""

    max_distance: float | None = Field(
        default=None,
        gt=0,
        description="Largest distance of a spot (or of its estimated earlier position) to its parent, in world units; the "
        "paper's d_search (5 um there). Automatic: the median distance to the nearest neighbour within a frame, but at least 2 "
        "and at most 5 median radii.",
    )
    max_children: int = Field(
        default=2,
        ge=1,
        le=2,
        description="Most children of one spot, existing links counted: 1 forbids divisions, 2 allows them.",
    )
    division_distance: float | None = Field(
        default=None,
        gt=0,
        description="Largest distance of each daughter to its mother, in world units. Automatic: as max_distance.",
    )
    division_penalty: float = Field(
        default=0.9,
        ge=0,
        le=2,
        description="Cost of a second child, in units of the cost of starting a new track (max_distance squared). Smaller "
        "values give more divisions; from about 1.5 there are hardly any.",
    )
    max_candidates: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Nearest possible parents that are considered for a spot (a number of spots; the paper's N_max).",
    )
    frame_gap: Literal[1] = Field(
        default=1,
        description="Frames between a parent and its child, a number of frames; only neighbouring frames for now.",
    )

    @model_validator(mode="after")
    def _candidates_allow_choice(self) -> Self:
        if self.max_children == 1 and self.division_distance is not None:
            raise ValueError("division_distance is set although max_children = 1 forbids divisions")
        return self
